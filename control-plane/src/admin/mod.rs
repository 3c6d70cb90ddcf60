//! The admin store `admin.sqlite`: tenants, tokens, uploads, static files, compiled programs, requests to
//! recompile, sealed secrets, given answers and the audit table.
//!
//! Relies on SQLite with WAL and `synchronous=FULL`: what a method returned is on disk. Every method runs on tokio's
//! blocking threads and completes there even when its caller is gone. Deliberately absent: what nodes must know. That is
//! in the release log, and nothing here is needed to serve a request.

mod answers;
mod assets;
mod audit;
mod compiled;
mod recompiles;
mod secrets;
mod tenants;
mod tokens;
mod uploads;

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use answers::{Answer, IdempotencyKey, IdempotencyKeyError};
pub use assets::AssetQuotaError;
pub use audit::AuditRow;
pub use compiled::{Compiled, Epoch};
pub use recompiles::{Asked, Attempt, Named, Outcome, Recompile, Scope, StartError};
pub use secrets::{KeptSecret, SetSecretError};
pub use tenants::CreateTenantError;
pub use tokens::{CreateTokenError, StoredToken};
pub use uploads::UploadError;

/// The schema this code reads and writes. A newer file is refused.
const SCHEMA: i64 = 1;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS admin_schema(version INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tenants(
    name TEXT PRIMARY KEY, created_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- tenant NULL: an operator's token.
CREATE TABLE IF NOT EXISTS tokens(
    id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, tenant TEXT REFERENCES tenants(name), app TEXT,
    actions TEXT NOT NULL, created_ms INTEGER NOT NULL, created_by TEXT NOT NULL,
    expires_ms INTEGER, revoked_ms INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uploads(
    tenant TEXT NOT NULL REFERENCES tenants(name), digest TEXT NOT NULL, bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL, PRIMARY KEY(tenant, digest)) STRICT, WITHOUT ROWID;
-- Blobs of static files. kept 0: no version was made with it yet, and it expires.
CREATE TABLE IF NOT EXISTS asset_blobs(
    tenant TEXT NOT NULL REFERENCES tenants(name), digest TEXT NOT NULL, bytes INTEGER NOT NULL,
    asked_ms INTEGER NOT NULL, kept INTEGER NOT NULL, PRIMARY KEY(tenant, digest)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS asset_blobs_by_digest ON asset_blobs(digest);
CREATE INDEX IF NOT EXISTS asset_blobs_idle ON asset_blobs(asked_ms) WHERE kept = 0;
-- Their sums, kept by the triggers: a tenant may have 100,000 of them, and each upload asks for the sums.
CREATE TABLE IF NOT EXISTS asset_totals(
    tenant TEXT PRIMARY KEY, count INTEGER NOT NULL, bytes INTEGER NOT NULL, idle_bytes INTEGER NOT NULL) STRICT,
    WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS asset_came AFTER INSERT ON asset_blobs BEGIN
    INSERT INTO asset_totals VALUES (new.tenant, 1, new.bytes, iif(new.kept, 0, new.bytes))
    ON CONFLICT(tenant) DO UPDATE SET count = count + 1, bytes = bytes + new.bytes,
        idle_bytes = idle_bytes + iif(new.kept, 0, new.bytes);
END;
CREATE TRIGGER IF NOT EXISTS asset_went AFTER DELETE ON asset_blobs BEGIN
    UPDATE asset_totals SET count = count - 1, bytes = bytes - old.bytes,
        idle_bytes = idle_bytes - iif(old.kept, 0, old.bytes) WHERE tenant = old.tenant;
END;
CREATE TRIGGER IF NOT EXISTS asset_kept AFTER UPDATE OF kept, bytes ON asset_blobs BEGIN
    UPDATE asset_totals SET bytes = bytes - old.bytes + new.bytes,
        idle_bytes = idle_bytes - iif(old.kept, 0, old.bytes) + iif(new.kept, 0, new.bytes) WHERE tenant = new.tenant;
END;
-- cache: the label under which functions were taken from earlier programs, '' for none: such code is for that label only.
CREATE TABLE IF NOT EXISTS compiled(
    tenant TEXT NOT NULL, wasm TEXT NOT NULL, target TEXT NOT NULL, fingerprint TEXT NOT NULL,
    cache TEXT NOT NULL DEFAULT '', lane TEXT NOT NULL, blob TEXT NOT NULL, blob_bytes INTEGER NOT NULL,
    PRIMARY KEY(tenant, wasm, target, fingerprint, cache)) STRICT, WITHOUT ROWID;
-- The last request to recompile each app, and tenant and app '' the fleet: part of the label.
CREATE TABLE IF NOT EXISTS cache_begun(
    tenant TEXT NOT NULL, app TEXT NOT NULL, request INTEGER NOT NULL, PRIMARY KEY(tenant, app)) STRICT, WITHOUT ROWID;
-- Raised when code of a program, or of all (''), is forgotten, so that what was begun to be compiled before that is not taken
-- for new after it.
CREATE TABLE IF NOT EXISTS compile_epochs(
    tenant TEXT NOT NULL, wasm TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY(tenant, wasm)) STRICT, WITHOUT ROWID;
-- What the compiler advised of a program, as JSON.
CREATE TABLE IF NOT EXISTS advice(
    tenant TEXT NOT NULL, wasm TEXT NOT NULL, advice TEXT NOT NULL, PRIMARY KEY(tenant, wasm)) STRICT, WITHOUT ROWID;
-- Requests to compile anew. app NULL: the whole fleet. key: of the request that asked, so that it asks once.
-- seen_rev: versions up to there are among `recompile_versions`, or were. Counted here, since polls ask for it.
CREATE TABLE IF NOT EXISTS recompiles(
    id INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, app TEXT, reason TEXT NOT NULL, asked_by TEXT NOT NULL,
    asked_ms INTEGER NOT NULL, key TEXT UNIQUE, seen_rev INTEGER NOT NULL, looks INTEGER NOT NULL DEFAULT 1,
    ended_ms INTEGER, problem TEXT, total INTEGER NOT NULL, changed INTEGER NOT NULL DEFAULT 0,
    same INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0) STRICT;
-- Their versions, in the order in which they are compiled. rev: of the version's record, since numbers may come again.
-- why NULL: to be done. Of those that are done only failed ones stay, with their reason.
-- excused: nodes that could not run the version before its new code was published, by name; NULL: not published yet.
CREATE TABLE IF NOT EXISTS recompile_versions(
    request INTEGER NOT NULL REFERENCES recompiles(id) ON DELETE CASCADE, seq INTEGER NOT NULL, tenant TEXT NOT NULL,
    app TEXT NOT NULL, version INTEGER NOT NULL, rev INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, why TEXT,
    excused TEXT, PRIMARY KEY(request, seq)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recompiles_open ON recompiles(id) WHERE ended_ms IS NULL;
DROP INDEX IF EXISTS recompile_versions_waiting;
CREATE INDEX IF NOT EXISTS recompile_versions_next ON recompile_versions(request, tries, seq) WHERE why IS NULL;
CREATE INDEX IF NOT EXISTS recompile_versions_left ON recompile_versions(tenant, app, version) WHERE why IS NULL;
CREATE INDEX IF NOT EXISTS recompile_versions_failed ON recompile_versions(request, seq) WHERE why IS NOT NULL;
CREATE TABLE IF NOT EXISTS answers(
    tenant TEXT NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, body TEXT NOT NULL, time_ms INTEGER NOT NULL,
    PRIMARY KEY(tenant, key)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_time ON answers(time_ms);
-- store '': the app's default one. sealed: never a plain value. bytes: those of the value.
CREATE TABLE IF NOT EXISTS secrets(
    tenant TEXT NOT NULL REFERENCES tenants(name), app TEXT NOT NULL, store TEXT NOT NULL, name TEXT NOT NULL,
    sealed TEXT NOT NULL, bytes INTEGER NOT NULL, set_ms INTEGER NOT NULL, set_by TEXT NOT NULL,
    PRIMARY KEY(tenant, app, store, name)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, token TEXT NOT NULL, tenant TEXT NOT NULL,
    action TEXT NOT NULL, object TEXT NOT NULL, outcome TEXT NOT NULL) STRICT;
";

/// The admin store failed. We or the machine are at fault.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// SQLite refused.
    #[error("{doing} in the admin store: check the free space and the permissions of the data directory")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// Written by a later release.
    #[error("admin.sqlite has schema {0}, this release knows up to {SCHEMA}: start the newer release")]
    Newer(i64),
    /// A stored value that this code could not have written.
    #[error("{doing} in the admin store: a stored {what} is unreadable; restore admin.sqlite from a backup")]
    Corrupt {
        /// What was being done.
        doing: &'static str,
        /// Which value.
        what: &'static str,
    },
    /// The blocking thread is gone: the process is stopping.
    #[error("{0} in the admin store: the process is stopping")]
    Stopping(&'static str),
}

/// A handle to the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admin {
    connection: Arc<Mutex<Connection>>,
}

impl Admin {
    /// Opens or makes the store. Blocks.
    pub fn open(path: &Path) -> Result<Admin, AdminError> {
        let doing = "opening the file";
        let fail = |source| AdminError::Database { doing, source };
        let connection = Connection::open(path).map_err(fail)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(fail)?;
        connection.execute_batch(TABLES).map_err(fail)?;
        let found: Option<i64> = connection
            .query_row("SELECT max(version) FROM admin_schema", [], |row| row.get(0))
            .map_err(fail)?;
        match found {
            None => {
                connection.execute("INSERT INTO admin_schema VALUES (?1)", [SCHEMA]).map_err(fail)?;
            }
            Some(version) if version > SCHEMA => return Err(AdminError::Newer(version)),
            Some(_) => {}
        }
        // Only of what this release knows.
        compiled::know_caches(&connection).map_err(fail)?;
        add_column(&connection, "recompile_versions", "excused").map_err(fail)?;
        Ok(Admin { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Runs `work` in one transaction on a blocking thread.
    async fn run<T, E>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure<E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<AdminError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let task = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        match task.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure::Database(source))) => Err(AdminError::Database { doing, source }.into()),
            Ok(Err(Failure::Corrupt(what))) => Err(AdminError::Corrupt { doing, what }.into()),
            Ok(Err(Failure::Refused(refusal))) => Err(refusal),
            Err(_) => Err(AdminError::Stopping(doing).into()),
        }
    }
}

/// Adds a column that files of earlier releases lack.
fn add_column(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    let known = "SELECT EXISTS(SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
    if connection.query_row(known, (table, column), |row| row.get(0))? {
        return Ok(());
    }
    connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} TEXT"))
}

/// How work on the store can end early.
enum Failure<E> {
    Database(rusqlite::Error),
    Corrupt(&'static str),
    Refused(E),
}

impl<E> From<rusqlite::Error> for Failure<E> {
    fn from(error: rusqlite::Error) -> Failure<E> {
        Failure::Database(error)
    }
}

/// Reads a stored name, digest or word back into its type.
fn parsed<T: std::str::FromStr, E>(text: &str, what: &'static str) -> Result<T, Failure<E>> {
    text.parse().map_err(|_| Failure::Corrupt(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_a_later_release_is_refused_not_misread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        drop(Admin::open(&path).unwrap());
        Connection::open(&path).unwrap().execute("INSERT INTO admin_schema VALUES (2)", []).unwrap();
        assert!(matches!(Admin::open(&path), Err(AdminError::Newer(2))));
    }
}
