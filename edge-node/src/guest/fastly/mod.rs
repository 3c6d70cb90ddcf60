//! The fastly lane: a core module built for the Fastly Compute host-call interface gets its request and sends its
//! response. Not affiliated with Fastly.
//!
//! Every known function links, by [`table`]; `docs/fastly-interface.md` says which of them do what. Relies on the front
//! for framing, on the driver for limits and on `host/` for every effect: here is only translation. Deliberately
//! absent: caches, rate counters, access lists, purging, image transforms; a second request to the same instance.
//!
//! | Module | One job |
//! |---|---|
//! | [`table`] | every function, and what becomes of it |
//! | [`link`] | every import gets a definition |
//! | [`abi`] | status codes and versions |
//! | [`memory`] | checked pointers into a guest |
//! | [`handles`] | one space of handles |
//! | [`body`], [`gunzip`], [`framing`] | bodies, held or streamed, and their lengths |
//! | [`http_req`], [`http_resp`], [`headers`], [`http_body`], [`downstream`] | heads, bodies, the client |
//! | [`send`], [`pending`], [`send_error`] | requests of the guest, under way, failed |
//! | [`backend`], [`dynamic_backend`], [`cache_override`] | where they go, and what is said about caching them |
//! | [`async_io`] | the first of several things under way |
//! | [`config_store`], [`secret_store`] | what the version pins |
//! | [`kv_store`], [`object_store`], [`kv_operation`] | key-value stores, by the newer and the older interface |
//! | [`lookups`], [`log`], [`compute_runtime`], [`shielding`] | one module of the interface each |
//! | [`wasi_p1`] | the part of WASI preview 1 that its programs use |

mod abi;
mod async_io;
mod backend;
mod body;
pub mod cache_override;
mod compute_runtime;
mod config_store;
mod downstream;
mod dynamic_backend;
mod framing;
mod gunzip;
mod handles;
mod headers;
mod http_body;
mod http_req;
mod http_resp;
mod kv_operation;
mod kv_store;
mod link;
mod log;
mod lookups;
mod memory;
mod object_store;
mod pending;
mod secret_store;
mod send;
mod send_error;
mod shielding;
mod table;
#[cfg(test)]
mod tests;
mod wasi_p1;

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, Method, Request, Response, Uri, header, uri};
use wasmtime::{Caller, Engine, Extern, InstancePre, Memory, Module, ModuleExport};

pub use self::link::Definitions;
use self::{
    abi::{Answer, Status, code},
    body::{GuestBody, HeldBody},
    handles::{Handles, Item},
    http_resp::Forwarding,
    memory::GuestMemory,
};
use super::{GuestExit, HasExchange, new_store};
use crate::{
    exchange::{Exchange, GuestRequest, Responder},
    front::OutboundBody,
    host::{
        client::is_secure,
        environment::{self, Names},
        held,
        outbound::made::Made,
    },
    limits::{Limit, LimitReached},
};

/// A linked core module.
pub struct Program {
    engine: Engine,
    instances: InstancePre<FastlyState>,
    memory: ModuleExport,
}

impl Program {
    /// Links a module to the interface.
    pub fn link(definitions: &Definitions, module: &Module) -> wasmtime::Result<Program> {
        let memory = module
            .get_export_index("memory")
            .ok_or_else(|| wasmtime::format_err!("the module exports no memory named \"memory\""))?;
        let instances = definitions.linker(module)?.instantiate_pre(module)?;
        Ok(Program { engine: definitions.engine().clone(), instances, memory })
    }

    /// Instantiates, calls `_start`, and ends when the guest returned or exited. A guest that ended well without a
    /// response has answered 200 with an empty body.
    pub fn run(
        &self,
        exchange: Exchange,
        request: GuestRequest,
        responder: Responder,
    ) -> impl Future<Output = wasmtime::Result<()>> + Send + 'static {
        let Program { engine, instances, memory } = self;
        let (engine, instances, memory) = (engine.clone(), instances.clone(), *memory);
        async move {
            let bill = exchange.bill.clone();
            let mut store = new_store(&engine, FastlyState::new(exchange, request, responder)?);
            let instance = instances.instantiate_async(&mut store).await?;
            let exported = instance.get_module_export(&mut store, &memory).and_then(Extern::into_memory);
            store.data_mut().memory = exported;
            bill.instantiated(bill.slice_ns_running());

            let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
            match start.call_async(&mut store, ()).await {
                Err(error) if error.downcast_ref::<GuestExit>().is_none_or(|exit| exit.0 != 0) => Err(error),
                Ok(()) | Err(_) => {
                    let (responder, forwarding) = store.data_mut().take_rest();
                    if let Some(responder) = responder {
                        responder.send(Response::new(OutboundBody::Empty));
                    }
                    if let Some(forwarding) = forwarding {
                        drop(store); // its slot and its memory are for the next
                        bill.give_back_memory();
                        forwarding.sent().await;
                    }
                    Ok(())
                }
            }
        }
    }
}

