//! Key-value stores of tenants: the seam, and its adapter for one machine.
//!
//! The origin holds the one copy of a namespace, so it is fleet-wide from the first day: nodes and the API ask here.
//! Data is not in the release log (docs/design/0007-stores.md). Deliberately absent: who may ask, and which stores an
//! app declared. The API asks for tokens, the sync listener for a node's certificate, the node for the declaration.

mod sqlite;

use async_trait::async_trait;
use fleet_sync_proto::kv::{Ask, Message, Said};

pub use sqlite::{BYTES_PER_TENANT_MAX, KEYS_PER_TENANT_MAX, STORES_PER_TENANT_MAX, SqliteKv};

/// Where key-value data is kept.
#[async_trait]
pub trait KvStore: Send + Sync + 'static {
    /// Does one operation. A write is durable on return, and linearizable with every other operation on its entry;
    /// a list sees one state of its store for each page, so a key that is there throughout is listed exactly once.
    async fn ask(&self, ask: Message<Ask>) -> Result<Message<Said>, KvError>;
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
