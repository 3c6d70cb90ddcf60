//! What the compiler service states about a native artifact, and the only way to trust one.
//!
//! wasmtime's loader is no safety check: most single-byte flips of a valid artifact load (measured: 330 of 378).
//! So native code is loaded only as a [`VerifiedArtifact`], and only [`TrustedStatement::verify`] makes those:
//! envelope → signature → requirements of this node → size and digest of the very bytes that will be mapped.

use serde::{Deserialize, Serialize};

use crate::{
    Digest, Fingerprint, Lane, Profile, Target,
    dsse::{Envelope, EnvelopeError},
    keys::{Compiler, PublicKey, SecretKey, Trusted},
    nack::NackCode,
};

/// DSSE payload type of a statement.
pub const STATEMENT_TYPE: &str = "application/vnd.skerry.artifact-statement.v1+json";
/// Largest native artifact, in bytes, before compression. An 11 MB JS engine module compiles to about 50 MB.
pub const ARTIFACT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A compiler's signed claim about one native artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// sha-256 of the native artifact, uncompressed.
    pub artifact: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The uploaded program it was made from.
    pub wasm: Digest,
    /// The interface it speaks.
    pub lane: Lane,
    /// The processor level it needs.
    pub target: Target,
    /// The settings profile baked into it.
    pub profile: Profile,
    /// The engine settings and code generator it was made by.
    pub fingerprint: Fingerprint,
    /// Its imports as `module#name` or interface names: what the program may ask of a host.
    pub imports: Vec<String>,
    /// The compiler's version, for people and for "which artifacts did that compiler make".
    pub compiler: String,
    /// The processor flags given to the code generator.
    pub flags: Vec<String>,
}

/// Why an artifact is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature or its envelope.
    #[error("checking the artifact's signature")]
    Envelope(#[from] EnvelopeError),
    /// Signed, but not readable as a statement.
    #[error("the signed statement is malformed: {0}")]
    Malformed(String),
    /// Made for other hardware.
    #[error("the artifact is for {found}, this node runs {}", list(.accepted))]
    Target {
        /// What it was made for.
        found: Target,
        /// What this node runs.
        accepted: Vec<Target>,
    },
    /// Made by another engine or with other settings.
    #[error("the artifact's fingerprint is {found}, this node's is {expected}: it must be recompiled")]
    Fingerprint {
        /// The artifact's.
        found: Fingerprint,
        /// This node's for the same target.
        expected: Fingerprint,
    },
    /// Another profile than this engine's.
    #[error("the artifact has profile {0}")]
    Profile(Profile),
    /// A signed artifact, but of another program or lane than the record says.
    #[error("the artifact was made from wasm {found}, the version is of {expected}")]
    OtherProgram {
        /// Digest in the statement.
        found: Digest,
        /// Digest in the version's record.
        expected: Digest,
    },
    /// Larger than [`ARTIFACT_BYTES_MAX`].
    #[error("the artifact is {0} bytes, at most {ARTIFACT_BYTES_MAX}")]
    TooLarge(u64),
    /// The bytes are not those that were signed.
    #[error("the artifact's bytes do not match the signed digest ({0})")]
    Digest(&'static str),
}

fn list(targets: &[Target]) -> String {
    targets.iter().map(|target| target.name()).collect::<Vec<_>>().join(", ")
}

impl VerifyError {
    /// The code a node reports upwards.
    pub fn nack_code(&self) -> NackCode {
        match self {
            VerifyError::Envelope(EnvelopeError::UnknownKey(_)) => NackCode::UnknownKey,
            VerifyError::Envelope(_) | VerifyError::Malformed(_) => NackCode::BadSig,
            VerifyError::Target { .. } | VerifyError::Fingerprint { .. } | VerifyError::Profile(_) => {
                NackCode::Compat
            }
            VerifyError::OtherProgram { .. } | VerifyError::Digest(_) => NackCode::DigestMismatch,
            VerifyError::TooLarge(_) => NackCode::TooLarge,
        }
    }
}

/// What a node can run and expects of one artifact.
#[derive(Debug, Clone)]
pub struct Requirements<'a> {
    /// Targets this processor passes.
    pub targets: &'a [Target],
    /// The profile of the engine that will load it.
    pub profile: Profile,
    /// The fingerprint of this node's engine for a target.
    pub fingerprint: fn(Target, Profile) -> Fingerprint,
    /// The program the version pins.
    pub wasm: Digest,
}

