//! Which tenant has uploaded which blob of static files, and whether a version was made with it. The bytes are in the blob
//! store, shared by digest; this table decides who may name them, so that nobody learns what others have uploaded.
//!
//! A row stands before its bytes do: what a crash leaves is a row without bytes, which is asked for again or expires.

use artifact::{Digest, TenantName};
use rusqlite::{OptionalExtension as _, Transaction};

use super::{Admin, AdminError, Failure, parsed};

/// Blobs of static files one tenant may keep: ten versions of 10,000 files that are all new.
pub const ASSETS_PER_TENANT_MAX: u64 = 100_000;
/// Their bytes: 16 GiB, as for programs, so that one tenant cannot fill a small disk of 64 GB.
pub const ASSET_BYTES_PER_TENANT_MAX: u64 = 16 << 30;
/// Of these, bytes that no version was made with: four of the largest sites, each by its own deploy under way.
pub const ASSET_IDLE_BYTES_PER_TENANT_MAX: u64 = 1 << 30;

/// A blob of static files is not kept.
#[derive(Debug, thiserror::Error)]
pub enum AssetQuotaError {
    /// [`ASSETS_PER_TENANT_MAX`] or [`ASSET_BYTES_PER_TENANT_MAX`].
    #[error(
        "the tenant keeps {count} static files of {bytes} bytes; at most {ASSETS_PER_TENANT_MAX} and \
         {ASSET_BYTES_PER_TENANT_MAX} bytes are kept: ask the operator for a second tenant"
    )]
    Quota {
        /// Kept now.
        count: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// [`ASSET_IDLE_BYTES_PER_TENANT_MAX`].
    #[error(
        "the tenant has {0} bytes of static files that no version was made with, at most \
         {ASSET_IDLE_BYTES_PER_TENANT_MAX}: deploy them, or wait a day until they expire"
    )]
    Idle(u64),
    /// The store.
    #[error(transparent)]
    Store(#[from] AdminError),
}

impl Admin {
    /// Those of `digests` that this tenant has not uploaded. The others' time until they expire begins anew.
    pub async fn assets_not_uploaded(
        &self,
        tenant: TenantName,
        digests: Vec<Digest>,
        now_ms: u64,
    ) -> Result<Vec<Digest>, AdminError> {
        self.run("looking up static files", move |store| {
            let mut touch =
                store.prepare("UPDATE asset_blobs SET asked_ms = ?3 WHERE tenant = ?1 AND digest = ?2")?;
            let mut missing = Vec::new();
            for digest in digests {
                if touch.execute((tenant.as_str(), digest.to_string(), now_ms as i64))? == 0 {
                    missing.push(digest);
                }
            }
            Ok(missing)
        })
        .await
    }

    /// Is there room for `bytes` more? Asked before the body is read.
    pub async fn check_asset_quota(&self, tenant: TenantName, bytes: u64) -> Result<(), AssetQuotaError> {
        self.run("checking the quota of static files", move |store| quota(store, &tenant, bytes)).await
    }

    /// Notes a blob whose bytes are about to be kept. Doing so twice changes nothing but its time.
    pub async fn add_asset(
        &self,
        tenant: TenantName,
        digest: Digest,
        bytes: u64,
        now_ms: u64,
    ) -> Result<(), AssetQuotaError> {
        self.run("recording a static file", move |store| {
            let known = store.execute(
                "UPDATE asset_blobs SET asked_ms = ?3 WHERE tenant = ?1 AND digest = ?2",
                (tenant.as_str(), digest.to_string(), now_ms as i64),
            )?;
            if known > 0 {
                return Ok(());
            }
            quota(store, &tenant, bytes)?;
            store.execute(
                "INSERT INTO asset_blobs(tenant, digest, bytes, asked_ms, kept) VALUES (?1, ?2, ?3, ?4, 0)",
                (tenant.as_str(), digest.to_string(), bytes as i64, now_ms as i64),
            )?;
            Ok(())
        })
        .await
    }

