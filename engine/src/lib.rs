//! The only place that builds a `wasmtime::Config`.
//!
//! Compiler and node call it, so the settings that are baked into native code cannot drift apart. [`settings`] says
//! what they are, [`levels`] what a target means, [`fingerprint`] gives all of it one name. The node's engine is
//! built without Cranelift: feature `compiler` is the compiler service's alone.
//!
//! Deliberately absent: anything that loads or runs code.

#[cfg(feature = "compiler")]
pub mod compiler;
mod fingerprint;
pub mod levels;
pub mod node;
mod settings;

use artifact::{Profile, Target};

pub use fingerprint::{CODEGEN_REVISION, WASMTIME_VERSION, fingerprint};
pub use settings::{MEMORY_BYTES_MAX, STACK_BYTES_MAX, TABLE_ELEMENTS_MAX, wasm_features};

/// Single Cranelift flags behind a target.
pub fn flags(target: Target) -> &'static [&'static str] {
    levels::flags(target)
}

/// An engine could not be configured. The operator, or we, are at fault.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the settings.
    #[error("configuring the {profile} engine for {target}")]
    Config {
        /// The profile.
        profile: Profile,
        /// The target, or `this processor`.
        target: String,
        /// wasmtime's reason.
        #[source]
        source: wasmtime::Error,
    },
    /// A flag of a level does not exist in this Cranelift.
    #[error("target {target} names the processor flag {flag:?}, which this code generator does not have")]
    UnknownFlag {
        /// The target.
        target: Target,
        /// The flag.
        flag: &'static str,
    },
}
