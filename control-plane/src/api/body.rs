//! What comes with a request besides its caller, each with our own refusals.

use std::{str::FromStr, time::Duration};

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::{admin::IdempotencyKey, upload::discard};

/// Largest JSON body: 128 KiB of configuration, of which JSON escapes may make six times as much.
pub const JSON_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a JSON body.
const JSON_WAIT_MAX: Duration = Duration::from_secs(20);

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, ApiError> {
        let too_large = || ApiError::too_large(JSON_BYTES_MAX as u64);
        let body = request.into_body();
        if http_body::Body::size_hint(&body).lower() > JSON_BYTES_MAX as u64 {
            discard(body);
            return Err(too_large());
        }
        let collected =
            tokio::time::timeout(JSON_WAIT_MAX, Limited::new(body, JSON_BYTES_MAX).collect()).await;
        let bytes = match collected {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(error)) => {
                return Err(ApiError::bad_request("body_cut", format!("the body ended early: {error}")));
            }
            Err(_) => {
                let message = format!("the body did not come within {} s", JSON_WAIT_MAX.as_secs());
                return Err(ApiError::bad_request("body_slow", message));
            }
        };
        // An absent body is an empty object: every field of some requests has a default.
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let read = serde_json::from_slice(text);
        read.map(Json)
            .map_err(|error| ApiError::bad_request("bad_json", format!("the body does not read: {error}")))
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
