//! Blobs of static files: `POST /v1/assets/missing` and `PUT /v1/assets/{sha256}`.
//!
//! A blob leaves no audit row: nobody sees it before a deploy, whose row there is, and a site may have 30,000 of them.

use std::sync::Arc;

use artifact::{Digest, assets::FILE_BYTES_MAX};
use axum::{Json, body::Body, extract::State};
use http::{HeaderMap, StatusCode, header};

use super::{
    body::{self, Named},
    error::{ApiError, ErrorBody},
    types::{AskMissing, Missing, Uploaded},
};
use crate::{
    plane::Plane,
    tokens::{Action, Caller},
    upload::{ASKED_MAX, missing_assets, receive_asset},
};

/// Which of these blobs of static files does the tenant have to send? Says nothing of what other tenants have sent.
#[utoipa::path(
    post, path = "/v1/assets/missing", tag = "apps", security(("token" = [])), request_body = AskMissing,
    responses((status = 200, body = Missing), (status = 422, body = ErrorBody))
)]
pub async fn ask_missing(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    body::Json(ask): body::Json<AskMissing>,
) -> Result<Json<Missing>, ApiError> {
    caller.allow_somewhere(&[Action::Deploy])?;
    if ask.digests.len() > ASKED_MAX {
        let message = format!("{} digests, at most {ASKED_MAX}: ask in several calls", ask.digests.len());
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "too_many", message));
    }
    Ok(Json(Missing { missing: missing_assets(&plane, &caller.tenant, ask.digests).await? }))
}

/// Keep a blob of static files: the raw bytes, at most 25 MiB, whose sha-256 is in the path. It expires after a day unless a
/// version is made with it.
#[utoipa::path(
    put, path = "/v1/assets/{sha256}", tag = "apps", security(("token" = [])),
    params(("sha256" = String, Path, description = "64 lower-case hex characters")),
    request_body(content_type = "application/octet-stream", content = String, description = "The bytes"),
    responses((status = 201, body = Uploaded), (status = 413, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub async fn put_asset(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(digest): Named<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Uploaded>), ApiError> {
    caller.allow_somewhere(&[Action::Deploy])?;
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let kept = receive_asset(&plane, &caller.tenant, digest, stated, body).await?;
    tracing::debug!(token = caller.token_id, tenant = %caller.tenant, %digest, "a static file was uploaded");
    Ok((StatusCode::CREATED, Json(kept)))
}

const _: () = assert!(FILE_BYTES_MAX == 25 << 20, "put_asset's documentation names it");