/// A statement whose signature was checked.
#[derive(Debug, Clone)]
pub struct TrustedStatement {
    stated: Statement,
    signer: PublicKey<Compiler>,
}

impl Statement {
    /// Signs the statement with the compiler's key.
    pub fn sign(&self, key: &SecretKey<Compiler>) -> Envelope {
        let payload = serde_json::to_vec(self).expect("a statement has only string keys");
        key.sign(STATEMENT_TYPE, &payload)
    }
}

impl Statement {
    /// What an envelope states, whoever signed it: for people to look at. What is loaded goes through [`TrustedStatement`].
    pub fn unchecked(envelope: &Envelope) -> Result<Statement, VerifyError> {
        let payload = envelope.unchecked()?;
        serde_json::from_slice(&payload).map_err(|error| VerifyError::Malformed(error.to_string()))
    }
}

impl TrustedStatement {
    /// Checks the signature against the compiler keys trusted now.
    pub fn open(envelope: &Envelope, trusted: &Trusted<Compiler>) -> Result<TrustedStatement, VerifyError> {
        let (payload, signer) = trusted.open(envelope, STATEMENT_TYPE)?;
        let stated: Statement =
            serde_json::from_slice(&payload).map_err(|error| VerifyError::Malformed(error.to_string()))?;
        if stated.size > ARTIFACT_BYTES_MAX {
            return Err(VerifyError::TooLarge(stated.size));
        }
        Ok(TrustedStatement { stated, signer })
    }

    /// What was stated.
    pub fn statement(&self) -> &Statement {
        &self.stated
    }

    /// Refuses an artifact that this node could not or should not run, before any of its bytes is looked at.
    pub fn require(&self, needs: &Requirements<'_>) -> Result<(), VerifyError> {
        let stated = &self.stated;
        if stated.wasm != needs.wasm {
            return Err(VerifyError::OtherProgram { found: stated.wasm, expected: needs.wasm });
        }
        if !needs.targets.contains(&stated.target) {
            return Err(VerifyError::Target { found: stated.target, accepted: needs.targets.to_vec() });
        }
        if stated.profile != needs.profile {
            return Err(VerifyError::Profile(stated.profile));
        }
        let expected = (needs.fingerprint)(stated.target, stated.profile);
        if stated.fingerprint != expected {
            return Err(VerifyError::Fingerprint { found: stated.fingerprint, expected });
        }
        Ok(())
    }

    /// Checks that `bytes` are the signed artifact. `bytes` must be immutable from here on: a sealed memfd, or
    /// memory nobody else holds.
    pub fn verify<B: AsRef<[u8]>>(self, bytes: B) -> Result<VerifiedArtifact<B>, VerifyError> {
        let held = bytes.as_ref();
        if held.len() as u64 != self.stated.size {
            return Err(VerifyError::Digest("size"));
        }
        if Digest::of(held) != self.stated.artifact {
            return Err(VerifyError::Digest("sha-256"));
        }
        Ok(VerifiedArtifact { statement: self.stated, signer: self.signer, bytes })
    }
}

/// Native code that may be loaded. Its only maker is [`TrustedStatement::verify`].
#[derive(Debug)]
pub struct VerifiedArtifact<B> {
    statement: Statement,
    signer: PublicKey<Compiler>,
    bytes: B,
}

impl<B> VerifiedArtifact<B> {
    /// What the compiler stated about it.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The key that signed it. It was trusted when that was checked; keys are revoked.
    pub fn signer(&self) -> &PublicKey<Compiler> {
        &self.signer
    }

