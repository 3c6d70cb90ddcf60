//! The compiler's side: an engine that compiles for one target and never runs anything.

use std::{collections::HashSet, sync::Arc};

use artifact::{Profile, Target};
use cranelift_codegen::{isa, settings::Configurable as _};
use wasmtime::{Config, Engine, OptLevel};

/// Where compiled functions are looked up before they are compiled, and offered after.
pub use wasmtime::CacheStore;

use crate::{
    EngineError, MEMORY_BYTES_MAX, levels,
    node::{self, Pool},
    settings::Settings,
};

/// An engine that compiles for `target`. It cannot run what it makes unless the machine happens to match.
pub fn engine(target: Target, profile: Profile) -> Result<Engine, EngineError> {
    made(target, profile, |_| {})
}

/// The same, which takes functions out of `store` that were compiled before, and gives it those that were not. What it makes is equal
/// to what it makes without, as long as the store answers what was put into it.
pub fn engine_with_functions(
    target: Target,
    profile: Profile,
    store: Arc<dyn CacheStore>,
) -> Result<Engine, EngineError> {
    let mut refused = None;
    let engine = made(target, profile, |config| {
        refused = config.enable_incremental_compilation(store).err();
    })?;
    match refused {
        None => Ok(engine),
        Some(source) => Err(EngineError::Config { profile, target: target.to_string(), source }),
    }
}

/// An engine that compiles for `target` and runs what it compiles, in a node's pool, without the checks that let a
/// running guest be stopped: for measuring what those cost, never for a node.
pub fn unstoppable(target: Target, profile: Profile, pool: Pool) -> Result<Engine, EngineError> {
    made(target, profile, |config| {
        config.epoch_interruption(false);
        node::pooled(config, pool);
    })
}

/// An engine that interprets (Pulley), for running a program once where no memory may be executable. What it does is the same
/// on every machine and each time: fuel instead of epochs, one bit pattern for NaN.
pub fn interpreter() -> Result<Engine, EngineError> {
    let profile = Profile::Serve;
    let failed = |source| EngineError::Config { profile, target: PULLEY.to_owned(), source };
    let settings = Settings::of(profile);
    let mut config: Config = settings.config();
    config.cranelift_nan_canonicalization(settings.nan_canonicalization());
    config.target(PULLEY).map_err(failed)?;
    // It runs once: what better code would save is less than making it takes.
    config.cranelift_opt_level(OptLevel::None);
    config.epoch_interruption(false);
    config.consume_fuel(true);
    config.signals_based_traps(false);
    // A process whose address space is capped: no more of it than a memory may grow to, and nothing around.
    config.memory_reservation(MEMORY_BYTES_MAX as u64 + INTERPRETER_SPARE_BYTES);
    config.memory_guard_size(0);
    config.guard_before_linear_memory(false);
    config.memory_init_cow(false);
    Engine::new(&config).map_err(failed)
}

/// The interpreter's instructions, for machines of 64 bits.
const PULLEY: &str = "pulley64";
/// What an interpreted memory may have beyond a guest's: a page into which the snapshot of a component writes where its memory is.
pub const INTERPRETER_SPARE_BYTES: u64 = 64 << 10;

fn made(target: Target, profile: Profile, change: impl FnOnce(&mut Config)) -> Result<Engine, EngineError> {
    check_flags(target)?;
    let failed = |source| EngineError::Config { profile, target: target.to_string(), source };
    let settings = Settings::of(profile);
    let mut config: Config = settings.config();
    config.cranelift_nan_canonicalization(settings.nan_canonicalization());
    config.cranelift_opt_level(OptLevel::Speed);
    // An explicit triple switches off the inference of this machine's features: only our flags count.
    config.target(target.triple()).map_err(failed)?;
    for flag in levels::flags(target) {
        enable(&mut config, flag);
    }
    change(&mut config);
    Engine::new(&config).map_err(failed)
}

/// Every flag we name exists in this code generator. A typing error would otherwise surface at the first upload.
pub fn check_flags(target: Target) -> Result<(), EngineError> {
    let triple = target.triple().parse().expect("a triple from our own table parses");
    let mut builder = isa::lookup(triple).expect("built with all architectures");
    let known: HashSet<&str> = builder.iter().map(|setting| setting.name).collect();
    for flag in levels::flags(target) {
        if !known.contains(flag) || builder.enable(flag).is_err() {
            return Err(EngineError::UnknownFlag { target, flag });
        }
    }
    Ok(())
}

#[allow(unsafe_code)]
fn enable(config: &mut Config, flag: &str) {
    // SAFETY: the flags are the processor features of `levels`, checked above against the code generator's own
    // table. Code that uses them is loaded only where `levels::of_this_machine` found every one of them, and
    // wasmtime checks them against the processor again.
    unsafe {
        config.cranelift_flag_enable(flag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_every_target_exists() {
        for target in Target::ALL {
            check_flags(target).unwrap();
        }
    }

    #[test]
    fn every_target_compiles_and_twice_gives_the_same_bytes() {
        let wasm =
            b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x04\x01\x02\0\x0b";
        for target in Target::ALL {
            let compile = || engine(target, Profile::Serve).unwrap().precompile_module(wasm).unwrap();
            assert_eq!(compile(), compile(), "{target}");
        }
    }
}
