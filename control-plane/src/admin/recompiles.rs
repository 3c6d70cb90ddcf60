//! Requests to compile versions anew: who asked for what and why, and what is left of it. Durable, so that a request goes on
//! after the process was killed at any moment.
//!
//! A version's row is there until it is done; failed ones stay with their reason. A request that is taken forgets the
//! native code known of the programs it covers (`compiled`): from then on whoever needs code of them, a deploy included,
//! has it compiled anew, and what was compiled for the request before a kill is not compiled again after it.

use std::collections::BTreeSet;

use artifact::{
    AppId, AppName, Digest, NodeName, TenantName,
    record::{Rev, UnixMs, VersionNumber},
};
use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    Admin, AdminError, Failure,
    compiled::{begin_caches, forget_all_code, forget_code},
    parsed,
};

/// Requests that are not done, in all. They take turns, a version each.
pub const OPEN_MAX: u32 = 16;
/// Of them for the apps of one tenant, and as many for the whole fleet.
pub const OPEN_OF_ONE_MAX: u32 = 2;
/// Requests that are done and still known.
const ENDED_KEPT_MAX: u32 = 100;
/// Failed versions of a request that are shown; all are counted.
pub const FAILED_SHOWN_MAX: u32 = 100;
/// Bytes of a reason, or of why something failed, that are kept.
const TEXT_BYTES_MAX: usize = 1024;

/// What is compiled anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every program of every tenant.
    Fleet,
    /// One app's.
    App(AppName),
}

/// A request as it is made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The tenant the caller acts for; the app's owner.
    pub tenant: TenantName,
    /// What.
    pub scope: Scope,
    /// Why, for people.
    pub reason: String,
    /// Who: a token's id.
    pub by: String,
    /// When.
    pub now_ms: UnixMs,
    /// The client's name for the request, scoped by tenant.
    pub key: Option<String>,
    /// Versions up to here are covered from the start.
    pub seen_rev: Rev,
}

/// A version that is to be compiled anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its app.
    pub id: AppId,
    /// Its number.
    pub version: VersionNumber,
    /// Of its record: numbers may come again after a deletion.
    pub rev: Rev,
    /// Its program.
    pub wasm: Digest,
}

/// A version whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The request.
    pub request: u64,
    /// Its place in the request.
    pub seq: u64,
    /// Who asked.
    pub by: String,
    /// The app.
    pub id: AppId,
    /// The version.
    pub version: VersionNumber,
    /// Of its record.
    pub rev: Rev,
    /// How often it failed before.
    pub tries: u32,
    /// Nodes that could not run it before its new code was published; none: it was not yet.
    pub excused: Option<BTreeSet<NodeName>>,
}

/// How a version ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Other code than before, and published.
    Changed,
    /// The same code as before.
    Same,
    /// The version is not there any more.
    Gone,
    /// It cannot be compiled, for this reason.
    Failed(String),
}

/// How many versions are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Covered.
    pub total: u64,
    /// See [`Outcome`].
    pub changed: u64,
    /// See [`Outcome`].
    pub same: u64,
    /// See [`Outcome`].
    pub gone: u64,
    /// See [`Outcome`].
    pub failed: u64,
}

/// A version that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedVersion {
    /// The app.
    pub id: AppId,
    /// The version.
    pub version: VersionNumber,
    /// The reason.
    pub why: String,
}

/// A request and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recompile {
    /// Names it.
    pub id: u64,
    /// The tenant the caller acted for.
    pub tenant: TenantName,
    /// What.
    pub scope: Scope,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub asked_ms: UnixMs,
    /// Since when it is done.
    pub ended_ms: Option<UnixMs>,
    /// Why nothing goes on at the moment.
    pub problem: Option<String>,
    /// Versions covered up to here.
    pub seen_rev: Rev,
    /// How often it was looked for versions to cover.
    pub looks: u32,
    /// How far it is.
    pub counts: Counts,
    /// The first [`FAILED_SHOWN_MAX`].
    pub failed: Vec<FailedVersion>,
}

