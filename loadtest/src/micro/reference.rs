//! One cycle on plain wasmtime: what the same code costs with nothing of ours around it but the engine's settings.
//!
//! Same engine, same native code, same request. Components run on `wasmtime-wasi-http` as its own documentation shows,
//! without the spawned task; core modules on the shortest stubs that let a hello finish. No exchange, limiter, bill,
//! epoch callback or driver, and an epoch deadline that is never reached. So the ratio to it is the price of our host.

use std::time::Instant;

use anyhow::Context as _;
use edge_node::load::Code;
use http_body_util::BodyExt as _;
use wasmtime::{
    Caller, Engine, Extern, ExternType, FuncType, Instance, InstancePre, Linker, Memory, Module, Store, Val,
    component::ResourceTable,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
    p2::bindings::{ProxyPre, http::types::Scheme},
};

use super::{
    guest::{Bench, Guest},
    host,
    measure::{Cycle, Spent},
};

/// Further ticks than a process lives.
const NO_EPOCH_DEADLINE: u64 = u64::MAX / 2;

/// A program linked to nothing but wasmtime.
pub enum Reference {
    Component { engine: Engine, program: ProxyPre<Component> },
    Core { engine: Engine, program: InstancePre<Core<()>> },
}

impl Reference {
    /// Links the guest.
    pub fn new(bench: &Bench, guest: &Guest) -> anyhow::Result<Reference> {
        let engine = bench.engine.clone();
        match bench.load(guest)? {
            Code::Component(component) => {
                let mut linker = wasmtime::component::Linker::new(&engine);
                wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
                wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
                let program = ProxyPre::new(linker.instantiate_pre(&component)?)?;
                Ok(Reference::Component { engine, program })
            }
            Code::Module(module) => {
                let program = stubs(&engine, &module)?.instantiate_pre(&module)?;
                Ok(Reference::Core { engine, program })
            }
        }
    }
}

impl Cycle for Reference {
    async fn cycle(&self) -> anyhow::Result<Spent> {
        let instantiate_ns = match self {
            Reference::Component { engine, program } => component(engine, program).await?,
            Reference::Core { engine, program } => core(engine, program).await?,
        };
        Ok(Spent { instantiate_ns, guest_ns: 0 })
    }
}

/// A component's store.
pub struct Component {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoOutbound,
    table: ResourceTable,
}

/// Nothing here sends requests.
struct NoOutbound;

type Sent = Result<
    (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>),
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

impl WasiView for Component {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Component {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

async fn component(engine: &Engine, program: &ProxyPre<Component>) -> anyhow::Result<u64> {
    let start = Instant::now();
    let state = Component {
        wasi: WasiCtx::builder().build(),
        http: WasiHttpCtx::new(),
        hooks: NoOutbound,
        table: ResourceTable::new(),
    };
    let mut store = Store::new(engine, state);
    store.set_epoch_deadline(NO_EPOCH_DEADLINE);
    let proxy = program.instantiate_async(&mut store).await?;
    let instantiate_ns = start.elapsed().as_nanos() as u64;

    let request =
        host::request().map(|body| body.map_err(|_| wasmtime_wasi_http::Error::ConnectionTerminated));
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let (sender, response) = tokio::sync::oneshot::channel();
    let outparam = store.data_mut().http().new_response_outparam(sender)?;
    let run = async {
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, outparam).await?;
        drop(store);
        anyhow::Ok(())
    };
    // Together: a guest may wait until its body is taken.
    let read = async {
        let response = response.await.context("no response")?.map_err(|code| anyhow::anyhow!("{code:?}"))?;
        anyhow::ensure!(
            response.status() == http::StatusCode::OK,
            "the guest answered {}",
            response.status()
        );
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| anyhow::anyhow!("reading the answer: {error:?}"))?;
        }
        Ok(())
    };
    futures_util::future::try_join(run, read).await?;
    Ok(instantiate_ns)
}

/// A core module's store: the body it wrote, and whom it belongs to.
#[derive(Default)]
pub struct Core<Of> {
    body: Vec<u8>,
    sent: bool,
    pub of: Of,
}

impl<Of> Core<Of> {
    /// Nothing written yet.
    pub fn new(of: Of) -> Core<Of> {
        Core { body: vec![], sent: false, of }
    }
}

async fn core(engine: &Engine, program: &InstancePre<Core<()>>) -> anyhow::Result<u64> {
    let start = Instant::now();
    let mut store = Store::new(engine, Core::new(()));
    store.set_epoch_deadline(NO_EPOCH_DEADLINE);
    let instance = program.instantiate_async(&mut store).await?;
    let instantiate_ns = start.elapsed().as_nanos() as u64;
    run(&mut store, instance).await?;
    Ok(instantiate_ns)
}

