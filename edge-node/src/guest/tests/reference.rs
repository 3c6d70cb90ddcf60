//! The wasi lane on wasmtime's own `wasmtime-wasi-http`: what our host is compared with. Not in the shipped node.
//!
//! Set up like the lane: the same limits, no preopened directory, every socket call refused. Outbound requests are
//! refused.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, Uri, header, uri::Scheme as UriScheme};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex, InstancePre, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, Scheme},
        types::{HostIncomingRequest, HostResponseOutparam},
    },
};

use crate::{
    exchange::{Exchange, GuestRequest, Responder},
    front::{BodyError, OutboundBody},
    guest::{GuestExit, HasExchange, new_store},
};

/// What guests print, of all runs that share it.
pub type Said = Arc<Mutex<Vec<u8>>>;

/// Handles one execution may hold at once, resources of the host included.
const RESOURCES_MAX: usize = 10_000;
/// Random bytes of one call; a seed is 32.
const RANDOM_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a guest's own header lists, in memory.
const FIELDS_BYTES_MAX: usize = 128 * 1024;

/// A linked component.
pub struct Program {
    engine: Engine,
    instances: InstancePre<State>,
    handle: ComponentExportIndex,
}

/// A store's data.
pub(super) struct State {
    exchange: Exchange,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoOutbound,
    table: ResourceTable,
}

impl Program {
    /// Links a component, by name and type, to everything the lane offers.
    pub fn link(engine: &Engine, component: &Component) -> wasmtime::Result<Program> {
        let mut linker = Linker::<State>::new(engine);
        // Whole interfaces, their newest functions included: the compiler service admits imports by interface.
        let mut options = wasmtime_wasi::p2::bindings::LinkOptions::default();
        options.network_error_code(true);
        wasmtime_wasi::p2::add_to_linker_with_options_async(&mut linker, &options)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let handle = handler_export(engine, component)?;
        Ok(Program { engine: engine.clone(), instances: linker.instantiate_pre(component)?, handle })
    }

    /// Instantiates, calls `handle`, and ends when the guest returned.
    pub fn run(
        &self,
        exchange: Exchange,
        request: GuestRequest,
        responder: Responder,
        said: Said,
    ) -> impl Future<Output = wasmtime::Result<()>> + Send + 'static {
        let Program { engine, instances, handle } = self;
        let (engine, instances, handle) = (engine.clone(), instances.clone(), *handle);
        async move {
            let started_ns = crate::meter::now_ns();
            let bill = exchange.bill.clone();
            let mut store = new_store(&engine, State::new(exchange, said));
            let instance = instances.instantiate_async(&mut store).await?;
            bill.instantiated(crate::meter::now_ns() - started_ns);

            let state = store.data_mut();
            let request = state.push_request(request)?;
            let outparam = state.push_outparam(responder)?;
            let handler = instance
                .get_typed_func::<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>), ()>(
                    &mut store, &handle,
                )?;
            let returned = handler.call_async(&mut store, (request, outparam)).await;
            returned.map_err(|error| match error.downcast_ref::<wasmtime_wasi::I32Exit>() {
                Some(exit) => GuestExit(exit.0).into(),
                None => error,
            })
        }
    }
}

/// Finds `wasi:http/incoming-handler@0.2.x#handle`.
fn handler_export(engine: &Engine, component: &Component) -> wasmtime::Result<ComponentExportIndex> {
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
    fn new(exchange: Exchange, said: Said) -> State {
        let wasi = WasiCtxBuilder::new()
            .stdout(LogStream(said.clone()))
            .stderr(LogStream(said))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(RANDOM_BYTES_MAX)
            .build();
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        State { exchange, wasi, http, hooks: NoOutbound, table }
    }

    fn push_request(&mut self, request: GuestRequest) -> wasmtime::Result<Resource<HostIncomingRequest>> {
        let secure = self.exchange.connection.tls.is_some();
        let request = with_authority(request, secure);
        let request = request.map(|body| body.map_err(body_error));
        self.http().new_incoming_request(if secure { Scheme::Https } else { Scheme::Http }, request)
    }

    fn push_outparam(&mut self, responder: Responder) -> wasmtime::Result<Resource<HostResponseOutparam>> {
        let mut responder = Some(responder);
        let set = move |result: Result<Response<WasiBody>, ErrorCode>| {
            // The interface lets a guest set its outparam once; dropping the responder is "no response".
            if let (Some(responder), Ok(response)) = (responder.take(), result) {
                // What a guest says of its framing is the front's to strip, for both lanes alike.
                responder.send(
                    response.map(|body| OutboundBody::stream(body.map_err(|_| BodyError::GuestAborted))),
                );
            }
        };
        let set = std::sync::Mutex::new(set);
        self.http().new_response_outparam_from_callback(move |result| {
            if let Ok(mut set) = set.lock() {
                set(result);
            }
        })
    }
}

/// wasi:http reads the authority from the URI, HTTP/1 sends it as `Host`. The front checked that there is exactly one.
fn with_authority(request: GuestRequest, secure: bool) -> GuestRequest {
    let (mut head, body) = request.into_parts();
    if head.uri.authority().is_none()
        && let Some(host) = head.headers.get(header::HOST).map(HeaderValue::as_bytes)
    {
        let mut parts = head.uri.clone().into_parts();
        parts.authority = http::uri::Authority::try_from(host).ok();
        parts.scheme = Some(if secure { UriScheme::HTTPS } else { UriScheme::HTTP });
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
    GuestRequest::from_parts(head, body)
}

fn body_error(error: BodyError) -> wasmtime_wasi_http::Error {
    match error {
        BodyError::ClientProtocol(_) => wasmtime_wasi_http::Error::HttpProtocolError,
        BodyError::BackendProtocol(_) => wasmtime_wasi_http::Error::HttpProtocolError,
        BodyError::BackendTimeout => wasmtime_wasi_http::Error::ConnectionReadTimeout,
        BodyError::ClientGone
        | BodyError::BackendGone
        | BodyError::GuestAborted
        | BodyError::GuestLimit
        | BodyError::FileUnavailable
        | BodyError::Shutdown => wasmtime_wasi_http::Error::ConnectionTerminated,
    }
}

impl HasExchange for State {
    fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Refuses every outbound request by the error code meant for it.
struct NoOutbound;

type Sent = Result<
    (Response<WasiBody>, Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>),
    wasmtime_wasi_http::Error,
>;

impl WasiHttpHooks for NoOutbound {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(wasmtime_wasi_http::Error::HttpRequestDenied)))
    }
}

/// Standard output or error of a guest.
#[derive(Clone)]
struct LogStream(Said);

/// Bytes a guest may write in one call.
const LOG_WRITE_BYTES_MAX: usize = 64 * 1024;

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink()) // WASI 0.3 only, which is off
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > LOG_WRITE_BYTES_MAX {
            return Err(StreamError::trap("wrote more than check-write permitted"));
        }
        self.0.lock().extend_from_slice(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LOG_WRITE_BYTES_MAX)
    }
}
