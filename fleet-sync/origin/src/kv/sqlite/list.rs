//! Pages of keys, in the order of their bytes. The work of a page is bounded, not only its length: expired entries that were
//! not swept yet are passed over, and a page that met many of them ends early, with a cursor that goes on behind them.

use artifact::{TenantName, names::StoreName};
use fleet_sync_proto::kv::{ListAsk, Message, Refusal, Said, Space};
use rusqlite::{Connection, params};

use super::Decided;

/// Entries that one page looks at: as many as the longest page has, and as many expired ones between them.
pub(super) const LOOKED_AT_MAX: usize = 2_000;

pub(super) fn page(connection: &Connection, list: &ListAsk, now_ms: u64) -> Decided<Message<Said>> {
    let ListAsk { space: Space { tenant, store }, prefix, limit, cursor } = list;
    let from = match cursor {
        None => prefix.clone().into_bytes(),
        Some(cursor) => match after(cursor).filter(|key| key.starts_with(prefix.as_bytes())) {
            // The least text that is greater than the last key of the page before.
            Some(last) => [last.as_slice(), &[0]].concat(),
            None => {
                let what = "the cursor is none of a list with this prefix: begin without one".to_owned();
                return Ok(Err(Refusal::Invalid { what }));
            }
        },
    };
    let sql = "SELECT key, expires_ms IS NULL OR expires_ms > ?5 FROM entries
               WHERE tenant = ?1 AND store = ?2 AND key >= ?3 AND key < ?4 ORDER BY key";
    let mut query = connection.prepare_cached(sql)?;
    let mut found = query.query(params![tenant.as_str(), store.as_str(), from, end_of(prefix), now_ms])?;
    let (mut keys, mut last, mut looked_at) = (Vec::new(), Vec::new(), 0);
    let mut more = false;
    while let Some(row) = found.next()? {
        if keys.len() == *limit as usize || looked_at == LOOKED_AT_MAX {
            more = true;
            break;
        }
        looked_at += 1;
        last = row.get(0)?;
        if row.get(1)? {
            keys.push(String::from_utf8(last.clone()).map_err(unreadable)?);
        }
    }
    let next = more.then(|| cursor_after(&last));
    Ok(Ok(Message::bare(Said::Page { keys, next })))
}

/// The names of the tenant's stores that hold something.
pub(super) fn stores(connection: &Connection, tenant: &TenantName) -> rusqlite::Result<Vec<StoreName>> {
    let mut query = connection.prepare_cached("SELECT store FROM stores WHERE tenant = ?1 ORDER BY store")?;
    let names = query.query_map([tenant.as_str()], |row| row.get::<_, String>(0))?;
    // What is no name any more, by a release that was stricter, can be asked for by nobody.
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.iter().filter_map(|name| name.parse().ok()).collect())
}

fn unreadable(error: std::string::FromUtf8Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
}

/// The bytes that all keys with a prefix are below. No key holds the byte 0xff: it is not in UTF-8.
fn end_of(prefix: &str) -> Vec<u8> {
    [prefix.as_bytes(), &[0xff]].concat()
}

/// A cursor is the last key looked at, in hex: letters and digits alone, whatever the key.
pub(super) fn cursor_after(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn after(cursor: &str) -> Option<Vec<u8>> {
    let digits = cursor.as_bytes();
    if digits.is_empty()
        || !digits.len().is_multiple_of(2)
        || digits.len() > 2 * artifact::names::KV_KEY_BYTES_MAX
    {
        return None;
    }
    let digit = |c: u8| char::from(c).to_digit(16);
    digits.chunks_exact(2).map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()).collect()
}
