//! Which functions of the interface guests call, and what they are answered, on this thread.
//!
//! Every import of a program linked in a test is wrapped. A test's guest runs on the test's own thread, so whoever
//! runs several tests in a row sees what they called together.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use wasmtime::{Caller, Extern, ExternType, Linker, Module, Val};

use crate::guest::fastly::{FastlyState, link::belongs_to, table};

/// Module, name, status.
pub type Called = BTreeSet<(String, String, i32)>;

thread_local! {
    static CALLED: RefCell<Called> = RefCell::default();
}

/// What was called since the last time, and forgets it.
pub fn take() -> Called {
    CALLED.take()
}

/// The same definitions, but their calls leave a trace.
pub fn traced(definitions: Linker<FastlyState>, module: &Module) -> wasmtime::Result<Linker<FastlyState>> {
    let definitions = Arc::new(definitions);
    let mut linker = Linker::new(definitions.engine());
    linker.allow_shadowing(true);
    for import in module.imports().filter(|import| belongs_to(import).is_some()) {
        let ExternType::Func(ty) = import.ty() else { continue };
        let (module, name) = (import.module().to_owned(), import.name().to_owned());
        let definitions = definitions.clone();
        linker.func_new_async(
            import.module(),
            import.name(),
            ty,
            move |mut guest: Caller<'_, FastlyState>, arguments: &[Val], results: &mut [Val]| {
                let definition = definitions.get(&mut guest, &module, &name).ok().and_then(Extern::into_func);
                let (module, name) = table::alias(&name)
                    .filter(|_| module == table::ALIAS_MODULE)
                    .map_or((module.clone(), name.clone()), |(module, name)| (module.into(), name.into()));
                Box::new(async move {
                    let Some(definition) = definition else {
                        return Err(wasmtime::format_err!("{module}.{name} is not defined"));
                    };
                    definition.call_async(&mut guest, arguments, results).await?;
                    let status = results.first().and_then(Val::i32).unwrap_or_default();
                    CALLED.with_borrow_mut(|called| called.insert((module, name, status)));
                    Ok(())
                })
            },
        )?;
    }
    Ok(linker)
}
