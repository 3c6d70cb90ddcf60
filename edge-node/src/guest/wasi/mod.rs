//! The wasi lane: a component of the `wasi:http/proxy` 0.2 world gets the whole request and streams its response.
//!
//! A host of our own (docs/design/0009-wasi-host.md): it only translates. What a guest learns and causes is the host
//! layer's ([`crate::host`]). Functions that cannot block are sync; handles are numbers of one slab; a body that is
//! finished before its guest lets go of the thread leaves in one piece; no tasks, no boxed bodies on that way.
//!
//! | Module | Interface |
//! |---|---|
//! | [`link`] | what there is to import, and under which names |
//! | [`slab`], [`handles`] | what a guest's handles stand for |
//! | [`http_types`], [`fields`] | values of `wasi:http/types`, and its `fields` |
//! | [`incoming`], [`outgoing`] | the request, the response, and their bodies |
//! | [`outgoing_request`], [`outgoing_handler`] | requests that a guest sends |
//! | [`streams`], [`poll`], [`error`] | `wasi:io` |
//! | [`clocks`], [`random`], [`cli`], [`config`], [`keyvalue`], [`logging`] | the rest of the world |
//! | [`filesystem`], [`sockets`] | linked, and empty |

mod cli;
mod clocks;
mod config;
mod edge;
mod error;
mod fields;
mod filesystem;
mod handles;
mod http_types;
mod incoming;
mod keyvalue;
mod link;
mod logging;
mod outgoing;
mod outgoing_handler;
mod outgoing_request;
mod poll;
mod random;
mod slab;
mod sockets;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use wasmtime::{
    Engine, Result, StoreContextMut,
    component::{Component, ComponentExportIndex, InstancePre, LinkerInstance, Resource},
};

use self::{
    handles::{HANDLE_BYTES, Handles, Kind},
    http_types::{Blame, ErrorCode},
    incoming::{ClientRequest, IncomingRequest},
    outgoing::{Answer, ResponseOutparam},
    slab::Refused,
};
use super::{GuestExit, HasExchange, new_store};
use crate::{
    exchange::{Exchange, GuestRequest, Responder},
    host::{held, random::NoRandom},
    limits::{Limit, LimitReached},
};

/// A linked component. Clones share it.
#[derive(Clone)]
pub struct Program(Arc<Linked>);

struct Linked {
    engine: Engine,
    instances: InstancePre<State>,
    handle: ComponentExportIndex,
}

/// A store's data.
struct State {
    exchange: Exchange,
    handles: Handles,
    request: ClientRequest,
    answer: Answer,
    /// Bodies of requests so far, which numbers their streams.
    streams: u32,
}

/// Where functions of an interface are defined.
type At<'a> = LinkerInstance<'a, State>;
/// What a host function gets.
type Cx<'a> = StoreContextMut<'a, State>;
/// What a host function gives that may wait.
type Later<'a, T> = Box<dyn Future<Output = Result<T>> + Send + 'a>;

/// The guest answered with an error instead of a response.
#[derive(Debug, thiserror::Error)]
#[error("the guest answered with an error: {0:?}")]
pub struct AnsweredError(ErrorCode);

impl AnsweredError {
    /// Is it one of what the guest fetched from, not its own?
    pub fn is_backends(&self) -> bool {
        self.0.blame() == Blame::Backend
    }
}

impl Program {
    /// Links a component, by name and type, to what it imports.
    pub fn link(engine: &Engine, component: &Component) -> Result<Program> {
        let linker = link::link(engine, component)?;
        let handle = handler_export(engine, component)?;
        let instances = linker.instantiate_pre(component)?;
        Ok(Program(Arc::new(Linked { engine: engine.clone(), instances, handle })))
    }

    /// Instantiates, calls `handle`, and ends when the guest returned.
    pub fn run(
        &self,
        exchange: Exchange,
        request: GuestRequest,
        responder: Responder,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let Program(linked) = self.clone();
        async move {
            let bill = exchange.bill.clone();
            let mut store = new_store(&linked.engine, State::new(exchange, request, responder));
            // Async, although a start function has nothing to wait for: one that spins must yield like any guest.
            let instance = linked.instances.instantiate_async(&mut store).await?;
            bill.instantiated(bill.slice_ns_running());

            let handles = &mut store.data_mut().handles;
            let call = (handles.push(IncomingRequest)?, handles.push(ResponseOutparam)?);
            let handler = instance
                .get_typed_func::<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>(
                    &mut store,
                    &linked.handle,
                )?;
            let returned = handler.call_async(&mut store, call).await;
            store.data_mut().end(returned)
        }
    }
}

