//! Key-value operations of this node, asked of the origin on a connection of their own.
//!
//! An entry that was read is remembered for a moment, so that a hot key costs the origin one question a second and node;
//! a write through this node is seen by its own reads at once, one through another after that second. With the control
//! plane away, what is remembered answers at once with its age, and everything else fails by name. A write is sent
//! again only when it cannot have been received. No tenant has more than a quarter of the node's operations.

mod memory;
mod share;
#[cfg(test)]
mod tests;

pub use fleet_sync_proto::kv as wire;

use std::{sync::Arc, time::Duration};

use artifact::TenantName;
use bytes::Bytes;
use fleet_sync_proto::kv::{Ask, KV_PATH, MESSAGE_BYTES_MAX, Message, Said};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use crate::{dial::Connection, identity::Identity, kept::Kept};
use memory::Memory;
use share::Shares;

/// Operations of this node under way; the origin takes as many on one connection. Each may hold 8 MiB twice.
pub const OPERATIONS_MAX: usize = 32;
/// Operations that wait for one of those places; one more is refused.
const WAITING_MAX: usize = 1_024;
/// Of both, of one tenant: a quarter, so that one tenant cannot take the node's.
const OPERATIONS_PER_TENANT_MAX: usize = OPERATIONS_MAX / 4;
const WAITING_PER_TENANT_MAX: usize = WAITING_MAX / 4;
/// Time for one operation, waiting included, besides that of its bytes. A guest that waits longer for a lookup has lost
/// its client.
const OPERATION_MAX: Duration = Duration::from_secs(5);
/// What a large value takes on the way to or from a far site: 8 MiB have 8 s more.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// Time an operation waits for a connection: one far round trip for each of TCP and TLS, and a lost packet.
const DIAL_WAIT_MAX: Duration = Duration::from_millis(1_500);
/// For so long after a failed dial nobody waits for the next: requests must not queue up behind a dead address.
const AWAY_MEMORY: Duration = Duration::from_millis(500);
/// For so long after the last failure remembered reads do not wait: longer than a dial takes to end.
const AWAY_MAX: Duration = Duration::from_secs(15);
/// Tries in one operation: a connection may end, or its certificate, between two uses.
const ATTEMPTS_MAX: usize = 2;

/// Why an operation has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvAskError {
    /// Nothing was done.
    #[error("the control plane, which keeps the key-value stores, cannot be reached: {0}")]
    Away(String),
    /// Nothing was done.
    #[error(
        "{OPERATIONS_MAX} key-value operations of this node are under way and {WAITING_MAX} wait, or a quarter of both are of one tenant: try again"
    )]
    Busy,
    /// A read has no answer; a write may have been done.
    #[error(
        "the key-value operation has no answer: {0}; a write may have been done, read before writing again"
    )]
    NoAnswer(String),
    /// The origin does not do it, and says why.
    #[error("the control plane refused the key-value operation: {0}")]
    Refused(String),
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct KvClient {
    inner: Arc<Inner>,
}

struct Inner {
    line: Kept,
    places: Semaphore,
    waiting: Semaphore,
    memory: Mutex<Memory>,
    away: Mutex<Option<Away>>,
    /// The dial under way, if there is one.
    dialling: Mutex<Option<watch::Receiver<Dial>>>,
    shares: Shares,
}

/// How the origin was last not reached.
struct Away {
    /// When.
    at: Instant,
    /// Nobody waits for a dial before.
    refuses_until: Instant,
    why: String,
}

/// `None` while it goes on, then why it failed if it did.
type Dial = Option<Result<(), String>>;

/// How one try ended without an answer.
enum Failed {
    /// It was not received: also a write may be tried again.
    Unsent(String),
    /// It may have been.
    Unknown(String),
    /// It may have been, and its time is over.
    Late,
    /// This error is the answer.
    Final(KvAskError),
}

impl KvClient {
    pub(crate) fn new(control: String, identity: Arc<RwLock<Option<Identity>>>) -> KvClient {
        KvClient {
            inner: Arc::new(Inner {
                line: Kept::new(control, identity),
                places: Semaphore::new(OPERATIONS_MAX),
                waiting: Semaphore::new(OPERATIONS_MAX + WAITING_MAX),
                memory: Mutex::new(Memory::default()),
                away: Mutex::new(None),
                dialling: Mutex::new(None),
                shares: Shares::default(),
            }),
        }
    }

