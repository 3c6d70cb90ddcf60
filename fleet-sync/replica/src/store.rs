//! What a node keeps: `replica.sqlite`, WAL, `synchronous=FULL`. Records and cursor change in one transaction, so that
//! after kill -9 the node stands at a rev whose records it has, and nothing it acknowledged is lost.
//!
//! The view is rebuilt from the records at start. Hot reads never come here. Absent on purpose: snapshots; until they
//! exist the whole log is kept (0.5 KB a release).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use artifact::{
    AppId,
    checkpoint::Checkpoint,
    nack::Nack,
    record::{ArtifactRef, RawRecord, Rev, VersionNumber},
};
use fleet_sync_proto::{FleetView, Position, wire::FAILED_MAX};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (rev INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS cursor (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, rev INTEGER NOT NULL, chain TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS highest (id INTEGER PRIMARY KEY CHECK (id = 1), checkpoint TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS pins (app TEXT PRIMARY KEY, version INTEGER NOT NULL, version_rev INTEGER NOT NULL, artifact TEXT) STRICT;
    CREATE TABLE IF NOT EXISTS failures (rev INTEGER PRIMARY KEY, failure TEXT NOT NULL) STRICT;
";

/// A version that came up here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Its number.
    pub version: VersionNumber,
    /// Rev of its record: numbers start again after an app's deletion, revs never.
    pub version_rev: Rev,
    /// The code it came up with; none for static files alone, and in files of earlier releases. Whole, because the log's view
    /// may have later code alone by now.
    pub artifact: Option<ArtifactRef>,
}

/// A rev whose object is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Failure {
    /// The app that is held at its last good version; none when the record itself was refused.
    pub id: Option<AppId>,
    pub nack: Nack,
}

pub(crate) type Pins = BTreeMap<AppId, Pin>;
pub(crate) type Failures = BTreeMap<Rev, Failure>;

/// What was kept.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub view: FleetView,
    pub highest: Option<Checkpoint>,
    pub pins: Pins,
    pub failures: Failures,
}

/// `replica.sqlite` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite.
    #[error("{doing} {path}: look at the disk")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file itself.
    #[error("making {path} readable by its owner alone")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its contents contradict each other.
    #[error("{path} is damaged ({why}): remove it, and the node fetches everything anew")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The worker thread.
    #[error("working on replica.sqlite")]
    Worker(#[source] tokio::task::JoinError),
}

#[derive(Debug, Clone)]
pub(crate) struct Store {
    path: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    pub(crate) fn open(path: &Path) -> Result<(Store, Loaded), StoreError> {
        let failed = |source| StoreError::Sqlite { doing: "opening", path: path.to_owned(), source };
        // Made before SQLite does, which gives its side files the same mode: sealed secrets and names of tenants are
        // nobody else's.
        crate::files::make_private(path)
            .map_err(|source| StoreError::File { path: path.to_owned(), source })?;
        let open = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            add_what_earlier_releases_lack(&connection)?;
            Ok(connection)
        };
        let connection = Arc::new(Mutex::new(open().map_err(failed)?));
        let store = Store { path: path.to_owned(), connection };
        let loaded = store.load()?;
        Ok((store, loaded))
    }

    /// Rebuilds everything from the file.
    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let connection = self.connection.lock();
        let failed = |source| StoreError::Sqlite { doing: "reading", path: self.path.clone(), source };
        let damaged = |why: String| StoreError::Damaged { path: self.path.clone(), why };
        let view = read_view(&connection).map_err(failed)?.map_err(&damaged)?;
        let cursor = read_cursor(&connection).map_err(failed)?;
        if cursor != (view.epoch, view.rev, view.chain.0.to_string()) {
            return Err(damaged(format!(
                "the cursor is at rev {}, the records end at rev {}",
                cursor.1, view.rev
            )));
        }
        let highest = read_highest(&connection).map_err(failed)?;
        let pins = read_pins(&connection, &view).map_err(failed)?;
        let failures = read_failures(&connection).map_err(failed)?;
        Ok(Loaded { view, highest, pins, failures })
    }

    /// Keeps records that follow the cursor, and the cursor with them.
    pub(crate) async fn keep_records(
        &self,
        records: Vec<RawRecord>,
        end: Position,
        highest: Option<Checkpoint>,
        failures: Failures,
    ) -> Result<(), StoreError> {
        self.with("writing records to", move |transaction| {
            let mut rev = end.rev - records.len() as Rev;
            // OR REPLACE: the applier repeats this until it succeeds, also after a commit whose outcome was not seen.
            let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2)")?;
            for raw in &records {
                rev += 1;
                insert.execute(params![rev, raw.text()])?;
            }
            let cursor = "INSERT OR REPLACE INTO cursor VALUES (1, ?1, ?2, ?3)";
            transaction.execute(cursor, params![end.epoch, end.rev, end.chain.to_string()])?;
            if let Some(highest) = highest {
                write_highest(transaction, &highest)?;
            }
            write_failures(transaction, &failures)
        })
        .await
    }

    /// Keeps what came up and what did not.
    pub(crate) async fn keep_pins(
        &self,
        changes: Vec<(AppId, Option<Pin>)>,
        failures: Failures,
    ) -> Result<(), StoreError> {
        self.with("writing pinned versions to", move |transaction| {
            for (id, pin) in &changes {
                match pin {
                    Some(pin) => transaction.execute(
                        "INSERT OR REPLACE INTO pins VALUES (?1, ?2, ?3, ?4)",
                        params![
                            id.to_string(),
                            pin.version,
                            pin.version_rev,
                            pin.artifact
                                .as_ref()
                                .map(serde_json::to_string)
                                .transpose()
                                .map_err(unwritable)?
                        ],
                    )?,
                    None => transaction.execute("DELETE FROM pins WHERE app = ?1", [id.to_string()])?,
                };
            }
            write_failures(transaction, &failures)
        })
        .await
    }

    /// Keeps the highest checkpoint seen.
    pub(crate) async fn keep_highest(&self, highest: Checkpoint) -> Result<(), StoreError> {
        self.with("writing the highest checkpoint to", move |transaction| {
            write_highest(transaction, &highest)
        })
        .await
    }

    async fn with<F>(&self, doing: &'static str, work: F) -> Result<(), StoreError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        let connection = self.connection.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            work(&transaction)?;
            transaction.commit()
        });
        let done = done.await.map_err(StoreError::Worker)?;
        done.map_err(|source| StoreError::Sqlite { doing, path: self.path.clone(), source })
    }
}

