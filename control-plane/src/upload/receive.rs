//! Receive: the bytes of a program or a static file, bounded, against the digest the client named.

use std::{pin::pin, sync::Arc, time::Duration};

use artifact::{Digest, TenantName, assets::FILE_BYTES_MAX, compile::WASM_BYTES_MAX};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::{
    admin::{AdminError, AssetQuotaError, UploadError},
    api::types::Uploaded,
    clock::now_ms,
    fleet::FleetError,
    plane::Plane,
};

/// Uploads held in memory at once, 64 MiB each at most.
pub const UPLOADS_AT_ONCE_MAX: usize = 8;
/// Of them for one tenant: nobody's slow line keeps the others out.
pub const UPLOADS_OF_TENANT_MAX: usize = 2;
/// Longest wait for one of these places. The body is not read meanwhile, so nothing lies in memory.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(30);
/// How fast a body must come.
const PACE: Pace =
    Pace { silence_max: Duration::from_secs(30), grace: Duration::from_secs(10), bytes_per_s_min: 16 * 1024 };
/// How much of a refused body is read and thrown away, and for how long, so that a client that writes before it reads
/// sees our refusal rather than a reset connection.
const DISCARD_BYTES_MAX: u64 = 512 << 20;
const DISCARD_WAIT_MAX: Duration = Duration::from_secs(20);

/// Bounds on a slow body: it may be held in memory for 68 minutes at the slowest pace, and then it is whole.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Longest silence: a client that sends nothing for so long is gone.
    silence_max: Duration,
    /// Before this time no average is taken.
    grace: Duration,
    /// Least average since the body's start.
    bytes_per_s_min: u64,
}

impl Pace {
    /// Until when a body that began at `start` and has `bytes` may take for its next piece, and what is wrong then.
    fn patience(&self, start: Instant, bytes: u64) -> (Instant, ReceiveError) {
        let silent = Instant::now() + self.silence_max;
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / self.bytes_per_s_min.max(1));
        let slow = start + earned.max(self.grace);
        match slow < silent {
            true => (slow, ReceiveError::TooSlow { bytes, bytes_per_s_min: self.bytes_per_s_min }),
            false => {
                (silent, ReceiveError::Cut(format!("nothing came for {} s", self.silence_max.as_secs())))
            }
        }
    }
}