    /// Does one operation, within 5 s and what its bytes take. Refusals of the store are answers, not errors.
    pub async fn ask(&self, ask: Message<Ask>) -> Result<Message<Said>, KvAskError> {
        let inner = &self.inner;
        match &ask.head {
            Ask::Get(at) => {
                let now = Instant::now();
                if let Some(fresh) = inner.memory.lock().fresh(at, now) {
                    return Ok(fresh);
                }
                if inner.is_away()
                    && let Some(stale) = inner.memory.lock().stale(at, now)
                {
                    // Finds out whether the origin is back, for whoever asks next.
                    drop(inner.dial());
                    return Ok(stale);
                }
                let before = inner.memory.lock().writes_to(at);
                match inner.answered(&ask).await {
                    Ok(said) => {
                        inner.memory.lock().remember(at, &said, before, now);
                        Ok(said)
                    }
                    Err(error @ (KvAskError::Away(_) | KvAskError::NoAnswer(_))) => {
                        inner.memory.lock().stale(at, Instant::now()).ok_or(error)
                    }
                    // An answer of then would hide that its tenant, or the node, asks too much.
                    Err(error) => Err(error),
                }
            }
            Ask::List(_) => inner.answered(&ask).await,
            Ask::Put(put) => {
                let at = put.at.clone();
                inner.written(&at, &ask).await
            }
            Ask::Delete { at, .. } => {
                let at = at.clone();
                inner.written(&at, &ask).await
            }
        }
    }
}

