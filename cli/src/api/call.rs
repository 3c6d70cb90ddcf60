//! Sending one call: retries, time limits, TLS, and what an answer that is not success means.
//!
//! Retries: only when the connection failed or the control plane said it is busy, only for calls that are
//! idempotent by nature or by key, at most [`RETRIES_MAX`] times; a call with a deadline also as often as the control
//! plane says when to come back (`Retry-After`), until that deadline.

use std::{
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use artifact::manifest::Mistake;
use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, StatusCode},
    tls::{PemItem, RootCerts, TlsConfig},
};

use super::types::{ErrorBody, ErrorSaid};
use crate::{
    credentials::Credentials,
    error::{Error, Result},
    near,
};

/// Retries after the first attempt; with the pauses below a restart of the control plane (about a second) is bridged.
const RETRIES_MAX: u32 = 4;
/// Pause before the first retry; doubles: 150 + 300 + 600 + 1200 ms, so "nobody there" is said within 2.3 s.
const RETRY_PAUSE_MS: u64 = 150;
/// A control plane that does not take the connection in this time is not there.
const CONNECT_S_MAX: u64 = 5;
/// Longest wait for an answer. Long polls are asked for at most 30 s.
const ANSWER_S_MAX: u64 = 60;
/// Longest time to send a program: 64 MiB at 2 Mbit/s.
const SEND_S_MAX: u64 = 300;
/// Longest time for an answer's body, once it has begun.
const BODY_S_MAX: u64 = 60;
/// Largest answer: a list of 10,000 apps at 200 B each is 2 MB.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Code of the refusal that names an app which is not there.
const NO_SUCH_APP: &str = "no_such_app";
/// Where Linux distributions keep the certificate authorities of the system, first that exists.
const SYSTEM_CA_FILES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A control plane, from outside.
pub struct Api {
    agent: Agent,
    credentials: Credentials,
}

/// May a call be made twice?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Twice does no more than once.
    Safe,
    /// Twice would do it twice.
    Never,
}

/// What to send.
enum Send<'a> {
    Nothing,
    Json(serde_json::Value),
    Bytes(&'a [u8], &'static str),
}

/// One call.
pub(super) struct Call<'a> {
    /// What is being done, to which thing: the start of every error.
    doing: String,
    method: &'static str,
    /// Path and query.
    path: String,
    send: Send<'a>,
    /// Idempotency-Key.
    key: Option<&'a str>,
    header: Option<(&'static str, String)>,
    again: Again,
    answer_s_max: u64,
    body_s_max: u64,
    /// Longest wait for the next bytes, where an answer comes in pieces.
    silence_s_max: Option<u64>,
    /// Until then `Retry-After` is honoured.
    deadline: Option<Instant>,
}

impl<'a> Call<'a> {
    pub fn new(doing: impl Into<String>, method: &'static str, path: impl Into<String>) -> Call<'a> {
        let again = if method == "POST" { Again::Never } else { Again::Safe };
        Call {
            doing: doing.into(),
            method,
            path: path.into(),
            send: Send::Nothing,
            key: None,
            header: None,
            again,
            answer_s_max: ANSWER_S_MAX,
            body_s_max: BODY_S_MAX,
            silence_s_max: None,
            deadline: None,
        }
    }

    pub fn json(mut self, body: &impl Serialize) -> Call<'a> {
        self.send = Send::Json(serde_json::to_value(body).expect("request bodies have only string keys"));
        self
    }

    pub fn bytes(mut self, bytes: &'a [u8]) -> Call<'a> {
        self.send = Send::Bytes(bytes, "application/wasm");
        self
    }

    /// A value as it is.
    pub fn value(mut self, bytes: &'a [u8]) -> Call<'a> {
        self.send = Send::Bytes(bytes, "application/octet-stream");
        self
    }

    /// One more header.
    pub fn header(mut self, name: &'static str, value: String) -> Call<'a> {
        self.header = Some((name, value));
        self
    }

    /// For a call whose answer takes longer than most.
    pub fn wait_s(mut self, seconds: u64) -> Call<'a> {
        self.answer_s_max = seconds;
        self
    }

    /// For a call whose answer goes on: for how long in all, and how long it may be silent.
    pub fn streams(mut self, body_s_max: u64, silence_s_max: u64) -> Call<'a> {
        (self.body_s_max, self.silence_s_max) = (body_s_max, Some(silence_s_max));
        self
    }

    /// Until then a busy control plane that says when to come back is asked again.
    pub fn until(mut self, deadline: Instant) -> Call<'a> {
        self.deadline = Some(deadline);
        self
    }

