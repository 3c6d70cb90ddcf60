//! `aot-compiler inspect`: what an artifact says of itself, who signed it, and what is in it.
//!
//! Nothing of it is run or mapped. What is printed of an artifact whose signature was not checked is only what it claims.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, bail};
use artifact::{
    Digest,
    container::{CONTAINER_BYTES_MAX, Container},
    keys::{Compiler, PublicKey, Trusted},
    statement::{Statement, TrustedStatement},
    visible,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// For people.
    pub text: String,
    /// The bytes are those of the statement, and the key given, if one was, signed it.
    pub is_sound: bool,
}

/// Looks into a file. With a key, the signature is checked by it.
pub fn run(file: &Path, key: Option<&PublicKey<Compiler>>) -> anyhow::Result<Found> {
    let shown = file.display();
    let bytes = fs::metadata(file).with_context(|| format!("reading {shown}"))?.len();
    if bytes > CONTAINER_BYTES_MAX {
        bail!("{shown} has {bytes} bytes, an artifact has at most {CONTAINER_BYTES_MAX}");
    }
    let blob = fs::read(file).with_context(|| format!("reading {shown}"))?;
    of(&blob, key).with_context(|| format!("{shown} is no artifact"))
}

fn of(blob: &[u8], key: Option<&PublicKey<Compiler>>) -> anyhow::Result<Found> {
    let container = Container::decode(blob)?;
    let statement = Statement::unchecked(&container.envelope)?;
    let signers: Vec<String> = container.envelope.key_ids().iter().map(ToString::to_string).collect();
    let checked = key.map(|key| TrustedStatement::open(&container.envelope, &Trusted::new([*key])));
    let mut native = Vec::new();
    container.decompress(statement.size, &mut native)?;
    let is_whole = native.len() as u64 == statement.size && Digest::of(&native) == statement.artifact;

    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {}", visible::for_people(value));
    };
    line("program", &statement.wasm.to_string());
    line("target", &format!("{}, lane {}, profile {}", statement.target, statement.lane, statement.profile));
    line("compiler", &statement.compiler);
    line("fingerprint", &statement.fingerprint.to_string());
    line("flags", &statement.flags.join(" "));
    line("signed by", &signers.join(", "));
    let signature = match &checked {
        None => "not checked: give the compiler's public key with --key".to_owned(),
        Some(Ok(_)) => "checked".to_owned(),
        Some(Err(error)) => format!("WRONG: {error}"),
    };
    line("signature", &signature);
    line("native code", &format!("{} bytes, {} compressed", statement.size, blob.len()));
    line(
        "digest",
        &format!("{}, {}", statement.artifact, if is_whole { "as stated" } else { "WRONG: other bytes" }),
    );
    if is_whole {
        match parts(&native) {
            Ok(parts) => parts.iter().for_each(|(name, value)| line(name, value)),
            Err(error) => line("parts", &format!("unreadable: {error}")),
        }
    }
    line("imports", &statement.imports.len().to_string());
    for import in &statement.imports {
        let _ = writeln!(text, "  {}", visible::for_people(import));
    }
    Ok(Found { text, is_sound: is_whole && checked.is_none_or(|checked| checked.is_ok()) })
}

/// Functions and sections of native code.
fn parts(native: &[u8]) -> Result<Vec<(&'static str, String)>, object::read::Error> {
    let file = object::File::parse(native)?;
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text).count();
    let mut sections: Vec<(String, u64)> = file
        .sections()
        .filter_map(|section| Some((section.name().ok()?.to_owned(), section.size())))
        .filter(|(_, size)| *size > 0)
        .collect();
    sections.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let sections: Vec<String> = sections.into_iter().map(|(name, size)| format!("{name} {size}")).collect();
    Ok(vec![("functions", functions.to_string()), ("sections", sections.join(", "))])
}

#[cfg(test)]
mod tests {
    use artifact::{Profile, Target, keys::SecretKey};

    use super::*;
    use crate::compile::{Made, compile_in_process, sign};

    fn artifact(key: &SecretKey<Compiler>) -> Vec<u8> {
        let wasm = wat::parse_str(
            "(module (import \"fastly_abi\" \"init\" (func (param i64) (result i32))) (memory (export \"memory\") 1) (func (export \"_start\")))",
        );
        let wasm = wasm.unwrap();
        let made = Made { wasm: Digest::of(&wasm), target: Target::X86_64V2, profile: Profile::Serve };
        let compiled = compile_in_process(&wasm, made.target, made.profile).unwrap();
        sign(&compiled, made, key).unwrap()
    }

    #[test]
    fn an_artifact_says_what_it_is_and_a_key_says_whether_to_believe_it() {
        let (key, other) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let blob = artifact(&key);
        let unchecked = of(&blob, None).unwrap();
        for said in
            ["x86_64-v2, lane fastly", "not checked", "fastly_abi#init", "as stated", ".text", "has_sse42"]
        {
            assert!(unchecked.text.contains(said), "{said} not in:\n{}", unchecked.text);
        }
        assert!(unchecked.is_sound);
        assert!(of(&blob, Some(&key.public())).unwrap().text.contains("signature    checked"));
        let wrong = of(&blob, Some(&other.public())).unwrap();
        assert!(wrong.text.contains("WRONG") && !wrong.is_sound);
    }

    #[test]
    fn any_bytes_are_looked_at_without_panic() {
        let blob = artifact(&SecretKey::from_seed([1; 32]));
        assert!(of(b"\x7fELF", None).is_err());
        for at in (0..blob.len()).step_by(7) {
            let mut flipped = blob.clone();
            flipped[at] ^= 1;
            let _ = of(&flipped, None);
        }
        let last = blob.len() - 1;
        assert!(!of(&blob[..last], None).is_ok_and(|found| found.is_sound));
    }
}
