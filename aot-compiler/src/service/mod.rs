//! The compiler service: receives wasm, has it compiled in jobs, signs, answers containers.
//!
//! Wire: `artifact::compile`. It holds the compiler key, so it parses nothing of an upload but its first bytes: that
//! is the jobs' work, and they never see the key. Relies on its callers (the control plane) to speak for tenants; the
//! tenant label is for fairness, and names with the caller's [`CACHE_HEADER`] whose functions are looked for. Absent: TLS (it listens on loopback
//! or a private network), any store.

mod gate;
mod held;
mod prepare;
pub mod queue;
mod respond;
mod reuse;
mod token;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use artifact::{
    Digest, Profile, Target,
    compile::{
        Advice, COMPILE_PATH, HEALTH_PATH, Health, PREPARE_PATH, QUEUE_PATH, Refusal, RefusalCode,
        TENANT_HEADER, WASM_BYTES_MAX,
    },
    keys::{Compiler, SecretKey},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Uri, header::CONTENT_LENGTH},
    middleware::Next,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;

use crate::{
    compile::{Made, compiler_version, sign},
    functions::{Counts, Shelf},
    intake::{self, refuse},
    job::JobRunner,
};
use gate::{Gate, Slot};
use held::Held;
use queue::QueueLimits;
pub use token::Token;

/// Requests that wait for a slot. One deploy is one request per target.
pub const WAITING_MAX: usize = 64;
/// Requests of one tenant that wait: a quarter, so that one cannot fill the queue.
pub const WAITING_PER_TENANT_MAX: usize = 16;
/// Longest wait for a slot, in seconds. After it the caller had better ask again than hold the program in memory.
pub const WAIT_S_MAX: u64 = 120;
/// Longest time to receive a program, in seconds: 64 MiB at 1 MiB/s.
pub const RECEIVE_S_MAX: u64 = 64;
/// Programs held in memory at once, in bytes, waiting ones included; one tenant holds a quarter at most.
pub const HELD_BYTES_MAX: u64 = 1 << 30;
/// Longest tenant label taken, in bytes; a longer one counts as none.
pub const LABEL_BYTES_MAX: usize = 64;

/// Longest name of what shares compiled functions, in bytes; a longer one counts as none.
pub const CACHE_LABEL_BYTES_MAX: usize = 128;

/// The profile all jobs compile for; others are reserved.
const PROFILE: Profile = Profile::Serve;

/// What the service is made of.
#[derive(Debug)]
pub struct Service {
    /// Signs statements. Never leaves this process.
    pub key: SecretKey<Compiler>,
    /// What callers present.
    pub token: Token,
    /// Targets it compiles for.
    pub targets: Vec<Target>,
    /// Compiled functions of earlier programs, if they are kept.
    pub functions: Option<Shelf>,
    /// How it starts jobs.
    pub runner: JobRunner,
    /// Jobs at once.
    pub jobs_max: usize,
    /// Processor cores for all jobs together.
    pub cores: usize,
}

/// What one request got.
struct Compiled {
    made: Made,
    container: Vec<u8>,
    advice: Vec<Advice>,
    functions: Counts,
    shared: bool,
}

/// The service with its queue, shared by all requests.
struct Shared {
    service: Service,
    shelf: Option<Arc<Shelf>>,
    gate: Gate,
    held: Held,
}

impl Service {
    /// Its routes.
    pub fn router(mut self) -> Router {
        let limits = QueueLimits {
            running_max: self.jobs_max,
            long_max: self.jobs_max,
            waiting_max: WAITING_MAX,
            waiting_per_label_max: WAITING_PER_TENANT_MAX,
        };
        let shelf = self.functions.take().map(Arc::new);
        let (gate, held) = (Gate::new(limits), Held::new(HELD_BYTES_MAX));
        let shared = Arc::new(Shared { service: self, shelf, gate, held });
        Router::new()
            .route(COMPILE_PATH, post(compile))
            .route(PREPARE_PATH, post(prepare::prepare))
            .route(QUEUE_PATH, get(queued))
            .route_layer(axum::middleware::from_fn_with_state(shared.clone(), authorize))
            // Nothing in it is secret, and a probe need not hold the token.
            .route(HEALTH_PATH, get(health))
            .with_state(shared)
    }
}

async fn authorize(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if shared.service.token.is_presented_in(request.headers()) {
        return next.run(request).await;
    }
    respond::unauthorized()
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let service = &shared.service;
    let targets =
        service.targets.iter().map(|target| (*target, engine::fingerprint(*target, PROFILE))).collect();
    respond::json(&Health { key: service.key.public(), targets, compiler: compiler_version() })
}

/// Where the caller's compiles of a program wait.
async fn queued(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(Ok(wasm)) = asked(&uri, "wasm").map(str::parse::<Digest>) else {
        let message = "name the program: ?wasm=<64 lower-case hex characters>";
        return respond::refusal(respond::Failed::bad_request(refuse(RefusalCode::Internal, message)));
    };
    respond::json(&shared.gate.queued(label(&headers, TENANT_HEADER, LABEL_BYTES_MAX), wasm))
}