/// An upload is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Over [`WASM_BYTES_MAX`] or [`FILE_BYTES_MAX`], stated or found.
    #[error("this upload is at most {0} bytes")]
    TooLarge(u64),
    /// The bytes have another digest.
    #[error(
        "the body's sha-256 is {found}, the path names {named}: the upload was cut or altered on its way"
    )]
    DigestMismatch {
        /// In the path.
        named: Digest,
        /// Of the body.
        found: Digest,
    },
    /// The client went away or fell silent.
    #[error("the body ended early: {0}")]
    Cut(String),
    /// Under the least average.
    #[error(
        "the body came too slowly, {bytes} bytes so far, at least {bytes_per_s_min} bytes/s are needed: upload over a better line"
    )]
    TooSlow {
        /// What had come.
        bytes: u64,
        /// What is needed.
        bytes_per_s_min: u64,
    },
    /// [`UPLOADS_AT_ONCE_MAX`], [`UPLOADS_OF_TENANT_MAX`].
    #[error(
        "{UPLOADS_OF_TENANT_MAX} uploads of this tenant or {UPLOADS_AT_ONCE_MAX} of all are under way: try again in a moment"
    )]
    Busy,
    /// The tenant's quota, or the store.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The same for static files.
    #[error(transparent)]
    Asset(#[from] AssetQuotaError),
    /// The blob store.
    #[error("keeping an upload: check the free space of the data directory")]
    Blob(#[source] FleetError),
}

impl From<AdminError> for ReceiveError {
    fn from(error: AdminError) -> ReceiveError {
        ReceiveError::Upload(error.into())
    }
}

/// Bounds, then bytes, then digest, then the blob store, then the tenant's list: what is listed is durable.
pub async fn receive(
    plane: &Plane,
    tenant: &TenantName,
    named: Digest,
    stated_bytes: Option<u64>,
    body: Body,
) -> Result<Uploaded, ReceiveError> {
    if stated_bytes.is_some_and(|bytes| bytes > WASM_BYTES_MAX) {
        discard(body);
        return Err(ReceiveError::TooLarge(WASM_BYTES_MAX));
    }
    if let Err(full) = plane.admin.check_upload_quota(tenant.clone(), stated_bytes.unwrap_or(0)).await {
        discard(body);
        return Err(full.into());
    }
    let Ok(_place) = tokio::time::timeout(PLACE_WAIT_MAX, plane.uploads.place(tenant)).await else {
        discard(body);
        return Err(ReceiveError::Busy);
    };
    let wasm = collect(body, stated_bytes, WASM_BYTES_MAX, PACE).await?;
    let bytes = wasm.len() as u64;
    let found = digest_of(wasm.clone()).await?;
    if found != named {
        return Err(ReceiveError::DigestMismatch { named, found });
    }
    let _not_swept = plane.sweeping.read().await;
    plane.fleet.keep_blob(wasm).await.map_err(ReceiveError::Blob)?;
    plane.admin.add_upload(tenant.clone(), found, bytes, now_ms()).await?;
    Ok(Uploaded { digest: found, bytes })
}

/// The same for a blob of static files, at most [`FILE_BYTES_MAX`]. Its row stands before its bytes do, so
/// nothing lies in the store that nobody knows of.
pub async fn receive_asset(
    plane: &Arc<Plane>,
    tenant: &TenantName,
    named: Digest,
    stated_bytes: Option<u64>,
    body: Body,
) -> Result<Uploaded, ReceiveError> {
    if stated_bytes.is_some_and(|bytes| bytes > FILE_BYTES_MAX) {
        discard(body);
        return Err(ReceiveError::TooLarge(FILE_BYTES_MAX));
    }
    if let Err(full) = plane.admin.check_asset_quota(tenant.clone(), stated_bytes.unwrap_or(0)).await {
        discard(body);
        return Err(full.into());
    }
    let Ok(_place) = tokio::time::timeout(PLACE_WAIT_MAX, plane.uploads.place(tenant)).await else {
        discard(body);
        return Err(ReceiveError::Busy);
    };
    let file = collect(body, stated_bytes, FILE_BYTES_MAX, PACE).await?;
    let bytes = file.len() as u64;
    let found = digest_of(file.clone()).await?;
    if found != named {
        return Err(ReceiveError::DigestMismatch { named, found });
    }
    // A task of its own: a client that hangs up does not stop it half way.
    let (plane, tenant) = (Arc::clone(plane), tenant.clone());
    let keeping = tokio::spawn(async move {
        let _not_swept = plane.sweeping.read().await;
        plane.admin.add_asset(tenant, found, bytes, now_ms()).await?;
        plane.fleet.keep_blob(file).await.map_err(ReceiveError::Blob)
    });
    keeping.await.map_err(|_| AdminError::Stopping("keeping a static file"))??;
    Ok(Uploaded { digest: found, bytes })
}

/// The whole body, at most `bytes_max`, whatever its framing says.
async fn collect(
    body: Body,
    stated_bytes: Option<u64>,
    bytes_max: u64,
    pace: Pace,
) -> Result<Bytes, ReceiveError> {
    let room = stated_bytes.unwrap_or(0).min(bytes_max);
    let mut wasm = BytesMut::with_capacity(usize::try_from(room).unwrap_or(0));
    let mut body = body;
    let start = Instant::now();
    loop {
        let (until, fault) = pace.patience(start, wasm.len() as u64);
        let Ok(frame) = tokio::time::timeout_at(until, body.frame()).await else { return Err(fault) };
        match frame {
            None => return Ok(wasm.freeze()),
            Some(Err(error)) => return Err(ReceiveError::Cut(error.to_string())),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if (wasm.len() + data.len()) as u64 > bytes_max {
                    discard(body);
                    return Err(ReceiveError::TooLarge(bytes_max));
                }
                wasm.extend_from_slice(&data);
            }
        }
    }
}

/// 64 MiB take about 0.2 s to hash: not on an async thread.
async fn digest_of(wasm: Bytes) -> Result<Digest, ReceiveError> {
    let hashed = tokio::task::spawn_blocking(move || Digest::of(&wasm)).await;
    hashed.map_err(|_| ReceiveError::Upload(UploadError::Store(AdminError::Stopping("hashing an upload"))))
}

/// Reads on in the background while the refusal is already on its way.
pub fn discard(body: Body) {
    tokio::spawn(tokio::time::timeout(DISCARD_WAIT_MAX, async move {
        let mut body = pin!(body);
        let mut left = DISCARD_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            if left == 0 {
                return;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Pace = Pace {
        silence_max: Duration::from_secs(5),
        grace: Duration::from_millis(200),
        bytes_per_s_min: 1000,
    };

    /// One piece of 20 bytes every `pause`, 20 times.
    fn trickle(pause: Duration) -> Body {
        Body::from_stream(futures_util::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(pause).await;
            (sent < 20).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(&[0; 20])), sent + 1))
        }))
    }

    #[tokio::test]
    async fn a_trickling_body_is_refused_after_the_grace_and_a_steady_one_is_taken() {
        let start = Instant::now();
        let refused = collect(trickle(Duration::from_millis(60)), None, 1000, QUICK).await.unwrap_err();
        assert!(matches!(refused, ReceiveError::TooSlow { .. }), "{refused:?}");
        assert!(start.elapsed() < Duration::from_millis(800), "not held to its end: {:?}", start.elapsed());
        let taken = collect(trickle(Duration::from_millis(2)), None, 1000, QUICK).await.unwrap();
        assert_eq!(taken.len(), 400);
    }
}
