//! A core module: instantiate, run, read.

use wasmparser::ValType;
use wasmtime::{Engine, ExternType, Instance, Linker, Module, Result, Store, StoreLimits, Val, bail};
use wasmtime_wizer::{InstanceState, SnapshotVal, Wizer};

use super::state::{self, ImportCalled};

/// Of WASI's libraries: what sets them up. Where there is one it is run first, and is not exported any more.
const REACTOR: &str = "_initialize";

/// The module as it is after `function` ran.
pub fn run(engine: &Engine, wasm: &[u8], function: &str) -> Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(function);
    let (context, instrumented) = wizer.instrument(wasm)?;
    let module = Module::new(engine, &instrumented)?;
    match module.get_export(function) {
        Some(ExternType::Func(ty)) if ty.params().len() + ty.results().len() == 0 => {}
        _ => bail!("it is no function that takes and returns nothing"),
    }
    let mut store = state::store(engine)?;
    let instance = instantiated(&mut store, &module)?;
    for name in [REACTOR, function] {
        if name == REACTOR && (function == REACTOR || instance.get_func(&mut store, REACTOR).is_none()) {
            continue;
        }
        instance.get_typed_func::<(), ()>(&mut store, name)?.call(&mut store, ())?;
    }
    state::now(wizer.snapshot(&context, &mut Stopped { store, instance }))?
}

fn instantiated(store: &mut Store<StoreLimits>, module: &Module) -> Result<Instance> {
    let mut linker = Linker::new(store.engine());
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let name = format!("{}.{}", import.module(), import.name());
        linker.func_new(import.module(), import.name(), ty, move |_, _, _| {
            Err(ImportCalled(crate::intake::shown(&name)).into())
        })?;
    }
    linker.instantiate(store, module)
}

/// An instance that runs no more.
struct Stopped {
    store: Store<StoreLimits>,
    instance: Instance,
}

/// Wizer names only what it has exported itself, of types it has looked at.
impl InstanceState for Stopped {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut self.store, name).expect("instrumented");
        match global.get(&mut self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(bits) => SnapshotVal::F32(bits),
            Val::F64(bits) => SnapshotVal::F64(bits),
            Val::V128(value) => SnapshotVal::V128(value.as_u128()),
            _ => unreachable!("Wizer refuses mutable globals of references"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut self.store, name).expect("instrumented");
        contents(memory.data(&self.store));
    }
}
