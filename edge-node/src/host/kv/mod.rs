//! Key-value stores of the tenant. The control plane keeps the data; an app reaches the stores it declared.
//!
//! An operation starts at once, also if nobody waits for it, and is then a [`Pending`] that can be polled among other
//! things. What it answers passes the door as the n-th operation of its exchange.

mod arrived;
mod error;
#[cfg(test)]
pub mod memory;
mod pending;
mod remote;

use std::{pin::Pin, sync::Arc, time::Duration};

use artifact::names::StoreName;
use bytes::Bytes;
use fleet_sync_replica::kv::wire::{Ask, At, ListAsk, Message, PutAsk, Said, Space, check};
pub use fleet_sync_replica::kv::wire::{
    Generation, METADATA_BYTES_MAX, Mode, PAGE_KEYS_MAX, VALUE_BYTES_MAX,
};

pub use arrived::Arrived;
pub use error::KvError;
pub use pending::Pending;
pub use remote::{Away, RemoteKv};

use super::{
    config::{Has, NoStore},
    door::{Event, Source},
    held::{self, Arrivals},
};
use crate::exchange::Exchange;

/// Operations of one execution: each is a question to another machine. One more: [`KvError::TooMany`].
pub const OPERATIONS_MAX: u32 = 1_000;
/// Operations of one execution whose answers are not taken yet. What they hold together is bounded by [`held`].
pub const OPEN_MAX: usize = 16;

/// Does operations; one for the whole node.
pub trait KvStore: Send + Sync {
    /// Starts an operation. It goes on though the answer is dropped. What comes is counted from then on.
    fn ask(&self, ask: Message<Ask>, arrivals: Arrivals) -> Answer;
}

/// An operation's answer, some time.
pub type Answer = Pin<Box<dyn Future<Output = Result<Arrived, KvError>> + Send>>;

/// What an exchange has used of its stores.
#[derive(Debug, Default)]
pub struct Usage {
    started: u32,
    /// Every operation whose answer is not taken holds a clone. There from the first operation on.
    open: Option<Arc<()>>,
}

/// A store that the app declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store(Space);

/// An entry as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// What was stored beside it; may be empty.
    pub metadata: Bytes,
    /// Its generation, for a write that must meet this very entry.
    pub generation: Generation,
    /// Its remaining life.
    pub ttl: Option<Duration>,
    /// How old this answer is. Not zero when the node answered from its memory.
    pub age: Duration,
}

/// How an entry is written.
#[derive(Debug, Clone, Default)]
pub struct Insert {
    /// How it meets what is there.
    pub mode: Mode,
    /// Only if the entry has this generation.
    pub if_generation: Option<Generation>,
    /// Its life, 1 s to ten years; else until deleted.
    pub ttl: Option<Duration>,
    /// Stored beside it, 2 KiB at most. `None`: append and prepend leave what was.
    pub metadata: Option<Bytes>,
}

/// One page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the order of their bytes.
    pub keys: Vec<String>,
    /// Opaque; asks for the page after. `None`: there is none.
    pub next: Option<String>,
}

/// Opens a store that the app declared in `kv_stores`.
pub fn open(exchange: &Exchange, store: &str) -> Result<Store, NoStore> {
    let deployment = &exchange.deployment;
    let declared = || deployment.config.kv_stores.iter().any(|declared| declared == store);
    if !exchange.door.learn(Source::Config, || Has(declared())).0 {
        return Err(NoStore);
    }
    let store: StoreName = store.parse().map_err(|_| NoStore)?;
    Ok(Store(Space { tenant: deployment.id.tenant.clone(), store }))
}

/// Looks an entry up.
pub fn get(exchange: &mut Exchange, store: &Store, key: &str) -> Result<Pending<Option<Entry>>, KvError> {
    let ask = Message::bare(Ask::Get(at(store, key)?));
    start(exchange, ask, |Message { head, metadata, value }| match head {
        Said::Missing { .. } => Ok(None),
        Said::Found { generation, ttl_ms, age_ms } => Ok(Some(Entry {
            value: value.into(),
            metadata: metadata.into(),
            generation,
            ttl: ttl_ms.map(Duration::from_millis),
            age: Duration::from_millis(age_ms),
        })),
        other => Err(KvError::unexpected(other)),
    })
}

/// Writes an entry; the answer is its new generation, and that it is durable.
pub fn insert(
    exchange: &mut Exchange,
    store: &Store,
    key: &str,
    value: Bytes,
    how: Insert,
) -> Result<Pending<Generation>, KvError> {
    let Insert { mode, if_generation, ttl, metadata } = how;
    let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let has_metadata = metadata.is_some();
    let put = PutAsk { at: at(store, key)?, mode, if_generation, ttl_ms, has_metadata };
    let metadata = metadata.map_or_else(Vec::new, Vec::from);
    let ask = Message { head: Ask::Put(put), metadata, value: value.into() };
    start(exchange, ask, |said| match said.head {
        Said::Stored { generation } => Ok(generation),
        other => Err(KvError::unexpected(other)),
    })
}

/// Deletes an entry; the answer is whether there was one.
pub fn delete(
    exchange: &mut Exchange,
    store: &Store,
    key: &str,
    if_generation: Option<Generation>,
) -> Result<Pending<bool>, KvError> {
    let ask = Message::bare(Ask::Delete { at: at(store, key)?, if_generation });
    start(exchange, ask, |said| match said.head {
        Said::Deleted { existed } => Ok(existed),
        other => Err(KvError::unexpected(other)),
    })
}

/// One page of the keys that begin with `prefix`: `limit` of them, 1 to [`PAGE_KEYS_MAX`], after `cursor`.
pub fn list(
    exchange: &mut Exchange,
    store: &Store,
    prefix: &str,
    limit: u32,
    cursor: Option<String>,
) -> Result<Pending<Page>, KvError> {
    let ask = ListAsk { space: store.0.clone(), prefix: prefix.to_owned(), limit, cursor };
    start(exchange, Message::bare(Ask::List(ask)), |said| match said.head {
        Said::Page { keys, next } => Ok(Page { keys, next }),
        other => Err(KvError::unexpected(other)),
    })
}

fn at(store: &Store, key: &str) -> Result<At, KvError> {
    let key = key.parse().map_err(|error: artifact::names::NameError| KvError::Invalid(error.to_string()))?;
    Ok(At { space: store.0.clone(), key })
}

fn start<T>(
    exchange: &mut Exchange,
    ask: Message<Ask>,
    read: fn(Message<Said>) -> Result<T, KvError>,
) -> Result<Pending<T>, KvError> {
    check(&ask)?;
    let usage = &mut exchange.kv;
    let open = usage.open.get_or_insert_default();
    // One reference is the exchange's own.
    if usage.started >= OPERATIONS_MAX || Arc::strong_count(open) > OPEN_MAX {
        return Err(KvError::TooMany);
    }
    let open = open.clone();
    let number = usage.started;
    usage.started += 1;
    let (door, source) = (exchange.door.clone(), Source::Kv(number));
    door.cause(source, || Event::Bytes(ask.encode().into()));
    // Where there is no world, nothing is asked of it.
    let answer = (!door.replays()).then(|| exchange.host.kv.clone().ask(ask, held::arrivals(exchange)));
    Ok(Pending::new(door, source, answer, open, read))
}

#[cfg(test)]
mod tests;
