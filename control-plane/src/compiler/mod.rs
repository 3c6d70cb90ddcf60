//! Client of the compiler service: asks for native code and believes nothing that is not signed.
//!
//! Relies on the wire types in `artifact::compile` and on the compiler keys that the release log says are trusted now. Answers
//! are checked in full (signature, program, target, fingerprint, size and digest of the code) before anything is kept.
//! A full service is asked again for a while. Deliberately absent: any other retry. Whoever waits for the answer decides;
//! the background recompiler has its own back-off.

mod check;
mod error;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use artifact::{
    Digest, Fingerprint, Lane, Target, TenantName,
    compile::{
        ADVICE_HEADER, Advice, CACHE_HEADER, COMPILE_PATH, FUNCTIONS_SHARED_HEADER, HEALTH_PATH, Health,
        PREPARE_HEADER, PREPARE_PATH, QUEUE_PATH, Queued, Refusal, RefusalCode, TENANT_HEADER,
        WASM_BYTES_MAX,
    },
    container::CONTAINER_BYTES_MAX,
    manifest::Prepare,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header, uri::Authority};
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

use crate::{files, fleet::Fleet};

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
    /// What of the program could be better, for its uploader.
    pub advice: Vec<Advice>,
    /// Could functions of earlier programs take part in it? Then it is for what shares them only.
    pub shared: bool,
}

/// A container as it came.
struct Answer {
    blob: Bytes,
    advice: Vec<Advice>,
    shared: bool,
}