/// A store's data.
pub struct FastlyState {
    /// The request's limits, bill and log.
    pub exchange: Exchange,
    memory: Option<Memory>,
    handles: Handles,
    responder: Option<Responder>,
    /// A response that it handed over.
    forwarding: Option<Forwarding>,
    downstream: Downstream,
    /// Made when a guest first asks; `NAME=value` and NUL each.
    environment: Option<String>,
    /// Requests it has sent: the next one's number is one more.
    fetches: u32,
    /// Backends it has made. Small, and mostly empty.
    backends: BTreeMap<Box<str>, Arc<Made>>,
}

/// The client's request.
struct Downstream {
    request: u32,
    body: u32,
    header_names: Vec<HeaderName>,
    /// Is there to be no body in the response?
    is_head: bool,
}

impl HasExchange for FastlyState {
    fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

impl FastlyState {
    fn new(exchange: Exchange, request: GuestRequest, responder: Responder) -> wasmtime::Result<FastlyState> {
        let (head, body) = request.into_parts();
        let header_names = head.headers.keys().cloned().collect();
        let is_head = head.method == Method::HEAD;
        let request = absolute(Request::from_parts(head, ()), is_secure(&exchange));
        let mut handles = Handles::default();
        let mut insert = |item| {
            handles.insert(item).map_err(|status| wasmtime::format_err!("the first handles: {status:?}"))
        };
        let downstream = Downstream {
            request: insert(Item::Request(Box::new(request)))?,
            body: insert(Item::Body(GuestBody::Held(HeldBody::client(body, &exchange.door))))?,
            header_names,
            is_head,
        };
        Ok(FastlyState {
            exchange,
            memory: None,
            handles,
            responder: Some(responder),
            forwarding: None,
            downstream,
            environment: None,
            fetches: 0,
            backends: BTreeMap::new(),
        })
    }

    /// What is left to be done when the guest has ended well.
    fn take_rest(&mut self) -> (Option<Responder>, Option<Forwarding>) {
        (self.responder.take(), self.forwarding.take())
    }

    /// A handle for a new item.
    fn insert(&mut self, item: Item) -> Result<u32, Status> {
        let inserted = self.handles.insert(item);
        if inserted.is_err() {
            self.exchange.bill.meet(Limit::Resources);
        }
        inserted
    }

    /// An answer, its limit noted if it refuses a head.
    fn noted<T>(&self, answer: Result<T, Status>) -> Result<T, Status> {
        if matches!(answer, Err(Status::HttpHeadTooLarge)) {
            self.exchange.bill.meet(Limit::Headers);
        }
        answer
    }

    /// Notes bytes that the host is to hold for the guest, while there may be more: what it wrote to bodies that are not
    /// streamed, values it got as bodies, secrets, settings and heads it made. All it ever had, so that nothing is to be
    /// known of what it freed.
    fn hold(&mut self, bytes: usize) -> Answer {
        held::hold(&mut self.exchange, bytes).map_err(|LimitReached(_)| Status::LimitExceeded)
    }

    /// The variables that programs of the interface expect, each ended by NUL. In one allocation: every Rust program
    /// asks for them.
    fn environment(&mut self) -> &str {
        let exchange = &self.exchange;
        self.environment.get_or_insert_with(|| {
            let identity = environment::identity(exchange);
            let Names { tenant, app, version, request, node, pop } = identity.names();
            format!(
                "FASTLY_CUSTOMER_ID={tenant}\0FASTLY_SERVICE_ID={app}\0FASTLY_SERVICE_VERSION={version}\0\
                 FASTLY_TRACE_ID={request}\0FASTLY_HOSTNAME={node}\0FASTLY_POP={pop}\0FASTLY_REGION={pop}\0\
                 FASTLY_CACHE_GENERATION=0\0FASTLY_IS_STAGING=0\0",
            )
        })
    }
}

/// Guests of the interface see absolute URLs and a `Host` field, whatever the protocol sent. The front saw to it that
/// both, where given, agree.
fn absolute(mut request: Request<()>, secure: bool) -> Request<()> {
    let mut parts = request.uri().clone().into_parts();
    let host = request.headers().get(header::HOST);
    if let Some(authority) = &parts.authority {
        if host.is_none()
            && let Ok(value) = authority.as_str().parse()
        {
            request.headers_mut().insert(header::HOST, value);
        }
    } else {
        parts.authority = host.and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
    }
    parts.scheme = Some(if secure { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// The memory and the state of the guest that calls.
fn enter<'a>(
    guest: &'a mut Caller<'_, FastlyState>,
) -> Result<(GuestMemory<'a>, &'a mut FastlyState), Status> {
    // A start function calls before the instance is there to be asked.
    let memory = match guest.data().memory {
        Some(memory) => memory,
        None => guest.get_export("memory").and_then(Extern::into_memory).ok_or(Status::Invalid)?,
    };
    let (bytes, state) = memory.data_and_store_mut(guest);
    Ok((GuestMemory::new(bytes), state))
}

/// Runs one function of the interface; its answer as a number.
fn call(
    mut guest: Caller<'_, FastlyState>,
    answer: impl FnOnce(&mut GuestMemory<'_>, &mut FastlyState) -> Answer,
) -> i32 {
    let answer = enter(&mut guest).and_then(|(mut memory, state)| answer(&mut memory, state));
    code(guest.data().noted(answer))
}
