//! Which nodes and join tokens exist: `fleet.sqlite`. Node names are given once and never again.
//!
//! Not in the release log, because no node needs it and it changes with every sighting. Losing this file loses the
//! names of nodes, so they must enrol again; nothing that is served depends on it.

use std::{path::Path, sync::Arc, time::Duration};

use artifact::{Digest, NodeName, names::PopName, record::UnixMs};
use fleet_sync_proto::enrol::JoinToken;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use crate::{clock::now_ms, nodes::Sighting};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS nodes (node TEXT PRIMARY KEY, pop TEXT NOT NULL, number INTEGER NOT NULL, created_ms INTEGER NOT NULL, sighting TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS join_tokens (hash TEXT PRIMARY KEY, pop TEXT NOT NULL, expires_ms INTEGER NOT NULL, node TEXT, key TEXT) STRICT;
";
/// Nodes of one fleet. Honest for one origin without relays; see docs/design/0004-sync-protocol.md.
pub(crate) const NODES_MAX: u64 = 10_000;
/// Join tokens that are neither used nor expired.
pub(crate) const TOKENS_MAX: u64 = 1_000;
/// Used and expired tokens are kept this long for people who wonder, ms.
const SPENT_TOKENS_KEPT_MS: u64 = 7 * 24 * 3600 * 1000;

/// A join token and when it ends.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// To hand to the node. Shown once: only its hash is kept.
    pub token: JoinToken,
    /// Not after this.
    pub expires_ms: UnixMs,
}