/// A request is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// [`OPEN_MAX`] or [`OPEN_OF_ONE_MAX`].
    #[error(
        "{of_one} recompilations of yours are under way; at most {OPEN_OF_ONE_MAX} of one tenant or of the whole fleet and \
         {OPEN_MAX} of all are at once: wait for an end, or cancel one"
    )]
    TooMany {
        /// Of this tenant, or of the whole fleet.
        of_one: u32,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] AdminError),
}

impl Admin {
    /// Takes a request for these versions, in this order. The same key again gives the request it gave before.
    pub async fn start_recompile(&self, asked: Asked, versions: Vec<Named>) -> Result<u64, StartError> {
        self.run("taking a request to recompile", move |store| {
            if let Some(key) = &asked.key {
                let known = "SELECT id FROM recompiles WHERE key = ?1";
                let found: Option<i64> = store.query_row(known, [key], |row| row.get(0)).optional()?;
                if let Some(id) = found {
                    return Ok(id as u64);
                }
            }
            check_room(store, &asked)?;
            forget_ended(store, &asked)?;
            let app = match &asked.scope {
                Scope::Fleet => None,
                Scope::App(app) => Some(app.as_str()),
            };
            store.execute(
                "INSERT INTO recompiles(tenant, app, reason, asked_by, asked_ms, key, seen_rev, total)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)",
                (
                    asked.tenant.as_str(),
                    app,
                    cut(&asked.reason),
                    &asked.by,
                    asked.now_ms as i64,
                    &asked.key,
                    asked.seen_rev as i64,
                ),
            )?;
            let id = store.last_insert_rowid();
            add(store, id, &versions)?;
            begin_caches(store, &asked.tenant, &asked.scope, id)?;
            match asked.scope {
                // Code of programs that no version names now would be taken for new when they are deployed again.
                Scope::Fleet => forget_all_code(store)?,
                Scope::App(_) => forget_code_of(store, &versions)?,
            }
            Ok(id as u64)
        })
        .await
    }

    /// Adds versions that came since a request was last looked after.
    pub async fn extend_recompile(
        &self,
        id: u64,
        seen_rev: Rev,
        versions: Vec<Named>,
    ) -> Result<(), AdminError> {
        self.run("extending a request to recompile", move |store| {
            let looked =
                "UPDATE recompiles SET seen_rev = ?2, looks = looks + 1 WHERE id = ?1 AND ended_ms IS NULL";
            if store.execute(looked, (id as i64, seen_rev as i64))? == 0 {
                return Ok(()); // cancelled
            }
            // They may have been made with code of before the request.
            forget_code_of(store, &versions)?;
            add(store, id as i64, &versions)
        })
        .await
    }

    /// Requests that are not done, oldest first; at most [`OPEN_MAX`].
    pub async fn open_recompiles(&self) -> Result<Vec<Recompile>, AdminError> {
        self.run("looking for requests to recompile", move |store| {
            let mut open = store.prepare("SELECT id FROM recompiles WHERE ended_ms IS NULL ORDER BY id")?;
            let ids: Vec<i64> = open.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let read = |id| read(store, id, 0).transpose();
            ids.into_iter().filter_map(read).collect()
        })
        .await
    }

