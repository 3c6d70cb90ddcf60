//! Requests that guests send: to declared backends or to hosts of the app's list, over HTTP/1.1 and HTTP/2.
//!
//! A request is counted, checked and then runs as a task: target → origin → address → connection → answer. Nothing
//! that a guest names is connected to before its *address* was checked, and it is that address that is connected to.
//! What a guest sees of it passes its door; a replayed exchange touches no network.
//!
//! Deliberately absent: following redirects, cookies, caching, retries of what may have had an effect, HTTP/2 without
//! TLS, HTTP/3.
//!
//! | Module | One job |
//! |---|---|
//! | [`limits`] | every bound |
//! | [`error`](FetchError) | why a request got no answer |
//! | [`address`] | which addresses guests may reach |
//! | [`resolve`] | host → addresses, checked |
//! | [`tls`] | whom to trust, what to show |
//! | `connect` | address → TCP, TLS, HTTP version |
//! | [`pool`] | connections kept alive per tenant and origin |
//! | `payer` | whose bill the work on a connection is |
//! | `head` | header rules, `CDN-Loop`, 32 in all and 6 at once |
//! | `deadline` | the shared deadline, and whose word it is |
//! | `body` | both bodies on their way |
//! | `target` | name or URL → a backend that may be asked |
//! | `share` | connections and lookups divided among tenants |
//! | [`made`] | a backend of the guest's own, and what only guests say of one |
//! | [`origins`] | health, failover, retry budget |
//! | `probe` | active health |
//! | `fault`, `fetch` | one request through all of these |

pub mod address;
mod body;
mod connect;
mod deadline;
mod error;
mod fault;
mod fetch;
mod head;
pub mod limits;
pub mod made;
pub mod origins;
mod payer;
pub mod pool;
mod probe;
pub mod resolve;
mod share;
mod target;
#[cfg(test)]
mod tests;
pub mod tls;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use artifact::{
    HostName, TenantName,
    manifest::origin::{OriginHost, Scheme},
    seal::SecretsKey,
    secrets::SecretValue,
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, request};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use tokio::{runtime::Handle, task::JoinHandle};

pub use error::FetchError;
pub use head::Fetches;
pub(crate) use head::Head;

use self::{
    address::{Policy, Range},
    body::{OpenSlot, Upload},
    deadline::Seals,
    fetch::Job,
    made::{Keeping, Made},
    origins::{GroupKey, Groups, Health},
    payer::Payer,
    pool::Pool,
    probe::{Probe, Probing},
    resolve::{Lookup, Resolver},
    target::Allowed,
    tls::{Definition, Tls, TlsStore},
};
use crate::{
    exchange::Exchange,
    front::BodyError,
    host::{
        body::Incoming,
        door::{Door, Event, Fact, Source},
    },
    limits::Limit,
};

/// What the operator and the process decide.
#[derive(Clone, Default)]
pub struct Settings {
    /// Ranges that guests may reach beside public addresses.
    pub allow: Vec<Range>,
    /// The runtime that probes run on; that of the request that starts them when absent.
    pub side: Option<Handle>,
    /// What all nodes of the fleet hold: they know each other's deadlines by it.
    pub fleet: Option<SecretsKey>,
}

/// What the node offers for outbound requests, made once per process. Clones share all of it.
#[derive(Clone)]
pub struct Outbound(Arc<Shared>);

/// See [`Outbound`].
struct Shared {
    resolver: Resolver,
    tls: TlsStore,
    pool: Pool,
    groups: Groups,
    side: Option<Handle>,
    seals: Seals,
}

impl Outbound {
    /// With the system's resolver.
    pub fn new(settings: Settings) -> Outbound {
        Outbound::with_lookup(settings, Box::new(resolve::System))
    }

