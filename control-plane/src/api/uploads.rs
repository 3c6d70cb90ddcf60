//! Programs: `PUT` and `HEAD /v1/wasm/{sha256}`.

use std::sync::Arc;

use artifact::Digest;
use axum::{Json, body::Body, extract::State};
use http::{HeaderMap, StatusCode, header};

use super::{
    body::Named,
    error::{ApiError, ErrorBody},
    types::{Queued, Uploaded},
    write::audited,
};
use crate::{
    plane::Plane,
    tokens::{Action, Caller},
    upload::{ReceiveError, receive},
};

/// Keep a program: the raw bytes, at most 64 MiB, whose sha-256 is in the path.
#[utoipa::path(
    put, path = "/v1/wasm/{sha256}", tag = "apps", security(("token" = [])),
    params(("sha256" = String, Path, description = "64 lower-case hex characters")),
    request_body(content_type = "application/wasm", content = String, description = "The program's bytes"),
    responses((status = 201, body = Uploaded), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub async fn put_wasm(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(digest): Named<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Uploaded>), ApiError> {
    caller.allow_somewhere(&[Action::Deploy])?;
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let (work_plane, tenant) = (Arc::clone(&plane), caller.tenant.clone());
    let work = async move { Ok(receive(&work_plane, &tenant, digest, stated, body).await?) };
    let kept = audited(&plane, &caller, "upload", digest.to_string(), work).await?;
    Ok((StatusCode::CREATED, Json(kept)))
}

/// Is the program kept for this tenant? Says nothing of other tenants' programs.
#[utoipa::path(
    head, path = "/v1/wasm/{sha256}", tag = "apps", security(("token" = [])),
    params(("sha256" = String, Path, description = "64 lower-case hex characters")),
    responses((status = 200, description = "It is kept"), (status = 404, description = "Send it"))
)]
pub async fn head_wasm(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(digest): Named<Digest>,
) -> Result<StatusCode, ApiError> {
    caller.allow_somewhere(&[Action::Deploy])?;
    let kept = plane.admin.upload_bytes(caller.tenant, digest).await?;
    Ok(if kept.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND })
}

/// Where this tenant's compiles of the program wait in the compiler's queue. Says nothing of other tenants' programs.
#[utoipa::path(
    get, path = "/v1/wasm/{sha256}/queue", tag = "apps", security(("token" = [])),
    params(("sha256" = String, Path, description = "64 lower-case hex characters")),
    responses((status = 200, body = Queued), (status = 503, body = ErrorBody))
)]
pub async fn wasm_queue(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(digest): Named<Digest>,
) -> Result<Json<Queued>, ApiError> {
    caller.allow_somewhere(&[Action::Deploy])?;
    let artifact::compile::Queued { waiting, position } =
        plane.compiler.queued(&caller.tenant, digest).await?;
    Ok(Json(Queued { waiting, position }))
}

impl From<ReceiveError> for ApiError {
    fn from(error: ReceiveError) -> ApiError {
        let message = error.to_string();
        match error {
            ReceiveError::TooLarge(bytes_max) => ApiError::too_large(bytes_max),
            ReceiveError::DigestMismatch { .. } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch", message)
            }
            ReceiveError::Cut(_) => ApiError::bad_request("body_cut", message),
            ReceiveError::TooSlow { .. } => ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message),
            ReceiveError::Busy => ApiError::unavailable("busy", message),
            ReceiveError::Upload(error) => error.into(),
            ReceiveError::Asset(error) => error.into(),
            ReceiveError::Blob(_) => ApiError::internal(&error),
        }
    }
}
