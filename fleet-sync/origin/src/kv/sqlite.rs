//! Key-value stores of one machine: SQLite in a file of its own (large values never wait for, or delay, the log), WAL,
//! `synchronous=FULL` (a write returns after fsync).
//!
//! One connection that writes and a few that read, worked on blocking threads: in WAL mode a read does not wait for a
//! write's fsync, and a read waits for others only when all readers are at work. What a tenant has is counted in the
//! transaction that changes it. Expired entries are invisible at once and leave the file in bounded batches, with writes
//! and without; the file's free pages are used again, the file itself does not shrink. Its write-ahead log is held small.

mod list;
mod once;
mod readers;
mod sweep;
mod wal;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use artifact::{TenantName, names::StoreName};
use async_trait::async_trait;
use fleet_sync_proto::kv::{
    Ask, At, Generation, METADATA_BYTES_MAX, Message, Mode, PutAsk, Refusal, Said, Space, VALUE_BYTES_MAX,
    check,
};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::sync::Semaphore;

use self::readers::Readers;
use super::{KvError, KvQuotas, KvStore, Once, OnceError, Swept};
use crate::clock::now_ms;

pub use once::KEY_BYTES_MAX as ONCE_KEY_BYTES_MAX;

/// Operations under way: each may hold a value of 8 MiB and its copy, 512 MiB in all.
const OPERATIONS_MAX: usize = 32;
/// Connections that read. Twice the cores of a small machine: a read is mostly work in memory.
const READERS: usize = 4;
/// How long to wait for another process's transaction.
const BUSY: Duration = Duration::from_secs(5);

/// The schema this code reads and writes. A newer file is refused.
const SCHEMA: i64 = 1;
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS kv_schema (version INTEGER NOT NULL) STRICT;
    -- floor: the highest sequence of its stores that are gone.
    CREATE TABLE IF NOT EXISTS tenants (
        tenant TEXT PRIMARY KEY, stores INTEGER NOT NULL, keys INTEGER NOT NULL, bytes INTEGER NOT NULL,
        floor INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    -- Only stores with entries. sequence: the generation given last.
    CREATE TABLE IF NOT EXISTS stores (
        tenant TEXT NOT NULL, store TEXT NOT NULL, sequence INTEGER NOT NULL, keys INTEGER NOT NULL,
        PRIMARY KEY (tenant, store)) STRICT, WITHOUT ROWID;
    -- Keys are bytes, so that their order is that of bytes. bytes: key, metadata and value.
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, store TEXT NOT NULL, key BLOB NOT NULL,
        generation INTEGER NOT NULL, expires_ms INTEGER, bytes INTEGER NOT NULL, metadata BLOB NOT NULL,
        value BLOB NOT NULL, UNIQUE (tenant, store, key)) STRICT;
    CREATE INDEX IF NOT EXISTS entries_by_end ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
    CREATE INDEX IF NOT EXISTS entries_of_tenant_by_end ON entries (tenant, expires_ms) WHERE expires_ms IS NOT NULL;
    -- What was said to writes under a name. number: grows with each of the tenant. A release that does not know this
    -- table may write the others, so it is no new schema.
    CREATE TABLE IF NOT EXISTS written (
        tenant TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, said TEXT NOT NULL,
        time_ms INTEGER NOT NULL, PRIMARY KEY (tenant, number), UNIQUE (tenant, key)) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS written_by_time ON written (time_ms);
";

/// See the module.
#[derive(Clone)]
pub struct SqliteKv {
    inner: Arc<Inner>,
}

struct Inner {
    at: String,
    wal: PathBuf,
    writer: Mutex<Connection>,
    readers: Readers,
    room: Arc<Semaphore>,
    quotas: KvQuotas,
    now_ms: fn() -> u64,
}

impl std::fmt::Debug for SqliteKv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteKv").field("at", &self.inner.at).finish_non_exhaustive()
    }
}

/// What is decided about an operation: done, or not and nothing changed.
type Decided<T, N = Refusal> = rusqlite::Result<Result<T, N>>;