    /// With a resolver of the caller's: tests.
    pub fn with_lookup(settings: Settings, lookup: Box<dyn Lookup>) -> Outbound {
        let Settings { allow, side, fleet } = settings;
        Outbound(Arc::new(Shared {
            resolver: Resolver::new(lookup, Policy::allowing(allow)),
            tls: TlsStore::default(),
            pool: Pool::default(),
            groups: Groups::default(),
            side,
            seals: Seals::of(fleet),
        }))
    }

    /// Does what would make the first request slow.
    pub fn warm_up(&self) {
        let _ = self.0.tls.load_platform_roots();
    }

    /// Connections to backends open now.
    pub fn connections(&self) -> usize {
        self.0.pool.open()
    }
}

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound::new(Settings::default())
    }
}

/// Where a request is to go.
pub enum Target<'a> {
    /// To a backend of the app, by its name.
    Backend(&'a str),
    /// To a backend that the guest made; its origins must be on the app's list.
    Dynamic(Arc<Made>),
    /// By the request's URI: the origin of a backend, or on the app's list.
    Url,
}

/// Times for one request; the backend's, or the defaults of [`limits`], where absent. None reaches beyond the
/// exchange's own deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// To connect, lookup and TLS included.
    pub connect: Option<Duration>,
    /// From the request's last byte to the response's head.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub between_bytes: Option<Duration>,
}

/// The body of a request.
pub enum RequestBody {
    /// No bytes.
    Empty,
    /// All bytes at hand: the request can be sent again.
    Full(Bytes),
    /// Written while it is sent. `Content-Length`, if the head has one, must come true. Trailers reach an HTTP/1.1
    /// backend only if the head's `Trailer` field names them.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// Extension of a response: the address that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Takes over what the head of the exchange's own request, for `host`, says of the chain it belongs to, and takes out of
/// it what is the fleet's alone. Did the deadline become shorter by it? That of a stranger is passed over.
pub fn inherit(exchange: &mut Exchange, headers: &mut HeaderMap, host: &HostName) -> bool {
    exchange.fetches.inherit(headers, host, &exchange.host.outbound.0.seals)
}

/// Sends a request. Counts as one of the execution's subrequests whatever becomes of it.
///
/// The guest's `Host`, framing and connection fields are replaced; `Host` is the backend's `override_host`, else the
/// request's own field, else its URI's authority, else the origin's.
pub fn send(
    exchange: &mut Exchange,
    target: Target<'_>,
    request: Request<RequestBody>,
    options: Options,
) -> Result<Fetch, FetchError> {
    let number = exchange.fetches.count();
    let (source, door) = (Source::Fetch(number), exchange.door.clone());
    door.cause(source, || {
        Event::Head(format!("{} {}", request.method(), request.uri()), request.headers().clone())
    });
    let mut task = None;
    door.learn(source, || {
        if door.replays() {
            return Err(FetchError::Internal); // the recording ended: there is no world to ask
        }
        let url_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let started = start(exchange, &target, request, options);
        started.inspect_err(|error| note(exchange, *error, url_bytes)).map(|job| task = Some(job))
    })?;
    Ok(Fetch { number, door, task })
}

/// Counts a request that was refused, and on the bill the limit that it met.
fn note(exchange: &Exchange, error: FetchError, url_bytes: usize) {
    exchange.deployment.metrics.fetched(Some(error));
    let limit = match error {
        FetchError::TooMany => Limit::Subrequests,
        FetchError::TooManyOpen => Limit::SubrequestsOpen,
        FetchError::RequestHeadersTooLarge => Limit::Headers,
        FetchError::UriInvalid if url_bytes > limits::URL_BYTES_MAX => Limit::Url,
        _ => return,
    };
    exchange.bill.meet(limit);
}

fn start(
    exchange: &Exchange,
    target: &Target<'_>,
    request: Request<RequestBody>,
    options: Options,
) -> Result<JoinHandle<Outcome>, FetchError> {
    let slot = exchange.fetches.admit()?;
    let job = prepare(exchange, target, request, options, slot)?;
    let (metrics, payer) = (exchange.deployment.metrics.clone(), job.payer.clone());
    // A guest's thread always has a runtime; without one nothing could be awaited.
    let here = Handle::try_current().map_err(|_| FetchError::Internal)?;
    Ok(here.spawn(async move {
        let outcome = payer.pays(job.run()).await;
        metrics.fetched(outcome.as_ref().err().copied());
        outcome
    }))
}

fn prepare(
    exchange: &Exchange,
    target: &Target<'_>,
    request: Request<RequestBody>,
    options: Options,
    slot: OpenSlot,
) -> Result<Job, FetchError> {
    let shared = exchange.host.outbound.0.clone();
    let (head, body) = request.into_parts();
    let plan = Plan::find(&shared, exchange, target, &head, options)?;
    let announced = head::announced_length(&head.headers)?;
    let head = plan.allowed.outgoing(head, &exchange.fetches, &shared.seals)?;
    let group = plan.group_key().map(|key| shared.groups.get(key));
    if let Some(group) = &group {
        plan.probe(&shared, group);
    }
    Ok(Job {
        tenant: plan.tenant,
        origins: plan.allowed.origins,
        tls: plan.tls,
        cert_host: plan.cert_host,
        keeping: plan.keeping,
        group,
        head,
        body: Upload::new(body, announced),
        times: plan.allowed.times,
        deadline: exchange.fetches.deadline().into(),
        payer: Payer::of(exchange),
        slot: Some(slot),
        shared,
    })
}

/// How a backend was last found, by its declared name; `None` when there is no such backend.
pub fn health(exchange: &Exchange, backend: &str) -> Option<Health> {
    exchange.door.learn(Source::Lookup, || {
        let (head, ()) = Request::new(()).into_parts();
        let shared = &exchange.host.outbound.0;
        let target = Target::Backend(backend);
        let plan = Plan::find(shared, exchange, &target, &head, Options::default()).ok()?;
        let group = plan.group_key().and_then(|key| shared.groups.known(&key));
        Some(group.map_or(Health::Unknown, |group| group.best()))
    })
}

/// A backend that may be asked, with all that is needed to ask it.
struct Plan<'a> {
    allowed: Allowed<'a>,
    tenant: TenantName,
    tls: Option<Tls>,
    cert_host: Option<OriginHost>,
    /// Absent for a declared backend: as is usual.
    keeping: Option<Keeping>,
}