/// Finds `wasi:http/incoming-handler@0.2.x#handle`.
fn handler_export(engine: &Engine, component: &Component) -> Result<ComponentExportIndex> {
    let ty = component.component_type();
    let interface = ty
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .find(|name| name.starts_with("wasi:http/incoming-handler@0.2."))
        .ok_or_else(|| wasmtime::format_err!("the component exports no wasi:http/incoming-handler@0.2"))?;
    let instance = component.get_export_index(None, &interface);
    instance
        .and_then(|instance| component.get_export_index(Some(&instance), "handle"))
        .ok_or_else(|| wasmtime::format_err!("{interface} has no function `handle`"))
}

impl State {
    fn new(exchange: Exchange, request: GuestRequest, responder: Responder) -> State {
        State {
            exchange,
            handles: Handles::new(),
            request: ClientRequest::new(request),
            answer: Answer::Owed(responder),
            streams: 0,
        }
    }

    /// Makes a handle that the guest will own, and counts it.
    fn push<K: Kind>(&mut self, this: K) -> Result<Resource<K>> {
        let bytes = HANDLE_BYTES + this.held_bytes();
        let handle = self.handles.push(this)?;
        self.hold(bytes)?;
        Ok(handle)
    }

    /// Makes one that must go before `parent`.
    fn push_child<K: Kind, P: Kind>(&mut self, this: K, parent: &Resource<P>) -> Result<Resource<K>> {
        let handle = self.handles.push_child(this, parent)?;
        self.hold(HANDLE_BYTES)?; // streams and pollables: the parent has the rest
        Ok(handle)
    }

    /// Counts bytes that the host now holds for a handle. When they seem too many, all handles are counted: what the guest
    /// dropped is then out of the sum. More than it may have end the guest.
    fn hold(&mut self, bytes: usize) -> Result<()> {
        if self.exchange.held.add(bytes) {
            return Ok(());
        }
        held::may_recount(&mut self.exchange)?;
        let all = self.handles.held_bytes();
        Ok(held::recounted(&mut self.exchange, all)?)
    }

    /// The guest waits: what it has said so far goes out.
    fn waiting(&mut self) {
        self.answer.release();
    }

    /// Waits in a host function.
    async fn wait<T>(
        &mut self,
        mut poll: impl FnMut(&mut State, &mut Context<'_>) -> Poll<Result<T>> + Send,
    ) -> Result<T> {
        poll_fn(|task| {
            let polled = poll(self, task);
            if polled.is_pending() {
                self.waiting();
            }
            polled
        })
        .await
    }

    /// The guest's call is over.
    fn end(&mut self, returned: Result<()>) -> Result<()> {
        match returned {
            Ok(()) => {}
            // Status 0 is a good end.
            Err(error) if error.downcast_ref::<GuestExit>().is_some_and(|exit| exit.0 == 0) => {}
            Err(error) => return Err(self.limit_of(&error).map_or(error, wasmtime::Error::from)),
        }
        outgoing::finish_forgotten(&mut self.handles);
        self.answer.finished();
        self.answer.release();
        match std::mem::replace(&mut self.answer, Answer::Given) {
            Answer::Refused(error) => Err(wasmtime::Error::from(AnsweredError(error))),
            _ => Ok(()),
        }
    }
}

impl State {
    /// The limit that a trap of our own stands for.
    fn limit_of(&self, error: &wasmtime::Error) -> Option<LimitReached> {
        if let Some(LimitReached(limit)) = error.downcast_ref() {
            return Some(self.exchange.over(*limit));
        }
        let limit = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(Refused::Full), _) => Limit::Resources,
            (_, Some(NoRandom::TooMany(_))) => Limit::Random,
            // wasmtime has no type for it; a test holds its words to what is said here.
            _ if error.root_cause().to_string().contains("fuel allocated for hostcalls") => Limit::Copy,
            _ => return None,
        };
        Some(self.exchange.over(limit))
    }
}

impl HasExchange for State {
    fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    fn yielding(&mut self) {
        self.waiting();
    }
}
