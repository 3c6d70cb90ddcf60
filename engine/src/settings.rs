//! The settings that are baked into native code, by profile. Each with its reason.

use std::fmt::Write as _;

use artifact::Profile;
use wasmtime::{Config, ModuleVersionStrategy, WasmBacktraceDetails, WasmFeatures};

use crate::{CODEGEN_REVISION, WASMTIME_VERSION};

/// Largest linear memory of a guest, in bytes: 128 MiB, as on the platforms guests come from.
pub const MEMORY_BYTES_MAX: usize = 128 << 20;
/// Native stack a guest may use, in bytes: 1 MiB (DESIGN §4).
pub const STACK_BYTES_MAX: usize = 1 << 20;
/// Stack of a guest with the host functions it calls, which run on it too.
pub(crate) const FIBER_STACK_BYTES: usize = STACK_BYTES_MAX + (512 << 10);
/// Elements of one table. JS engines have tables of some ten thousand functions.
pub const TABLE_ELEMENTS_MAX: usize = 64 * 1024;

/// Settings compared at load time or needed to give the same answers everywhere.
pub(crate) struct Settings {
    /// Epoch checks at function entry and loop heads: how a running guest is stopped.
    epoch_interruption: bool,
    /// Fuel is for exact replays, not for serving: 2 to 3 times slower.
    consume_fuel: bool,
    /// Component-model concurrency costs 2 to 5 µs a request and is for WASI 0.3.
    concurrency_support: bool,
    /// One bit pattern for NaN, so that x86 and Arm POPs answer alike.
    nan_canonicalization: bool,
    /// Relaxed SIMD is allowed, with the deterministic choice of each operation.
    relaxed_simd_deterministic: bool,
    /// Virtual memory a guest's memory is placed in; with the guard it removes bounds checks.
    memory_reservation_bytes: u64,
    /// Unmapped bytes behind it.
    memory_guard_bytes: u64,
    /// Copy-on-write images of the initial memory.
    memory_init_cow: bool,
    /// Tables filled when first used.
    table_lazy_init: bool,
    /// Maps native code to wasm offsets, for readable traps.
    generate_address_map: bool,
    /// Unwind tables: registering thousands is quadratic, and frame pointers suffice.
    native_unwind_info: bool,
}

impl Settings {
    pub(crate) fn of(profile: Profile) -> Settings {
        match profile {
            Profile::Serve => Settings {
                epoch_interruption: true,
                consume_fuel: false,
                concurrency_support: false,
                nan_canonicalization: true,
                relaxed_simd_deterministic: true,
                memory_reservation_bytes: 4 << 30,
                memory_guard_bytes: 32 << 20,
                memory_init_cow: true,
                table_lazy_init: true,
                generate_address_map: true,
                native_unwind_info: false,
            },
        }
    }

    /// A text with every setting: what the fingerprint is made of.
    pub(crate) fn describe(&self) -> String {
        // Taken apart without `..`, so that a new setting cannot be left out of the fingerprint.
        let Settings {
            epoch_interruption,
            consume_fuel,
            concurrency_support,
            nan_canonicalization,
            relaxed_simd_deterministic,
            memory_reservation_bytes,
            memory_guard_bytes,
            memory_init_cow,
            table_lazy_init,
            generate_address_map,
            native_unwind_info,
        } = self;
        let mut text = String::new();
        let _ = write!(
            text,
            "epoch={epoch_interruption} fuel={consume_fuel} concurrency={concurrency_support} \
             nan={nan_canonicalization} relaxed_deterministic={relaxed_simd_deterministic} \
             reservation={memory_reservation_bytes} guard={memory_guard_bytes} cow={memory_init_cow} \
             table_lazy={table_lazy_init} address_map={generate_address_map} unwind={native_unwind_info} \
             features={:#x}",
            wasm_features().bits()
        );
        text
    }

    /// What both sides set. The compiler adds its target, the node its pool.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new();
        config.wasm_features(WasmFeatures::all(), false);
        config.wasm_features(wasm_features(), true);
        config.epoch_interruption(self.epoch_interruption);
        config.consume_fuel(self.consume_fuel);
        config.concurrency_support(self.concurrency_support);
        config.relaxed_simd_deterministic(self.relaxed_simd_deterministic);
        config.memory_reservation(self.memory_reservation_bytes);
        config.memory_guard_size(self.memory_guard_bytes);
        config.memory_init_cow(self.memory_init_cow);
        config.table_lazy_init(self.table_lazy_init);
        config.generate_address_map(self.generate_address_map);
        config.native_unwind_info(self.native_unwind_info);
        config.max_wasm_stack(STACK_BYTES_MAX);
        config.async_stack_size(FIBER_STACK_BYTES);
        // The default reads an environment variable, and then no longer loads what was compiled without it.
        config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
        // wasmtime compares only its major version; a miscompiling patch release must not be loaded by a fixed one.
        let version = format!("skerry {WASMTIME_VERSION} r{CODEGEN_REVISION}");
        config.module_version(ModuleVersionStrategy::Custom(version)).expect("shorter than 255 bytes");
        config
    }

    #[cfg(feature = "compiler")]
    pub(crate) fn nan_canonicalization(&self) -> bool {
        self.nan_canonicalization
    }
}

/// The WebAssembly a guest may use: the 2.0 set, and what Fastly's and current Rust guests need. Off: garbage
/// collection, exceptions, threads, 64-bit memory, WASI 0.3 concurrency.
pub fn wasm_features() -> WasmFeatures {
    let mut features = WasmFeatures::WASM2
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::WIDE_ARITHMETIC
        | WasmFeatures::COMPONENT_MODEL;
    features.remove(WasmFeatures::GC_TYPES);
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_design_switches_off_is_off() {
        let on = wasm_features();
        for off in [
            WasmFeatures::GC,
            WasmFeatures::GC_TYPES,
            WasmFeatures::EXCEPTIONS,
            WasmFeatures::LEGACY_EXCEPTIONS,
            WasmFeatures::THREADS,
            WasmFeatures::MEMORY64,
            WasmFeatures::CM_ASYNC,
            WasmFeatures::STACK_SWITCHING,
            WasmFeatures::CUSTOM_PAGE_SIZES,
        ] {
            assert!(!on.intersects(off), "{off:?}");
        }
    }
}
