//! A new version of a program by changing one string in it, the length kept: every other byte and the module's
//! structure stay as they are, its digest and its answer do not. So what is deployed must be compiled anew, and an
//! answer shows which version gave it.

/// Characters of the mark that stands in the answer. Digits only, so that no mark is part of another.
pub const MARK_BYTES: usize = 10;

/// Why a program cannot be marked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    #[error(
        "the text {0:?} is shorter than the {MARK_BYTES} characters of a mark; name a longer one with --text"
    )]
    TooShort(String),
    #[error(
        "the program holds the text {text:?} {count} times, not once; name one it answers with by --text"
    )]
    NotOnce { text: String, count: usize },
}

/// The mark of a version.
pub fn mark(number: u32) -> String {
    format!("{number:0width$}", width = MARK_BYTES)
}

/// `wasm` with the end of `text`, which it holds once, replaced by `mark`.
pub fn patch(wasm: &[u8], text: &str, mark: &str) -> Result<Vec<u8>, PatchError> {
    let at = place(wasm, text)?;
    let mut patched = wasm.to_vec();
    patched[at..][..MARK_BYTES].copy_from_slice(mark.as_bytes());
    Ok(patched)
}

/// Where a mark goes: the last bytes of `text`, which `bytes` hold once.
pub fn place(bytes: &[u8], text: &str) -> Result<usize, PatchError> {
    if text.len() < MARK_BYTES {
        return Err(PatchError::TooShort(text.to_owned()));
    }
    let at: Vec<usize> = bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(at, _)| at)
        .collect();
    let [at] = at[..] else {
        return Err(PatchError::NotOnce { text: text.to_owned(), count: at.len() });
    };
    Ok(at + text.len() - MARK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (module (memory (export "m") 1) (data (i32.const 0) "Hello from wasi:http!"))
    const WASM: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01\x07\x05\x01\x01m\x02\0\
        \x0b\x1b\x01\0\x41\0\x0b\x15Hello from wasi:http!";

    #[test]
    fn only_the_end_of_the_text_changes_and_the_module_stays_valid() {
        let engine = wasmtime::Engine::default();
        wasmtime::Module::validate(&engine, WASM).unwrap();
        let patched = patch(WASM, "Hello from wasi:http!", &mark(42)).unwrap();
        wasmtime::Module::validate(&engine, &patched).unwrap();
        assert!(patched.ends_with(b"Hello from 0000000042"));
        let changed = WASM.iter().zip(&patched).filter(|(before, after)| before != after).count();
        assert_eq!((patched.len(), changed), (WASM.len(), MARK_BYTES));
    }

    #[test]
    fn every_mark_gives_another_program() {
        let text = "Hello from wasi:http!";
        assert_ne!(patch(WASM, text, &mark(1)), patch(WASM, text, &mark(2)));
        assert_eq!(mark(1).len(), mark(u32::MAX).len());
    }

    #[test]
    fn a_text_that_is_missing_ambiguous_or_too_short_is_refused() {
        assert_eq!(
            patch(WASM, "Hello from wstd!!", &mark(1)),
            Err(PatchError::NotOnce { text: "Hello from wstd!!".into(), count: 0 })
        );
        let twice = [WASM, b"Hello from wasi:http!"].concat();
        assert!(matches!(
            patch(&twice, "Hello from wasi:http!", &mark(1)),
            Err(PatchError::NotOnce { count: 2, .. })
        ));
        assert_eq!(patch(WASM, "Hello", &mark(1)), Err(PatchError::TooShort("Hello".into())));
    }
}