    /// The pause an answer asks for, if the call may be repeated and the pause ends before its deadline.
    fn pause_asked(&self, response: &Response<Body>) -> Option<Duration> {
        let asked = response.headers().get("retry-after")?.to_str().ok()?.parse().ok()?;
        // A control plane that asks for none is not hammered.
        let pause = Duration::from_secs(asked).max(Duration::from_millis(RETRY_PAUSE_MS));
        let left = self.deadline?.saturating_duration_since(Instant::now());
        (self.again == Again::Safe && pause <= left).then_some(pause)
    }

    /// It changes nothing, whatever its method.
    pub fn repeatable(mut self) -> Call<'a> {
        self.again = Again::Safe;
        self
    }

    /// With a key a call is safe to repeat.
    pub fn key(mut self, key: &'a str) -> Call<'a> {
        self.key = Some(key);
        self.again = Again::Safe;
        self
    }
}

impl Api {
    /// Prepares; nothing is sent yet.
    pub fn new(credentials: Credentials) -> Result<Api> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0) // a token must not follow a redirect elsewhere
            .user_agent(concat!("skerry/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(CONNECT_S_MAX)))
            .timeout_send_body(Some(Duration::from_secs(SEND_S_MAX)));
        if is_loopback(&credentials.api) {
            config = config.proxy(None);
        }
        if credentials.api.starts_with("https://") {
            config = config.tls_config(tls(credentials.ca.as_deref())?);
        }
        Ok(Api { agent: config.build().new_agent(), credentials })
    }

    /// Makes the call and reads its answer.
    pub(super) fn answer<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let mut response = self.send(&call)?;
        if !response.status().is_success() {
            return Err(self.refusal(&call, response));
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_json();
        body.map_err(|error| Error::ControlPlane {
            doing: call.doing,
            api: self.credentials.api.clone(),
            message: format!("its answer is not understood: {error}"),
        })
    }

    /// Makes the call; its answer is bytes, with headers.
    pub(super) fn bytes(&self, call: Call<'_>) -> Result<(HeaderMap, Vec<u8>)> {
        let mut response = self.send(&call)?;
        if !response.status().is_success() {
            return Err(self.refusal(&call, response));
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| Error::ControlPlane {
            doing: call.doing,
            api: self.credentials.api.clone(),
            message: format!("its answer broke off: {error}"),
        })?;
        Ok((std::mem::take(response.headers_mut()), body))
    }

    /// Makes the call; its answer is read as it comes.
    pub(super) fn stream(&self, call: Call<'_>) -> Result<ureq::BodyReader<'static>> {
        let response = self.send(&call)?;
        if !response.status().is_success() {
            return Err(self.refusal(&call, response));
        }
        Ok(response.into_body().into_reader())
    }

    /// Makes the call; the answer's body is of no interest.
    pub(super) fn acknowledged(&self, call: Call<'_>) -> Result<()> {
        let response = self.send(&call)?;
        if response.status().is_success() { Ok(()) } else { Err(self.refusal(&call, response)) }
    }

    pub(super) fn send(&self, call: &Call<'_>) -> Result<Response<Body>> {
        for attempt in 0.. {
            let short = Duration::from_millis(RETRY_PAUSE_MS << attempt.min(RETRIES_MAX));
            let may_retry = call.again == Again::Safe && attempt < RETRIES_MAX;
            let pause = match self.attempt(call) {
                Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                    match call.pause_asked(&response).or(may_retry.then_some(short)) {
                        Some(pause) => pause,
                        None => return Ok(response),
                    }
                }
                Ok(response) => return Ok(response),
                Err(error) if may_retry && is_connection(&error) => short,
                // A call that must not be made twice may be tried again when it cannot have been received.
                Err(error) if attempt < RETRIES_MAX && is_refused(&error) => short,
                Err(cause) => {
                    return Err(Error::Unreachable {
                        doing: call.doing.clone(),
                        api: self.credentials.api.clone(),
                        cure: self.credentials.cure.clone(),
                        cause: Box::new(cause),
                    });
                }
            };
            thread::sleep(pause);
        }
        unreachable!("the loop returns when attempts are used up")
    }

    fn attempt(&self, call: &Call<'_>) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.credentials.api, call.path))
            .header("authorization", format!("Bearer {}", self.credentials.token));
        if let Some(tenant) = &self.credentials.tenant {
            request = request.header("skerry-tenant", tenant.as_str());
        }
        if let Some(key) = call.key {
            request = request.header("idempotency-key", key);
        }
        if let Some((name, value)) = &call.header {
            request = request.header(*name, value);
        }
        match &call.send {
            Send::Nothing => self.run(request.body(())?, call),
            Send::Json(value) => {
                let request = request.header("content-type", "application/json");
                self.run(request.body(value.to_string())?, call)
            }
            Send::Bytes(bytes, what) => {
                let request = request.header("content-type", *what);
                self.run(request.body(*bytes)?, call)
            }
        }
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        request: ureq::http::Request<B>,
        call: &Call<'_>,
    ) -> std::result::Result<Response<Body>, ureq::Error> {
        let configured = self
            .agent
            .configure_request(request)
            .timeout_recv_response(Some(Duration::from_secs(call.answer_s_max)))
            .timeout_recv_body(Some(Duration::from_secs(call.body_s_max)))
            .timeout_per_read(call.silence_s_max.map(Duration::from_secs))
            .build();
        self.agent.run(configured)
    }

    /// The directory of the fleet on this machine that this is, if it was found by one.
    pub fn fleet(&self) -> Option<&Path> {
        self.credentials.fleet.as_deref()
    }

    /// The control plane answered, but not as it should have.
    pub fn failed(&self, doing: String, message: impl Into<String>) -> Error {
        Error::ControlPlane { doing, api: self.credentials.api.clone(), message: message.into() }
    }

    /// Turns an answer that is not success into an error.
    pub(super) fn refusal(&self, call: &Call<'_>, mut response: Response<Body>) -> Error {
        let (doing, status) = (call.doing.clone(), response.status());
        let text =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        let said = serde_json::from_str::<ErrorBody>(&text).ok().map(|body| body.error);
        if status.is_server_error() {
            let message = said.map_or_else(|| format!("it answered {status}"), |said| said.message);
            return Error::ControlPlane { doing, api: self.credentials.api.clone(), message };
        }
        let said = said.unwrap_or_else(|| ErrorSaid {
            code: status.as_u16().to_string(),
            message: format!("the control plane answered {status}"),
            mistakes: Vec::<Mistake>::new(),
        });
        let hint = match status {
            StatusCode::UNAUTHORIZED => {
                "; the token is mistyped, revoked or expired: give another with --token or SKERRY_TOKEN (`skerry token create` \
              makes one)"
            }
            StatusCode::FORBIDDEN => "; this token may not do that",
            _ => "",
        };
        let near = match said.code.as_str() {
            NO_SUCH_APP => self.near_app(&call.path),
            _ => String::new(),
        };
        let message = format!("{}{near}{hint}", said.message);
        Error::Rejected { doing, code: said.code, message, mistakes: said.mistakes }
    }
}