/// What a call to the service carries.
#[derive(Default)]
struct Call<'a> {
    tenant: Option<&'a TenantName>,
    cache: Option<&'a str>,
    wish: Option<&'a str>,
    body: Bytes,
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
    /// Knows which keys are trusted now.
    fleet: Fleet,
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
    /// A client of the service at `authority` that believes the keys `fleet` trusts at the moment.
    pub fn new(authority: Authority, token_file: PathBuf, fleet: Fleet) -> CompilerClient {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WAIT_MAX));
        connector.set_nodelay(true);
        CompilerClient {
            url: format!("http://{authority}"),
            authority,
            token_file,
            fleet,
            http: Client::builder(TokioExecutor::new()).build(connector),
            calls: Semaphore::new(COMPILE_CALLS_MAX),
            tenants: Mutex::new(HashMap::new()),
        }
    }

    /// What the service compiles for now. Asked before each deploy, so that a replaced compiler is noticed at once.
    pub async fn health(&self) -> Result<Health, CompilerError> {
        let asked = async {
            let response = self.call(Method::GET, HEALTH_PATH, Call::default()).await?;
            let status = response.status();
            let body = self.body(response, SMALL_ANSWER_BYTES_MAX).await?;
            if status != StatusCode::OK {
                return Err(self.refusal(status, &body));
            }
            let health: Health = serde_json::from_slice(&body).map_err(|_| self.unreadable(status))?;
            let keys = self.fleet.compiler_keys();
            if !keys.ring().trusts(&health.key) {
                let trusted: Vec<String> =
                    keys.ring().trusted().iter().map(|key| key.id().to_string()).collect();
                return Err(CompilerError::OtherKey { found: health.key.id().to_string(), trusted });
            }
            Ok(health)
        };
        self.within(HEALTH_WAIT_MAX, asked).await
    }

    /// Where the tenant's compiles of this program wait in the service. Those that have no turn there yet are not known to it.
    pub async fn queued(&self, tenant: &TenantName, wasm: Digest) -> Result<Queued, CompilerError> {
        let asked = async {
            let path = format!("{QUEUE_PATH}?wasm={wasm}");
            let response =
                self.call(Method::GET, &path, Call { tenant: Some(tenant), ..Call::default() }).await?;
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
        let Answer { blob, advice, shared } = {
            let _turn = self.turn(asker.tenant).await?;
            self.ask_until_taken(asker, wasm, target).await?
        };
        let trusted = self.fleet.compiler_keys().ring().trust();
        let wanted = Wanted { wasm: wasm_digest, target, fingerprint };
        // Decompressing and hashing tens of megabytes is no work for an async thread.
        tokio::task::spawn_blocking(move || {
            let statement = check(&blob, &wanted, &trusted)?;
            Ok(CompiledBlob { target, fingerprint, lane: statement.lane, blob, advice, shared })
        })
        .await
        .map_err(|_| CompilerError::Stopping)?
    }

    /// A program as its app wants it: its start run, its memory raised. What comes back is not believed to be anything: it is
    /// compiled like an upload.
    pub async fn prepare(
        &self,
        tenant: &TenantName,
        wasm: Bytes,
        wish: &Prepare,
    ) -> Result<Bytes, CompilerError> {
        let wish = serde_json::to_string(wish).unwrap_or_default(); // names and numbers: no reason to fail
        let _turn = self.turn(tenant).await?;
        let busy_until = Instant::now() + BUSY_WAIT_MAX;
        loop {
            let asked = self.ask_to_prepare(tenant, wasm.clone(), &wish);
            match self.within(COMPILE_WAIT_MAX, asked).await {
                Err(error) if error.is_busy() && Instant::now() + BUSY_PAUSE < busy_until => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn ask_to_prepare(
        &self,
        tenant: &TenantName,
        wasm: Bytes,
        wish: &str,
    ) -> Result<Bytes, CompilerError> {
        let asked = Call { tenant: Some(tenant), wish: Some(wish), body: wasm, cache: None };
        let response = self.call(Method::POST, PREPARE_PATH, asked).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = self.body(response, SMALL_ANSWER_BYTES_MAX).await?;
            return Err(self.refusal(status, &body));
        }
        self.body(response, usize::try_from(WASM_BYTES_MAX).unwrap_or(usize::MAX)).await
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
        let asked = Call { tenant: Some(asker.tenant), cache: asker.cache, body: wasm, wish: None };
        let response = self.call(Method::POST, &path, asked).await?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = self.body(response, SMALL_ANSWER_BYTES_MAX).await?;
            return Err(self.refusal(status, &body));
        }
        let advice = advice(response.headers());
        let shared = response.headers().contains_key(FUNCTIONS_SHARED_HEADER);
        let blob = self.body(response, usize::try_from(CONTAINER_BYTES_MAX).unwrap_or(usize::MAX)).await?;
        Ok(Answer { blob, advice, shared })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        asked: Call<'_>,
    ) -> Result<Response<Incoming>, CompilerError> {
        let Call { tenant, cache, wish, body } = asked;
        // Read each time: the file is a line, and a replaced token works without a restart.
        let token = files::read(&self.token_file).map_err(CompilerError::Token)?;
        let label = tenant.map_or("", TenantName::as_str);
        let mut request = Request::builder();
        if let Some(wish) = wish {
            request = request.header(PREPARE_HEADER, wish);
        }
        let request = request
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

/// The advice that came with an answer. A compiler of another release may give kinds of it that are unknown here: those are left out.
fn advice(headers: &HeaderMap) -> Vec<Advice> {
    let said = headers.get(ADVICE_HEADER).map_or(&b"[]"[..], |value| value.as_bytes());
    let said: Vec<serde_json::Value> = serde_json::from_slice(said).unwrap_or_default();
    Advice::bounded(said.into_iter().filter_map(|one| serde_json::from_value(one).ok()).collect())
}

#[cfg(test)]
mod tests {
    use artifact::compile::AdviceCode;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn advice_of_a_newer_compiler_is_read_as_far_as_it_is_known() {
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(ADVICE_HEADER.parse().unwrap(), HeaderValue::from_static(value))])
        };
        let said = r#"[{"code":"start_function","message":"a","more":1},{"code":"newer","message":"b"},3]"#;
        let known = Advice { code: AdviceCode::StartFunction, message: "a".into() };
        assert_eq!(advice(&headers(said)), [known]);
        assert_eq!(advice(&headers("no JSON")), []);
        assert_eq!(advice(&HeaderMap::new()), []);
    }
}
