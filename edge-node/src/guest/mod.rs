//! Two guest interfaces over one engine: what a program is, and what every run of it has in common.
//!
//! | Module | One job |
//! |---|---|
//! | [`wasi`] | `wasi:http/proxy` 0.2 components |
//! | [`fastly`] | core modules of the Fastly Compute host-call interface |
//! | [`drive`] | polls a run: bills it, stops it at its limits, hands over its response |

pub mod drive;
pub mod fastly;
#[cfg(test)]
mod tests;
pub mod wasi;

use std::{future::Future, pin::Pin};

use engine::node::{SHARES_MAX, TABLES_PER_INSTANCE};
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::{
    exchange::{Exchange, GuestRequest, Responder},
    host::door::{Event, Source},
    lane::TICK_NS,
    limits::{EXECUTION, Limit},
    load::Code,
};

/// Epoch ticks between two looks at what a guest has used.
const SLICE_TICKS: u64 = 1;
/// A guest that began within the running tick goes on to the next one: a slice is half a tick to one and a half. Without
/// it, 1 in 100 guests of 10 µs would be stopped by a tick that was none of its own.
const SLICE_NS_MIN: u64 = TICK_NS / 2;

/// A linked program, ready to be instantiated for every request.
pub enum Program {
    /// A component.
    Wasi(wasi::Program),
    /// A core module.
    Fastly(fastly::Program),
}

/// One execution: instantiate, run, end. Boxed and `Send`, so that the driver can hold either lane and may move it.
/// Its error tells why the guest ended early; a response may have been sent before.
pub type Run = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send>>;

/// An engine and what its programs are linked to. Made once for each engine: defining all functions takes longer than linking a program.
pub struct Linker {
    engine: Engine,
    fastly: fastly::Definitions,
}

impl Linker {
    /// Defines what does not depend on a program.
    pub fn new(engine: &Engine) -> wasmtime::Result<Linker> {
        Ok(Linker { engine: engine.clone(), fastly: fastly::Definitions::new(engine)? })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Links code that this engine mapped to its lane's host functions. Once per load.
    pub fn link(&self, code: Code) -> wasmtime::Result<Program> {
        match code {
            Code::Component(component) => wasi::Program::link(&self.engine, &component).map(Program::Wasi),
            Code::Module(module) => fastly::Program::link(&self.fastly, &module).map(Program::Fastly),
        }
    }
}

impl Program {
    /// The execution that answers `request`. Nothing happens before it is polled.
    pub fn run(&self, exchange: Exchange, request: GuestRequest, responder: Responder) -> Run {
        exchange.door.cause(Source::Request, || {
            Event::Head(format!("{} {}", request.method(), request.uri()), request.headers().clone())
        });
        match self {
            Program::Wasi(program) => Box::pin(program.run(exchange, request, responder)),
            Program::Fastly(program) => Box::pin(program.run(exchange, request, responder)),
        }
    }
}

/// Shares of the node's pool that one execution takes, at least 1: a share is one memory and two tables.
pub fn weight(code: &Code) -> usize {
    let needs = match code {
        Code::Component(component) => component.resources_required(),
        Code::Module(module) => Some(module.resources_required()),
    };
    // A component that imports core modules does not say; it does not link either.
    let shares = needs.map_or(SHARES_MAX, |needs| {
        needs.num_memories.max(needs.num_tables.div_ceil(TABLES_PER_INSTANCE)).max(1)
    });
    shares as usize
}

/// The guest ended itself with a status other than 0.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the guest exited with status {0}")]
pub struct GuestExit(pub i32);

/// A store's data that belongs to an exchange.
pub trait HasExchange: Send + 'static {
    /// The exchange.
    fn exchange(&mut self) -> &mut Exchange;

    /// Its time slice is over: others run before it goes on.
    fn yielding(&mut self) {}
}

/// A store with every limit of its exchange in force.
pub fn new_store<S: HasExchange>(engine: &Engine, state: S) -> Store<S> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.exchange());
    store.set_hostcall_fuel(EXECUTION.copy_bytes_per_call);
    store.set_epoch_deadline(SLICE_TICKS);
    store.epoch_deadline_callback(|mut context| {
        let exchange = context.data_mut().exchange();
        let limit_ns = u64::from(exchange.limits().cpu_ms) * 1_000_000;
        let slice_ns = exchange.bill.slice_ns_running();
        if exchange.bill.limited_ns() + slice_ns >= limit_ns {
            return Err(wasmtime::Error::from(exchange.over(Limit::Cpu)));
        }
        if slice_ns < SLICE_NS_MIN {
            return Ok(UpdateDeadline::Continue(SLICE_TICKS));
        }
        exchange.bill.yielding();
        context.data_mut().yielding();
        // Tokio's own yield, so that the thread polls its sockets before the guest goes on. The driver may take the
        // guest to the slow lane meanwhile.
        Ok(UpdateDeadline::YieldCustom(SLICE_TICKS, Box::pin(tokio::task::yield_now())))
    });
    store
}
