//! What every write has in common: it runs to its end though the client is gone, it leaves an audit row, and under an
//! `Idempotency-Key` it happens once and is answered alike each time.
//!
//! The keys of key-value writes are a space of their own, kept beside the values (`kv`): nothing here looks there, so a key
//! that such a write used is free for one of these. Only the other way round is it refused.

use std::sync::Arc;

use artifact::{Digest, TenantName};
use serde::{Serialize, de::DeserializeOwned};

use super::error::ApiError;
use crate::{
    admin::{Answer, AuditRow, IdempotencyKey},
    clock::now_ms,
    plane::Plane,
    tokens::Caller,
};

/// Runs `work` under an audit row, on a task of its own: a client that hangs up does not stop it half way.
pub async fn audited<T, F>(
    plane: &Arc<Plane>,
    caller: &Caller,
    action: &'static str,
    object: String,
    work: F,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>> + Send + 'static,
{
    let row = AuditRow {
        time_ms: now_ms(),
        token: caller.token_id.clone(),
        tenant: caller.tenant.to_string(),
        action: action.to_owned(),
        object: object.clone(),
        outcome: String::new(),
    };
    let plane = Arc::clone(plane);
    let task = tokio::spawn(async move {
        let seq = plane.admin.audit_begin(row.clone()).await?;
        let done = work.await;
        let outcome = match &done {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => format!("refused {}", refusal.detail.code),
        };
        tracing::info!(token = row.token, tenant = row.tenant, action, object, outcome, "write");
        plane.admin.audit_end(seq, outcome).await?;
        done
    });
    task.await.unwrap_or_else(|error| Err(ApiError::internal(&error)))
}

/// The key under which the origin refuses a second append: a tenant's keys are its own.
pub fn log_key(tenant: &TenantName, key: Option<&IdempotencyKey>) -> Option<String> {
    key.map(|key| format!("{tenant}/{key}"))
}

/// One answer for one key. Two requests with the same key wait for each other; another request under a used key is
/// refused. Without a key, `work` simply runs.
pub async fn once<T, F>(
    plane: &Arc<Plane>,
    tenant: &TenantName,
    key: Option<&IdempotencyKey>,
    request: &impl Serialize,
    work: F,
) -> Result<T, ApiError>
where
    T: Serialize + DeserializeOwned,
    F: Future<Output = Result<T, ApiError>>,
{
    let Some(key) = key else { return work.await };
    let _turn = plane.only_one(tenant, key).await;
    let text = serde_json::to_vec(request).map_err(|error| ApiError::internal(&error))?;
    let request = Digest::of(&text);
    if let Some(given) = answered(plane, tenant, key, request).await? {
        return Ok(given);
    }
    let done = work.await?;
    let body = serde_json::to_string(&done).map_err(|error| ApiError::internal(&error))?;
    plane.admin.remember_answer(tenant.clone(), key.clone(), Answer { request, body }, now_ms()).await?;
    Ok(done)
}

/// The answer that this key's request got already. Another request under a used key is refused.
pub async fn answered<T: DeserializeOwned>(
    plane: &Plane,
    tenant: &TenantName,
    key: &IdempotencyKey,
    request: Digest,
) -> Result<Option<T>, ApiError> {
    match plane.admin.answer(tenant.clone(), key.clone()).await? {
        None => Ok(None),
        Some(given) if given.request != request => Err(key_reused()),
        Some(given) => {
            serde_json::from_str(&given.body).map(Some).map_err(|error| ApiError::internal(&error))
        }
    }
}

/// The client's mistake: it would be told of a write that is not the one it asked for.
pub fn key_reused() -> ApiError {
    let message = "this Idempotency-Key was used for another request: make a new key for each write";
    ApiError::new(http::StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
}
