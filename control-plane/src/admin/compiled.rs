//! Native code already made of a tenant's programs, so that the same program is compiled once per target and
//! fingerprint. Kept per tenant: a shared table would tell by its speed what others have uploaded.

use artifact::{
    Digest, Fingerprint, Lane, Profile, Target, TenantName, compile::Advice, record::ArtifactRef,
};
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Admin, AdminError, Failure, parsed};

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
    /// What is known of this program.
    pub async fn compiled(&self, tenant: TenantName, wasm: Digest) -> Result<Known, AdminError> {
        self.run("looking up compiled programs", move |store| {
            let mut query = store.prepare(
                "SELECT target, fingerprint, lane, blob, blob_bytes FROM compiled WHERE tenant = ?1 AND wasm = ?2",
            )?;
            let mut rows = query.query((tenant.as_str(), wasm.to_string()))?;
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

    /// Remembers native code whose bytes are in the blob store, unless it was begun in an earlier epoch: it may be by the
    /// compiler that is to be replaced.
    pub async fn add_compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        compiled: Compiled,
        begun: Epoch,
    ) -> Result<(), AdminError> {
        self.run("recording a compiled program", move |store| {
            if epoch(store, &tenant, wasm)? != begun {
                return Ok(());
            }
            let Compiled { lane, artifact } = compiled;
            store.execute(
                "INSERT OR REPLACE INTO compiled(tenant, wasm, target, fingerprint, lane, blob, blob_bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (
                    tenant.as_str(),
                    wasm.to_string(),
                    artifact.target.name(),
                    artifact.fingerprint.to_string(),
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

    #[tokio::test]
    async fn compiled_code_reads_back_for_its_tenant_alone() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let wasm = Digest::of(b"wasm");
        let made = Compiled {
            lane: Lane::Fastly,
            artifact: ArtifactRef {
                target: Target::Aarch64Lse,
                profile: Profile::Serve,
                fingerprint: Fingerprint(Digest::of(b"engine")),
                blob: Digest::of(b"blob"),
                blob_bytes: 4,
            },
        };
        let known = async |tenant: &TenantName| admin.compiled(tenant.clone(), wasm).await.unwrap();
        let begun = known(&a).await.epoch;
        admin.add_compiled(a.clone(), wasm, made.clone(), begun).await.unwrap();
        assert_eq!(known(&a).await.code, [made.clone()]);
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
            admin.add_compiled(a.clone(), wasm, made.clone(), begun).await.unwrap();
            assert_eq!(known(&a).await.code, []);
            let anew = known(&a).await.epoch;
            admin.add_compiled(a.clone(), wasm, made.clone(), anew).await.unwrap();
            assert_eq!(known(&a).await.code, [made.clone()]);
        }
        let advice = Advice { code: AdviceCode::StartFunction, message: "it has one".into() };
        for said in [vec![], vec![advice.clone()]] {
            admin.set_advice(a.clone(), wasm, said).await.unwrap();
        }
        assert_eq!(admin.advice(a, wasm).await.unwrap(), [advice]);
        assert!(admin.advice(b, wasm).await.unwrap().is_empty());
    }
}
