//! What every request leaves behind: counters and one line.
//!
//! | Module | One job |
//! |---|---|
//! | [`metrics`] | Prometheus series, bounded, with handles looked up once per version |
//! | [`access_log`] | one structured line per request, never blocking a request |
//! | [`guest_log`] | what guests print |

pub mod access_log;
pub mod guest_log;
pub mod metrics;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Instant,
};

use artifact::HostName;
use http::{Method, StatusCode, Uri};
use parking_lot::Mutex;

use crate::{
    account::access_log::{AccessLine, AccessLog},
    exchange::{Bill, RequestId},
    failure::Failure,
    front::Protocol,
    generation::Deployment,
};

/// The open account of one request. Shared by its guest and its body; when the last of them lets go, the request is
/// counted and its line written.
pub struct Account {
    entry: Option<(Entry, AccessLog)>,
    status: AtomicU16,
    failure: Mutex<Option<Failure>>,
}

/// What is known of a request at its start. Clones of what the request holds anyway; text is made of it by the log's
/// own thread.
struct Entry {
    id: RequestId,
    started: Instant,
    protocol: Protocol,
    method: Method,
    host: Option<HostName>,
    uri: Uri,
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
        let entry = Entry {
            id,
            started: Instant::now(),
            protocol: connection.protocol,
            method: head.method.clone(),
            host,
            uri: head.uri.clone(),
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
        let (status, failure) = (self.status.load(Relaxed), *self.failure.lock());
        if let Some((deployment, bill)) = &entry.run {
            deployment.metrics.count(status, failure, bill);
        }
        log.write(AccessLine::new(entry, status, failure));
    }
}