impl Api {
    /// Which app was meant by the one in this path. Asked for only once that one is known not to be there.
    fn near_app(&self, path: &str) -> String {
        let wrong = path.strip_prefix("/v1/apps/").unwrap_or_default();
        let wrong = wrong.split(['/', '?']).next().unwrap_or_default();
        let apps = self.apps().unwrap_or_default();
        near::hint(wrong, apps.iter().map(|app| app.app.as_str()))
    }
}

/// Did the connection fail, so that nothing is known of the call?
fn is_connection(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(_) | ureq::Error::ConnectionFailed)
}

/// Was there nobody to receive the call?
fn is_refused(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(cause) if cause.kind() == std::io::ErrorKind::ConnectionRefused)
        || matches!(error, ureq::Error::ConnectionFailed)
}

/// A proxy of the environment is for the world outside, not for a fleet on this machine.
pub(super) fn is_loopback(api: &str) -> bool {
    let authority = api.split_once("://").map_or(api, |(_, rest)| rest).split('/').next().unwrap_or_default();
    ["127.", "localhost", "[::1]"].iter().any(|start| authority.starts_with(start))
}

/// TLS with the system's certificate authorities.
pub fn system_tls() -> Result<TlsConfig> {
    tls(None)
}

fn tls(ca: Option<&Path>) -> Result<TlsConfig> {
    let path = match ca {
        Some(path) => path,
        None => SYSTEM_CA_FILES.iter().map(Path::new).find(|path| path.is_file()).ok_or_else(|| {
            Error::Usage("no certificate authorities found on this system; name a PEM file with --ca".into())
        })?,
    };
    let pem = fs::read(path)
        .map_err(Error::io(format!("reading certificate authorities from {}", path.display())))?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::Usage(format!("{} holds no certificate in PEM form", path.display())));
    }
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build())
}