/// Why an operation was not done.
enum NotDone {
    Refused(Refusal),
    /// Its name is another write's.
    Reused,
}

impl From<Refusal> for NotDone {
    fn from(refusal: Refusal) -> NotDone {
        NotDone::Refused(refusal)
    }
}

impl SqliteKv {
    /// Opens or makes the file.
    pub fn open(path: &Path, quotas: KvQuotas) -> Result<SqliteKv, KvError> {
        SqliteKv::open_at(path, quotas, now_ms)
    }

    /// With another clock.
    fn open_at(path: &Path, quotas: KvQuotas, now_ms: fn() -> u64) -> Result<SqliteKv, KvError> {
        let at = path.display().to_string();
        let connect = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_size_limit", wal::KEPT_BYTES)?;
            Ok(connection)
        };
        let open = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
            let mut writer = connect()?;
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(TABLES)?;
            let found: Option<i64> =
                transaction.query_row("SELECT max(version) FROM kv_schema", [], |row| row.get(0))?;
            match found {
                None => drop(transaction.execute("INSERT INTO kv_schema VALUES (?1)", [SCHEMA])?),
                Some(version) if version > SCHEMA => {
                    return Err(format!(
                        "it has schema {version}, this release knows up to {SCHEMA}: start the newer release"
                    )
                    .into());
                }
                Some(_) => {}
            }
            transaction.commit()?;
            let readers: Vec<Connection> = (0..READERS).map(|_| connect()).collect::<Result<_, _>>()?;
            Ok((writer, Readers::new(readers)))
        };
        let (writer, readers) =
            open().map_err(|source| KvError { doing: "opening", at: at.clone(), source })?;
        let room = Arc::new(Semaphore::new(OPERATIONS_MAX));
        let writer = Mutex::new(writer);
        Ok(SqliteKv {
            inner: Arc::new(Inner { at, wal: wal::path_of(path), writer, readers, room, quotas, now_ms }),
        })
    }
}

#[async_trait]
impl KvStore for SqliteKv {
    async fn ask(&self, ask: Message<Ask>) -> Result<Message<Said>, KvError> {
        match self.decide(ask, None).await? {
            Ok(said) => Ok(said),
            Err(NotDone::Refused(refusal)) => Ok(refused(refusal)),
            Err(NotDone::Reused) => unreachable!("only a write under a name can find it used"),
        }
    }

    async fn ask_once(&self, ask: Message<Ask>, once: Once) -> Result<Message<Said>, OnceError> {
        if once.key.is_empty() || once.key.len() > ONCE_KEY_BYTES_MAX {
            return Err(OnceError::Key);
        }
        match self.decide(ask, Some(once)).await? {
            Ok(said) => Ok(said),
            Err(NotDone::Refused(refusal)) => Ok(refused(refusal)),
            Err(NotDone::Reused) => Err(OnceError::Reused),
        }
    }

    async fn stores(&self, tenant: &TenantName) -> Result<Vec<StoreName>, KvError> {
        let room = self.inner.room.clone().acquire_owned().await.expect("this semaphore is never closed");
        let (inner, tenant) = (self.inner.clone(), tenant.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _room = room;
            inner.readers.with(|reader| list::stores(reader, &tenant))
        });
        let failed = |source| KvError { doing: "listing stores", at: self.inner.at.clone(), source };
        match task.await {
            Ok(Ok(stores)) => Ok(stores),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(panicked) => Err(failed(panicked.into())),
        }
    }

    async fn sweep(&self) -> Result<Swept, KvError> {
        let inner = self.inner.clone();
        let swept = tokio::task::spawn_blocking(move || {
            let now_ms = (inner.now_ms)();
            let mut writer = inner.writer.lock();
            let swept = sweep::some(&mut writer, now_ms, sweep::PER_SWEEP)?;
            wal::hold_small(&writer, &inner.wal, BUSY)?;
            Ok::<_, rusqlite::Error>(swept)
        });
        let failed = |source| KvError { doing: "sweeping", at: self.inner.at.clone(), source };
        match swept.await {
            Ok(Ok(swept)) => Ok(swept),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(panicked) => Err(failed(panicked.into())),
        }
    }
}