    /// Does a request that goes on cover this version?
    pub async fn awaits_recompile(&self, id: AppId, version: VersionNumber) -> Result<bool, AdminError> {
        self.run("looking for a request to recompile a version", move |store| {
            let waits = "SELECT EXISTS(SELECT 1 FROM recompile_versions v JOIN recompiles r ON r.id = v.request
                 WHERE r.ended_ms IS NULL AND r.problem IS NULL AND v.why IS NULL AND v.tenant = ?1 AND v.app = ?2 AND v.version = ?3)";
            let named = (id.tenant.as_str(), id.app.as_str(), version as i64);
            Ok(store.query_row(waits, named, |row| row.get(0))?)
        })
        .await
    }

    /// The next version of a request.
    pub async fn next_attempt(&self, id: u64) -> Result<Option<Attempt>, AdminError> {
        self.run("looking for versions to recompile", move |store| {
            let next = "SELECT v.seq, r.asked_by, v.tenant, v.app, v.version, v.rev, v.tries, v.excused
                 FROM recompile_versions v JOIN recompiles r ON r.id = v.request
                 WHERE v.request = ?1 AND v.why IS NULL ORDER BY v.tries, v.seq LIMIT 1";
            let mut query = store.prepare(next)?;
            let mut rows = query.query([id as i64])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some(Attempt {
                request: id,
                seq: row.get::<_, i64>(0)? as u64,
                by: row.get(1)?,
                id: app_id(row, 2)?,
                version: row.get::<_, i64>(4)? as u64,
                rev: row.get::<_, i64>(5)? as u64,
                tries: row.get(6)?,
                excused: row.get::<_, Option<String>>(7)?.map(|names| node_names(&names)),
            }))
        })
        .await
    }

    /// Notes that a version's new code is about to be published, and which nodes could not run it before. False: nobody wants it
    /// any more.
    pub async fn note_publishing(
        &self,
        attempt: &Attempt,
        excused: BTreeSet<NodeName>,
    ) -> Result<bool, AdminError> {
        let (request, seq) = (attempt.request as i64, attempt.seq as i64);
        self.run("noting a version that is published", move |store| {
            let names: Vec<&str> = excused.iter().map(NodeName::as_str).collect();
            let note = "UPDATE recompile_versions SET excused = ?3 WHERE request = ?1 AND seq = ?2";
            Ok(store.execute(note, (request, seq, names.join(" ")))? > 0)
        })
        .await
    }

    /// Notes how a version ended.
    pub async fn end_attempt(&self, attempt: &Attempt, outcome: Outcome) -> Result<(), AdminError> {
        let (request, seq) = (attempt.request as i64, attempt.seq as i64);
        self.run("noting a recompiled version", move |store| {
            let column = match &outcome {
                Outcome::Changed => "changed",
                Outcome::Same => "same",
                Outcome::Gone => "gone",
                Outcome::Failed(_) => "failed",
            };
            let of_row = "WHERE request = ?1 AND seq = ?2 AND why IS NULL";
            let ended = match &outcome {
                Outcome::Failed(why) => store.execute(
                    &format!("UPDATE recompile_versions SET why = ?3 {of_row}"),
                    (request, seq, cut(why)),
                )?,
                _ => store.execute(&format!("DELETE FROM recompile_versions {of_row}"), (request, seq))?,
            };
            // Counted with the row, once.
            if ended > 0 {
                let count =
                    format!("UPDATE recompiles SET {column} = {column} + 1, problem = NULL WHERE id = ?1");
                store.execute(&count, [request])?;
            }
            Ok(())
        })
        .await
    }

    /// Notes that a version is to be tried again, after all others that were tried as often, and why.
    pub async fn defer_attempt(
        &self,
        attempt: &Attempt,
        why: String,
        is_a_try: bool,
    ) -> Result<(), AdminError> {
        let (request, seq) = (attempt.request as i64, attempt.seq as i64);
        self.run("noting a version that is tried again", move |store| {
            let tried =
                "UPDATE recompile_versions SET tries = tries + ?4, seq = ?3 WHERE request = ?1 AND seq = ?2";
            store.execute(tried, (request, seq, next_seq(store, request)?, i64::from(is_a_try)))?;
            let note = "UPDATE recompiles SET problem = ?2 WHERE id = ?1 AND ended_ms IS NULL";
            store.execute(note, (request, cut(&why)))?;
            Ok(())
        })
        .await
    }

    /// Notes why a request does not go on, which is no version's fault.
    pub async fn hold_recompile(&self, id: u64, why: String) -> Result<(), AdminError> {
        self.run("noting why nothing is recompiled", move |store| {
            let hold = "UPDATE recompiles SET problem = ?2 WHERE id = ?1 AND ended_ms IS NULL";
            store.execute(hold, (id as i64, cut(&why)))?;
            Ok(())
        })
        .await
    }

    /// Ends a request, whatever is left of it. False: it had ended.
    pub async fn cancel_recompile(&self, id: u64, why: String, now_ms: UnixMs) -> Result<bool, AdminError> {
        self.run("cancelling a request to recompile", move |store| {
            let end = "UPDATE recompiles SET ended_ms = ?2, problem = ?3 WHERE id = ?1 AND ended_ms IS NULL";
            let was_open = store.execute(end, (id as i64, now_ms as i64, cut(&why)))? > 0;
            if was_open {
                let left = "DELETE FROM recompile_versions WHERE request = ?1 AND why IS NULL";
                store.execute(left, [id as i64])?;
            }
            Ok(was_open)
        })
        .await
    }

    /// Notes that a request is done.
    pub async fn end_recompile(&self, id: u64, now_ms: UnixMs) -> Result<(), AdminError> {
        self.run("ending a request to recompile", move |store| {
            store.execute(
                "UPDATE recompiles SET ended_ms = ?2, problem = NULL WHERE id = ?1 AND ended_ms IS NULL",
                (id as i64, now_ms as i64),
            )?;
            store.execute(
                "DELETE FROM recompile_versions WHERE request = ?1 AND seq NOT IN
                 (SELECT seq FROM recompile_versions WHERE request = ?1 AND why IS NOT NULL ORDER BY seq LIMIT ?2)",
                (id as i64, FAILED_SHOWN_MAX),
            )?;
            Ok(())
        })
        .await
    }

    /// A request, if it is still known.
    pub async fn recompile(&self, id: u64) -> Result<Option<Recompile>, AdminError> {
        self.run("reading a request to recompile", move |store| read(store, id as i64, FAILED_SHOWN_MAX))
            .await
    }
}

