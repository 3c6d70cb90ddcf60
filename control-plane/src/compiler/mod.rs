//! Client of the compiler service: asks for native code and believes nothing that is not signed.
//!
//! Relies on the wire types in `artifact::compile` and on the compiler's public key from our own configuration. Answers
//! are checked in full (signature, program, target, fingerprint, size and digest of the code) before anything is kept.
//! A full service is asked again for a while. Deliberately absent: any other retry. Whoever waits for the answer decides;
//! the background recompiler has its own back-off.

mod check;
mod error;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use artifact::{
    Digest, Fingerprint, Lane, Target, TenantName,
    compile::{
        CACHE_HEADER, COMPILE_PATH, FUNCTIONS_SHARED_HEADER, HEALTH_PATH, Health, QUEUE_PATH, Queued,
        Refusal, RefusalCode, TENANT_HEADER,
    },
    container::CONTAINER_BYTES_MAX,
    keys::{Compiler, PublicKey, Trusted},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, uri::Authority};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::Instant,
};

use check::{Wanted, check};
pub use error::CompilerError;

use crate::files;

/// Compile calls under way at once, over all deploys: as many as the service lets wait, so that its queue, which is fair
/// between tenants, decides who is next, and not ours.
const COMPILE_CALLS_MAX: usize = 64;
/// Of them for one tenant: half of what the service lets wait for one label, so that deploys side by side wait here and
/// are not refused there.
const TENANT_CALLS_MAX: usize = 8;
/// Longest wait for that turn: eight calls at a time, some seconds each, for a few hundred calls.
const TURN_WAIT_MAX: Duration = Duration::from_secs(300);
/// How long a service that says it is full is asked again, and the pause before each try.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(10);
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// Longest wait for one compile answer, queueing in the service included.
const COMPILE_WAIT_MAX: Duration = Duration::from_secs(430);
/// Longest wait for a health answer: the service reads it from memory.
const HEALTH_WAIT_MAX: Duration = Duration::from_secs(5);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Largest health answer or refusal, in bytes: a handful of targets, one sentence.
const SMALL_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Checked native code, as it will be stored.
#[derive(Debug, Clone)]
pub struct CompiledBlob {
    /// What was asked for.
    pub target: Target,
    /// The engine it is for.
    pub fingerprint: Fingerprint,
    /// The interface the program speaks.
    pub lane: Lane,
    /// The container.
    pub blob: Bytes,
    /// Could functions of earlier programs take part in it? Then it is for what shares them only.
    pub shared: bool,
}

/// A container as it came.
struct Answer {
    blob: Bytes,
    shared: bool,
}

/// For whom native code is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The tenant.
    pub tenant: &'a TenantName,
    /// What shares compiled functions within the tenant; `None`: nothing does.
    pub cache: Option<&'a str>,
}

/// The client. One for the process.
pub struct CompilerClient {
    url: String,
    authority: Authority,
    token_file: PathBuf,
    key: PublicKey<Compiler>,
    http: Client<HttpConnector, Full<Bytes>>,
    calls: Semaphore,
    /// Turns of the tenants that have calls under way or waiting.
    tenants: Mutex<HashMap<TenantName, Arc<Semaphore>>>,
}

/// The right to one compile call. The tenant's part keeps its entry in the table alive.
struct Turn<'c> {
    _own: OwnedSemaphorePermit,
    _all: SemaphorePermit<'c>,
}

