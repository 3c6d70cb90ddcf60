//! Receive: the bytes of a program, bounded, against the digest the client named.

use std::{pin::pin, time::Duration};

use artifact::{Digest, TenantName, compile::WASM_BYTES_MAX};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;

use crate::{
    admin::{AdminError, UploadError},
    api::types::Uploaded,
    clock::now_ms,
    fleet::FleetError,
    plane::Plane,
};

/// Uploads held in memory at once, 64 MiB each at most.
pub const UPLOADS_AT_ONCE_MAX: usize = 8;
/// Longest silence within a body: a client that sends nothing for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How much of a refused body is read and thrown away, and for how long, so that a client that writes before it reads
/// sees our refusal rather than a reset connection.
const DISCARD_BYTES_MAX: u64 = 512 << 20;
const DISCARD_WAIT_MAX: Duration = Duration::from_secs(20);

/// A program is not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// Over [`WASM_BYTES_MAX`], stated or found.
    #[error("a program is at most {WASM_BYTES_MAX} bytes")]
    TooLarge,
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
    /// [`UPLOADS_AT_ONCE_MAX`].
    #[error("{UPLOADS_AT_ONCE_MAX} uploads are under way: try again in a moment")]
    Busy,
    /// The tenant's quota, or the store.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The blob store.
    #[error("keeping the program: check the free space of the data directory")]
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
        return Err(ReceiveError::TooLarge);
    }
    if let Err(full) = plane.admin.check_upload_quota(tenant.clone(), stated_bytes.unwrap_or(0)).await {
        discard(body);
        return Err(full.into());
    }
    let Ok(_slot) = plane.uploads.try_acquire() else {
        discard(body);
        return Err(ReceiveError::Busy);
    };
    let wasm = collect(body, stated_bytes).await?;
    let bytes = wasm.len() as u64;
    let found = digest_of(wasm.clone()).await?;
    if found != named {
        return Err(ReceiveError::DigestMismatch { named, found });
    }
    plane.fleet.keep_blob(wasm).await.map_err(ReceiveError::Blob)?;
    plane.admin.add_upload(tenant.clone(), found, bytes, now_ms()).await?;
    Ok(Uploaded { digest: found, bytes })
}

/// The whole body, at most [`WASM_BYTES_MAX`], whatever its framing says.
async fn collect(body: Body, stated_bytes: Option<u64>) -> Result<Bytes, ReceiveError> {
    let room = stated_bytes.unwrap_or(0).min(WASM_BYTES_MAX);
    let mut wasm = BytesMut::with_capacity(usize::try_from(room).unwrap_or(0));
    let mut body = body;
    loop {
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let frame =
            frame.map_err(|_| ReceiveError::Cut(format!("nothing came for {} s", SILENCE_MAX.as_secs())))?;
        match frame {
            None => return Ok(wasm.freeze()),
            Some(Err(error)) => return Err(ReceiveError::Cut(error.to_string())),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if (wasm.len() + data.len()) as u64 > WASM_BYTES_MAX {
                    discard(body);
                    return Err(ReceiveError::TooLarge);
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
