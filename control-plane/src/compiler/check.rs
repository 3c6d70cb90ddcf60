//! Is the compiler's answer what was asked for, and signed by the key we were told to trust?

use artifact::{
    Digest, Fingerprint, Profile, Target,
    container::Container,
    keys::{Compiler, Trusted},
    statement::{Statement, TrustedStatement},
};

use super::CompilerError;

/// What an answer must be about.
pub struct Wanted {
    /// The program.
    pub wasm: Digest,
    /// The processor level.
    pub target: Target,
    /// The engine.
    pub fingerprint: Fingerprint,
}

/// Signature first, then what was stated, then that the code is the stated code.
pub fn check(blob: &[u8], wanted: &Wanted, trusted: &Trusted<Compiler>) -> Result<Statement, CompilerError> {
    let target = wanted.target;
    let malformed = |source| CompilerError::Container { target, source };
    let untrusted = |source| CompilerError::Untrusted { target, source };

    let container = Container::decode(blob).map_err(malformed)?;
    let trusted = TrustedStatement::open(&container.envelope, trusted).map_err(untrusted)?;
    let stated = trusted.statement().clone();
    for (same, what) in [
        (stated.wasm == wanted.wasm, "program"),
        (stated.target == wanted.target, "target"),
        (stated.profile == Profile::Serve, "profile"),
        (stated.fingerprint == wanted.fingerprint, "fingerprint"),
    ] {
        if !same {
            return Err(CompilerError::OtherThing { target, what });
        }
    }
    let mut code = Vec::with_capacity(usize::try_from(stated.size).unwrap_or(0));
    container.decompress(stated.size, &mut code).map_err(malformed)?;
    trusted.verify(code).map_err(untrusted)?;
    Ok(stated)
}

#[cfg(test)]
mod tests {
    use artifact::{Lane, container, keys::SecretKey};

    use super::*;

    const ENGINE: Fingerprint = Fingerprint(Digest::ZERO);

    fn statement(code: &[u8]) -> Statement {
        Statement {
            artifact: Digest::of(code),
            size: code.len() as u64,
            wasm: Digest::of(b"wasm"),
            lane: Lane::Wasi,
            target: Target::X86_64V3,
            profile: Profile::Serve,
            fingerprint: ENGINE,
            imports: vec![],
            compiler: "test".into(),
            flags: vec![],
        }
    }

    fn checked(
        stated: &Statement,
        code: &[u8],
        key: &SecretKey<Compiler>,
    ) -> Result<Statement, CompilerError> {
        let ours = SecretKey::<Compiler>::from_seed([1; 32]);
        let blob = container::encode(&stated.sign(key), code).unwrap();
        let wanted = Wanted { wasm: Digest::of(b"wasm"), target: Target::X86_64V3, fingerprint: ENGINE };
        check(&blob, &wanted, &Trusted::new([ours.public()]))
    }

    #[test]
    fn only_the_asked_for_code_signed_by_the_configured_key_is_kept() {
        let ours = SecretKey::from_seed([1; 32]);
        let good = statement(b"code");
        checked(&good, b"code", &ours).unwrap();

        let thief = SecretKey::from_seed([2; 32]);
        assert!(matches!(checked(&good, b"code", &thief), Err(CompilerError::Untrusted { .. })));
        assert!(matches!(checked(&good, b"kode", &ours), Err(CompilerError::Untrusted { .. })));
        // More than was signed is not even unpacked.
        assert!(matches!(checked(&good, b"code and more", &ours), Err(CompilerError::Container { .. })));

        let other = |stated: Statement| match checked(&stated, b"code", &ours) {
            Err(CompilerError::OtherThing { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(other(Statement { wasm: Digest::of(b"other"), ..good.clone() }), "program");
        assert_eq!(other(Statement { target: Target::Aarch64, ..good.clone() }), "target");
        assert_eq!(other(Statement { fingerprint: Fingerprint(Digest::of(b"x")), ..good }), "fingerprint");
    }
}
