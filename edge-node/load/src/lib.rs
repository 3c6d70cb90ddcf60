//! From a signed container to code that can answer requests. The node's one room with `unsafe`: loading native code is
//! executing it, so the only way in is a [`VerifiedArtifact`] over a [`SealedCode`] descriptor.
//!
//! container → envelope → signature → requirements → unpack into a memfd → seal → digest of the sealed pages →
//! map the same descriptor, once for each engine. Nothing can change the bytes between the check and the mappings, not
//! even we.

mod sealed;

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use artifact::{
    Digest, Lane, Profile, Target,
    container::{Container, ContainerError},
    keys::{Compiler, Trusted},
    nack::{Nack, NackCode},
    statement::{Requirements, TrustedStatement, VerifiedArtifact, VerifyError},
};
use wasmtime::{Engine, Module, component::Component};

pub use sealed::SealedCode;

/// Why code was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The blob is no container.
    #[error("reading the signed artifact")]
    Container(#[from] ContainerError),
    /// Signature, requirements or digest.
    #[error("verifying the artifact")]
    Verify(#[from] VerifyError),
    /// No memory file for the code.
    #[error("sealing the artifact in memory")]
    Seal(#[source] io::Error),
    /// wasmtime refused verified code: a bug, or a fingerprint that does not say enough.
    #[error("mapping the verified artifact")]
    Map(#[source] wasmtime::Error),
    /// No request could ever have room for it.
    #[error(
        "the program takes {weight} shares of a serving thread's pool (a share is one memory and two tables), and one app may \
         have {shares_max}; raise instances_max"
    )]
    TooHeavy {
        /// Shares of one execution.
        weight: usize,
        /// Shares of one app.
        shares_max: usize,
    },
    /// The program lacks an export its lane needs.
    #[error("linking the program: {0}")]
    Link(#[source] wasmtime::Error),
}

impl LoadError {
    /// What the node reports upwards.
    pub fn nack(&self) -> Nack {
        let code = match self {
            LoadError::Container(ContainerError::Envelope(_)) => NackCode::BadSig,
            LoadError::Container(_) => NackCode::DigestMismatch,
            LoadError::Verify(error) => error.nack_code(),
            LoadError::Seal(_) | LoadError::TooHeavy { .. } => NackCode::NoSpace,
            LoadError::Map(_) | LoadError::Link(_) => NackCode::LoadFail,
        };
        Nack { code, detail: chain(self) }
    }
}

/// An error with all its causes, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Verified code in a memory file of its own, which engines map.
pub type VerifiedCode = VerifiedArtifact<SealedCode>;

/// What this node demands of every artifact.
#[derive(Debug, Clone)]
pub struct Loader {
    targets: Vec<Target>,
    /// Looked at by each check: keys come and go while the node runs.
    trusted: Arc<ArcSwap<Trusted<Compiler>>>,
}

/// Mapped native code of one program, for one engine.
pub enum Code {
    /// A component.
    Component(Component),
    /// A core module.
    Module(Module),
}

impl Loader {
    /// A loader of code for these targets, which this machine runs, trusting these compiler keys for ever.
    pub fn new(targets: Vec<Target>, trusted: Trusted<Compiler>) -> Loader {
        Loader::following(targets, Arc::new(ArcSwap::from_pointee(trusted)))
    }

    /// The same, trusting the keys that `trusted` holds when code is checked.
    pub fn following(targets: Vec<Target>, trusted: Arc<ArcSwap<Trusted<Compiler>>>) -> Loader {
        Loader { targets, trusted }
    }

    /// Unpacks and verifies `container`, which must hold code made from `wasm`. Blocking: 0.1 ms for a small program,
    /// tens of ms for a large one; call it off the serving threads.
    pub fn verify(&self, container: &[u8], wasm: Digest) -> Result<VerifiedCode, LoadError> {
        let container = Container::decode(container)?;
        let trusted = TrustedStatement::open(&container.envelope, &self.trusted.load())?;
        trusted.require(&Requirements {
            targets: &self.targets,
            profile: Profile::Serve,
            fingerprint: engine::fingerprint,
            wasm,
        })?;
        let size = trusted.statement().size;
        let mut writer = SealedCode::writer().map_err(LoadError::Seal)?;
        container.decompress(size, &mut writer)?;
        let sealed = SealedCode::seal(writer).map_err(LoadError::Seal)?;
        Ok(trusted.verify(sealed)?)
    }

    /// Is verified code still to be mapped? Not if its signer was revoked since.
    pub fn check_signer(&self, code: &VerifiedCode) -> Result<(), LoadError> {
        Ok(code.check_signer(&self.trusted.load())?)
    }
}

/// Maps verified code for an engine of [`Profile::Serve`]. Blocking, as [`Loader::verify`].
pub fn map(engine: &Engine, code: &VerifiedCode) -> Result<Code, LoadError> {
    mapped(engine, code).map_err(LoadError::Map)
}

#[allow(unsafe_code)]
fn mapped(engine: &Engine, code: &VerifiedCode) -> wasmtime::Result<Code> {
    let sealed = code.bytes();
    match code.statement().lane {
        Lane::Wasi => {
            // wasmtime 48 maps a component by path only; this path names our own descriptor.
            // SAFETY: a `VerifiedArtifact` is exactly what our compiler made with a wasmtime of this fingerprint
            // (checked in `verify`), and its descriptor is sealed: nobody can alter or truncate what is mapped.
            let component = unsafe { Component::deserialize_file(engine, sealed.path()) }?;
            Ok(Code::Component(component))
        }
        Lane::Fastly => {
            // SAFETY: as above.
            let module = unsafe { Module::deserialize_open_file(engine, sealed.file()?) }?;
            Ok(Code::Module(module))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifact::{container, keys::SecretKey, statement::Statement};

    // (module (memory (export "memory") 1) (func (export "_start")))
    const WASM: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
        \x07\x13\x02\x06memory\x02\0\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

    fn key() -> SecretKey<Compiler> {
        SecretKey::from_seed([1; 32])
    }

    fn native(target: Target) -> Vec<u8> {
        engine::compiler::engine(target, Profile::Serve).unwrap().precompile_module(WASM).unwrap()
    }

    fn statement(native: &[u8], target: Target) -> Statement {
        Statement {
            artifact: Digest::of(native),
            size: native.len() as u64,
            wasm: Digest::of(WASM),
            lane: Lane::Fastly,
            target,
            profile: Profile::Serve,
            fingerprint: engine::fingerprint(target, Profile::Serve),
            imports: vec![],
            compiler: "test".into(),
            flags: vec![],
        }
    }

    fn loader() -> Loader {
        Loader::new(engine::levels::of_this_machine(), Trusted::new([key().public()]))
    }

    fn engine() -> Engine {
        let pool = engine::node::Pool { instances_max: 2, reset: engine::node::Reset::Copy };
        engine::node::engine(Profile::Serve, pool).unwrap()
    }

    fn best() -> Target {
        *engine::levels::of_this_machine().last().unwrap()
    }

    fn nack(container: &[u8]) -> NackCode {
        loader().verify(container, Digest::of(WASM)).map(|_| ()).unwrap_err().nack().code
    }

    #[test]
    fn signed_code_for_this_machine_is_mapped_by_every_engine() {
        let native = native(best());
        let blob = container::encode(&statement(&native, best()).sign(&key()), &native).unwrap();
        let verified = loader().verify(&blob, Digest::of(WASM)).unwrap();
        for engine in [engine(), engine()] {
            assert!(matches!(map(&engine, &verified).unwrap(), Code::Module(_)));
        }
    }

    #[test]
    fn a_new_key_counts_at_once_and_a_revoked_one_neither_for_new_code_nor_for_what_was_verified_before() {
        let (native, next) = (native(best()), SecretKey::from_seed([2; 32]));
        let trusted = Arc::new(ArcSwap::from_pointee(Trusted::new([key().public()])));
        let loader = Loader::following(engine::levels::of_this_machine(), trusted.clone());
        let by = |key: &SecretKey<Compiler>| {
            container::encode(&statement(&native, best()).sign(key), &native).unwrap()
        };
        let code = |key: &SecretKey<Compiler>| loader.verify(&by(key), Digest::of(WASM));
        let refused = |done: Result<(), LoadError>| done.unwrap_err().nack().code;
        let old = code(&key()).unwrap();
        assert_eq!(refused(code(&next).map(drop)), NackCode::UnknownKey);

        trusted.store(Arc::new(Trusted::new([key().public(), next.public()])));
        let new = code(&next).unwrap();
        loader.check_signer(&old).unwrap();
        trusted.store(Arc::new(Trusted::new([next.public()])));
        assert_eq!(refused(code(&key()).map(drop)), NackCode::UnknownKey);
        assert_eq!(refused(loader.check_signer(&old)), NackCode::UnknownKey);
        loader.check_signer(&new).unwrap();
    }

    #[test]
    fn every_flipped_byte_of_the_artifact_is_refused() {
        let native = native(best());
        let envelope = statement(&native, best()).sign(&key());
        let loader = loader();
        for at in 0..native.len() {
            let mut flipped = native.clone();
            flipped[at] ^= 0x10;
            let blob = container::encode(&envelope, &flipped).unwrap();
            let error = loader.verify(&blob, Digest::of(WASM)).map(|_| ()).unwrap_err();
            assert_eq!(error.nack().code, NackCode::DigestMismatch, "byte {at}");
        }
    }

    /// Ten thousand bits anywhere in a megabyte of real code, in the form a node keeps, which is not compressed.
    #[test]
    fn no_flipped_bit_of_a_big_artifact_is_mapped() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/guests/fastly-hello.wasm");
        let Ok(wasm) = std::fs::read(path) else {
            let must = std::env::var("SKERRY_TESTS_MUST_NOT_SKIP").is_ok_and(|must| must == "1");
            assert!(!must, "{path} is not built: ./dev guests");
            return eprintln!("SKIPPED: {path} is not built; `./dev guests` builds it");
        };
        let compiler = engine::compiler::engine(best(), Profile::Serve).unwrap();
        let native = compiler.precompile_module(&wasm).unwrap();
        let packed = container::encode(&statement(&native, best()).sign(&key()), &native).unwrap();
        let mut blob = Container::decode(&packed).unwrap().unpack(native.len() as u64).unwrap();
        let (loader, first) = (loader(), blob.len() - native.len());
        loader.verify(&blob, Digest::of(WASM)).unwrap();
        let mut state = 7_u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bit = (state >> 24) as usize % (native.len() * 8);
            let at = first + bit / 8;
            blob[at] ^= 1 << (bit % 8);
            let refused = loader.verify(&blob, Digest::of(WASM)).map(|_| ()).unwrap_err();
            assert_eq!(refused.nack().code, NackCode::DigestMismatch, "bit {bit}");
            blob[at] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn every_flipped_byte_of_the_container_is_refused_or_harmless() {
        let native = native(best());
        let blob = container::encode(&statement(&native, best()).sign(&key()), &native).unwrap();
        let loader = loader();
        for at in 0..blob.len() {
            let mut flipped = blob.clone();
            flipped[at] ^= 0x04;
            // A flip in zstd's own padding or in a JSON string of the envelope that is not signed may change
            // nothing that counts; what loads must then be the very artifact that was signed.
            if let Ok(mapped) = loader.verify(&flipped, Digest::of(WASM)) {
                assert_eq!(mapped.statement().artifact, Digest::of(&native), "byte {at}");
            }
        }
    }

    #[test]
    fn stolen_key_other_target_other_fingerprint_and_other_program_are_refused_before_mapping() {
        let native = native(best());
        let thief = SecretKey::from_seed([9; 32]);
        let stolen = container::encode(&statement(&native, best()).sign(&thief), &native).unwrap();
        assert_eq!(nack(&stolen), NackCode::UnknownKey);

        let foreign =
            Target::ALL.into_iter().find(|t| !engine::levels::of_this_machine().contains(t)).unwrap();
        let other_target = Statement { target: foreign, ..statement(&native, best()) };
        assert_eq!(nack(&container::encode(&other_target.sign(&key()), &native).unwrap()), NackCode::Compat);

        let old =
            Statement { fingerprint: artifact::Fingerprint(Digest::ZERO), ..statement(&native, best()) };
        assert_eq!(nack(&container::encode(&old.sign(&key()), &native).unwrap()), NackCode::Compat);

        let other = Statement { wasm: Digest::ZERO, ..statement(&native, best()) };
        assert_eq!(nack(&container::encode(&other.sign(&key()), &native).unwrap()), NackCode::DigestMismatch);
        assert_eq!(nack(b"\x7fELF native code without a signature"), NackCode::DigestMismatch);
    }
}
