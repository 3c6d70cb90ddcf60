//! Native code already made of a tenant's programs, so that the same program is compiled once per target and
//! fingerprint. Kept per tenant: a shared table would tell by its speed what others have uploaded.

use artifact::{Digest, Fingerprint, Lane, Profile, Target, TenantName, record::ArtifactRef};

use super::{Admin, AdminError, Failure, parsed};

/// One target's native code of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The interface the program speaks.
    pub lane: Lane,
    /// Where the code is.
    pub artifact: ArtifactRef,
}

impl Admin {
    /// Everything compiled of this program, for any fingerprint.
    pub async fn compiled(&self, tenant: TenantName, wasm: Digest) -> Result<Vec<Compiled>, AdminError> {
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
            Ok(found)
        })
        .await
    }

    /// Remembers native code whose bytes are in the blob store.
    pub async fn add_compiled(
        &self,
        tenant: TenantName,
        wasm: Digest,
        compiled: Compiled,
    ) -> Result<(), AdminError> {
        self.run("recording a compiled program", move |store| {
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
        admin.add_compiled(a.clone(), wasm, made.clone()).await.unwrap();
        assert_eq!(admin.compiled(a, wasm).await.unwrap(), [made]);
        assert!(admin.compiled(b, wasm).await.unwrap().is_empty());
    }
}