impl SqliteKv {
    async fn decide(
        &self,
        ask: Message<Ask>,
        once: Option<Once>,
    ) -> Result<Result<Message<Said>, NotDone>, KvError> {
        if let Err(refusal) = check(&ask) {
            return Ok(Err(refusal.into()));
        }
        let room = self.inner.room.clone().acquire_owned().await.expect("this semaphore is never closed");
        let doing = if ask.head.only_reads() { "reading" } else { "writing" };
        let inner = self.inner.clone();
        // Runs to its end, and holds its room for so long, also when whoever asked is gone.
        let task = tokio::task::spawn_blocking(move || {
            let _room = room;
            inner.answer(ask, once)
        });
        let failed = |source| KvError { doing, at: self.inner.at.clone(), source };
        match task.await {
            Ok(Ok(decided)) => Ok(decided),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(panicked) => Err(failed(panicked.into())),
        }
    }
}

fn refused(refusal: Refusal) -> Message<Said> {
    Message::bare(Said::Refused { refusal })
}

impl Inner {
    fn answer(&self, ask: Message<Ask>, once: Option<Once>) -> Decided<Message<Said>, NotDone> {
        let now_ms = (self.now_ms)();
        let Message { head, metadata, value } = ask;
        let tenant = head.space().tenant.clone();
        match head {
            Ask::Get(at) => self.readers.with(|reader| get(reader, &at, now_ms)).map(Ok),
            Ask::List(list) => {
                Ok(self.readers.with(|reader| list::page(reader, &list, now_ms))?.map_err(NotDone::from))
            }
            Ask::Put(put) => self.change(now_ms, &tenant, once.as_ref(), |store| {
                self::put(store, &self.quotas, &put, &metadata, &value, now_ms)
            }),
            Ask::Delete { at, if_generation } => {
                self.change(now_ms, &tenant, once.as_ref(), |store| delete(store, &at, if_generation, now_ms))
            }
        }
    }

    /// Does `work` once, or again after a refusal for want of room that is there.
    fn change(
        &self,
        now_ms: u64,
        tenant: &TenantName,
        once: Option<&Once>,
        work: impl Fn(&Transaction<'_>) -> Decided<Message<Said>>,
    ) -> Decided<Message<Said>, NotDone> {
        let mut connection = self.writer.lock();
        // Before the change, so that a log that cannot be emptied is no failure of a write that was done.
        wal::hold_small(&connection, &self.wal, BUSY)?;
        // Whosever entries they are: so many go with each write that expired ones do not heap up.
        sweep::some(&mut connection, now_ms, sweep::PER_WRITE)?;
        let decided = attempt(&mut connection, now_ms, tenant, once, &work)?;
        if let Err(NotDone::Refused(Refusal::Quota { .. })) = decided
            && sweep::of_tenant(&mut connection, tenant, now_ms)?
        {
            return attempt(&mut connection, now_ms, tenant, once, &work);
        }
        Ok(decided)
    }
}

/// One transaction: the change and what is said to it. A refusal undoes it.
fn attempt(
    connection: &mut Connection,
    now_ms: u64,
    tenant: &TenantName,
    once: Option<&Once>,
    work: impl Fn(&Transaction<'_>) -> Decided<Message<Said>>,
) -> Decided<Message<Said>, NotDone> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(once) = once
        && let Some(before) = once::said(&transaction, tenant, once, now_ms)?
    {
        return Ok(before);
    }
    let decided = work(&transaction)?;
    if let Ok(said) = &decided {
        if let Some(once) = once {
            once::keep(&transaction, tenant, once, &said.head, now_ms)?;
        }
        transaction.commit()?;
    }
    Ok(decided.map_err(NotDone::from))
}

/// An entry as it lies in the file.
struct Row<'v> {
    id: i64,
    generation: Generation,
    expires_ms: Option<u64>,
    bytes: u64,
    metadata: Cow<'v, [u8]>,
    value: Cow<'v, [u8]>,
}

