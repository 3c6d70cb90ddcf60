//! Expired entries leave the file, a bounded batch at a time: with each write, so that they leave faster than writes bring
//! new ones, and without any, so that a store that nobody writes to does not carry them for ever. A tenant at a quota does
//! not wait for its turn among all tenants.

use artifact::TenantName;
use rusqlite::{Connection, Params, Row, Transaction, TransactionBehavior, params};

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
/// What goes for a write that finds its tenant at a quota: room for the largest value, if a few entries hold that much.
const FOR_ROOM: Batch = Batch { entries_max: 1_000, bytes_max: 16 << 20 };

/// One batch, in a transaction of its own.
pub(super) fn some(connection: &mut Connection, now_ms: u64, batch: Batch) -> rusqlite::Result<Swept> {
    let expired = "SELECT id, tenant, store, bytes FROM entries WHERE expires_ms <= ?1 LIMIT ?2";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let forgotten = once::forget(&transaction, now_ms, batch.entries_max)?;
    let found = read(&transaction, expired, params![now_ms, batch.entries_max])?;
    if found.is_empty() && forgotten == 0 {
        return Ok(Swept::All); // dropped, which costs nothing: it wrote nothing
    }
    let whole = batch.entries_max as usize;
    let entries = take_out(&transaction, &found, batch)?;
    transaction.commit()?;
    let more = found.len() == whole || entries < found.len() || forgotten == whole;
    Ok(if more { Swept::Some } else { Swept::All })
}

/// Makes room for one tenant, which does not wait until the expired entries of others are gone: one batch of its own, in
/// a transaction of its own, so that a write that is refused all the same leaves its repetition nearer. Whether there
/// was anything.
pub(super) fn of_tenant(
    connection: &mut Connection,
    tenant: &TenantName,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let expired = "SELECT id, tenant, store, bytes FROM entries INDEXED BY entries_of_tenant_by_end
                   WHERE tenant = ?1 AND expires_ms <= ?2 LIMIT ?3";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = read(&transaction, expired, params![tenant.as_str(), now_ms, FOR_ROOM.entries_max])?;
    take_out(&transaction, &found, FOR_ROOM)?;
    transaction.commit()?;
    Ok(!found.is_empty())
}

/// An expired entry: its row, tenant, store and size.
type Expired = (i64, String, String, u64);

fn read(transaction: &Transaction<'_>, sql: &str, values: impl Params) -> rusqlite::Result<Vec<Expired>> {
    let entry = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    transaction.prepare_cached(sql)?.query_map(values, entry)?.collect()
}

/// How many of them went.
fn take_out(transaction: &Transaction<'_>, found: &[Expired], batch: Batch) -> rusqlite::Result<usize> {
    let (mut entries, mut bytes_swept) = (0, 0);
    for (id, tenant, store, bytes) in found {
        remove(transaction, *id, tenant, store, *bytes)?;
        entries += 1;
        bytes_swept += bytes;
        if bytes_swept >= batch.bytes_max {
            break;
        }
    }
    Ok(entries)
}
