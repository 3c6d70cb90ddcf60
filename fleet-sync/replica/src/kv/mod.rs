//! Key-value operations of this node, asked of the origin on a connection of their own.
//!
//! An entry that was read is remembered for a moment, so that a hot key costs the origin one question a second and node;
//! a write through this node is seen by its own reads at once, one through another after that second. With the control
//! plane away, what is remembered answers with its age, and everything else fails by name. A write is sent again only
//! when it cannot have been received.

mod memory;

pub use fleet_sync_proto::kv as wire;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fleet_sync_proto::kv::{Ask, KV_PATH, MESSAGE_BYTES_MAX, Message, Said};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    dial::{Connection, DialError},
    identity::Identity,
    kept::Kept,
};
use memory::Memory;

/// Operations of this node under way; the origin takes as many on one connection. Each may hold 8 MiB twice.
pub const OPERATIONS_MAX: usize = 32;
/// Operations that wait for one of those places; one more is refused.
const WAITING_MAX: usize = 1_024;
/// Time for one operation, waiting included. A guest that waits longer for a lookup has lost its client.
const OPERATION_MAX: Duration = Duration::from_secs(5);
/// For so long after a failed dial nobody dials again: requests must not queue up behind a dead address.
const AWAY_MEMORY: Duration = Duration::from_millis(500);
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
        "{OPERATIONS_MAX} key-value operations of this node are under way and {WAITING_MAX} wait: try again"
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
    /// Until when the origin counts as away, and why.
    away: Mutex<Option<(Instant, String)>>,
}

/// How one try ended without an answer.
enum Failed {
    /// It was not received: also a write may be tried again.
    Unsent(String),
    /// It may have been.
    Unknown(String),
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
            }),
        }
    }

    /// Does one operation, within 5 s. Refusals of the store are answers, not errors.
    pub async fn ask(&self, ask: Message<Ask>) -> Result<Message<Said>, KvAskError> {
        let inner = &self.inner;
        match &ask.head {
            Ask::Get(at) => {
                let now = Instant::now();
                if let Some(fresh) = inner.memory.lock().fresh(at, now) {
                    return Ok(fresh);
                }
                let before = inner.memory.lock().writes_to(at);
                match inner.answered(&ask).await {
                    Ok(said) => {
                        inner.memory.lock().remember(at, &said, before, now);
                        Ok(said)
                    }
                    Err(error) => inner.memory.lock().stale(at, Instant::now()).ok_or(error),
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
        &self,
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

    async fn answered(&self, ask: &Message<Ask>) -> Result<Message<Said>, KvAskError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| KvAskError::Busy)?;
        let slow = || KvAskError::NoAnswer(format!("not within {} s", OPERATION_MAX.as_secs()));
        let end = Instant::now() + OPERATION_MAX;
        let place = tokio::time::timeout_at(end, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(KvAskError::Busy) };
        tokio::time::timeout_at(end, self.tries(ask)).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn tries(&self, ask: &Message<Ask>) -> Result<Message<Said>, KvAskError> {
        let body = Bytes::from(ask.encode());
        for attempt in 1.. {
            let connection = self.connection().await?;
            let failed = match self.attempt(&connection, body.clone()).await {
                Ok(said) => return Ok(said),
                Err(failed) => failed,
            };
            if !matches!(failed, Failed::Final(_)) {
                self.line.forget_this(&connection).await;
            }
            let again = attempt < ATTEMPTS_MAX;
            return Err(match failed {
                Failed::Unsent(_) if again => continue,
                Failed::Unknown(_) if again && ask.head.only_reads() => continue,
                Failed::Unsent(why) => KvAskError::Away(why),
                Failed::Unknown(why) => KvAskError::NoAnswer(why),
                Failed::Final(error) => error,
            });
        }
        unreachable!("the loop returns when attempts are used up")
    }

    async fn connection(&self) -> Result<Arc<Connection>, KvAskError> {
        if let Some((until, why)) = &*self.away.lock()
            && Instant::now() < *until
        {
            return Err(KvAskError::Away(why.clone()));
        }
        self.line.get().await.map_err(|error: DialError| {
            let why = chain(&error);
            *self.away.lock() = Some((Instant::now() + AWAY_MEMORY, why.clone()));
            KvAskError::Away(why)
        })
    }

    async fn attempt(&self, connection: &Connection, body: Bytes) -> Result<Message<Said>, Failed> {
        let request = Request::post(KV_PATH).body(Full::new(body).boxed_unsync());
        let request = request.expect("constants make a valid request");
        let sent = connection.sender.clone().try_send_request(request).await;
        let response = sent.map_err(|mut error| match error.take_message() {
            Some(_) => Failed::Unsent(chain(error.error())),
            None => Failed::Unknown(chain(error.error())),
        })?;
        let status = response.status();
        let bytes = read(response).await?;
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