impl Inner {
    /// A write: what is remembered of its entry is forgotten before and after it, also if its answer never comes.
    async fn written(
        self: &Arc<Self>,
        at: &fleet_sync_proto::kv::At,
        ask: &Message<Ask>,
    ) -> Result<Message<Said>, KvAskError> {
        struct Forget<'i>(&'i Inner, &'i fleet_sync_proto::kv::At);
        impl Drop for Forget<'_> {
            fn drop(&mut self) {
                self.0.memory.lock().written(self.1);
            }
        }
        self.memory.lock().written(at);
        let _afterwards = Forget(self, at);
        self.answered(ask).await
    }

    async fn answered(self: &Arc<Self>, ask: &Message<Ask>) -> Result<Message<Said>, KvAskError> {
        let tenant: &TenantName = &ask.head.space().tenant;
        let share = self.shares.of(tenant).ok_or(KvAskError::Busy)?;
        let _waiting = self.waiting.try_acquire().map_err(|_| KvAskError::Busy)?;
        let end = Instant::now() + OPERATION_MAX + time_of(ask.value.len());
        let places = async { (share.place().await, self.places.acquire().await) };
        let Ok((Ok(_own), Ok(_place))) = timeout_at(end, places).await else { return Err(KvAskError::Busy) };
        self.tries(ask, end).await
    }

    async fn tries(self: &Arc<Self>, ask: &Message<Ask>, end: Instant) -> Result<Message<Said>, KvAskError> {
        let body = Bytes::from(ask.encode());
        for attempt in 1.. {
            let connection = self.connection(end).await?;
            let failed = match self.attempt(&connection, body.clone(), end).await {
                Ok(said) => return Ok(said),
                Err(failed) => failed,
            };
            if !matches!(failed, Failed::Final(_)) {
                self.line.forget_this(&connection);
            }
            if matches!(failed, Failed::Late) {
                // The path may be dead, which only a new connection tells soon.
                self.found_away("it did not answer an operation in time".to_owned(), Duration::ZERO);
                drop(self.dial());
            }
            let again = attempt < ATTEMPTS_MAX;
            return Err(match failed {
                Failed::Unsent(_) if again => continue,
                Failed::Unknown(_) if again && ask.head.only_reads() => continue,
                Failed::Unsent(why) => KvAskError::Away(why),
                Failed::Unknown(why) => KvAskError::NoAnswer(why),
                Failed::Late => KvAskError::NoAnswer("not in time".to_owned()),
                Failed::Final(error) => error,
            });
        }
        unreachable!("the loop returns when attempts are used up")
    }

    /// The open connection, or a new one if it comes soon.
    async fn connection(self: &Arc<Self>, end: Instant) -> Result<Arc<Connection>, KvAskError> {
        if let Some(open) = self.line.open() {
            return Ok(open);
        }
        if let Some(away) = &*self.away.lock()
            && Instant::now() < away.refuses_until
        {
            return Err(KvAskError::Away(away.why.clone()));
        }
        let mut coming = self.dial();
        let soon = end.min(Instant::now() + DIAL_WAIT_MAX);
        let dialled = match timeout_at(soon, coming.wait_for(Option::is_some)).await {
            Ok(Ok(dialled)) => dialled.clone().unwrap_or(Ok(())),
            Ok(Err(_)) => Err("the node is stopping".to_owned()),
            Err(_) => {
                let why = "no connection yet".to_owned();
                self.found_away(why.clone(), AWAY_MEMORY);
                Err(why)
            }
        };
        dialled.map_err(KvAskError::Away)?;
        self.line.open().ok_or_else(|| KvAskError::Away("the connection ended at once".to_owned()))
    }

    /// Dials in a task of its own, one at a time: it goes on when whoever asked for it has given up.
    fn dial(self: &Arc<Self>) -> watch::Receiver<Dial> {
        let mut dialling = self.dialling.lock();
        // Has an error when the task went down with its runtime.
        let is_under_way = |coming: &&watch::Receiver<Dial>| coming.has_changed().is_ok();
        if let Some(coming) = dialling.as_ref().filter(is_under_way) {
            return coming.clone();
        }
        let (tell, coming) = watch::channel(None);
        *dialling = Some(coming.clone());
        let inner = self.clone();
        tokio::spawn(async move {
            let done = inner.line.get().await.map(drop).map_err(|error| chain(&error));
            match &done {
                Ok(()) => *inner.away.lock() = None,
                Err(why) => inner.found_away(why.clone(), AWAY_MEMORY),
            }
            tell.send_replace(Some(done));
        });
        coming
    }

    fn found_away(&self, why: String, refuses: Duration) {
        let at = Instant::now();
        *self.away.lock() = Some(Away { at, refuses_until: at + refuses, why });
    }

    fn is_away(&self) -> bool {
        self.away.lock().as_ref().is_some_and(|away| away.at.elapsed() < AWAY_MAX)
    }

    async fn attempt(
        &self,
        connection: &Connection,
        body: Bytes,
        end: Instant,
    ) -> Result<Message<Said>, Failed> {
        let request = Request::post(KV_PATH).body(Full::new(body).boxed_unsync());
        let request = request.expect("constants make a valid request");
        let mut sender = connection.sender.clone();
        let sent = timeout_at(end, sender.try_send_request(request)).await.map_err(|_| Failed::Late)?;
        let response = sent.map_err(|mut error| match error.take_message() {
            Some(_) => Failed::Unsent(chain(error.error())),
            None => Failed::Unknown(chain(error.error())),
        })?;
        let status = response.status();
        let announced = response.body().size_hint().exact().unwrap_or(0);
        let end = end + time_of(usize::try_from(announced).unwrap_or(0).min(MESSAGE_BYTES_MAX));
        let bytes = timeout_at(end, read(response)).await.map_err(|_| Failed::Late)??;
        match status {
            StatusCode::OK => Message::<Said>::decode(&bytes)
                .map_err(|error| Failed::Final(KvAskError::NoAnswer(error.to_string()))),
            // The connection outlived its certificate: a new one shows the renewed one.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failed::Unsent(said(&bytes))),
            StatusCode::INTERNAL_SERVER_ERROR => Err(Failed::Final(KvAskError::NoAnswer(said(&bytes)))),
            _ => Err(Failed::Final(KvAskError::Refused(said(&bytes)))),
        }
    }
}

/// What so many bytes take on the way.
fn time_of(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / BYTES_PER_SECOND)
}

async fn read(response: Response<Incoming>) -> Result<Bytes, Failed> {
    let limited = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect();
    limited.await.map(|body| body.to_bytes()).map_err(|error| Failed::Unknown(error.to_string()))
}

/// A refusal's sentence.
fn said(bytes: &[u8]) -> String {
    let read = serde_json::from_slice::<fleet_sync_proto::enrol::Refusal>(bytes);
    read.map_or_else(|_| "no reason was given".to_owned(), |refusal| refusal.error)
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
