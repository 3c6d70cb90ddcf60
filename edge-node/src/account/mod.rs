//! What every request leaves behind: counters and one line.
//!
//! | Module | One job |
//! |---|---|
//! | [`metrics`] | Prometheus series, bounded, with handles looked up once per version |
//! | [`node_metrics`] | those of what a node holds and changes as a whole |
//! | [`access_log`] | one structured line per request, never blocking a request |
//! | [`guest_log`] | what guests print |
//! | [`live`] | the last lines of both logs for each app, told to whoever follows it |
//! | `queue` | how lines of both logs leave a serving thread |

pub mod access_log;
pub mod guest_log;
pub mod live;
pub mod metrics;
pub mod node_metrics;
mod queue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Instant,
};

use artifact::HostName;
use http::{Method, StatusCode};
use parking_lot::Mutex;

use crate::{
    account::access_log::{AccessLine, AccessLog},
    exchange::{Bill, RequestId},
    failure::Failure,
    front::{Protocol, limits::METHOD_BYTES_MAX},
    generation::Deployment,
};

/// Bytes of a path that are kept for its line.
const PATH_BYTES_MAX: usize = 512;

/// The open account of one request. Shared by its guest and its body; when the last of them lets go, the request is
/// counted and its line written.
pub struct Account {
    entry: Option<(Entry, AccessLog)>,
    status: AtomicU16,
    failure: Mutex<Option<Failure>>,
}

/// What is known of a request at its start, text made of it by the log's own thread. Copies of bounded length where the
/// request's own would keep its whole head in memory until the line is written.
struct Entry {
    id: RequestId,
    started: Instant,
    protocol: Protocol,
    method: Method,
    host: Option<HostName>,
    path: Box<str>,
    peer: std::net::SocketAddr,
    /// What answered, with its bill; nothing when the request reached no app.
    run: Option<(Arc<Deployment>, Arc<Bill>)>,
}

impl Account {
    /// Opens the account of a request.
    pub fn open(
        head: &http::request::Parts,
        host: Option<HostName>,
        connection: &crate::front::Connection,
        id: RequestId,
        run: Option<(Arc<Deployment>, Arc<Bill>)>,
        log: &AccessLog,
    ) -> Arc<Account> {
        let path = head.uri.path();
        let entry = Entry {
            id,
            started: Instant::now(),
            protocol: connection.protocol,
            method: kept_method(&head.method),
            host,
            path: path[..path.floor_char_boundary(PATH_BYTES_MAX)].into(),
            peer: connection.peer,
            run,
        };
        Arc::new(Account {
            entry: Some((entry, log.clone())),
            status: AtomicU16::new(0),
            failure: Mutex::new(None),
        })
    }

    /// An account nobody reads.
    pub(crate) fn none() -> Arc<Account> {
        Arc::new(Account { entry: None, status: AtomicU16::new(0), failure: Mutex::new(None) })
    }

    /// What answers, unless the request reached no app.
    pub fn deployment(&self) -> Option<&Arc<Deployment>> {
        self.entry.as_ref()?.0.run.as_ref().map(|(deployment, _)| deployment)
    }

    /// A response head is on its way.
    pub fn responded(&self, status: StatusCode) {
        self.status.store(status.as_u16(), Relaxed);
    }

    /// The guest ended, or never ran.
    pub fn ended(&self, failure: Option<Failure>) {
        if failure.is_some() {
            *self.failure.lock() = failure;
        }
    }

    /// Did the guest fail?
    pub fn failed(&self) -> bool {
        self.failure.lock().is_some()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some((entry, log)) = self.entry.take() else { return };
        let (status, mut failure) = (self.status.load(Relaxed), *self.failure.lock());
        if status == 0 && failure.is_none() {
            // Let go before there was an answer: by a client that went away, or by a panic of ours.
            let panicking = std::thread::panicking();
            failure = Some(if panicking { Failure::Internal } else { Failure::ClientGone });
        }
        if let Some((deployment, bill)) = &entry.run {
            deployment.metrics.count(status, failure, bill);
        }
        log.write(AccessLine::new(entry, status, failure));
    }
}

/// The method, or the beginning of one that is refused for its length.
fn kept_method(method: &Method) -> Method {
    let bytes = method.as_str().as_bytes();
    match bytes.get(..METHOD_BYTES_MAX) {
        Some(beginning) => Method::from_bytes(beginning).unwrap_or_default(),
        None => method.clone(),
    }
}
