//! Writes under a name: what was said to each lies beside what it wrote, and gets there in one transaction with it.

use artifact::TenantName;
use fleet_sync_proto::kv::{Message, Said};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::NotDone;
use crate::kv::Once;

/// Bytes of a name: an `Idempotency-Key` has 128.
pub const KEY_BYTES_MAX: usize = 128;
/// How long a name is kept, ms: a week, as long as the deploy API keeps its answers.
pub(super) const KEEP_MS: u64 = 7 * 24 * 3_600_000;
/// Names of one tenant, of all its apps together and about 300 bytes each; the oldest go. At ten writes a second without
/// a pause they last for almost three hours, at a thousand, each with its fsync, for 100 s: clients
/// that try for longer than that may write twice (docs/limits.md).
pub(super) const OF_TENANT_MAX: u64 = 100_000;

/// What was said to the write of this name, if there was one.
pub(super) fn said(
    store: &Connection,
    tenant: &TenantName,
    once: &Once,
    now_ms: u64,
) -> rusqlite::Result<Option<Result<Message<Said>, NotDone>>> {
    let sql = "SELECT request, said FROM written WHERE tenant = ?1 AND key = ?2 AND time_ms > ?3";
    let since = now_ms.saturating_sub(KEEP_MS);
    let found: Option<(String, String)> = store
        .prepare_cached(sql)?
        .query_row(params![tenant.as_str(), once.key, since], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((request, said)) = found else { return Ok(None) };
    if request != once.request.to_string() {
        return Ok(Some(Err(NotDone::Reused)));
    }
    let head = serde_json::from_str(&said).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(Some(Ok(Message::bare(head))))
}

/// Keeps what is said, in the transaction of the write.
pub(super) fn keep(
    store: &Transaction<'_>,
    tenant: &TenantName,
    once: &Once,
    said: &Said,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let tenant = tenant.as_str();
    let said = serde_json::to_string(said).expect("answers have only string keys");
    // One that is too old and not swept yet.
    store
        .prepare_cached("DELETE FROM written WHERE tenant = ?1 AND key = ?2")?
        .execute([tenant, &once.key])?;
    let number: u64 = store
        .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM written WHERE tenant = ?1")?
        .query_row([tenant], |row| row.get(0))?;
    store
        .prepare_cached("DELETE FROM written WHERE tenant = ?1 AND number <= ?2")?
        .execute(params![tenant, number.saturating_sub(OF_TENANT_MAX)])?;
    store.prepare_cached("INSERT INTO written VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        tenant,
        number,
        once.key,
        once.request.to_string(),
        said,
        now_ms
    ])?;
    Ok(())
}

/// Takes at most `names_max` names out that are too old. How many it took.
pub(super) fn forget(store: &Transaction<'_>, now_ms: u64, names_max: u32) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM written WHERE (tenant, number) IN
               (SELECT tenant, number FROM written WHERE time_ms <= ?1 ORDER BY time_ms LIMIT ?2)";
    let until = now_ms.saturating_sub(KEEP_MS);
    store.prepare_cached(sql)?.execute(params![until, names_max])
}
