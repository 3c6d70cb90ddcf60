//! The release log's seam. One writer at a time, dense revs, durable when acknowledged.
//!
//! An adapter assigns nothing: the writer puts rev and epoch into each record's text and the adapter takes them only
//! if they follow its head, in one transaction on the head row. So revs become visible in order (tailing an
//! auto-increment id would lose those that commit late). `compact` joins the trait together with snapshots.

pub mod conformance;
mod sqlite;

use std::time::Duration;

use artifact::{
    Digest,
    record::{Epoch, RawRecord, Rev},
};
use async_trait::async_trait;
use fleet_sync_proto::Position;

pub use sqlite::SqliteLog;

/// Where the log is kept.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Takes office: the answer is higher than every epoch given before. Refused with [`LogError::Led`] while another
    /// `who` holds an unexpired lease; the same `who` may take over at once (a restart). From now on appends under
    /// lower epochs are [`AppendError::Fenced`].
    async fn lead(&self, who: &str, ttl: Duration) -> Result<Epoch, LogError>;

    /// Prolongs the lease of `fence` by `ttl` from now. Stores on one machine may ignore it.
    async fn renew(&self, fence: Epoch, ttl: Duration) -> Result<(), AppendError>;

    /// Appends records that start at `expect + 1` under the epoch `fence`. All or nothing, durable on return;
    /// linearizable with every other append.
    async fn append(&self, fence: Epoch, expect: Rev, records: &[RawRecord])
    -> Result<Position, AppendError>;

    /// Committed records after a rev, dense, at most `max` and at most one batch's bytes (but at least one).
    async fn read(&self, after: Rev, max: usize) -> Result<LogBatch, LogError>;

    /// Position of the last committed record.
    async fn head(&self) -> Result<Position, LogError>;

    /// Returns when there may be records after `after`, or when `timeout` has passed. A hint: may be early or false.
    async fn wait(&self, after: Rev, timeout: Duration) -> Result<(), LogError>;
}

/// A piece of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBatch {
    /// As asked.
    pub after: Rev,
    /// Chain value at `after`; `None` when the log does not reach that far.
    pub chain: Option<Digest>,
    /// What follows.
    pub records: Vec<RawRecord>,
}

/// The log could not be read or led.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process is the writer.
    #[error(
        "the release log is led by {by:?} for another {for_ms} ms: stop it, or wait until its lease ends"
    )]
    Led {
        /// Who.
        by: String,
        /// Remaining lease.
        for_ms: u64,
    },
    /// The store failed.
    #[error("{doing} the release log {at}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// Which log.
        at: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Records were not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The head is not where the writer thought. Nothing was written.
    #[error("the log's head is rev {head}, the writer expected {expected}")]
    Conflict {
        /// The head.
        head: Rev,
        /// What was expected.
        expected: Rev,
    },
    /// Another writer took office. Nothing was written, and nothing will be under this epoch.
    #[error("epoch {fence} is over, epoch {current} leads: another control plane took over this log")]
    Fenced {
        /// The writer's.
        fence: Epoch,
        /// The one in office.
        current: Epoch,
    },
    /// The records do not follow the head or are not of the fence's epoch. Nothing was written.
    #[error("records that do not follow rev {expected} under epoch {fence}")]
    Invalid {
        /// The head.
        expected: Rev,
        /// The writer's epoch.
        fence: Epoch,
    },
    /// The store failed. Whether the records were written is unknown: read the head.
    #[error("appending to the release log: look at its disk")]
    Unavailable(#[source] LogError),
}
