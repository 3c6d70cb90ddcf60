//! Static files of a version: what of them is missing, whether the index names what is here, and what nobody came back for.
//!
//! Bytes come in by [`super::receive`]. A deploy names an index; every blob of it must have been uploaded by this tenant,
//! lie in the store and be what the index says, or the deploy is refused with the names of the files. From then on the
//! blobs stay, as programs do; what no version is made with for a day is dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use artifact::{
    Digest, TenantName,
    assets::{AssetBlob, AssetIndex, Coding, IndexRef},
    manifest::{AppConfig, Mistake},
};
use fleet_sync_origin::BlobError;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::DeployError;
use crate::{admin::AdminError, clock::now_ms, fleet::FleetError, plane::Plane};

/// Blobs one question may name: 64 hex characters each are a third of what a body may have.
pub const ASKED_MAX: usize = 4096;
/// How long a blob that no version is made with is kept after it was last asked for: a deploy that broke off goes on where it was.
const IDLE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Pause between two looks for those that are older.
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);
/// Blobs dropped at once, while uploads and deploys wait: some ms.
const SWEEP_AT_ONCE_MAX: u32 = 64;
/// Blobs looked at at once.
const LOOKS_AT_ONCE_MAX: usize = 16;
/// Blobs read and hashed at once in one deploy: 25 MiB each, so together less than the program it may hold.
const READS_AT_ONCE_MAX: usize = 2;
/// Files a refusal names; it counts the others.
const NAMED_MAX: usize = 10;

/// Static files that a version will pin.
pub struct Files {
    /// What its record says.
    pub at: IndexRef,
    /// What is there.
    index: AssetIndex,
}

/// Those of `digests` that this tenant is to send: never uploaded by it, or lost since. What others have uploaded makes no
/// difference.
pub async fn missing(
    plane: &Plane,
    tenant: &TenantName,
    digests: Vec<Digest>,
) -> Result<Vec<Digest>, DeployError> {
    let unknown = plane.admin.assets_not_uploaded(tenant.clone(), digests.clone(), now_ms()).await?;
    let unknown: BTreeSet<Digest> = unknown.into_iter().collect();
    let looks = stream::iter(digests).map(|digest| {
        let is_known = !unknown.contains(&digest);
        async move {
            let is_here =
                is_known && plane.fleet.has_blob(digest).await.map_err(|source| lost(digest, source))?;
            Ok::<_, DeployError>((!is_here).then_some(digest))
        }
    });
    looks.buffered(LOOKS_AT_ONCE_MAX).try_filter_map(|missing| async move { Ok(missing) }).try_collect().await
}

/// Reads the index a deploy names, and checks it against what was uploaded.
pub async fn find(
    plane: &Plane,
    tenant: &TenantName,
    index: Digest,
    config: &AppConfig,
) -> Result<Files, DeployError> {
    let absent = || DeployError::AssetsMissing { files: vec!["their index".into()], count: 1 };
    let index_bytes = plane.admin.asset_bytes(tenant.clone(), index).await?.ok_or_else(absent)?;
    let text = match plane.fleet.blob(index).await {
        Ok(text) => text,
        Err(FleetError::Blob(BlobError::Missing(_) | BlobError::Corrupt(_))) => {
            drop_damaged(plane, index).await?;
            return Err(absent());
        }
        Err(source) => return Err(lost(index, source)),
    };
    let at = IndexRef { index, index_bytes };
    // 8 MiB of JSON take a tenth of a second: not on an async thread.
    let read = tokio::task::spawn_blocking(move || AssetIndex::decode(&text)).await;
    let index = read.map_err(|_| AdminError::Stopping("reading an index of static files"))??;
    if let Some(not_found) = config.assets.as_ref().and_then(|assets| assets.not_found.as_ref())
        && !index.files().contains_key(not_found)
    {
        let message =
            format!("there is no static file {not_found:?}: add it to the folder, or leave the key out");
        return Err(DeployError::Config(vec![Mistake::new("assets.not_found", message)]));
    }
    Ok(Files { at, index })
}