    /// Its size, if this tenant has uploaded it.
    pub async fn asset_bytes(&self, tenant: TenantName, digest: Digest) -> Result<Option<u64>, AdminError> {
        self.run("looking up a static file", move |store| {
            let bytes: Option<i64> = store
                .query_row(
                    "SELECT bytes FROM asset_blobs WHERE tenant = ?1 AND digest = ?2",
                    (tenant.as_str(), digest.to_string()),
                    |row| row.get(0),
                )
                .optional()?;
            Ok(bytes.map(|bytes| bytes as u64))
        })
        .await
    }

    /// A version is about to be made with these: they stay. All of them must have been uploaded by the tenant, with these
    /// sizes; those that were not come back, and then nothing is changed.
    pub async fn keep_assets(
        &self,
        tenant: TenantName,
        blobs: Vec<(Digest, u64)>,
    ) -> Result<Vec<Digest>, AdminError> {
        self.run("keeping static files", move |store| {
            let mut is_there = store
                .prepare("SELECT 1 FROM asset_blobs WHERE tenant = ?1 AND digest = ?2 AND bytes = ?3")?;
            let mut missing = Vec::new();
            for (digest, bytes) in &blobs {
                if !is_there.exists((tenant.as_str(), digest.to_string(), *bytes as i64))? {
                    missing.push(*digest);
                }
            }
            if missing.is_empty() {
                let mut keep =
                    store.prepare("UPDATE asset_blobs SET kept = 1 WHERE tenant = ?1 AND digest = ?2")?;
                for (digest, _) in &blobs {
                    keep.execute((tenant.as_str(), digest.to_string()))?;
                }
            }
            Ok(missing)
        })
        .await
    }

    /// Some blobs that no version was made with and that nobody asked for since `before_ms`.
    pub async fn idle_assets(
        &self,
        before_ms: u64,
        most: u32,
    ) -> Result<Vec<(TenantName, Digest)>, AdminError> {
        self.run("looking for static files that expired", move |store| {
            let mut idle = store.prepare(
                "SELECT tenant, digest FROM asset_blobs WHERE kept = 0 AND asked_ms < ?1 ORDER BY asked_ms LIMIT ?2",
            )?;
            let rows = idle.query_map((before_ms as i64, most), |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })?;
            let mut found = Vec::new();
            for row in rows {
                let (tenant, digest) = row?;
                found.push((parsed(&tenant, "tenant")?, parsed(&digest, "digest")?));
            }
            Ok(found)
        })
        .await
    }

    /// Forgets one of them, unless it was asked for since. `true`: nobody has a name for its bytes any more.
    pub async fn forget_idle_asset(
        &self,
        tenant: TenantName,
        digest: Digest,
        before_ms: u64,
    ) -> Result<bool, AdminError> {
        self.run("forgetting a static file that expired", move |store| {
            let text = digest.to_string();
            let gone = store.execute(
                "DELETE FROM asset_blobs WHERE tenant = ?1 AND digest = ?2 AND kept = 0 AND asked_ms < ?3",
                (tenant.as_str(), &text, before_ms as i64),
            )?;
            let named: bool = store.query_row(
                "SELECT EXISTS(SELECT 1 FROM asset_blobs WHERE digest = ?1)
                     OR EXISTS(SELECT 1 FROM uploads WHERE digest = ?1)
                     OR EXISTS(SELECT 1 FROM compiled WHERE blob = ?1)",
                [&text],
                |row| row.get(0),
            )?;
            Ok(gone > 0 && !named)
        })
        .await
    }
}