/// The roster failed, or said no.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// Wrong, spent or expired: one text, no hint which.
    #[error("the join token is not valid: make a new one with `skerry node token create`")]
    BadToken,
    /// [`NODES_MAX`] or [`TOKENS_MAX`].
    #[error("there are already {0}: revoke or use some first")]
    Full(&'static str),
    /// SQLite.
    #[error("working on fleet.sqlite")]
    Store(#[source] rusqlite::Error),
    /// The worker thread.
    #[error("working on fleet.sqlite")]
    Worker(#[source] tokio::task::JoinError),
}

impl From<rusqlite::Error> for RosterError {
    fn from(error: rusqlite::Error) -> RosterError {
        RosterError::Store(error)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Roster {
    connection: Arc<Mutex<Connection>>,
}

impl Roster {
    pub(crate) fn open(path: &Path) -> Result<Roster, RosterError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Roster { connection: Arc::new(Mutex::new(connection)) })
    }

    pub(crate) async fn create_token(
        &self,
        pop: &PopName,
        ca: Digest,
        expires_ms: UnixMs,
    ) -> Result<IssuedToken, RosterError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .expect("the system's random source has been read at start for the CA's key");
        let token = JoinToken::new(random, ca);
        let (hash, pop, now) = (token.hash().to_string(), pop.clone(), now_ms());
        self.with(move |transaction| {
            let spent = now.saturating_sub(SPENT_TOKENS_KEPT_MS);
            transaction.execute("DELETE FROM join_tokens WHERE expires_ms < ?1", [spent])?;
            let open = "SELECT count(*) FROM join_tokens WHERE node IS NULL AND expires_ms > ?1";
            if transaction.query_row(open, [now], |row| row.get::<_, u64>(0))? >= TOKENS_MAX {
                return Err(RosterError::Full("1,000 unused join tokens"));
            }
            let insert = "INSERT INTO join_tokens (hash, pop, expires_ms) VALUES (?1, ?2, ?3)";
            transaction.execute(insert, params![hash, pop.as_str(), expires_ms])?;
            Ok(())
        })
        .await?;
        Ok(IssuedToken { token, expires_ms })
    }

    /// Spends a token for a node with this public key and gives the node its name. The same key may ask again with
    /// the same token while it lives, and gets the same name: the answer may have been lost on the way.
    pub(crate) async fn enrol(
        &self,
        token: &JoinToken,
        key: Digest,
    ) -> Result<(NodeName, PopName), RosterError> {
        let (hash, key, now) = (token.hash().to_string(), key.to_string(), now_ms());
        self.with(move |transaction| {
            let row: Option<(String, u64, Option<String>, Option<String>)> = transaction
                .query_row(
                    "SELECT pop, expires_ms, node, key FROM join_tokens WHERE hash = ?1",
                    [&hash],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
                )
                .optional()?;
            let (pop, expires_ms, node, spent_by) = row.ok_or(RosterError::BadToken)?;
            if expires_ms <= now {
                return Err(RosterError::BadToken);
            }
            let pop: PopName = pop.parse().map_err(|_| RosterError::BadToken)?;
            if let Some(node) = node {
                let same = spent_by.as_deref() == Some(key.as_str());
                let node = same.then(|| node.parse().ok()).flatten();
                return Ok((node.ok_or(RosterError::BadToken)?, pop));
            }
            let node = add_node(transaction, &pop, now)?;
            let spend = "UPDATE join_tokens SET node = ?2, key = ?3 WHERE hash = ?1";
            transaction.execute(spend, params![hash, node.as_str(), key])?;
            Ok((node, pop))
        })
        .await
    }

    /// Every node, as last seen.
    pub(crate) async fn sightings(&self) -> Result<Vec<Sighting>, RosterError> {
        self.with(|transaction| {
            let mut select = transaction.prepare("SELECT node, pop, sighting FROM nodes ORDER BY node")?;
            let mut rows = select.query([])?;
            let mut seen = Vec::new();
            while let Some(row) = rows.next()? {
                let (node, pop, text): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                // What was seen is only news; the name is what counts.
                match (serde_json::from_str(&text), node.parse(), pop.parse()) {
                    (Ok(sighting), ..) => seen.push(sighting),
                    (Err(_), Ok(node), Ok(pop)) => seen.push(Sighting::new(node, pop)),
                    (Err(_), ..) => tracing::warn!(node, "fleet.sqlite names a node that cannot be"),
                }
            }
            Ok(seen)
        })
        .await
    }

    /// Writes down what was seen.
    pub(crate) async fn keep(&self, seen: Vec<Sighting>) -> Result<(), RosterError> {
        if seen.is_empty() {
            return Ok(());
        }
        self.with(move |transaction| {
            let mut update = transaction.prepare("UPDATE nodes SET sighting = ?2 WHERE node = ?1")?;
            for sighting in &seen {
                let text = serde_json::to_string(sighting).unwrap_or_default();
                update.execute(params![sighting.node.as_str(), text])?;
            }
            Ok(())
        })
        .await
    }

    async fn with<T, F>(&self, work: F) -> Result<T, RosterError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, RosterError> + Send + 'static,
    {
        let connection = self.connection.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock();
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        done.await.map_err(RosterError::Worker)?
    }
}

fn add_node(transaction: &Transaction<'_>, pop: &PopName, now: UnixMs) -> Result<NodeName, RosterError> {
    if transaction.query_row("SELECT count(*) FROM nodes", [], |row| row.get::<_, u64>(0))? >= NODES_MAX {
        return Err(RosterError::Full("10,000 nodes"));
    }
    let highest = "SELECT coalesce(max(number), 0) FROM nodes WHERE pop = ?1";
    let number: u64 = transaction.query_row(highest, [pop.as_str()], |row| row.get(0))?;
    let number = number + 1;
    let node: NodeName = format!("{pop}-{number}").parse().map_err(|_| RosterError::BadToken)?;
    let sighting = serde_json::to_string(&Sighting::new(node.clone(), pop.clone())).unwrap_or_default();
    transaction.execute(
        "INSERT INTO nodes VALUES (?1, ?2, ?3, ?4, ?5)",
        params![node.as_str(), pop.as_str(), number, now, sighting],
    )?;
    Ok(node)
}