    /// Refuses code whose signer is none of these keys, which are those trusted now.
    pub fn check_signer(&self, trusted: &Trusted<Compiler>) -> Result<(), VerifyError> {
        if trusted.contains(&self.signer) {
            return Ok(());
        }
        Err(EnvelopeError::UnknownKey(self.signer.id().to_string()).into())
    }

    /// What holds the bytes.
    pub fn bytes(&self) -> &B {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(target: Target, _: Profile) -> Fingerprint {
        Fingerprint(Digest::of(target.name().as_bytes()))
    }

    fn statement(bytes: &[u8]) -> Statement {
        Statement {
            artifact: Digest::of(bytes),
            size: bytes.len() as u64,
            wasm: Digest::of(b"wasm"),
            lane: Lane::Wasi,
            target: Target::X86_64V3,
            profile: Profile::Serve,
            fingerprint: fingerprint(Target::X86_64V3, Profile::Serve),
            imports: vec![],
            compiler: "test".into(),
            flags: vec![],
        }
    }

    fn needs(targets: &[Target]) -> Requirements<'_> {
        Requirements { targets, profile: Profile::Serve, fingerprint, wasm: Digest::of(b"wasm") }
    }

    fn trusted() -> (SecretKey<Compiler>, Trusted<Compiler>) {
        let key = SecretKey::from_seed([1; 32]);
        let trusted = Trusted::new([key.public()]);
        (key, trusted)
    }

    #[test]
    fn the_signed_bytes_and_only_those_verify() {
        let (key, trusted) = trusted();
        let code = b"native code".to_vec();
        let opened = TrustedStatement::open(&statement(&code).sign(&key), &trusted).unwrap();
        opened.require(&needs(&[Target::X86_64V2, Target::X86_64V3])).unwrap();
        assert_eq!(opened.clone().verify(&code).unwrap().statement().size, 11);
        for at in 0..code.len() {
            for bit in 0..8 {
                let mut flipped = code.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(opened.clone().verify(flipped).unwrap_err().nack_code(), NackCode::DigestMismatch);
            }
        }
        assert!(opened.verify(&code[..10]).is_err());
    }

    #[test]
    fn wrong_target_fingerprint_or_program_is_refused_by_its_own_code() {
        let (key, trusted) = trusted();
        let open = |statement: Statement| TrustedStatement::open(&statement.sign(&key), &trusted).unwrap();
        let refused = |statement: Statement, targets: &[Target]| {
            open(statement).require(&needs(targets)).unwrap_err().nack_code()
        };
        assert_eq!(refused(statement(b"x"), &[Target::X86_64V2]), NackCode::Compat);
        let other_engine = Statement { fingerprint: Fingerprint(Digest::ZERO), ..statement(b"x") };
        assert_eq!(refused(other_engine, &[Target::X86_64V3]), NackCode::Compat);
        let other_program = Statement { wasm: Digest::ZERO, ..statement(b"x") };
        assert_eq!(refused(other_program, &[Target::X86_64V3]), NackCode::DigestMismatch);
    }

    #[test]
    fn unknown_signer_is_refused() {
        let (_, trusted) = trusted();
        let thief = SecretKey::from_seed([2; 32]);
        let error = TrustedStatement::open(&statement(b"x").sign(&thief), &trusted).unwrap_err();
        assert_eq!(error.nack_code(), NackCode::UnknownKey);
    }

    #[test]
    fn verified_code_is_refused_once_its_signer_is_trusted_no_more() {
        let (key, trusted) = trusted();
        let other = SecretKey::from_seed([2; 32]).public();
        let code = b"native code".to_vec();
        let opened = TrustedStatement::open(&statement(&code).sign(&key), &trusted).unwrap();
        let verified = opened.verify(&code).unwrap();
        assert_eq!(verified.check_signer(&Trusted::new([other, key.public()])), Ok(()));
        let refused = verified.check_signer(&Trusted::new([other])).unwrap_err();
        assert_eq!(refused.nack_code(), NackCode::UnknownKey);
    }
}
