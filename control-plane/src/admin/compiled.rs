//! Native code already made of a tenant's programs, so that the same program is compiled once per target and
//! fingerprint. Kept per tenant: a shared table would tell by its speed what others have uploaded.
//!
//! Code in which functions of earlier programs took part is known with the label under which it found them, and is for that label
//! only (`docs/design/0023-functions.md`).

use artifact::{AppId, Digest, Fingerprint, Lane, Profile, Target, TenantName, record::ArtifactRef};
use rusqlite::{Connection, Transaction};

use super::{Admin, AdminError, Failure, Scope, TABLES, parsed};

/// One target's native code of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The interface the program speaks.
    pub lane: Lane,
    /// Where the code is.
    pub artifact: ArtifactRef,
}

impl Admin {
    /// Everything compiled of this program, for any fingerprint: without functions of other programs, and then what was made under this
    /// label.
    pub async fn compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        cache: Option<String>,
    ) -> Result<Vec<Compiled>, AdminError> {
        self.run("looking up compiled programs", move |store| {
            let mut query = store.prepare(
                "SELECT target, fingerprint, lane, blob, blob_bytes FROM compiled
                 WHERE tenant = ?1 AND wasm = ?2 AND cache IN ('', ?3) ORDER BY cache",
            )?;
            let mut rows = query.query((tenant.as_str(), wasm.to_string(), cache.unwrap_or_default()))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let target: Target = parsed(&row.get::<_, String>(0)?, "target")?;
                let fingerprint = Fingerprint(parsed(&row.get::<_, String>(1)?, "fingerprint")?);
                let lane = lane(&row.get::<_, String>(2)?)?;
                let blob = parsed(&row.get::<_, String>(3)?, "blob digest")?;
                let blob_bytes = row.get::<_, i64>(4)? as u64;
                let artifact = ArtifactRef { target, profile: Profile::Serve, fingerprint, blob, blob_bytes };
                found.push(Compiled { lane, artifact });
            }
            Ok(found)
        })
        .await
    }

    /// Remembers native code whose bytes are in the blob store, and the label under which it was made.
    pub async fn add_compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        cache: Option<String>,
        compiled: Compiled,
    ) -> Result<(), AdminError> {
        self.run("recording a compiled program", move |store| {
            let Compiled { lane, artifact } = compiled;
            store.execute(
                "INSERT OR REPLACE INTO compiled(tenant, wasm, target, fingerprint, cache, lane, blob, blob_bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (
                    tenant.as_str(),
                    wasm.to_string(),
                    artifact.target.name(),
                    artifact.fingerprint.to_string(),
                    cache.unwrap_or_default(),
                    lane.to_string(),
                    artifact.blob.to_string(),
                    artifact.blob_bytes as i64,
                ),
            )?;
            Ok(())
        })
        .await
    }

    /// The label under which an app's programs share compiled functions: another after each request to recompile it, so that
    /// nothing of before is found again.
    pub async fn cache_label(&self, id: AppId) -> Result<String, AdminError> {
        self.run("looking up what an app's programs share", move |store| {
            let last = "SELECT coalesce(max(request), 0) FROM cache_begun
                 WHERE (tenant = ?1 AND app = ?2) OR (tenant = '' AND app = '')";
            let request: i64 =
                store.query_row(last, (id.tenant.as_str(), id.app.as_str()), |row| row.get(0))?;
            Ok(format!("{}/{request}", id.app))
        })
        .await
    }

    /// Forgets native code whose bytes are gone or damaged.
    pub async fn forget_compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        blob: Digest,
    ) -> Result<(), AdminError> {
        self.run("forgetting a compiled program", move |store| {
            store.execute(
                "DELETE FROM compiled WHERE tenant = ?1 AND wasm = ?2 AND blob = ?3",
                (tenant.as_str(), wasm.to_string(), blob.to_string()),
            )?;
            Ok(())
        })
        .await
    }
}

/// From now on what this covers shares nothing with what was compiled before.
pub(super) fn begin_caches(
    store: &Transaction<'_>,
    tenant: &TenantName,
    scope: &Scope,
    request: i64,
) -> rusqlite::Result<()> {
    let (tenant, app) = match scope {
        Scope::App(app) => (tenant.as_str(), app.as_str()),
        Scope::Fleet => {
            // All of them are before it.
            store.execute("DELETE FROM cache_begun", [])?;
            ("", "")
        }
    };
    store.execute("INSERT OR REPLACE INTO cache_begun VALUES (?1, ?2, ?3)", (tenant, app, request))?;
    Ok(())
}