impl Row<'_> {
    fn is_live(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|end| end > now_ms)
    }
}

fn read(connection: &Connection, at: &At) -> rusqlite::Result<Option<Row<'static>>> {
    let sql = "SELECT id, generation, expires_ms, bytes, metadata, value FROM entries
               WHERE tenant = ?1 AND store = ?2 AND key = ?3";
    let Space { tenant, store } = &at.space;
    connection
        .prepare_cached(sql)?
        .query_row(params![tenant.as_str(), store.as_str(), at.key.as_str().as_bytes()], |row| {
            Ok(Row {
                id: row.get(0)?,
                generation: row.get(1)?,
                expires_ms: row.get(2)?,
                bytes: row.get(3)?,
                metadata: Cow::Owned(row.get(4)?),
                value: Cow::Owned(row.get(5)?),
            })
        })
        .optional()
}

fn get(connection: &Connection, at: &At, now_ms: u64) -> rusqlite::Result<Message<Said>> {
    Ok(match read(connection, at)?.filter(|row| row.is_live(now_ms)) {
        None => Message::bare(Said::Missing { age_ms: 0 }),
        Some(row) => {
            let ttl_ms = row.expires_ms.map(|end| end.saturating_sub(now_ms));
            let head = Said::Found { generation: row.generation, ttl_ms, age_ms: 0 };
            Message { head, metadata: row.metadata.into_owned(), value: row.value.into_owned() }
        }
    })
}

fn put(
    store: &Transaction<'_>,
    quotas: &KvQuotas,
    put: &PutAsk,
    metadata: &[u8],
    value: &[u8],
    now_ms: u64,
) -> Decided<Message<Said>> {
    let PutAsk { ref at, mode, if_generation, ttl_ms, has_metadata } = *put;
    let there = read(store, at)?;
    let live = there.as_ref().filter(|row| row.is_live(now_ms));
    let generation_fits = if_generation.is_none_or(|wanted| live.is_some_and(|row| row.generation == wanted));
    if !generation_fits || (mode == Mode::Add && live.is_some()) {
        return Ok(Err(Refusal::Precondition));
    }
    let mut new = Row {
        id: 0,
        generation: 0,
        expires_ms: ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms)),
        bytes: 0,
        metadata: Cow::Borrowed(metadata),
        value: Cow::Borrowed(value),
    };
    if let (Mode::Append | Mode::Prepend, Some(before)) = (mode, live) {
        new.value = match mode {
            Mode::Prepend => Cow::Owned([value, &before.value].concat()),
            _ => Cow::Owned([&before.value, value].concat()),
        };
        if !has_metadata {
            new.metadata.clone_from(&before.metadata);
        }
        new.expires_ms = new.expires_ms.or(before.expires_ms);
    }
    if new.value.len() > VALUE_BYTES_MAX {
        return Ok(Err(Refusal::ValueTooLarge));
    }
    if new.metadata.len() > METADATA_BYTES_MAX {
        return Ok(Err(Refusal::MetadataTooLarge));
    }
    new.bytes = (at.key.as_str().len() + new.metadata.len() + new.value.len()) as u64;
    let Space { tenant, store: name } = &at.space;
    let had = used(store, tenant.as_str())?;
    if let Some(before) = &there {
        remove(store, before.id, tenant.as_str(), name.as_str(), before.bytes)?;
    }
    let generation = insert(store, at, &new)?;
    Ok(match within(quotas, had, used(store, tenant.as_str())?) {
        Ok(()) => Ok(Message::bare(Said::Stored { generation })),
        Err(refusal) => Err(refusal),
    })
}

/// What a tenant has: stores, keys, bytes.
type Used = [u64; 3];