async fn compile(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let tenant = label(&head.headers, TENANT_HEADER, LABEL_BYTES_MAX);
    let started = Instant::now();
    match shared.compile(&head.uri, &head.headers, body, tenant).await {
        Ok(Compiled { made, container, advice, functions, shared }) => {
            let (bytes, ms) = (container.len(), started.elapsed().as_millis() as u64);
            let Counts { found, compiled } = functions;
            let (target, wasm) = (made.target, made.wasm.short());
            tracing::info!(tenant, %target, wasm, bytes, ms, found, compiled, "compiled");
            respond::container(container, &advice, functions, shared)
        }
        Err(failed) => {
            let (code, message) = (failed.refusal.code, failed.refusal.message.as_str());
            tracing::info!(tenant, ?code, message, ms = started.elapsed().as_millis() as u64, "refused");
            respond::refusal(failed)
        }
    }
}

impl Shared {
    /// The way of one program: receive → look at → queue → compile → sign.
    async fn compile(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        body: Body,
        tenant: &str,
    ) -> Result<Compiled, respond::Failed> {
        let target = self.target(uri)?;
        let bytes = stated_bytes(headers)?;
        let _held =
            self.held.reserve(tenant, bytes).ok_or_else(|| busy("too many programs are being compiled"))?;
        let wasm = receive(body).await?;
        // What needs no parsing is refused here, without a queue or a process.
        intake::lane_of(&wasm)?;
        let made = Made { wasm: digest(&wasm).await?, target, profile: PROFILE };
        let mut slot = self.slot(tenant, made.wasm).await?;
        let threads = self.threads(&slot);
        let pack = self.pack(headers, tenant, target);
        let reused = self.run(wasm, target, threads, pack, || slot.lengthen()).await?;
        let (functions, shared) = (reused.functions, reused.shared);
        // Out of a job that may have been taken over, into a header and before people's eyes.
        let advice = Advice::bounded(reused.compiled.admitted.advice.clone());
        // Hashing and compressing 50 MB takes a good part of a second. The slot is held on: it bounds memory.
        let key = self.service.key.clone();
        let compiled = reused.compiled;
        let signed = tokio::task::spawn_blocking(move || sign(&compiled, made, &key));
        let (signed, ()) = tokio::join!(signed, self.keep(reused.learned));
        drop(slot);
        match signed {
            Ok(Ok(container)) => Ok(Compiled { made, container, advice, functions, shared }),
            failed => {
                tracing::error!(?failed, "signing failed");
                Err(refuse(RefusalCode::Internal, "the native code could not be signed: try again later")
                    .into())
            }
        }
    }

    fn target(&self, uri: &Uri) -> Result<Target, respond::Failed> {
        let target = asked(uri, "target").unwrap_or("").parse::<Target>();
        let why = match target {
            Ok(target) if self.service.targets.contains(&target) => return Ok(target),
            Ok(target) => format!("this compiler is not configured for {target}: add it to `targets`"),
            Err(error) => error.to_string(),
        };
        Err(respond::Failed::bad_request(refuse(RefusalCode::Internal, why)))
    }

    async fn slot(&self, tenant: &str, wasm: Digest) -> Result<Slot, respond::Failed> {
        let waited =
            tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), self.gate.slot(tenant, wasm)).await;
        match waited {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(queue::Full::Queue)) => Err(busy("the compiler's queue is full")),
            Ok(Err(queue::Full::Label)) => Err(busy("too many programs of this tenant wait to be compiled")),
            Err(_) => Err(busy("the compiler had no slot in time")),
        }
    }

    /// Threads for a job: all cores when it is alone, its share of them when not.
    fn threads(&self, slot: &Slot) -> usize {
        (self.service.cores / slot.running().max(1)).max(1)
    }
}

fn busy(why: &str) -> respond::Failed {
    refuse(RefusalCode::Busy, format!("{why}: try again in a moment")).into()
}

fn too_large() -> respond::Failed {
    let mib = WASM_BYTES_MAX >> 20;
    respond::Failed::too_large(refuse(
        RefusalCode::Limit,
        format!("the program is larger than {WASM_BYTES_MAX} bytes ({mib} MiB)"),
    ))
}

/// The stated size, refused before anything is read when it is too large; the largest when none is stated.
fn stated_bytes(headers: &HeaderMap) -> Result<u64, respond::Failed> {
    let stated = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match stated {
        Some(bytes) if bytes > WASM_BYTES_MAX => Err(too_large()),
        Some(bytes) => Ok(bytes),
        None => Ok(WASM_BYTES_MAX),
    }
}

async fn receive(body: Body) -> Result<Bytes, respond::Failed> {
    let read = axum::body::to_bytes(body, WASM_BYTES_MAX as usize);
    match tokio::time::timeout(Duration::from_secs(RECEIVE_S_MAX), read).await {
        Ok(Ok(wasm)) => Ok(wasm),
        // Over the limit without having said so, or gone: the answer to the latter reaches nobody.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(busy("receiving the program took too long")),
    }
}

/// sha-256 of up to 64 MiB, off the threads that serve.
async fn digest(wasm: &Bytes) -> Result<Digest, Refusal> {
    let wasm = wasm.clone();
    let digest = tokio::task::spawn_blocking(move || Digest::of(&wasm)).await;
    digest.map_err(|_| refuse(RefusalCode::Internal, "the program could not be hashed: try again later"))
}

/// A value of the query.
fn asked<'u>(uri: &'u Uri, key: &str) -> Option<&'u str> {
    let mut pairs = uri.query().unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, value)| (name == key).then_some(value))
}

/// What a header says, if it is no longer than that; else nothing.
fn label<'h>(headers: &'h HeaderMap, name: &str, bytes_max: usize) -> &'h str {
    let label = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    if label.len() <= bytes_max { label } else { "" }
}