/// Every blob of `files` is here and right, and stays, on return.
pub async fn keep(plane: &Plane, tenant: &TenantName, files: &Files) -> Result<(), DeployError> {
    // One name for each: blobs may be shared by files.
    let mut wanted: BTreeMap<Digest, (&str, Coding, &AssetBlob)> = BTreeMap::new();
    for (path, coding, blob) in files.index.blobs() {
        if wanted.insert(blob.digest, (path, coding, blob)).is_some_and(|(_, _, other)| other != blob) {
            return Err(DeployError::AssetsDiffer(path.to_owned()));
        }
    }
    let mut sizes: Vec<(Digest, u64)> =
        wanted.values().map(|(_, _, blob)| (blob.digest, blob.bytes)).collect();
    sizes.push((files.at.index, files.at.index_bytes));
    // Nobody learns anything of bytes that this tenant has not sent. And what was asked for now has a name for a day: the sweeper
    // leaves it alone while it is read, so no lock is held that other deploys and uploads would wait for.
    let digests = sizes.iter().map(|(digest, _)| *digest).collect();
    let missing = plane.admin.assets_not_uploaded(tenant.clone(), digests, now_ms()).await?;
    if !missing.is_empty() {
        return Err(absent(&wanted, &missing));
    }
    let reads: Vec<_> =
        wanted.values().map(|(path, _, blob)| check(plane, (*path).to_owned(), (*blob).clone())).collect();
    let damaged =
        stream::iter(reads).buffer_unordered(READS_AT_ONCE_MAX).try_filter_map(|bad| async move { Ok(bad) });
    let damaged = damaged.try_collect::<Vec<Digest>>().await?;
    // Only what is right is kept: the rest stays within the bound of what no version was made with, and expires.
    if damaged.is_empty() {
        // A row that is there still was never without its bytes; one that is not tells that the clock leapt.
        let missing = plane.admin.keep_assets(tenant.clone(), sizes).await?;
        return if missing.is_empty() { Ok(()) } else { Err(absent(&wanted, &missing)) };
    }
    for digest in &damaged {
        drop_damaged(plane, *digest).await?;
    }
    Err(absent(&wanted, &damaged))
}

/// Is the stored blob what the index says? Its digest, if it is lost or damaged.
async fn check(plane: &Plane, path: String, blob: AssetBlob) -> Result<Option<Digest>, DeployError> {
    let bytes = match plane.fleet.blob(blob.digest).await {
        Ok(bytes) => bytes,
        Err(FleetError::Blob(BlobError::Missing(_) | BlobError::Corrupt(_))) => return Ok(Some(blob.digest)),
        Err(source) => return Err(lost(blob.digest, source)),
    };
    let is_right = match blob.pieces.is_empty() {
        true => bytes.len() as u64 == blob.bytes, // its one digest was checked while it was read
        false => {
            let hashed = tokio::task::spawn_blocking(move || blob.is_of(&bytes)).await;
            hashed.map_err(|_| AdminError::Stopping("hashing a static file"))?
        }
    };
    if is_right { Ok(None) } else { Err(DeployError::AssetsDiffer(path)) }
}

fn absent(wanted: &BTreeMap<Digest, (&str, Coding, &AssetBlob)>, missing: &[Digest]) -> DeployError {
    let name = |digest: &Digest| match wanted.get(digest) {
        Some((path, Coding::Identity, _)) => (*path).to_owned(),
        Some((path, coding, _)) => format!("{path} ({coding})"),
        None => "their index".to_owned(),
    };
    DeployError::AssetsMissing {
        files: missing.iter().take(NAMED_MAX).map(name).collect(),
        count: missing.len(),
    }
}

fn lost(digest: Digest, source: FleetError) -> DeployError {
    DeployError::Blob { what: format!("the static file {digest}"), source }
}

/// Takes a damaged blob away, so that it is missing and sent again. Nobody writes meanwhile.
async fn drop_damaged(plane: &Plane, digest: Digest) -> Result<(), DeployError> {
    let _alone = plane.sweeping.write().await;
    if let Err(FleetError::Blob(error @ BlobError::Corrupt(_))) = plane.fleet.blob(digest).await {
        tracing::warn!(%error, "a damaged static file is asked for again");
        plane.fleet.drop_blob(digest).await.map_err(|source| lost(digest, source))?;
    }
    Ok(())
}

/// Drops what expired, at once and then hourly. Runs until dropped.
pub async fn sweep(plane: Arc<Plane>) {
    loop {
        if let Err(error) = sweep_at(&plane, now_ms()).await {
            tracing::warn!(error = %crate::api::error::chain(&error), "dropping static files that expired");
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

/// Drops what has expired at this time.
async fn sweep_at(plane: &Plane, now_ms: u64) -> Result<(), DeployError> {
    let before_ms = now_ms.saturating_sub(IDLE_KEPT.as_millis() as u64);
    loop {
        let _alone = plane.sweeping.write().await;
        let idle = plane.admin.idle_assets(before_ms, SWEEP_AT_ONCE_MAX).await?;
        if idle.is_empty() {
            return Ok(());
        }
        for (tenant, digest) in idle {
            // Row first: bytes without a row are lost room, a row without bytes would be a lie.
            if plane.admin.forget_idle_asset(tenant, digest, before_ms).await? {
                plane.fleet.drop_blob(digest).await.map_err(|source| lost(digest, source))?;
            }
        }
    }
}