fn quota(store: &Transaction<'_>, tenant: &TenantName, more: u64) -> Result<(), Failure<AssetQuotaError>> {
    let sums: Option<(i64, i64, i64)> = store
        .query_row(
            "SELECT count, bytes, idle_bytes FROM asset_totals WHERE tenant = ?1",
            [tenant.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let (count, bytes, idle) = sums.unwrap_or_default();
    let (count, bytes, idle) = (count as u64, bytes as u64, idle as u64);
    if count >= ASSETS_PER_TENANT_MAX || bytes.saturating_add(more) > ASSET_BYTES_PER_TENANT_MAX {
        return Err(Failure::Refused(AssetQuotaError::Quota { count, bytes }));
    }
    if idle.saturating_add(more) > ASSET_IDLE_BYTES_PER_TENANT_MAX {
        return Err(Failure::Refused(AssetQuotaError::Idle(idle)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Admin, TenantName, TenantName) {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        admin.create_tenant(a.clone(), 1).await.unwrap();
        admin.create_tenant(b.clone(), 1).await.unwrap();
        (folder, admin, a, b)
    }

    #[tokio::test]
    async fn a_blob_is_known_to_its_tenant_alone() {
        let (_folder, admin, a, b) = store().await;
        let (here, there) = (Digest::of(b"here"), Digest::of(b"there"));
        admin.add_asset(a.clone(), here, 4, 1).await.unwrap();
        let missing = |tenant: &TenantName| admin.assets_not_uploaded(tenant.clone(), vec![here, there], 2);
        assert_eq!(missing(&a).await.unwrap(), [there]);
        assert_eq!(missing(&b).await.unwrap(), [here, there]);
        let keep = |tenant: &TenantName, bytes| admin.keep_assets(tenant.clone(), vec![(here, bytes)]);
        assert_eq!(keep(&b, 4).await.unwrap(), [here]);
        assert_eq!(keep(&a, 5).await.unwrap(), [here], "of another size");
        assert_eq!(keep(&a, 4).await.unwrap(), []);
    }

    #[tokio::test]
    async fn sums_are_those_of_the_rows_whatever_happens_to_them() {
        let (_folder, admin, a, _) = store().await;
        let (one, two, three) = (Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3"));
        for (digest, bytes) in [(one, 10), (two, 20), (three, 40)] {
            admin.add_asset(a.clone(), digest, bytes, 5).await.unwrap();
            admin.add_asset(a.clone(), digest, bytes, 6).await.unwrap();
        }
        admin.keep_assets(a.clone(), vec![(one, 10)]).await.unwrap();
        admin.keep_assets(a.clone(), vec![(one, 10)]).await.unwrap();
        admin.forget_idle_asset(a.clone(), two, 9).await.unwrap();
        let sums = admin.run::<_, AdminError>("asking", |store| {
            let ask = |text: &str| -> rusqlite::Result<(i64, i64, i64)> {
                store.query_row(text, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            };
            let kept = ask("SELECT count, bytes, idle_bytes FROM asset_totals")?;
            let rows =
                ask("SELECT count(*), sum(bytes), sum(bytes) FILTER (WHERE kept = 0) FROM asset_blobs")?;
            Ok([kept, rows])
        });
        assert_eq!(sums.await.unwrap(), [(2, 50, 40); 2]);
    }

    #[tokio::test]
    async fn what_no_version_was_made_with_has_a_bound_of_its_own_and_expires() {
        let (_folder, admin, a, b) = store().await;
        let (idle, kept) = (Digest::of(b"idle"), Digest::of(b"kept"));
        admin.add_asset(a.clone(), kept, ASSET_IDLE_BYTES_PER_TENANT_MAX, 10).await.unwrap();
        let full = admin.add_asset(a.clone(), idle, 1, 10).await.unwrap_err();
        assert!(matches!(full, AssetQuotaError::Idle(ASSET_IDLE_BYTES_PER_TENANT_MAX)), "{full}");
        admin.keep_assets(a.clone(), vec![(kept, ASSET_IDLE_BYTES_PER_TENANT_MAX)]).await.unwrap();
        admin.add_asset(a.clone(), idle, 1, 10).await.unwrap();
        admin.add_asset(b.clone(), idle, 1, 20).await.unwrap();

        assert_eq!(admin.idle_assets(10, 9).await.unwrap(), [], "not yet");
        assert_eq!(admin.idle_assets(11, 9).await.unwrap(), [(a.clone(), idle)]);
        assert!(!admin.forget_idle_asset(a.clone(), idle, 11).await.unwrap(), "another tenant has it");
        assert!(!admin.forget_idle_asset(a.clone(), kept, 99).await.unwrap(), "a version has it");
        assert_eq!(admin.asset_bytes(a, idle).await.unwrap(), None);
        admin.assets_not_uploaded(b.clone(), vec![idle], 30).await.unwrap();
        assert!(!admin.forget_idle_asset(b.clone(), idle, 21).await.unwrap(), "it was asked for since");
        assert!(admin.forget_idle_asset(b, idle, 31).await.unwrap());
    }
}