/// Brings the table of an earlier release into the form of this one: all of its code was made without a label.
pub(super) fn know_caches(store: &Connection) -> rusqlite::Result<()> {
    let known = "SELECT count(*) FROM pragma_table_info('compiled') WHERE name = 'cache'";
    if store.query_row(known, [], |row| row.get::<_, i64>(0))? > 0 {
        return Ok(());
    }
    store.execute_batch(&format!(
        "BEGIN IMMEDIATE; ALTER TABLE compiled RENAME TO compiled_before; {TABLES}
         INSERT INTO compiled(tenant, wasm, target, fingerprint, lane, blob, blob_bytes)
             SELECT tenant, wasm, target, fingerprint, lane, blob, blob_bytes FROM compiled_before;
         DROP TABLE compiled_before; COMMIT;"
    ))
}

fn lane<E>(word: &str) -> Result<Lane, Failure<E>> {
    [Lane::Wasi, Lane::Fastly]
        .into_iter()
        .find(|lane| lane.to_string() == word)
        .ok_or(Failure::Corrupt("lane"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(blob: &[u8]) -> Compiled {
        let artifact = ArtifactRef {
            target: Target::Aarch64Lse,
            profile: Profile::Serve,
            fingerprint: Fingerprint(Digest::of(b"engine")),
            blob: Digest::of(blob),
            blob_bytes: 4,
        };
        Compiled { lane: Lane::Fastly, artifact }
    }

    fn store() -> (tempfile::TempDir, Admin) {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        (folder, admin)
    }

    #[tokio::test]
    async fn compiled_code_reads_back_for_its_tenant_and_label_alone() {
        let (_folder, admin) = store();
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let wasm = Digest::of(b"wasm");
        let read = |tenant: &TenantName, cache: Option<&str>| {
            admin.compiled(tenant.clone(), wasm, cache.map(str::to_owned))
        };
        admin.add_compiled(a.clone(), wasm, Some("shop/0".into()), made(b"shop's")).await.unwrap();
        assert_eq!(read(&a, Some("shop/0")).await.unwrap(), [made(b"shop's")]);
        for other in [Some("blog/0"), Some("shop/1"), None] {
            assert!(read(&a, other).await.unwrap().is_empty(), "{other:?}");
        }
        admin.add_compiled(a.clone(), wasm, None, made(b"all's")).await.unwrap();
        assert_eq!(read(&a, Some("blog/0")).await.unwrap(), [made(b"all's")]);
        assert_eq!(read(&a, Some("shop/0")).await.unwrap(), [made(b"all's"), made(b"shop's")]);
        assert!(read(&b, Some("shop/0")).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_request_to_recompile_gives_what_it_covers_another_label() {
        let (_folder, admin) = store();
        let id =
            |tenant: &str, app: &str| AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() };
        let begin = |scope: Scope, request| {
            let begun = admin.run("a request", move |store| {
                Ok(begin_caches(store, &"a".parse().unwrap(), &scope, request)?)
            });
            async { Result::<(), AdminError>::unwrap(begun.await) }
        };
        let labels = async || {
            let mut labels = Vec::new();
            for (tenant, app) in [("a", "shop"), ("a", "blog"), ("b", "shop")] {
                labels.push(admin.cache_label(id(tenant, app)).await.unwrap());
            }
            labels
        };
        assert_eq!(labels().await, ["shop/0", "blog/0", "shop/0"]);
        begin(Scope::App("shop".parse().unwrap()), 3).await;
        assert_eq!(labels().await, ["shop/3", "blog/0", "shop/0"]);
        begin(Scope::Fleet, 4).await;
        assert_eq!(labels().await, ["shop/4", "blog/4", "shop/4"]);
        begin(Scope::App("shop".parse().unwrap()), 5).await;
        assert_eq!(labels().await, ["shop/5", "blog/4", "shop/4"]);
    }

    #[tokio::test]
    async fn code_known_to_an_earlier_release_is_known_without_a_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sqlite");
        let (wasm, code) = (Digest::of(b"wasm"), made(b"before"));
        let (fingerprint, blob) = (code.artifact.fingerprint.to_string(), code.artifact.blob.to_string());
        let before = Connection::open(&path).unwrap();
        before
            .execute_batch(
                "CREATE TABLE compiled(
                     tenant TEXT NOT NULL, wasm TEXT NOT NULL, target TEXT NOT NULL, fingerprint TEXT NOT NULL,
                     lane TEXT NOT NULL, blob TEXT NOT NULL, blob_bytes INTEGER NOT NULL,
                     PRIMARY KEY(tenant, wasm, target, fingerprint)) STRICT, WITHOUT ROWID;",
            )
            .unwrap();
        let row = ("a", wasm.to_string(), "aarch64-lse", fingerprint, "fastly", blob, 4);
        before.execute("INSERT INTO compiled VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", row).unwrap();
        drop(before);
        for _ in 0..2 {
            let admin = Admin::open(&path).unwrap();
            let known = admin.compiled("a".parse().unwrap(), wasm, Some("shop/0".into())).await.unwrap();
            assert_eq!(known, std::slice::from_ref(&code));
        }
    }
}
