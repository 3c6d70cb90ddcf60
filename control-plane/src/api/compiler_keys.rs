//! Compiler keys: which are trusted, and what they say of each other. Operators only, and an operator makes no key trusted: a
//! change is signed by one that is (docs/design/0025-key-rotation.md).

use std::sync::Arc;

use artifact::{
    key_change::{KeyChange, KeyChangeError, Verb},
    keyring::KeyRefusal,
    keys::{Compiler, PublicKey},
    record::{Body, Rev},
};
use axum::{Json, extract::State};
use fleet_sync_proto::CompilerKeys;
use http::StatusCode;

use super::{
    body,
    error::{ApiError, ErrorBody, chain},
    types::{AddKeyChange, AddedKeyChange, CompilerKeySummary},
    write::audited,
};
use crate::{clock::now_ms, fleet::PublishFailure, plane::Plane, tokens::Caller};

/// How far a change's serial may be ahead of our clock: as two clocks may differ. One from next year would let none follow it
/// until then.
const SERIAL_AHEAD_MS_MAX: u64 = 5 * 60 * 1000;

/// Every compiler key that the release log knows, those trusted now first.
#[utoipa::path(
    get, path = "/v1/compiler-keys", tag = "operator", security(("token" = [])),
    responses((status = 200, body = Vec<CompilerKeySummary>))
)]
pub async fn list_compiler_keys(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
) -> Result<Json<Vec<CompilerKeySummary>>, ApiError> {
    caller.allow_operator()?;
    let keys = plane.fleet.compiler_keys();
    let all = keys.ring().trusted().iter().chain(keys.ring().revoked());
    Ok(Json(all.map(|key| summary(&keys, key)).collect()))
}

/// Publish what one compiler key says of another: nodes follow if they trust the signer. The same change again is answered
/// alike and changes nothing.
#[utoipa::path(
    post, path = "/v1/compiler-keys", tag = "operator", security(("token" = [])), request_body = AddKeyChange,
    responses(
        (status = 200, body = AddedKeyChange), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody)
    )
)]
pub async fn add_key_change(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    body::Json(request): body::Json<AddKeyChange>,
) -> Result<Json<AddedKeyChange>, ApiError> {
    caller.allow_operator()?;
    let change = KeyChange::from_text(&request.change)?;
    check_serial(&change)?;
    let (work_plane, actor, object) = (Arc::clone(&plane), caller.token_id.clone(), change.to_string());
    let work = async move { publish(&work_plane, actor, change).await };
    Ok(Json(audited(&plane, &caller, "compiler-key.add", object, work).await?))
}

async fn publish(plane: &Plane, actor: String, change: KeyChange) -> Result<AddedKeyChange, ApiError> {
    let added = |rev: Rev, change: &KeyChange| AddedKeyChange {
        rev,
        signer: change.signer().id().to_string(),
        verb: change.verb(),
        key: change.key().id().to_string(),
    };
    let wanted = change.clone();
    let decide = move |view: &fleet_sync_proto::FleetView| {
        if view.compiler_keys.changes().contains(&wanted) {
            return Err(NoRecord::There(view.rev));
        }
        view.compiler_keys.check(&wanted)?;
        Ok(vec![Body::KeyChange { change: wanted.envelope().clone() }])
    };
    match plane.fleet.publish(actor, None, decide).await {
        Ok(rev) => {
            tracing::warn!(rev, "{change}: the fleet follows");
            Ok(added(rev, &change))
        }
        Err(PublishFailure::Refused(NoRecord::There(rev))) => Ok(added(rev, &change)),
        Err(PublishFailure::Refused(NoRecord::Refused(refusal))) => {
            Err(ApiError::new(StatusCode::CONFLICT, "change_refused", refusal.to_string()))
        }
        Err(PublishFailure::Fleet(error)) => Err(ApiError::internal(&error)),
    }
}

fn check_serial(change: &KeyChange) -> Result<(), ApiError> {
    let (serial, now) = (change.serial(), now_ms());
    if serial <= now.saturating_add(SERIAL_AHEAD_MS_MAX) {
        return Ok(());
    }
    let message = format!(
        "its serial is {serial}, the time in milliseconds is {now}: correct the clock that signed it and sign it anew, or no later change is taken until then"
    );
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "serial_ahead", message))
}

/// Why there is nothing to publish.
#[derive(Debug, thiserror::Error)]
enum NoRecord {
    #[error("the log has this very change, and is at rev {0}")]
    There(Rev),
    #[error(transparent)]
    Refused(#[from] KeyRefusal),
}

fn summary(keys: &CompilerKeys, key: &PublicKey<Compiler>) -> CompilerKeySummary {
    let by = |verb: Verb| {
        let said = keys.changes().iter().find(|change| change.key() == *key && change.verb() == verb);
        said.map(|change| change.signer().id().to_string())
    };
    CompilerKeySummary {
        id: key.id().to_string(),
        key: key.to_text().trim_end().to_owned(),
        trusted: keys.ring().trusts(key),
        endorsed_by: by(Verb::Endorses),
        revoked_by: by(Verb::Revokes),
    }
}

impl From<KeyChangeError> for ApiError {
    fn from(error: KeyChangeError) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_change", chain(&error))
    }
}
