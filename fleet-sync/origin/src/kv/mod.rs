//! Key-value stores of tenants: the seam, and its adapter for one machine.
//!
//! The origin holds the one copy of a namespace, so it is fleet-wide from the first day: nodes and the API ask here.
//! Data is not in the release log (docs/design/0007-stores.md). Deliberately absent: who may ask, and which stores an
//! app declared. The API asks for tokens, the sync listener for a node's certificate, the node for the declaration.

mod sqlite;
pub(crate) mod sweeper;

use artifact::{Digest, TenantName, names::StoreName};
use async_trait::async_trait;
use fleet_sync_proto::kv::{Ask, Message, Said};

pub use sqlite::{ONCE_KEY_BYTES_MAX, SqliteKv};

/// Where key-value data is kept.
#[async_trait]
pub trait KvStore: Send + Sync + 'static {
    /// Does one operation. A write is durable on return, and linearizable with every other operation on its entry;
    /// a list sees one state of its store for each page, so a key that is there throughout is listed exactly once. The
    /// work of a page is bounded: one that meets many expired entries ends early, empty perhaps, and has a next.
    async fn ask(&self, ask: Message<Ask>) -> Result<Message<Said>, KvError>;

    /// Does one write of a client that may repeat it. What was said to it is kept in the transaction of the write, so
    /// whoever repeats it is told the same and nothing is written again, whenever this process ended in between. A
    /// refusal changed nothing and is not kept. Operations that only read are simply done.
    async fn ask_once(&self, ask: Message<Ask>, once: Once) -> Result<Message<Said>, OnceError>;

    /// The names of a tenant's stores that hold something, in order; what has expired and was not swept yet may count. As
    /// many as the tenant's quota lets there be.
    async fn stores(&self, tenant: &TenantName) -> Result<Vec<StoreName>, KvError>;

    /// Takes a bounded batch of what has expired out. For whoever holds the store, now and then.
    async fn sweep(&self) -> Result<Swept, KvError>;
}

/// How much one tenant may have. A tenant that has more, because it had more before, may read and delete, and write what
/// does not make it more: replace an entry by one that is not larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvQuotas {
    /// Stores that hold something.
    pub stores_per_tenant_max: u64,
    /// Entries: a million with the longest keys are 1 GiB of keys.
    pub keys_per_tenant_max: u64,
    /// Keys, metadata and values, in bytes.
    pub bytes_per_tenant_max: u64,
}

impl Default for KvQuotas {
    /// 100 stores, 1,000,000 keys, 4 GiB: ten tenants that use all of it fill a small disk, not a fleet's.
    fn default() -> KvQuotas {
        KvQuotas { stores_per_tenant_max: 100, keys_per_tenant_max: 1_000_000, bytes_per_tenant_max: 4 << 30 }
    }
}

/// What a sweep left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// Nothing: what has expired is gone.
    All,
    /// There is more.
    Some,
}

/// A client's name for one write of a tenant, the one the write is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The name, at most [`ONCE_KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// What it was given to: another write under the same name is a mistake.
    pub request: Digest,
}

/// A write under a name was not done, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The client's fault.
    #[error("the name of the write was given to another one: make a new one for each write")]
    Reused,
    /// The client's fault.
    #[error("the name of a write is 1 to {ONCE_KEY_BYTES_MAX} bytes")]
    Key,
    /// See [`KvError`]. The write may be repeated under its name.
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// The store failed. The machine or we are at fault; whether a write was done is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{doing} the key-value store {at}: check the free space and the permissions of the data directory")]
pub struct KvError {
    /// What was being done.
    pub doing: &'static str,
    /// Which store's file.
    pub at: String,
    /// Why it failed.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
