//! Which tenant has uploaded which program. The bytes are in the blob store, shared by digest; this table decides who
//! may name them, so that nobody learns what others have uploaded.

use artifact::{Digest, TenantName};
use rusqlite::OptionalExtension as _;

use super::{Admin, AdminError, Failure};

/// Programs one tenant may keep: ten thousand apps' worth.
pub const UPLOADS_PER_TENANT_MAX: u32 = 10_000;
/// Bytes of programs one tenant may keep: 16 GiB, so that one tenant cannot fill a small disk of 64 GB.
pub const UPLOAD_BYTES_PER_TENANT_MAX: u64 = 16 << 30;

/// An upload is not kept.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// [`UPLOADS_PER_TENANT_MAX`] or [`UPLOAD_BYTES_PER_TENANT_MAX`].
    #[error(
        "the tenant keeps {count} programs of {bytes} bytes; at most {UPLOADS_PER_TENANT_MAX} and \
         {UPLOAD_BYTES_PER_TENANT_MAX} bytes are kept: ask the operator for a second tenant"
    )]
    Quota {
        /// Programs kept now.
        count: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] AdminError),
}

impl Admin {
    /// Is there room for `bytes` more? Asked before the body is read.
    pub async fn check_upload_quota(&self, tenant: TenantName, bytes: u64) -> Result<(), UploadError> {
        self.run("checking the upload quota", move |store| quota(store, &tenant, bytes)).await
    }

    /// Remembers an upload whose bytes are in the blob store, or are about to be. Doing so twice changes nothing.
    pub async fn add_upload(
        &self,
        tenant: TenantName,
        digest: Digest,
        bytes: u64,
        now_ms: u64,
    ) -> Result<(), UploadError> {
        self.run("recording an upload", move |store| {
            let known: Option<i64> = store
                .query_row(
                    "SELECT 1 FROM uploads WHERE tenant = ?1 AND digest = ?2",
                    (tenant.as_str(), digest.to_string()),
                    |row| row.get(0),
                )
                .optional()?;
            if known.is_some() {
                return Ok(());
            }
            quota(store, &tenant, bytes)?;
            store.execute(
                "INSERT INTO uploads(tenant, digest, bytes, created_ms) VALUES (?1, ?2, ?3, ?4)",
                (tenant.as_str(), digest.to_string(), bytes as i64, now_ms as i64),
            )?;
            Ok(())
        })
        .await
    }

    /// The size in bytes of a program this tenant has uploaded.
    pub async fn upload_bytes(&self, tenant: TenantName, digest: Digest) -> Result<Option<u64>, AdminError> {
        self.run("looking up an upload", move |store| {
            let bytes: Option<i64> = store
                .query_row(
                    "SELECT bytes FROM uploads WHERE tenant = ?1 AND digest = ?2",
                    (tenant.as_str(), digest.to_string()),
                    |row| row.get(0),
                )
                .optional()?;
            Ok(bytes.map(|bytes| bytes as u64))
        })
        .await
    }
}

fn quota(
    store: &rusqlite::Transaction<'_>,
    tenant: &TenantName,
    more: u64,
) -> Result<(), Failure<UploadError>> {
    let (count, bytes): (u32, i64) = store.query_row(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM uploads WHERE tenant = ?1",
        [tenant.as_str()],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let bytes = bytes as u64;
    if count >= UPLOADS_PER_TENANT_MAX || bytes.saturating_add(more) > UPLOAD_BYTES_PER_TENANT_MAX {
        return Err(Failure::Refused(UploadError::Quota { count, bytes }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_upload_is_known_to_its_tenant_alone_and_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let admin = Admin::open(&folder.path().join("admin.sqlite")).unwrap();
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        admin.create_tenant(a.clone(), 1).await.unwrap();
        admin.create_tenant(b.clone(), 1).await.unwrap();
        let digest = Digest::of(b"wasm");
        let most = UPLOAD_BYTES_PER_TENANT_MAX;
        for _ in 0..2 {
            admin.add_upload(a.clone(), digest, most, 1).await.unwrap();
        }
        assert_eq!(admin.upload_bytes(a.clone(), digest).await.unwrap(), Some(most));
        assert_eq!(admin.upload_bytes(b.clone(), digest).await.unwrap(), None);
        let full = admin.add_upload(a.clone(), Digest::of(b"more"), 1, 1).await.unwrap_err();
        assert!(matches!(full, UploadError::Quota { count: 1, .. }), "{full}");
        assert!(admin.check_upload_quota(a, 1).await.is_err());
        admin.check_upload_quota(b, most).await.unwrap();
    }
}
