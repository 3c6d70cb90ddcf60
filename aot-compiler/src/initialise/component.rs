//! A component: the same. Wizer reads it through functions that it puts into it.

use wasmtime::{
    Engine, Result, Store, StoreLimits, bail,
    component::{Component, Instance, Lift, Linker, WasmList},
};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use super::state;

/// The component as it is after `function`, one that it exports beside its interfaces, ran.
pub fn run(engine: &Engine, wasm: &[u8], function: &str) -> Result<Vec<u8>> {
    let mut wizer = Wizer::new();
    wizer.init_func(function);
    // It stays exported, and nobody calls it. Wizer would take the export away of the core modules too, by the same name, and
    // leave the alias that lifts it, so the component would be invalid (wasmtime#13186).
    wizer.keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(wasm)?;
    let component = Component::new(engine, &instrumented)?;
    let Some(at) = component.get_export_index(None, function) else {
        bail!("the component does not export it"); // its caller has looked
    };
    let mut linker = Linker::new(engine);
    linker.define_unknown_imports_as_traps(&component)?;
    let mut store = state::store(engine)?;
    // Copies what was made of memory out of the component: all of it, and not by its own will.
    store.set_hostcall_fuel(usize::MAX);
    let instance = linker.instantiate(&mut store, &component)?;
    let Ok(called) = instance.get_typed_func::<(), ()>(&mut store, at) else {
        bail!("it is no function that takes and returns nothing");
    };
    called.call(&mut store, ())?;
    let mut stopped = Stopped { store, instance, failed: None };
    let snapshot = state::now(wizer.snapshot_component(&context, &mut stopped))?;
    match stopped.failed {
        Some(error) => Err(error),
        None => snapshot,
    }
}

/// An instance that runs no more, but for the functions that tell of it.
struct Stopped {
    store: Store<StoreLimits>,
    instance: Instance,
    /// The first of them that did not. Its answer is made up, and what Wizer makes of it is thrown away.
    failed: Option<wasmtime::Error>,
}

impl Stopped {
    fn told<R: Lift + 'static, T>(
        &mut self,
        (interface, function): (&str, &str),
        made_of: impl FnOnce(&mut Store<StoreLimits>, Result<R, ()>) -> T,
    ) -> T {
        let told = self.call::<R>(interface, function).map_err(|error| {
            self.failed.get_or_insert(error);
        });
        made_of(&mut self.store, told)
    }

    fn call<R: Lift + 'static>(&mut self, interface: &str, function: &str) -> Result<R> {
        let Stopped { store, instance, .. } = self;
        let interface = instance.get_export_index(&mut *store, None, interface);
        let at = interface.and_then(|at| instance.get_export_index(&mut *store, Some(&at), function));
        let Some(at) = at else { bail!("Wizer's own function {function} is not there") };
        Ok(instance.get_typed_func::<(), (R,)>(&mut *store, at)?.call(&mut *store, ())?.0)
    }
}

impl ComponentInstanceState for Stopped {
    async fn call_func_ret_list_u8(
        &mut self,
        interface: &str,
        function: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        self.told((interface, function), |store, list: Result<WasmList<u8>, ()>| match list {
            Ok(list) => contents(list.as_le_slice(&*store)),
            Err(()) => contents(&[]),
        });
    }

    async fn call_func_ret_s32(&mut self, interface: &str, function: &str) -> i32 {
        self.told((interface, function), |_, told| told.unwrap_or_default())
    }

    async fn call_func_ret_s64(&mut self, interface: &str, function: &str) -> i64 {
        self.told((interface, function), |_, told| told.unwrap_or_default())
    }

    async fn call_func_ret_f32(&mut self, interface: &str, function: &str) -> u32 {
        self.told((interface, function), |_, told: Result<f32, ()>| told.unwrap_or_default().to_bits())
    }

    async fn call_func_ret_f64(&mut self, interface: &str, function: &str) -> u64 {
        self.told((interface, function), |_, told: Result<f64, ()>| told.unwrap_or_default().to_bits())
    }
}
