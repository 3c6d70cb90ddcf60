//! Native code already made of a tenant's programs, so that the same program is compiled once per target and
//! fingerprint. Kept per tenant: a shared table would tell by its speed what others have uploaded.

use artifact::{Digest, Fingerprint, Lane, Profile, Target, TenantName, record::ArtifactRef};

use rusqlite::Transaction;

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

/// Counts how often code was forgotten because it is to be compiled anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
            Ok(Known { code: found, epoch: epoch(store)? })
        })
        .await
    }

    /// Was no code forgotten since?
    pub async fn is_compile_epoch(&self, since: Epoch) -> Result<bool, AdminError> {
        self.run("looking up when code was forgotten", move |store| Ok(epoch(store)? == since)).await
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
            if epoch(store)? != begun {
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

fn epoch(store: &Transaction<'_>) -> rusqlite::Result<Epoch> {
    store.query_row("SELECT epoch FROM compile_epoch", [], |row| row.get(0)).map(Epoch)
}

/// Native code of what `of` deletes is not to be taken for new any more, neither what is known of it nor what is being
/// compiled. Its bytes stay: the log names them.
pub(super) fn forget_code(
    store: &Transaction<'_>,
    of: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    store.execute("UPDATE compile_epoch SET epoch = epoch + 1", [])?;
    of(store)
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

        // Everything is to be compiled anew: what was begun before is not kept, what is begun then is.
        let forget = |store: &Transaction<'_>| store.execute("DELETE FROM compiled", []).map(drop);
        let forgotten =
            admin.run("forgetting", move |store| Ok::<_, Failure<AdminError>>(forget_code(store, forget)?));
        forgotten.await.unwrap();
        assert!(!admin.is_compile_epoch(begun).await.unwrap());
        admin.add_compiled(a.clone(), wasm, made.clone(), begun).await.unwrap();
        assert_eq!(known(&a).await.code, []);
        let anew = known(&a).await.epoch;
        admin.add_compiled(a.clone(), wasm, made.clone(), anew).await.unwrap();
        assert_eq!(known(&a).await.code, [made]);
    }
}