fn add_what_earlier_releases_lack(connection: &Connection) -> rusqlite::Result<()> {
    let known = "SELECT EXISTS(SELECT 1 FROM pragma_table_info('pins') WHERE name = 'artifact')";
    if connection.query_row(known, [], |row| row.get(0))? {
        return Ok(());
    }
    connection.execute_batch("ALTER TABLE pins ADD COLUMN artifact TEXT")
}

fn read_view(connection: &Connection) -> rusqlite::Result<Result<FleetView, String>> {
    let mut view = FleetView::new();
    let mut select = connection.prepare("SELECT text FROM records ORDER BY rev")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let raw = match RawRecord::from_text(row.get(0)?) {
            Ok(raw) => raw,
            Err(error) => return Ok(Err(error.to_string())),
        };
        match view.apply(&raw) {
            Err(error) if !error.moved_on() => return Ok(Err(error.to_string())),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Ok(view))
}

fn read_cursor(connection: &Connection) -> rusqlite::Result<(u64, Rev, String)> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let cursor = connection.query_row("SELECT epoch, rev, chain FROM cursor", [], read).optional()?;
    Ok(cursor.unwrap_or((0, 0, artifact::Digest::ZERO.to_string())))
}

fn read_highest(connection: &Connection) -> rusqlite::Result<Option<Checkpoint>> {
    let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let text = connection.query_row("SELECT checkpoint FROM highest", [], read).optional()?;
    text.map(|text| serde_json::from_str(&text).map_err(unreadable)).transpose()
}

/// Pins whose version is still there; the others are of an app that was deleted meanwhile.
fn read_pins(connection: &Connection, view: &FleetView) -> rusqlite::Result<Pins> {
    let mut select = connection.prepare("SELECT app, version, version_rev, artifact FROM pins")?;
    let rows = select.query_map([], |row| {
        let artifact: Option<String> = row.get(3)?;
        let artifact = artifact.and_then(|text| serde_json::from_str(&text).ok());
        let pin = Pin { version: row.get(1)?, version_rev: row.get(2)?, artifact };
        Ok((row.get::<_, String>(0)?, pin))
    })?;
    let mut pins = Pins::new();
    for row in rows {
        let (text, pin) = row?;
        let id = text
            .split_once('/')
            .and_then(|(tenant, app)| Some(AppId { tenant: tenant.parse().ok()?, app: app.parse().ok()? }));
        let Some(id) = id else { continue };
        if view.version(&id, pin.version).is_some_and(|version| version.rev == pin.version_rev) {
            pins.insert(id, pin);
        }
    }
    Ok(pins)
}

