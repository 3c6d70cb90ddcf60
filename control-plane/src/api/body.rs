//! What comes with a request besides its caller, each with our own refusals.

use std::{str::FromStr, time::Duration};

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::{admin::IdempotencyKey, upload::discard};

/// Largest JSON body: 128 KiB of configuration, of which JSON escapes may make six times as much.
pub const JSON_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a body: 8 MiB at 4 Mbit/s.
const BODY_WAIT_MAX: Duration = Duration::from_secs(20);

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, ApiError> {
        let bytes = collect(request.into_body(), JSON_BYTES_MAX).await?;
        // An absent body is an empty object: every field of some requests has a default.
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let read = serde_json::from_slice(text);
        read.map(Json)
            .map_err(|error| ApiError::bad_request("bad_json", format!("the body does not read: {error}")))
    }
}

/// A body's bytes as they are, at most `MAX` of them.
pub struct Raw<const MAX: usize>(pub Bytes);

impl<const MAX: usize, S: Send + Sync> FromRequest<S> for Raw<MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Raw<MAX>, ApiError> {
        collect(request.into_body(), MAX).await.map(Raw)
    }
}

async fn collect(body: axum::body::Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::too_large(bytes_max as u64);
    if http_body::Body::size_hint(&body).lower() > bytes_max as u64 {
        discard(body);
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_WAIT_MAX, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::bad_request("body_cut", format!("the body ended early: {error}"))),
        Err(_) => {
            let message = format!("the body did not come within {} s", BODY_WAIT_MAX.as_secs());
            Err(ApiError::bad_request("body_slow", message))
        }
    }
}

/// The two parameters of a path, parsed.
pub struct NamedTwo<A, B>(pub A, pub B);

impl<A, B, S> FromRequestParts<S> for NamedTwo<A, B>
where
    A: FromStr<Err: std::fmt::Display>,
    B: FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<NamedTwo<A, B>, ApiError> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad_request("bad_path", error.body_text()))?;
        let bad = |error: String| ApiError::bad_request("bad_name", error);
        let first = first.parse().map_err(|error: A::Err| bad(error.to_string()))?;
        let second = second.parse().map_err(|error: B::Err| bad(error.to_string()))?;
        Ok(NamedTwo(first, second))
    }
}

/// The one parameter of a path, parsed.
pub struct Named<T>(pub T);

impl<T, S> FromRequestParts<S> for Named<T>
where
    T: FromStr<Err: std::fmt::Display>,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named<T>, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad_request("bad_path", error.body_text()))?;
        text.parse().map(Named).map_err(|error: T::Err| ApiError::bad_request("bad_name", error.to_string()))
    }
}

/// The query, parsed; unknown keys are refused.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, ApiError> {
        let Query(query) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad_request("bad_query", error.body_text()))?;
        Ok(Asked(query))
    }
}

/// The header `Idempotency-Key`, if there is one.
pub struct RequestKey(pub Option<IdempotencyKey>);

impl<S: Send + Sync> FromRequestParts<S> for RequestKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<RequestKey, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(RequestKey(None)) };
        // What is not even text is no key either.
        Ok(RequestKey(Some(value.to_str().unwrap_or("").parse()?)))
    }
}