impl<'a> Plan<'a> {
    fn find(
        shared: &Shared,
        exchange: &'a Exchange,
        target: &'a Target<'_>,
        head: &request::Parts,
        options: Options,
    ) -> Result<Plan<'a>, FetchError> {
        let allowed = Allowed::find(&exchange.deployment.config, target, head, options)?;
        let tenant = exchange.deployment.id.tenant.clone();
        let made = if let Target::Dynamic(made) = target { Some(&**made) } else { None };
        let mut tls = None;
        if allowed.origins.iter().any(|origin| origin.scheme == Scheme::Https) {
            let backend = &*allowed.backend;
            let secret = backend.client_key_secret.as_deref();
            let declared = || secret.and_then(|name| exchange.deployment.secrets.get(None, name));
            let key = made.map_or_else(declared, |made| made.client_key.as_ref());
            let definition = Definition {
                backend,
                key: key.map(SecretValue::expose),
                narrowing: made.map(|made| &made.narrowing),
            };
            tls = Some(shared.tls.settings(&tenant, &definition)?);
        }
        let cert_host = allowed.backend.cert_host.as_deref().map(OriginHost::parse).transpose();
        let cert_host = cert_host.map_err(|_| FetchError::TlsConfiguration)?;
        Ok(Plan { allowed, tenant, tls, cert_host, keeping: made.map(|made| made.keeping) })
    }

    /// Only where there is a choice or a probe is there a state to keep.
    fn group_key(&self) -> Option<GroupKey> {
        let health = self.allowed.backend.health.as_ref();
        (self.allowed.origins.len() > 1 || health.is_some()).then(|| GroupKey {
            tenant: self.tenant.clone(),
            origins: self.allowed.origins.clone(),
            identity: self.tls.as_ref().and_then(|tls| tls.identity),
            host: self.allowed.backend.override_host.clone(),
            cert_host: self.cert_host.clone(),
            probe: origins::probe_of(health),
        })
    }

    /// Starts probing the backend, if it wants to be probed and is not yet.
    fn probe(&self, shared: &Arc<Shared>, group: &Arc<origins::Group>) {
        let Some(health) = &self.allowed.backend.health else { return };
        let Some(probing) = Probing::begin(group, &self.tenant, &shared.groups.probing) else { return };
        let Ok(room) = shared.pool.room(&self.tenant) else { return };
        let probe = Probe {
            tenant: self.tenant.clone(),
            origins: self.allowed.origins.clone(),
            tls: self.tls.clone(),
            cert_host: self.cert_host.clone(),
            host: self.allowed.backend.override_host.clone(),
            path: health.path.clone(),
            interval: Duration::from_millis(health.interval_ms.into()),
            _room: room,
        };
        let runtime = shared.side.clone().map_or_else(Handle::try_current, Ok);
        if let Ok(runtime) = runtime {
            runtime.spawn(probe::run(shared.clone(), probing, probe));
        }
    }
}