fn used(store: &Connection, tenant: &str) -> rusqlite::Result<Used> {
    let sql = "SELECT stores, keys, bytes FROM tenants WHERE tenant = ?1";
    let found = store
        .prepare_cached(sql)?
        .query_row([tenant], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// A write may not take a tenant over a quota, nor further over one that was lowered since.
fn within(quotas: &KvQuotas, had: Used, has: Used) -> Result<(), Refusal> {
    let KvQuotas { stores_per_tenant_max, keys_per_tenant_max, bytes_per_tenant_max } = *quotas;
    let maxima =
        [("stores", stores_per_tenant_max), ("keys", keys_per_tenant_max), ("bytes", bytes_per_tenant_max)];
    for ((of, max), (had, has)) in maxima.into_iter().zip(had.into_iter().zip(has)) {
        if has > max && has > had {
            return Err(Refusal::Quota { of: of.to_owned(), max });
        }
    }
    Ok(())
}

/// Writes a row where there is none, and counts it.
fn insert(store: &Transaction<'_>, at: &At, row: &Row<'_>) -> rusqlite::Result<Generation> {
    let Space { tenant, store: name } = &at.space;
    let (tenant, name) = (tenant.as_str(), name.as_str());
    store.prepare_cached("INSERT OR IGNORE INTO tenants VALUES (?1, 0, 0, 0, 0)")?.execute([tenant])?;
    let made = store
        .prepare_cached(
            "INSERT OR IGNORE INTO stores SELECT ?1, ?2, floor, 0 FROM tenants WHERE tenant = ?1",
        )?
        .execute([tenant, name])?;
    store
        .prepare_cached(
            "UPDATE tenants SET stores = stores + ?2, keys = keys + 1, bytes = bytes + ?3 WHERE tenant = ?1",
        )?
        .execute(params![tenant, made as u64, row.bytes])?;
    let generation: Generation = store
        .prepare_cached(
            "UPDATE stores SET sequence = sequence + 1, keys = keys + 1 WHERE tenant = ?1 AND store = ?2
             RETURNING sequence",
        )?
        .query_row([tenant, name], |row| row.get(0))?;
    let key = at.key.as_str().as_bytes();
    store
        .prepare_cached(
            "INSERT INTO entries (tenant, store, key, generation, expires_ms, bytes, metadata, value)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            tenant,
            name,
            key,
            generation,
            row.expires_ms,
            row.bytes,
            row.metadata,
            row.value
        ])?;
    Ok(generation)
}

/// Takes a row out, and with the last one its store.
fn remove(store: &Transaction<'_>, id: i64, tenant: &str, name: &str, bytes: u64) -> rusqlite::Result<()> {
    store.prepare_cached("DELETE FROM entries WHERE id = ?1")?.execute([id])?;
    store
        .prepare_cached("UPDATE tenants SET keys = keys - 1, bytes = bytes - ?2 WHERE tenant = ?1")?
        .execute(params![tenant, bytes])?;
    let (keys, sequence): (u64, u64) = store
        .prepare_cached(
            "UPDATE stores SET keys = keys - 1 WHERE tenant = ?1 AND store = ?2 RETURNING keys, sequence",
        )?
        .query_row([tenant, name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if keys == 0 {
        store
            .prepare_cached("DELETE FROM stores WHERE tenant = ?1 AND store = ?2")?
            .execute([tenant, name])?;
        // A store of that name that comes again goes on counting, so no generation is ever given twice.
        store
            .prepare_cached(
                "UPDATE tenants SET stores = stores - 1, floor = max(floor, ?2) WHERE tenant = ?1",
            )?
            .execute(params![tenant, sequence])?;
    }
    Ok(())
}

fn delete(
    store: &Transaction<'_>,
    at: &At,
    if_generation: Option<Generation>,
    now_ms: u64,
) -> Decided<Message<Said>> {
    let there = read(store, at)?.filter(|row| row.is_live(now_ms));
    if if_generation.is_some_and(|wanted| there.as_ref().is_none_or(|row| row.generation != wanted)) {
        return Ok(Err(Refusal::Precondition));
    }
    let Space { tenant, store: name } = &at.space;
    if let Some(row) = &there {
        remove(store, row.id, tenant.as_str(), name.as_str(), row.bytes)?;
    }
    Ok(Ok(Message::bare(Said::Deleted { existed: there.is_some() })))
}

#[cfg(test)]
mod tests;
