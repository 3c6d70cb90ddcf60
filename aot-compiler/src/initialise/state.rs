//! The store a program is initialised in, and what the end of that means in words for the uploader.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use artifact::compile::{Refusal, RefusalCode};
use engine::compiler::INTERPRETER_SPARE_BYTES;
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, Trap};

use crate::intake::{limits, refuse, shown};

/// Instructions of WebAssembly that an initialisation may take, start functions and `_initialize` included. Interpreted they take some 10 s of
/// a job's 60, beside other work and with a compiler built for development.
pub const FUEL: u64 = 1_000_000_000;
const MEMORY_BYTES_MAX: usize = (limits::MEMORY_INITIAL_BYTES_MAX + INTERPRETER_SPARE_BYTES) as usize;

/// A call of something that is only there while requests are answered.
#[derive(Debug, thiserror::Error)]
#[error(
    "it called the import {0}; nothing is there to be imported before the first request: initialize without it, or call it when a \
     request has come"
)]
pub struct ImportCalled(pub String);

/// A fresh store with all limits set.
pub fn store(engine: &Engine) -> wasmtime::Result<Store<StoreLimits>> {
    let limits = StoreLimitsBuilder::new()
        .memory_size(MEMORY_BYTES_MAX)
        .table_elements(limits::TABLE_INITIAL_ELEMENTS_MAX as usize)
        .build();
    let mut store = Store::new(engine, limits);
    store.limiter(|limits| limits);
    store.set_fuel(FUEL)?;
    Ok(store)
}

/// The value of a future that waits for nothing: Wizer's are asynchronous, and what is behind them here is not.
pub fn now<T>(future: impl Future<Output = T>) -> wasmtime::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(wasmtime::Error::msg("waiting for something that never comes")),
    }
}

/// Why it did not come to an end.
pub fn refusal(error: &wasmtime::Error, function: &str) -> Refusal {
    let (code, why) = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            let why = format!(
                "it takes more than {FUEL} instructions, the limit: initialize less, or leave [prepare] initialize out"
            );
            (RefusalCode::JobLimit, why)
        }
        Some(trap) => (RefusalCode::Invalid, format!("it failed: {trap}")),
        None if is_out_of_memory(error) => {
            let why = "its memories are more than the job may have: ask for less, or leave [prepare] initialize out";
            (RefusalCode::JobLimit, why.to_owned())
        }
        None => match error.downcast_ref::<ImportCalled>() {
            Some(called) => (RefusalCode::Invalid, called.to_string()),
            None => (RefusalCode::Invalid, unknown_import(&error.root_cause().to_string())),
        },
    };
    refuse(code, format!("initializing with {}: {why}", shown(function)))
}

/// Of the code that compiles, or of the kernel that is asked for a memory.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>() || error.root_cause().to_string().contains(NO_MEMORY)
}

/// How `ENOMEM` is called, whichever type it has come through wasmtime in.
const NO_MEMORY: &str = "Cannot allocate memory";

/// The words of wasmtime for a call of an import that stands for nothing, in ours; others are its own.
fn unknown_import(why: &str) -> String {
    let named = why.strip_prefix("unknown import: `").and_then(|rest| rest.split_once('`'));
    named.map_or_else(|| shown(why), |(import, _)| ImportCalled(shown(import)).to_string())
}