type Outcome = Result<(Head, UnsyncBoxBody<Bytes, BodyError>), FetchError>;

/// A request under way. Dropping it ends the request: an HTTP/1.1 connection is closed, an HTTP/2 stream reset.
pub struct Fetch {
    number: u32,
    door: Door,
    /// Absent when a recording answers.
    task: Option<JoinHandle<Outcome>>,
}

impl Fetch {
    /// The n-th of its execution, from 1. Its response's body is `Source::Body(n)`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The response's head, when it is there; once. The response has a [`Peer`] extension.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Incoming>, FetchError>> {
        let (door, task) = (&self.door, &mut self.task);
        let mut body = None;
        let head = ready!(door.poll_learn(Source::Fetch(self.number), || {
            poll_task(task, cx).map(|outcome| {
                let (head, incoming) = outcome?;
                body = Some(incoming);
                Ok(head)
            })
        }))?;
        let none = || Empty::new().map_err(|never| match never {}).boxed_unsync();
        let body = Incoming::fetched(body.unwrap_or_else(none), self.number, self.door.clone());
        let mut response = Response::new(body);
        *response.version_mut() = head.version;
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        if let Some(peer) = head.peer {
            response.extensions_mut().insert(Peer(peer));
        }
        Poll::Ready(Ok(response))
    }
}

fn poll_task(task: &mut Option<JoinHandle<Outcome>>, cx: &mut Context<'_>) -> Poll<Outcome> {
    // For ever pending where nothing runs: a replayed exchange whose recording ended.
    let Some(running) = task else { return Poll::Pending };
    let outcome = ready!(Pin::new(running).poll(cx));
    *task = None;
    // It panicked, or its runtime is going down.
    Poll::Ready(outcome.unwrap_or(Err(FetchError::Internal)))
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Fact for Option<Health> {
    fn event(&self) -> Event {
        Event::Number(match self {
            None => 0,
            Some(Health::Unknown) => 1,
            Some(Health::Well) => 2,
            Some(Health::Down) => 3,
        })
    }

    fn recall(event: Event) -> Option<Self> {
        match event {
            Event::Number(0) => Some(None),
            Event::Number(1) => Some(Some(Health::Unknown)),
            Event::Number(2) => Some(Some(Health::Well)),
            Event::Number(3) => Some(Some(Health::Down)),
            _ => None,
        }
    }
}
