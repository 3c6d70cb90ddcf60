//! What bytes that are not WebAssembly look like, so that the refusal can name the mistake.
//!
//! Only for the message: nothing is decoded, and nothing here is ever accepted.

/// One sentence about an upload that does not start like WebAssembly.
pub fn like(bytes: &[u8]) -> String {
    let (what, cure) = guess(bytes);
    format!("the upload is not WebAssembly: it looks like {what}; {cure}")
}

const BUILD: &str = "upload the .wasm file that your build writes";
const NATIVE: &str = "native code is never taken, it is only made here: upload the .wasm it was made from";
const UNPACK: &str = "unpack it and upload the .wasm file inside";

/// First bytes, what they are, what to do instead.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (b"\x7fELF", "native code (an ELF file, as .cwasm, .so and programs are)", NATIVE),
    (b"\xcf\xfa\xed\xfe", "native code (a Mach-O file)", NATIVE),
    (b"\xca\xfe\xba\xbe", "native code (a Mach-O file) or a Java class", NATIVE),
    (b"MZ", "native code (a Windows program)", NATIVE),
    (b"SKERRY\0", "a signed artifact of this platform", NATIVE),
    (b"\x1f\x8b", "a gzip file", UNPACK),
    (b"PK\x03\x04", "a zip file", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", UNPACK),
    (b"BZh", "a bzip2 file", UNPACK),
    (b"\xfd7zXZ\0", "an xz file", UNPACK),
    (b"BC\xc0\xde", "LLVM bitcode", BUILD),
    (b"!<arch>", "a static library", BUILD),
];
/// Where a tar file says that it is one, and what it says (POSIX.1-1988 ustar).
const TAR_MAGIC_AT: usize = 257;
/// Bytes looked at to tell text from anything else.
const TEXT_BYTES: usize = 512;

fn guess(bytes: &[u8]) -> (&'static str, &'static str) {
    if let Some((_, what, cure)) = SIGNATURES.iter().find(|(signature, ..)| bytes.starts_with(signature)) {
        return (what, cure);
    }
    if bytes.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        return ("a tar file", UNPACK);
    }
    if b"\0asm".starts_with(bytes) {
        return ("the first bytes of a WebAssembly file that was cut short", "upload it again");
    }
    match text(bytes) {
        Some(text) if text.starts_with("(module") || text.starts_with("(component") => (
            "the text form of WebAssembly",
            "turn it into the binary form, with `wasm-tools parse` for instance",
        ),
        Some(text) if text.starts_with("<!") || text.starts_with("<html") => {
            ("a web page", "a download may have failed: upload the .wasm file itself")
        }
        Some(text) if text.starts_with("version https://git-lfs") => {
            ("a Git LFS pointer", "run `git lfs pull` and upload the .wasm file itself")
        }
        Some(_) => ("text", BUILD),
        None => ("unknown binary data", BUILD),
    }
}

/// The beginning as trimmed text, if it is text.
fn text(bytes: &[u8]) -> Option<&str> {
    let head = &bytes[..bytes.len().min(TEXT_BYTES)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The cut may split a character; anything else invalid is no text.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let text = !valid.is_empty() && valid.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    text.then(|| valid.trim_start_matches(['\u{feff}', ' ', '\n', '\r', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_people_upload_by_mistake() {
        let mut tar = vec![0; 300];
        tar[TAR_MAGIC_AT..TAR_MAGIC_AT + 5].copy_from_slice(b"ustar");
        for (bytes, said) in [
            (b"This is not WebAssembly.\n".as_slice(), "looks like text"),
            (b"\x7fELF\x02\x01\x01\xc8", "native code is never taken"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"PK\x03\x04", "zip"),
            (b"  (component", "wasm-tools parse"),
            (b"<!DOCTYPE html>", "web page"),
            (b"\0as", "cut short"),
            (b"\x80\x01\x02", "unknown binary"),
            (&tar, "tar"),
        ] {
            assert!(like(bytes).contains(said), "{bytes:?}: {}", like(bytes));
        }
        let long = "ü".repeat(400);
        assert!(like(&long.as_bytes()[..513]).contains("text"), "a cut character is still text");
    }
}
