//! The node's side: an engine that loads native code into pooled slots and cannot compile.
//!
//! Measured reasons for the pool's settings: `docs/design/0001-engine.md`.

use artifact::Profile;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::{EngineError, MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, settings::Settings};

/// Linear memories of one core module.
pub const MEMORIES_PER_MODULE_MAX: u32 = 1;
/// Tables of one core module.
pub const TABLES_PER_MODULE_MAX: u32 = 4;
/// Core instances of one component: main, adapter, shim, fixup, and room for composed ones.
const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 16;
/// Tables of one component: adapters bring one of their own.
const TABLES_PER_COMPONENT_MAX: u32 = 16;
/// Linear memories of one component: a second for adapters and composed components.
const MEMORIES_PER_COMPONENT_MAX: u32 = 4;
/// Bytes of a component's or instance's own bookkeeping: JS engines have tens of thousands of functions.
const INSTANCE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a memory that are reset in place instead of being given back to the kernel: 2 MiB covers a Rust guest's
/// stack and heap, so that in steady state no page faults.
pub const MEMORY_KEEP_RESIDENT_BYTES: usize = 2 << 20;
/// The same for tables.
pub const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// Tables of the pool for each of its instances.
pub const TABLES_PER_INSTANCE: u32 = 2;
/// Shares of the pool, a memory and its tables each, that the largest component takes.
pub const SHARES_MAX: u32 = TABLES_PER_COMPONENT_MAX.div_ceil(TABLES_PER_INSTANCE);
const _: () = assert!(MEMORIES_PER_COMPONENT_MAX <= SHARES_MAX);
/// Bytes of memory that one instance's share of the pool may keep while nobody uses it: a memory, its tables, and a stack,
/// whose pages stay with it.
pub const SLOT_BYTES: usize = MEMORY_KEEP_RESIDENT_BYTES
    + TABLES_PER_INSTANCE as usize * TABLE_KEEP_RESIDENT_BYTES
    + crate::settings::FIBER_STACK_BYTES;

/// What a node decides about its pool.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Guests that may exist at once. Each reserves 4 GiB of addresses.
    pub instances_max: u32,
    /// How pages that a guest wrote are found when its slot is reset.
    pub reset: Reset,
}

/// See [`Pool::reset`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Ask the kernel which pages are dirty (`PAGEMAP_SCAN`, Linux 6.7). Only where nothing can be swapped out: a
    /// page in swap is not seen as dirty, and the slot's next tenant would read it.
    PagemapScan,
    /// Copy or zero the kept part every time. Slower, right everywhere.
    Copy,
}

/// An engine that runs artifacts of `profile` on this machine.
pub fn engine(profile: Profile, pool: Pool) -> Result<Engine, EngineError> {
    made(profile, |config| pooled(config, pool))
}

/// An engine with the same settings whose instances are allocated one by one: for proving code where a pool's addresses
/// do not fit (an emulator) or its limits are too small (the specification's test suite). No node uses it.
pub fn on_demand(profile: Profile) -> Result<Engine, EngineError> {
    made(profile, |config| {
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        config.force_memory_init_memfd(false);
    })
}

fn made(profile: Profile, allocate: impl FnOnce(&mut Config)) -> Result<Engine, EngineError> {
    let mut config = Settings::of(profile).config();
    // In a workspace build the feature may be on by unification; the node still must not compile.
    #[cfg(feature = "compiler")]
    config.enable_compiler(false);
    allocate(&mut config);
    Engine::new(&config).map_err(|source| EngineError::Config {
        profile,
        target: "this processor".into(),
        source,
    })
}

/// Instances come from a pool.
pub(crate) fn pooled(config: &mut Config, pool: Pool) {
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
    // The image of a module's initial memory is part of what was mapped. A node maps sealed memory files only, so it comes
    // from RAM, never from a disk in the middle of a request; a memory file of its own would hold it a second time.
    config.force_memory_init_memfd(false);
}

fn pooling(pool: Pool) -> PoolingAllocationConfig {
    let instances = pool.instances_max;
    let mut config = PoolingAllocationConfig::new();
    config
        .total_component_instances(instances)
        // Only counted: no memory is set aside for them. As many as all components may have, so that they never run out.
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT_MAX))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(instances)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
        .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
        .max_memories_per_module(MEMORIES_PER_MODULE_MAX)
        .max_tables_per_module(TABLES_PER_MODULE_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(MEMORY_BYTES_MAX)
        .max_core_instance_size(INSTANCE_BYTES_MAX)
        .max_component_instance_size(INSTANCE_BYTES_MAX)
        .max_unused_warm_slots(instances)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
    config.pagemap_scan(match pool.reset {
        Reset::PagemapScan => Enabled::Yes,
        Reset::Copy => Enabled::No,
    });
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_engine_builds_and_cannot_compile() {
        let engine = engine(Profile::Serve, Pool { instances_max: 4, reset: Reset::Copy }).unwrap();
        assert!(
            wasmtime::Module::validate(&engine, b"\0asm\x01\0\0\0").is_ok()
                || cfg!(not(feature = "compiler"))
        );
    }

    /// Compile for every target this machine runs, load with the node's engine, run. Needs `--features compiler`.
    #[cfg(feature = "compiler")]
    #[test]
    fn what_the_compiler_makes_the_node_loads_and_runs() {
        let node = engine(Profile::Serve, Pool { instances_max: 4, reset: Reset::Copy }).unwrap();
        // (module (func (export "f") (result i32) i32.const 42))
        let wasm = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x07\x05\x01\x01f\0\0\x0a\x06\x01\x04\0\x41\x2a\x0b";
        for target in crate::levels::of_this_machine() {
            let native =
                crate::compiler::engine(target, Profile::Serve).unwrap().precompile_module(wasm).unwrap();
            #[allow(unsafe_code)]
            // SAFETY: the bytes come from the compiler one line above.
            let module = unsafe { wasmtime::Module::deserialize(&node, &native) }.unwrap();
            let mut store = wasmtime::Store::new(&node, ());
            store.set_epoch_deadline(1);
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let f = instance.get_typed_func::<(), i32>(&mut store, "f").unwrap();
            assert_eq!(f.call(&mut store, ()).unwrap(), 42);
            assert!(wasmtime::Module::new(&node, wasm).is_err(), "the node's engine must not compile");
        }
    }
}