/// Runs a program on the stubs.
pub async fn run<Of: Send>(store: &mut Store<Core<Of>>, instance: Instance) -> anyhow::Result<()> {
    instance.get_typed_func::<(), ()>(&mut *store, "_start")?.call_async(&mut *store, ()).await?;
    anyhow::ensure!(
        store.data().sent && !store.data().body.is_empty(),
        "the guest sent no response on the stubs"
    );
    Ok(())
}

/// Fastly's status for what is not there.
const UNSUPPORTED: i32 = 5;
/// Any handle: the stubs tell none apart.
const HANDLE: u32 = 1;
/// HTTP/1.1 in the numbering of the interface.
const HTTP_11: u32 = 2;

/// The shortest functions on which a hello finishes; all others answer UNSUPPORTED.
pub fn stubs<Of: Send + 'static>(engine: &Engine, module: &Module) -> wasmtime::Result<Linker<Core<Of>>> {
    let mut linker = Linker::<Core<Of>>::new(engine);
    for import in module.imports() {
        let ExternType::Func(ty) = import.ty() else { continue };
        let status = match import.name() {
            "init"
            | "status_set"
            | "version_set"
            | "header_insert"
            | "header_append"
            | "framing_headers_mode_set"
            | "http_keepalive_mode_set"
            | "close"
            | "environ_get"
            | "random_get" => 0,
            _ => UNSUPPORTED,
        };
        constant(&mut linker, import.module(), import.name(), ty, status)?;
    }
    linker.allow_shadowing(true); // those with a meaning take the place of their constant
    let request = "fastly_http_req";
    linker.func_wrap(
        request,
        "body_downstream_get",
        |mut c: Caller<'_, Core<Of>>, request: u32, body: u32| {
            put(&mut c, request, HANDLE)?;
            put(&mut c, body, HANDLE)
        },
    )?;
    linker.func_wrap(
        request,
        "method_get",
        |c: Caller<'_, Core<Of>>, _: u32, at: u32, max: u32, written: u32| text(c, "GET", at, max, written),
    )?;
    linker.func_wrap(
        request,
        "uri_get",
        |c: Caller<'_, Core<Of>>, _: u32, at: u32, max: u32, written: u32| {
            text(c, "http://hello.localhost/", at, max, written)
        },
    )?;
    linker.func_wrap(request, "version_get", |mut c: Caller<'_, Core<Of>>, _: u32, at: u32| {
        put(&mut c, at, HTTP_11)
    })?;
    for (interface, name) in [("fastly_http_resp", "new"), ("fastly_http_body", "new")] {
        linker.func_wrap(interface, name, |mut c: Caller<'_, Core<Of>>, at: u32| put(&mut c, at, HANDLE))?;
    }
    linker.func_wrap(
        "fastly_http_body",
        "write",
        |mut c: Caller<'_, Core<Of>>, _: u32, at: u32, length: u32, _: u32, written: u32| {
            let memory = memory(&mut c)?;
            let (bytes, core) = memory.data_and_store_mut(&mut c);
            let bytes = bytes.get(at as usize..).and_then(|rest| rest.get(..length as usize));
            core.body
                .extend_from_slice(bytes.ok_or_else(|| wasmtime::format_err!("a body outside the memory"))?);
            put(&mut c, written, length)
        },
    )?;
    linker.func_wrap(
        "fastly_http_resp",
        "send_downstream",
        |mut c: Caller<'_, Core<Of>>, _: u32, _: u32, _: u32| {
            c.data_mut().sent = true;
            0i32
        },
    )?;
    let zeroed = |mut c: Caller<'_, Core<Of>>, a: u32, b: u32| {
        put(&mut c, a, 0)?;
        put(&mut c, b, 0)
    };
    linker.func_wrap("wasi_snapshot_preview1", "environ_sizes_get", zeroed)?;
    Ok(linker)
}

fn constant<Of: 'static>(
    linker: &mut Linker<Core<Of>>,
    module: &str,
    name: &str,
    ty: FuncType,
    status: i32,
) -> wasmtime::Result<()> {
    linker.func_new(module, name, ty, move |_, _, results| {
        for result in results {
            *result = Val::I32(status);
        }
        Ok(())
    })?;
    Ok(())
}

fn memory<Of>(caller: &mut Caller<'_, Core<Of>>) -> wasmtime::Result<Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::format_err!("the guest exports no memory"))
}

fn put<Of>(caller: &mut Caller<'_, Core<Of>>, at: u32, value: u32) -> wasmtime::Result<i32> {
    memory(caller)?.write(caller, at as usize, &value.to_le_bytes())?;
    Ok(0)
}

fn text<Of>(
    mut caller: Caller<'_, Core<Of>>,
    text: &str,
    at: u32,
    max: u32,
    written: u32,
) -> wasmtime::Result<i32> {
    wasmtime::ensure!(text.len() <= max as usize, "a buffer too small for {text}");
    memory(&mut caller)?.write(&mut caller, at as usize, text.as_bytes())?;
    put(&mut caller, written, text.len() as u32)
}
