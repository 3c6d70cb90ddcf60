//! Random modules: exported functions called with fixed arguments, in one instance until a call traps, and all that can be
//! seen after each call written as text. The same text must come out on every architecture.

use anyhow::Context as _;
use artifact::Digest;
use wasmtime::{Engine, Extern, ExternType, Instance, Linker, Module, Store, Trap, Val, ValType};

use crate::{
    clock::{self, Ticks},
    values,
};

/// Exported functions that are called of one module.
const FUNCTIONS_MAX: usize = 6;
/// Calls of one function, each with other arguments.
const ROUNDS: usize = 2;
/// How a call's line ends where frames of another size would have made a difference.
pub const STACK: &str = "trap stack";
/// How a call's line ends that was stopped by time.
pub const TIME: &str = "trap time";

/// What the calls came to, one line each.
pub fn observe(engine: &Engine, module: &Module) -> anyhow::Result<Vec<String>> {
    let functions = module.exports().filter_map(|export| match export.ty() {
        ExternType::Func(ty) => Some((export.name().to_owned(), ty)),
        _ => None,
    });
    let mut lines = Vec::new();
    let mut alive = None;
    for (name, ty) in functions.take(FUNCTIONS_MAX) {
        for round in 0..ROUNDS {
            let arguments: Option<Vec<Val>> = ty.params().map(|kind| argument(&kind, round)).collect();
            let Some(arguments) = arguments else { continue };
            let (mut store, instance) = match alive.take() {
                Some(alive) => alive,
                None => match instance(engine, module)? {
                    Ok(made) => made,
                    // As often as it is asked.
                    Err(ended) => return Ok(vec![format!("start: {ended}")]),
                },
            };
            let (line, is_alive) = call(&mut store, instance, &name, &arguments, ty.results().len())?;
            lines.push(format!("{name:?} {round}: {line}"));
            alive = is_alive.then_some((store, instance));
        }
    }
    if let (true, Err(ended)) = (lines.is_empty(), instance(engine, module)?) {
        lines.push(format!("start: {ended}"));
    }
    Ok(lines)
}

/// What can be seen after a call and how it ended; may the instance be called again?
fn call(
    store: &mut Store<Ticks>,
    instance: Instance,
    name: &str,
    arguments: &[Val],
    results: usize,
) -> anyhow::Result<(String, bool)> {
    let function = instance.get_func(&mut *store, name).context("an export of the module")?;
    let mut results = vec![Val::I32(0); results];
    store.data_mut().0 = 0;
    let called = function.call(&mut *store, arguments, &mut results);
    let end = match &called {
        Ok(()) => results.iter().map(values::shown).collect::<Vec<_>>().join(" "),
        Err(error) => ended(error)?,
    };
    // Where the stack ended is no matter of the program's: what it had done by then differs.
    let is_comparable = end != STACK && end != TIME;
    let seen = if is_comparable { seen(store, instance).short() } else { String::new() };
    Ok((format!("{seen} {end}"), called.is_ok()))
}

fn argument(kind: &ValType, round: usize) -> Option<Val> {
    let odd = round % 2 == 1;
    Some(match kind {
        ValType::I32 => Val::I32(if odd { -0x1234_5678 } else { 3 }),
        ValType::I64 => Val::I64(if odd { i64::MIN } else { 0x0123_4567_89ab_cdef }),
        // A NaN with a payload, and a number.
        ValType::F32 => Val::F32(if odd { 0xffa1_2345 } else { 1.1_f32.to_bits() }),
        ValType::F64 => Val::F64(if odd { 0x7ff4_5678_9abc_def0 } else { (-1e300_f64).to_bits() }),
        ValType::V128 => {
            let bits =
                if odd { 0x7fa0_0001_8000_0000_ff81_0203_0405_0607 } else { u128::MAX / 0x0001_0203_0405 };
            Val::V128(bits.into())
        }
        ValType::Ref(kind) if kind.heap_type().is_func() && kind.is_nullable() => Val::FuncRef(None),
        ValType::Ref(_) => return None,
    })
}

/// A store with an instance of the module, or how instantiating it ended.
fn instance(engine: &Engine, module: &Module) -> anyhow::Result<Result<(Store<Ticks>, Instance), String>> {
    let mut store = clock::store(engine);
    match Linker::new(engine).instantiate(&mut store, module) {
        Ok(instance) => Ok(Ok((store, instance))),
        Err(error) => Ok(Err(ended(&error)?)),
    }
}

/// A digest of every exported global, memory and table.
fn seen(store: &mut Store<Ticks>, instance: Instance) -> Digest {
    let exports: Vec<_> = instance.exports(&mut *store).map(|export| export.into_extern()).collect();
    let mut digests = Vec::new();
    for export in exports {
        let digest = match export {
            Extern::Global(global) => Digest::of(values::shown(&global.get(&mut *store)).as_bytes()),
            Extern::Memory(memory) => Digest::of(memory.data(&*store)),
            Extern::Table(table) => {
                let size = table.size(&*store);
                let set =
                    (0..size).map(|at| table.get(&mut *store, at).is_some_and(|value| !value.is_null()));
                Digest::of(&set.map(u8::from).collect::<Vec<_>>())
            }
            _ => continue,
        };
        digests.push(digest);
    }
    Digest::of_parts(&digests.iter().map(|digest| digest.as_bytes().as_slice()).collect::<Vec<_>>())
}

/// The kind of a trap. Any other error is ours.
fn ended(error: &wasmtime::Error) -> anyhow::Result<String> {
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Ok(STACK.into()),
        Some(Trap::Interrupt) => Ok(TIME.into()),
        Some(trap) => Ok(format!("trap {trap:?}")),
        None => Err(anyhow::anyhow!("{error:#}")),
    }
}