fn read_failures(connection: &Connection) -> rusqlite::Result<Failures> {
    let mut select = connection.prepare("SELECT rev, failure FROM failures")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (rev, text) = row?;
        Ok((rev, serde_json::from_str(&text).map_err(unreadable)?))
    })
    .collect()
}

fn write_highest(transaction: &Transaction<'_>, highest: &Checkpoint) -> rusqlite::Result<()> {
    let text = serde_json::to_string(highest).map_err(unwritable)?;
    transaction.execute("INSERT OR REPLACE INTO highest VALUES (1, ?1)", [text])?;
    Ok(())
}

fn write_failures(transaction: &Transaction<'_>, failures: &Failures) -> rusqlite::Result<()> {
    debug_assert!(failures.len() <= FAILED_MAX, "bounded by whoever inserts");
    transaction.execute("DELETE FROM failures", [])?;
    let mut insert = transaction.prepare_cached("INSERT INTO failures VALUES (?1, ?2)")?;
    for (rev, failure) in failures {
        insert.execute(params![rev, serde_json::to_string(failure).map_err(unwritable)?])?;
    }
    Ok(())
}

fn unreadable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
}

fn unwritable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}

#[cfg(test)]
mod tests {
    use artifact::{
        Digest, Fingerprint, Profile, Target,
        nack::NackCode,
        record::{Body, Record},
    };

    use super::*;

    fn record(rev: Rev) -> RawRecord {
        let body = Body::EpochStart { base_rev: rev - 1, compiler_keys: vec![] };
        let record =
            Record { rev, epoch: 1, time_ms: 0, actor: "t".into(), request: None, critical: false, body };
        RawRecord::encode(&record).unwrap()
    }

    #[tokio::test]
    async fn what_was_kept_is_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica.sqlite");
        let (store, loaded) = Store::open(&path).unwrap();
        assert_eq!((loaded.view.rev, loaded.highest), (0, None));
        let chain = record(2).chain(record(1).chain(Digest::ZERO));
        let end = Position { epoch: 1, rev: 2, chain };
        let highest = Checkpoint { epoch: 1, rev: 9, chain: Digest::ZERO, time_ms: 5 };
        let nack = Nack { code: NackCode::Compat, detail: "x".into() };
        let failures = Failures::from([(2, Failure { id: None, nack })]);
        for _repeated_after_an_unseen_commit in 0..2 {
            let records = vec![record(1), record(2)];
            store.keep_records(records, end, Some(highest), failures.clone()).await.unwrap();
        }
        drop(store);
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let (_, loaded) = Store::open(&path).unwrap();
        assert_eq!(loaded.view.position(), end);
        assert_eq!((loaded.highest, loaded.failures), (Some(highest), failures));
    }

    #[tokio::test]
    async fn pins_keep_their_code_and_those_of_earlier_releases_have_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica.sqlite");
        let earlier = "CREATE TABLE pins (app TEXT PRIMARY KEY, version INTEGER NOT NULL, version_rev INTEGER NOT NULL) STRICT;
             INSERT INTO pins VALUES ('t/old', 1, 1), ('t/new', 2, 1);";
        Connection::open(&path).unwrap().execute_batch(earlier).unwrap();
        let (store, _) = Store::open(&path).unwrap();
        let id = |app: &str| AppId { tenant: "t".parse().unwrap(), app: app.parse().unwrap() };
        let artifact = ArtifactRef {
            target: Target::Aarch64,
            profile: Profile::Serve,
            fingerprint: Fingerprint(Digest::of(b"engine")),
            blob: Digest::of(b"code"),
            blob_bytes: 4,
        };
        let pin = Pin { version: 3, version_rev: 1, artifact: Some(artifact.clone()) };
        store.keep_pins(vec![(id("new"), Some(pin))], Failures::new()).await.unwrap();
        drop(store);
        Store::open(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        let mut select = connection.prepare("SELECT app, artifact FROM pins ORDER BY app").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let kept: Vec<(String, Option<String>)> = rows.map(Result::unwrap).collect();
        assert_eq!((kept[0].0.as_str(), &kept[1]), ("t/new", &("t/old".into(), None)));
        assert_eq!(serde_json::from_str::<ArtifactRef>(kept[0].1.as_ref().unwrap()).unwrap(), artifact);
    }

    #[tokio::test]
    async fn records_and_cursor_that_disagree_are_noticed_at_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("replica.sqlite");
        let (store, _) = Store::open(&path).unwrap();
        let end = Position { epoch: 1, rev: 1, chain: record(1).chain(Digest::ZERO) };
        store.keep_records(vec![record(1)], end, None, Failures::new()).await.unwrap();
        drop(store);
        Connection::open(&path).unwrap().execute("DELETE FROM records", []).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}
