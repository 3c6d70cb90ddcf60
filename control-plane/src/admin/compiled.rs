//! Native code already made of a tenant's programs, so that the same program is compiled once per target and
//! fingerprint. Kept per tenant: a shared table would tell by its speed what others have uploaded.
//!
//! Code in which functions of earlier programs took part is known with the label under which it found them, and is for that label
//! only (`docs/design/0023-functions.md`).

use artifact::{
    AppId, Digest, Fingerprint, Lane, Profile, Target, TenantName, compile::Advice, record::ArtifactRef,
};
use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::{Admin, AdminError, Failure, Scope, TABLES, parsed};

/// One target's native code of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The interface the program speaks.
    pub lane: Lane,
    /// Where the code is.
    pub artifact: ArtifactRef,
}

/// What is known of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Everything compiled of it, for any fingerprint.
    pub code: Vec<Compiled>,
    /// As of when: what is compiled from here on is kept if no code is forgotten meanwhile.
    pub epoch: Epoch,
}

/// Counts how often code of a program was forgotten because it is to be compiled anew, or that of all programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch(i64);

impl Admin {
    /// What is known of this program: code made without functions of other programs, and then what was made under this label.
    pub async fn compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        cache: Option<String>,
    ) -> Result<Known, AdminError> {
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
            Ok(Known { code: found, epoch: epoch(store, &tenant, wasm)? })
        })
        .await
    }

    /// Was no code of this program forgotten since?
    pub async fn is_compile_epoch(
        &self,
        tenant: TenantName,
        wasm: Digest,
        since: Epoch,
    ) -> Result<bool, AdminError> {
        let doing = "looking up when code was forgotten";
        self.run(doing, move |store| Ok(epoch(store, &tenant, wasm)? == since)).await
    }

    /// Remembers native code whose bytes are in the blob store, and the label under which it was made; unless it was begun in an
    /// earlier epoch: it may be by the compiler that is to be replaced.
    pub async fn add_compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        cache: Option<String>,
        compiled: Compiled,
        begun: Epoch,
    ) -> Result<(), AdminError> {
        self.run("recording a compiled program", move |store| {
            if epoch(store, &tenant, wasm)? != begun {
                return Ok(());
            }
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

    /// What was advised of this program when it was compiled.
    pub async fn advice(&self, tenant: TenantName, wasm: Digest) -> Result<Vec<Advice>, AdminError> {
        self.run("looking up advice", move |store| {
            let said: Option<String> = store
                .query_row(
                    "SELECT advice FROM advice WHERE tenant = ?1 AND wasm = ?2",
                    (tenant.as_str(), wasm.to_string()),
                    |row| row.get(0),
                )
                .optional()?;
            // A newer release may have written kinds that are unknown here; it is only advice.
            Ok(said.and_then(|said| serde_json::from_str(&said).ok()).unwrap_or_default())
        })
        .await
    }

    /// Remembers it.
    pub async fn set_advice(
        &self,
        tenant: TenantName,
        wasm: Digest,
        advice: Vec<Advice>,
    ) -> Result<(), AdminError> {
        self.run("recording advice", move |store| {
            let advice = serde_json::to_string(&advice).map_err(|_| Failure::Corrupt("advice"))?;
            store.execute(
                "INSERT OR REPLACE INTO advice(tenant, wasm, advice) VALUES (?1, ?2, ?3)",
                (tenant.as_str(), wasm.to_string(), advice),
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

fn epoch(store: &Transaction<'_>, tenant: &TenantName, wasm: Digest) -> rusqlite::Result<Epoch> {
    let sum =
        "SELECT coalesce(sum(epoch), 0) FROM compile_epochs WHERE (tenant, wasm) IN (('', ''), (?1, ?2))";
    store.query_row(sum, (tenant.as_str(), wasm.to_string()), |row| row.get(0)).map(Epoch)
}

fn raise_epoch(store: &Transaction<'_>, tenant: &str, wasm: &str) -> rusqlite::Result<()> {
    let raise = "INSERT INTO compile_epochs VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET epoch = epoch + 1";
    store.execute(raise, (tenant, wasm)).map(drop)
}

/// Native code of a program is not to be taken for new any more, neither what is known of it nor what is being compiled.
/// Its bytes stay: the log names them.
pub(super) fn forget_code(
    store: &Transaction<'_>,
    tenant: &TenantName,
    wasm: Digest,
) -> rusqlite::Result<()> {
    let wasm = wasm.to_string();
    raise_epoch(store, tenant.as_str(), &wasm)?;
    let forget = "DELETE FROM compiled WHERE tenant = ?1 AND wasm = ?2";
    store.execute(forget, (tenant.as_str(), wasm)).map(drop)
}

/// The same of all programs.
pub(super) fn forget_all_code(store: &Transaction<'_>) -> rusqlite::Result<()> {
    raise_epoch(store, "", "")?;
    store.execute("DELETE FROM compiled", []).map(drop)
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
    use artifact::compile::AdviceCode;

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
        let epoch = read(&a, None).await.unwrap().epoch;
        admin.add_compiled(a.clone(), wasm, Some("shop/0".into()), made(b"shop's"), epoch).await.unwrap();
        assert_eq!(read(&a, Some("shop/0")).await.unwrap().code, [made(b"shop's")]);
        for other in [Some("blog/0"), Some("shop/1"), None] {
            assert!(read(&a, other).await.unwrap().code.is_empty(), "{other:?}");
        }
        admin.add_compiled(a.clone(), wasm, None, made(b"all's"), epoch).await.unwrap();
        assert_eq!(read(&a, Some("blog/0")).await.unwrap().code, [made(b"all's")]);
        assert_eq!(read(&a, Some("shop/0")).await.unwrap().code, [made(b"all's"), made(b"shop's")]);
        assert!(read(&b, Some("shop/0")).await.unwrap().code.is_empty());
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
            assert_eq!(known.code, std::slice::from_ref(&code));
        }
    }

    #[tokio::test]
    async fn what_was_begun_before_code_was_forgotten_is_not_kept_and_advice_is() {
        let (_folder, admin) = store();
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let wasm = Digest::of(b"wasm");
        let known = async |tenant: &TenantName| admin.compiled(tenant.clone(), wasm, None).await.unwrap();
        let begun = known(&a).await.epoch;
        admin.add_compiled(a.clone(), wasm, None, made(b"blob"), begun).await.unwrap();
        assert_eq!(known(&a).await.code, [made(b"blob")]);
        assert!(known(&b).await.code.is_empty());
        // It is to be compiled anew: what was begun before is not kept, what is begun then is. Others' is as it was.
        let forget = async |all: bool| {
            let tenant = a.clone();
            let forgotten = admin.run("forgetting", move |store| -> Result<(), Failure<AdminError>> {
                Ok(if all { forget_all_code(store) } else { forget_code(store, &tenant, wasm) }?)
            });
            forgotten.await.unwrap();
        };
        for all in [false, true] {
            let (begun, of_b) = (known(&a).await.epoch, known(&b).await.epoch);
            forget(all).await;
            assert!(!admin.is_compile_epoch(a.clone(), wasm, begun).await.unwrap());
            assert_eq!(admin.is_compile_epoch(b.clone(), wasm, of_b).await.unwrap(), !all);
            admin.add_compiled(a.clone(), wasm, None, made(b"blob"), begun).await.unwrap();
            assert_eq!(known(&a).await.code, []);
            let anew = known(&a).await.epoch;
            admin.add_compiled(a.clone(), wasm, None, made(b"blob"), anew).await.unwrap();
            assert_eq!(known(&a).await.code, [made(b"blob")]);
        }
        let advice = Advice { code: AdviceCode::StartFunction, message: "it has one".into() };
        for said in [vec![], vec![advice.clone()]] {
            admin.set_advice(a.clone(), wasm, said).await.unwrap();
        }
        assert_eq!(admin.advice(a, wasm).await.unwrap(), [advice]);
        assert!(admin.advice(b, wasm).await.unwrap().is_empty());
    }
}