fn check_room(store: &Transaction<'_>, asked: &Asked) -> Result<(), Failure<StartError>> {
    let is_fleet = asked.scope == Scope::Fleet;
    let (all, of_one): (u32, u32) = store.query_row(
        "SELECT count(*), count(*) FILTER (WHERE iif(?2, app IS NULL, app IS NOT NULL AND tenant = ?1))
         FROM recompiles WHERE ended_ms IS NULL",
        (asked.tenant.as_str(), is_fleet),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // The last places are kept for the whole fleet, so that tenants cannot keep its operator waiting.
    let all_max = if is_fleet { OPEN_MAX } else { OPEN_MAX - OPEN_OF_ONE_MAX };
    if of_one >= OPEN_OF_ONE_MAX || all >= all_max {
        return Err(Failure::Refused(StartError::TooMany { of_one }));
    }
    Ok(())
}

/// Of this tenant, or of the whole fleet: nobody's requests make another's result go.
fn forget_ended(store: &Transaction<'_>, asked: &Asked) -> rusqlite::Result<()> {
    store.execute(
        "WITH ended AS (SELECT id FROM recompiles WHERE ended_ms IS NOT NULL AND iif(?3, app IS NULL, app IS NOT NULL AND tenant = ?2))
         DELETE FROM recompiles WHERE id IN ended AND id NOT IN (SELECT id FROM ended ORDER BY id DESC LIMIT ?1)",
        (ENDED_KEPT_MAX, asked.tenant.as_str(), asked.scope == Scope::Fleet),
    )?;
    Ok(())
}

fn add<E>(store: &Transaction<'_>, request: i64, versions: &[Named]) -> Result<(), Failure<E>> {
    let first = next_seq(store, request)?;
    let mut insert = store.prepare(
        "INSERT INTO recompile_versions(request, seq, tenant, app, version, rev) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (seq, named) in (first..).zip(versions) {
        let Named { id, version, rev, .. } = named;
        let row = (request, seq, id.tenant.as_str(), id.app.as_str(), *version as i64, *rev as i64);
        insert.execute(row)?;
    }
    let total = "UPDATE recompiles SET total = total + ?2 WHERE id = ?1";
    store.execute(total, (request, versions.len() as i64))?;
    Ok(())
}

/// After all others of a request.
fn next_seq(store: &Transaction<'_>, request: i64) -> rusqlite::Result<i64> {
    let next = "SELECT coalesce(max(seq) + 1, 0) FROM recompile_versions WHERE request = ?1";
    store.query_row(next, [request], |row| row.get(0))
}

fn forget_code_of(store: &Transaction<'_>, versions: &[Named]) -> rusqlite::Result<()> {
    versions.iter().try_for_each(|named| forget_code(store, &named.id.tenant, named.wasm))
}

/// With the first `failed_max` versions that failed.
fn read<E>(store: &Transaction<'_>, id: i64, failed_max: u32) -> Result<Option<Recompile>, Failure<E>> {
    let mut query = store.prepare(
        "SELECT tenant, app, reason, asked_by, asked_ms, ended_ms, problem, seen_rev, looks,
             total, changed, same, gone, failed FROM recompiles WHERE id = ?1",
    )?;
    let mut rows = query.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let app: Option<String> = row.get(1)?;
    let count = |column: usize| row.get::<_, i64>(column).map(|count| count as u64);
    let scope = match app {
        None => Scope::Fleet,
        Some(app) => Scope::App(parsed(&app, "app name")?),
    };
    Ok(Some(Recompile {
        id: id as u64,
        tenant: parsed(&row.get::<_, String>(0)?, "tenant name")?,
        scope,
        reason: row.get(2)?,
        by: row.get(3)?,
        asked_ms: count(4)?,
        ended_ms: row.get::<_, Option<i64>>(5)?.map(|ms| ms as u64),
        problem: row.get(6)?,
        seen_rev: count(7)?,
        looks: row.get(8)?,
        counts: Counts {
            total: count(9)?,
            changed: count(10)?,
            same: count(11)?,
            gone: count(12)?,
            failed: count(13)?,
        },
        failed: failed(store, id, failed_max)?,
    }))
}

fn failed<E>(store: &Transaction<'_>, id: i64, max: u32) -> Result<Vec<FailedVersion>, Failure<E>> {
    let mut query = store.prepare(
        "SELECT tenant, app, version, why FROM recompile_versions WHERE request = ?1 AND why IS NOT NULL
         ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = query.query((id, max))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let version = row.get::<_, i64>(2)? as u64;
        found.push(FailedVersion { id: app_id(row, 0)?, version, why: row.get(3)? });
    }
    Ok(found)
}

fn app_id<E>(row: &Row<'_>, column: usize) -> Result<AppId, Failure<E>> {
    let tenant = parsed(&row.get::<_, String>(column)?, "tenant name")?;
    let app = parsed(&row.get::<_, String>(column + 1)?, "app name")?;
    Ok(AppId { tenant, app })
}

/// Those that are names: nodes of another release may have others.
fn node_names(text: &str) -> BTreeSet<NodeName> {
    text.split(' ').filter_map(|name| name.parse().ok()).collect()
}

/// The start of a text.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tenant: &str, scope: Scope) -> Asked {
        let (reason, by) = ("drill".to_owned(), "tok_1".to_owned());
        Asked { tenant: tenant.parse().unwrap(), scope, reason, by, now_ms: 5, key: None, seen_rev: 9 }
    }

    fn named(app: &str, version: VersionNumber) -> Named {
        let id = AppId { tenant: "a".parse().unwrap(), app: app.parse().unwrap() };
        Named { id, version, rev: 3, wasm: Digest::of(app.as_bytes()) }
    }

    fn shop() -> Scope {
        Scope::App("shop".parse().unwrap())
    }

    #[tokio::test]
    async fn a_request_and_what_is_left_of_it_are_there_after_a_restart_and_each_version_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        let versions = vec![named("shop", 2), named("shop", 1), named("blog", 1), named("blog", 2)];
        let admin = Admin::open(&path).unwrap();
        let keyed = || Asked { key: Some("a/key".into()), ..asked("a", Scope::Fleet) };
        let id = admin.start_recompile(keyed(), versions.clone()).await.unwrap();
        assert_eq!(admin.start_recompile(keyed(), versions).await.unwrap(), id, "asked once");
        let first = admin.next_attempt(id).await.unwrap().unwrap();
        assert_eq!((first.version, first.by.as_str(), first.tries), (2, "tok_1", 0));
        admin.defer_attempt(&first, "full".into(), true).await.unwrap();
        drop(admin);

        let admin = Admin::open(&path).unwrap();
        let again = admin.next_attempt(id).await.unwrap().unwrap();
        assert_eq!((again.version, again.tries), (1, 0), "one that was not tried yet");
        assert_eq!(admin.recompile(id).await.unwrap().unwrap().problem.as_deref(), Some("full"));
        for outcome in [Outcome::Changed, Outcome::Same, Outcome::Failed("é".repeat(1000)), Outcome::Gone] {
            let next = admin.next_attempt(id).await.unwrap().unwrap();
            admin.end_attempt(&next, outcome.clone()).await.unwrap();
            admin.end_attempt(&next, outcome).await.unwrap();
        }
        assert_eq!(admin.next_attempt(id).await.unwrap(), None);
        admin.end_recompile(id, 7).await.unwrap();
        let done = admin.recompile(id).await.unwrap().unwrap();
        assert_eq!(done.counts, Counts { total: 4, changed: 1, same: 1, gone: 1, failed: 1 });
        assert_eq!((done.ended_ms, done.problem, done.failed.len()), (Some(7), None, 1));
        assert_eq!(done.failed[0].why.len(), TEXT_BYTES_MAX);
        assert_eq!(admin.open_recompiles().await.unwrap(), []);
    }

    #[tokio::test]
    async fn few_requests_are_open_at_once_and_the_fleets_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let mut open = Vec::new();
        for tenant in 0..(OPEN_MAX / OPEN_OF_ONE_MAX - 1) {
            let tenant = format!("t{tenant}");
            for _ in 0..OPEN_OF_ONE_MAX {
                open.push(admin.start_recompile(asked(&tenant, shop()), vec![]).await.unwrap());
            }
            let more = admin.start_recompile(asked(&tenant, shop()), vec![]).await.unwrap_err();
            assert!(matches!(more, StartError::TooMany { of_one: OPEN_OF_ONE_MAX, .. }), "{more}");
        }
        assert!(admin.start_recompile(asked("late", shop()), vec![]).await.is_err());
        for _ in 0..OPEN_OF_ONE_MAX {
            open.push(admin.start_recompile(asked("t0", Scope::Fleet), vec![]).await.unwrap());
        }
        assert!(admin.start_recompile(asked("t0", Scope::Fleet), vec![]).await.is_err());
        let listed = async || -> Vec<u64> {
            admin.open_recompiles().await.unwrap().into_iter().map(|request| request.id).collect()
        };
        assert_eq!(listed().await, open);
        for id in [open[0], open[open.len() - 1], open[open.len() - 2]] {
            admin.end_recompile(id, 1).await.unwrap();
        }
        assert_eq!(listed().await, open[1..open.len() - 2]);
        admin.start_recompile(asked("t0", shop()), vec![]).await.unwrap();
    }

    #[tokio::test]
    async fn a_version_that_fails_goes_to_the_end_and_one_that_was_published_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        let admin = Admin::open(&path).unwrap();
        let versions = vec![named("shop", 2), named("shop", 1)];
        let id = admin.start_recompile(asked("a", shop()), versions).await.unwrap();
        let next = async |admin: &Admin| admin.next_attempt(id).await.unwrap().unwrap();
        let first = next(&admin).await;
        assert_eq!((first.version, &first.excused), (2, &None));
        assert!(admin.note_publishing(&first, BTreeSet::new()).await.unwrap());
        assert_eq!(next(&admin).await.excused, Some(BTreeSet::new()));
        admin.defer_attempt(&first, "broken".into(), true).await.unwrap();
        let second = next(&admin).await;
        assert_eq!((second.version, second.tries), (1, 0));
        let nodes = BTreeSet::from(["fra1-1", "fra1-2"].map(|name| name.parse().unwrap()));
        admin.note_publishing(&second, nodes.clone()).await.unwrap();
        drop(admin);
        let admin = Admin::open(&path).unwrap();
        assert_eq!(next(&admin).await.excused, Some(nodes));
        // What comes meanwhile takes nobody's place.
        admin.extend_recompile(id, 12, vec![named("shop", 3)]).await.unwrap();
        let mut order = Vec::new();
        for _ in 0..3 {
            let attempt = next(&admin).await;
            order.push((attempt.version, attempt.tries));
            admin.end_attempt(&attempt, Outcome::Same).await.unwrap();
        }
        assert_eq!(order, [(1, 0), (3, 0), (2, 1)]);
        assert_eq!(admin.recompile(id).await.unwrap().unwrap().counts.total, 3);
    }

    #[tokio::test]
    async fn a_cancelled_request_leaves_nothing_to_do_and_says_why_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let versions = vec![named("shop", 2), named("shop", 1)];
        let id = admin.start_recompile(asked("a", shop()), versions).await.unwrap();
        let shop = named("shop", 1).id;
        assert!(admin.awaits_recompile(shop.clone(), 1).await.unwrap());
        assert!(!admin.awaits_recompile(shop.clone(), 3).await.unwrap());
        admin.hold_recompile(id, "the compiler is away".into()).await.unwrap();
        assert!(
            !admin.awaits_recompile(shop.clone(), 1).await.unwrap(),
            "a request that stands still keeps nobody"
        );
        let first = admin.next_attempt(id).await.unwrap().unwrap();
        admin.end_attempt(&first, Outcome::Changed).await.unwrap();
        assert!(!admin.awaits_recompile(shop.clone(), 2).await.unwrap());
        assert!(admin.cancel_recompile(id, "by tok_1".into(), 7).await.unwrap());
        assert!(!admin.cancel_recompile(id, "by tok_2".into(), 8).await.unwrap());
        admin.hold_recompile(id, "late".into()).await.unwrap();
        admin.defer_attempt(&first, "late".into(), true).await.unwrap();
        admin.extend_recompile(id, 20, vec![named("shop", 9)]).await.unwrap();
        assert!(!admin.note_publishing(&first, BTreeSet::new()).await.unwrap(), "nobody wants it any more");
        let ended = admin.recompile(id).await.unwrap().unwrap();
        assert_eq!((ended.ended_ms, ended.problem.as_deref()), (Some(7), Some("by tok_1")));
        assert_eq!((ended.counts.total, ended.counts.changed), (2, 1));
        assert!(!admin.awaits_recompile(shop, 1).await.unwrap());
        assert_eq!(admin.next_attempt(id).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_store_of_an_earlier_release_gets_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        let earlier =
            "CREATE TABLE admin_schema(version INTEGER NOT NULL) STRICT; INSERT INTO admin_schema VALUES (1);
            CREATE TABLE recompile_versions(
                request INTEGER NOT NULL, seq INTEGER NOT NULL, tenant TEXT NOT NULL, app TEXT NOT NULL,
                version INTEGER NOT NULL, rev INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, why TEXT,
                PRIMARY KEY(request, seq)) STRICT, WITHOUT ROWID;";
        rusqlite::Connection::open(&path).unwrap().execute_batch(earlier).unwrap();
        for _ in 0..2 {
            let admin = Admin::open(&path).unwrap();
            let id = admin.start_recompile(asked("a", shop()), vec![named("shop", 1)]).await.unwrap();
            assert_eq!(admin.next_attempt(id).await.unwrap().unwrap().excused, None);
            admin.cancel_recompile(id, "done".into(), 1).await.unwrap();
        }
    }
}
