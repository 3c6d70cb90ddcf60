//! Expired entries leave the file, a bounded batch at a time: with each write, so that they leave faster than writes bring
//! new ones, and without any, so that a store that nobody writes to does not carry them for ever.

use rusqlite::{Connection, TransactionBehavior, params};

use super::{once, remove};
use crate::kv::Swept;

/// How much one batch takes.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    entries_max: u32,
    /// Large entries are many pages, and others wait for each. One entry goes whatever its size.
    bytes_max: u64,
}

/// What one write takes along: it waits for it.
pub(super) const PER_WRITE: Batch = Batch { entries_max: 64, bytes_max: 4 << 20 };
/// What goes when nobody asked: writes wait for it, some ten milliseconds.
pub(super) const PER_SWEEP: Batch = Batch { entries_max: 1_000, bytes_max: 4 << 20 };

/// One batch, in a transaction of its own.
pub(super) fn some(connection: &mut Connection, now_ms: u64, batch: Batch) -> rusqlite::Result<Swept> {
    let expired = "SELECT id, tenant, store, bytes FROM entries WHERE expires_ms <= ?1 LIMIT ?2";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let forgotten = once::forget(&transaction, now_ms, batch.entries_max)?;
    let found: Vec<(i64, String, String, u64)> = transaction
        .prepare_cached(expired)?
        .query_map(params![now_ms, batch.entries_max], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<Result<_, _>>()?;
    if found.is_empty() && forgotten == 0 {
        return Ok(Swept::All); // dropped, which costs nothing: it wrote nothing
    }
    let whole = batch.entries_max as usize;
    let (mut entries, mut bytes_swept) = (0, 0);
    for (id, tenant, store, bytes) in &found {
        remove(&transaction, *id, tenant, store, *bytes)?;
        entries += 1;
        bytes_swept += bytes;
        if bytes_swept >= batch.bytes_max {
            break;
        }
    }
    transaction.commit()?;
    let more = found.len() == whole || entries < found.len() || forgotten == whole;
    Ok(if more { Swept::Some } else { Swept::All })
}
