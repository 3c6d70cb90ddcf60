//! The work itself, in one process: wasm in, native code out, and a signature over it.
//!
//! The service runs [`compile_in_process`] only inside a capped [job](crate::job); benchmarks and other rooms' tests
//! call it directly on guests they trust. [`sign`] and what it calls are the one place where a
//! statement is made.

use std::sync::Arc;

use artifact::{
    Digest, Lane, Profile, Target,
    compile::{Refusal, RefusalCode},
    container,
    keys::{Compiler, SecretKey},
    statement::{ARTIFACT_BYTES_MAX, Statement},
};

use crate::{
    functions::Finder,
    intake::{Admitted, refuse},
    prepare::{prepare, taken},
};

/// Native code and what is known of the program it was made from. Unsigned: no node loads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledArtifact {
    /// What intake found.
    pub admitted: Admitted,
    /// wasmtime's artifact, uncompressed.
    pub native: Vec<u8>,
}

/// What is signed besides the native code: known to the signer from its own side, not from a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The uploaded program.
    pub wasm: Digest,
    /// The processor level it was compiled for.
    pub target: Target,
    /// The profile baked in.
    pub profile: Profile,
}

/// This compiler's name and version, as it stands in statements.
pub fn compiler_version() -> String {
    format!("aot-compiler {} wasmtime {}", env!("CARGO_PKG_VERSION"), engine::WASMTIME_VERSION)
}

/// Validates and compiles in this process, without any cap on memory or time: for trusted programs, and for the
/// inside of a job. Uses rayon's global pool.
pub fn compile_in_process(
    wasm: &[u8],
    target: Target,
    profile: Profile,
) -> Result<CompiledArtifact, Refusal> {
    let (wasm, admitted) = taken(wasm.to_vec())?;
    compile_admitted(&wasm, admitted, target, profile, None)
}

/// The same of what intake has admitted, with functions that were compiled before.
pub(crate) fn compile_admitted(
    wasm: &[u8],
    admitted: Admitted,
    target: Target,
    profile: Profile,
    finder: Option<Arc<Finder>>,
) -> Result<CompiledArtifact, Refusal> {
    let native = native_with(wasm, admitted.lane, target, profile, finder).map_err(|mut refusal| {
        if refusal.code == RefusalCode::JobLimit {
            refusal.message.push_str("; ");
            refusal.message.push_str(&admitted.shape.most_to_compile());
        }
        refusal
    })?;
    Ok(CompiledArtifact { admitted, native })
}

/// What [`compile_in_process`] does after intake: native code of a program, without a look at what its lane asks of it.
/// Besides it, the specification's test suite uses this, whose modules are no programs of a lane.
pub fn native(wasm: &[u8], lane: Lane, target: Target, profile: Profile) -> Result<Vec<u8>, Refusal> {
    native_with(wasm, lane, target, profile, None)
}

/// The same, with functions that were compiled before. They change how long it takes and not what comes out.
pub fn native_with(
    wasm: &[u8],
    lane: Lane,
    target: Target,
    profile: Profile,
    finder: Option<Arc<Finder>>,
) -> Result<Vec<u8>, Refusal> {
    let engine = match finder {
        Some(finder) => engine::compiler::engine_with_functions(target, profile, finder),
        None => engine::compiler::engine(target, profile),
    };
    let engine = engine.map_err(|error| {
        refuse(
            RefusalCode::Internal,
            format!("the compiler could not make an engine for {target}: {}", chain(&error)),
        )
    })?;
    let prepared = prepare(wasm)?;
    let compiled = match lane {
        Lane::Wasi => engine.precompile_component(&prepared),
        Lane::Fastly => engine.precompile_module(&prepared),
    };
    // Intake and engine validate alike, so what is refused here is beyond the code generator: too large a frame or
    // function. wasmtime's sentence names it.
    let native = compiled.map_err(|error| {
        if error.is::<wasmtime::OutOfMemory>() {
            return refuse(
                RefusalCode::JobLimit,
                "compiling ran out of memory: make the largest functions smaller",
            );
        }
        refuse(
            RefusalCode::Invalid,
            format!("the code generator refused the program for {target}: {error:#}"),
        )
    })?;
    check_native_size(native.len() as u64)?;
    Ok(native)
}

/// Refuses native code that no node would load.
pub(crate) fn check_native_size(bytes: u64) -> Result<(), Refusal> {
    if bytes <= ARTIFACT_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the program compiles to {bytes} bytes of native code, at most {ARTIFACT_BYTES_MAX} are allowed"
    );
    Err(refuse(RefusalCode::Limit, message))
}

/// States what the native code is, signs that, and answers the container: the blob that nodes fetch.
pub fn sign(compiled: &CompiledArtifact, made: Made, key: &SecretKey<Compiler>) -> std::io::Result<Vec<u8>> {
    sign_native(&compiled.native, compiled.admitted.lane, compiled.admitted.imports.clone(), made, key)
}

/// [`sign`] for code that did not pass intake: of the specification's test suite.
pub fn sign_native(
    native: &[u8],
    lane: Lane,
    imports: Vec<String>,
    made: Made,
    key: &SecretKey<Compiler>,
) -> std::io::Result<Vec<u8>> {
    let statement = Statement {
        artifact: Digest::of(native),
        size: native.len() as u64,
        wasm: made.wasm,
        lane,
        target: made.target,
        profile: made.profile,
        fingerprint: engine::fingerprint(made.target, made.profile),
        imports,
        compiler: compiler_version(),
        flags: engine::flags(made.target).iter().map(|flag| (*flag).to_owned()).collect(),
    };
    container::encode(&statement.sign(key), native)
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