impl CompilerClient {
    /// A client of the service at `authority` that believes `key` alone.
    pub fn new(authority: Authority, token_file: PathBuf, key: PublicKey<Compiler>) -> CompilerClient {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WAIT_MAX));
        connector.set_nodelay(true);
        CompilerClient {
            url: format!("http://{authority}"),
            authority,
            token_file,
            key,
            http: Client::builder(TokioExecutor::new()).build(connector),
            calls: Semaphore::new(COMPILE_CALLS_MAX),
            tenants: Mutex::new(HashMap::new()),
        }
    }

    /// What the service compiles for now. Asked before each deploy, so that a replaced compiler is noticed at once.
    pub async fn health(&self) -> Result<Health, CompilerError> {
        let asked = async {
            let response = self.call(Method::GET, HEALTH_PATH, None, None, Bytes::new()).await?;
            let status = response.status();
            let body = self.body(response, SMALL_ANSWER_BYTES_MAX).await?;
            if status != StatusCode::OK {
                return Err(self.refusal(status, &body));
            }
            let health: Health = serde_json::from_slice(&body).map_err(|_| self.unreadable(status))?;
            if health.key != self.key {
                let (found, expected) = (health.key.id().to_string(), self.key.id().to_string());
                return Err(CompilerError::OtherKey { found, expected });
            }
            Ok(health)
        };
        self.within(HEALTH_WAIT_MAX, asked).await
    }

    /// Where the tenant's compiles of this program wait in the service. Those that have no turn there yet are not known to it.
    pub async fn queued(&self, tenant: &TenantName, wasm: Digest) -> Result<Queued, CompilerError> {
        let asked = async {
            let path = format!("{QUEUE_PATH}?wasm={wasm}");
            let response = self.call(Method::GET, &path, Some(tenant), None, Bytes::new()).await?;
            let status = response.status();
            // A service of an earlier release does not tell.
            if status == StatusCode::NOT_FOUND {
                return Ok(Queued::default());
            }
            let body = self.body(response, SMALL_ANSWER_BYTES_MAX).await?;
            if status != StatusCode::OK {
                return Err(self.refusal(status, &body));
            }
            serde_json::from_slice(&body).map_err(|_| self.unreadable(status))
        };
        self.within(HEALTH_WAIT_MAX, asked).await
    }

    /// Validated, compiled, signed: native code of `wasm` for one target, checked. `wasm_digest` is the digest of `wasm`.
    pub async fn compile(
        &self,
        asker: Asker<'_>,
        wasm: Bytes,
        wasm_digest: Digest,
        target: Target,
        fingerprint: Fingerprint,
    ) -> Result<CompiledBlob, CompilerError> {
        let Answer { blob, shared } = {
            let _turn = self.turn(asker.tenant).await?;
            self.ask_until_taken(asker, wasm, target).await?
        };
        let trusted = Trusted::new([self.key]);
        let wanted = Wanted { wasm: wasm_digest, target, fingerprint };
        // Decompressing and hashing tens of megabytes is no work for an async thread.
        tokio::task::spawn_blocking(move || {
            let statement = check(&blob, &wanted, &trusted)?;
            Ok(CompiledBlob { target, fingerprint, lane: statement.lane, blob, shared })
        })
        .await
        .map_err(|_| CompilerError::Stopping)?
    }

    /// A turn of the tenant, then one of all.
    async fn turn(&self, tenant: &TenantName) -> Result<Turn<'_>, CompilerError> {
        let own = {
            let mut tenants = self.tenants.lock();
            // Whoever waits or works holds the tenant's semaphore; the others are forgotten here.
            tenants.retain(|_, turns| Arc::strong_count(turns) > 1);
            let fresh = || Arc::new(Semaphore::new(TENANT_CALLS_MAX));
            Arc::clone(tenants.entry(tenant.clone()).or_insert_with(fresh))
        };
        let both = async {
            let own = own.acquire_owned().await.map_err(|_| CompilerError::Stopping)?;
            let all = self.calls.acquire().await.map_err(|_| CompilerError::Stopping)?;
            Ok::<_, CompilerError>(Turn { _own: own, _all: all })
        };
        let waited = || {
            let message = format!("no turn to compile within {} s", TURN_WAIT_MAX.as_secs());
            CompilerError::Refused(Refusal { code: RefusalCode::Busy, message })
        };
        tokio::time::timeout(TURN_WAIT_MAX, both).await.unwrap_or_else(|_| Err(waited()))
    }

    /// The service's answer, asking again while it is full.
    async fn ask_until_taken(
        &self,
        asker: Asker<'_>,
        wasm: Bytes,
        target: Target,
    ) -> Result<Answer, CompilerError> {
        let busy_until = Instant::now() + BUSY_WAIT_MAX;
        loop {
            let asked = self.ask(asker, wasm.clone(), target);
            match self.within(COMPILE_WAIT_MAX, asked).await {
                Err(error) if error.is_busy() && Instant::now() + BUSY_PAUSE < busy_until => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn ask(&self, asker: Asker<'_>, wasm: Bytes, target: Target) -> Result<Answer, CompilerError> {
        let path = format!("{COMPILE_PATH}?target={target}");
        let response = self.call(Method::POST, &path, Some(asker.tenant), asker.cache, wasm).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = self.body(response, SMALL_ANSWER_BYTES_MAX).await?;
            return Err(self.refusal(status, &body));
        }
        let shared = response.headers().contains_key(FUNCTIONS_SHARED_HEADER);
        let blob = self.body(response, usize::try_from(CONTAINER_BYTES_MAX).unwrap_or(usize::MAX)).await?;
        Ok(Answer { blob, shared })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        tenant: Option<&TenantName>,
        cache: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Incoming>, CompilerError> {
        // Read each time: the file is a line, and a replaced token works without a restart.
        let token = files::read(&self.token_file).map_err(CompilerError::Token)?;
        let label = tenant.map_or("", TenantName::as_str);
        let request = Request::builder()
            .header(TENANT_HEADER, label)
            .header(CACHE_HEADER, cache.unwrap_or(""))
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
            .header(header::CONTENT_TYPE, "application/wasm")
            .body(Full::new(body))
            .map_err(|error| self.unreachable(error))?;
        self.http.request(request).await.map_err(|error| self.unreachable(error))
    }

    async fn body(&self, response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, CompilerError> {
        let status = response.status();
        let collected = Limited::new(response.into_body(), bytes_max).collect().await;
        collected.map(|body| body.to_bytes()).map_err(|error| {
            if error.is::<LengthLimitError>() {
                return self.unreadable(status);
            }
            CompilerError::Unreachable { url: self.url.clone(), source: error }
        })
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> CompilerError {
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return CompilerError::TokenRefused { url: self.url.clone() };
        }
        match serde_json::from_slice(body) {
            Ok(refusal) => CompilerError::Refused(refusal),
            Err(_) => self.unreadable(status),
        }
    }

    fn unreadable(&self, status: StatusCode) -> CompilerError {
        CompilerError::Unreadable { url: self.url.clone(), status }
    }

    fn unreachable(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CompilerError {
        CompilerError::Unreachable { url: self.url.clone(), source: source.into() }
    }

    async fn within<T>(
        &self,
        wait: Duration,
        asked: impl Future<Output = Result<T, CompilerError>>,
    ) -> Result<T, CompilerError> {
        let slow = || CompilerError::Slow { url: self.url.clone(), waited_s: wait.as_secs() };
        tokio::time::timeout(wait, asked).await.unwrap_or_else(|_| Err(slow()))
    }
}
