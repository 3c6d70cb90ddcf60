//! Errors as the API answers them: `{"error":{"code","message","mistakes"?}}` with a status.
//!
//! One `match` for each kind of failure, without `_`, so that a new error cannot be forgotten. Whose fault it is decides the
//! status; our own faults are logged with their whole chain and answered without internals.

use artifact::manifest::Mistake;
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use fleet_sync_origin::KvError;
use fleet_sync_proto::kv::Refusal as KvRefusal;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    admin::{
        AdminError, AssetQuotaError, CreateTenantError, CreateTokenError, IdempotencyKeyError,
        SetSecretError, UploadError,
    },
    compiler::CompilerError,
    tokens::Forbidden,
};

/// The body of every refusal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// See [`ErrorBody`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable word for programs.
    pub code: String,
    /// One sentence for people, with the cure when there is one.
    pub message: String,
    /// Every mistake of a configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub mistakes: Vec<Mistake>,
}

/// A refusal with its status.
#[derive(Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub detail: ErrorDetail,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u32>,
}

/// How long a client should wait when we or the compiler are full or away, in seconds.
const RETRY_AFTER_S: u32 = 2;

impl ApiError {
    /// A refusal.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> ApiError {
        let detail = ErrorDetail { code: code.to_owned(), message: message.into(), mistakes: Vec::new() };
        ApiError { status, detail, retry_after_s: None }
    }

    /// The one answer to a missing, wrong, revoked or expired token.
    pub fn unauthorized() -> ApiError {
        let message = "a valid API token is needed: send it as `Authorization: Bearer skt_...`";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// The request is malformed.
    pub fn bad_request(code: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// The thing is not there, in the caller's own tenant.
    pub fn not_found(code: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code, message)
    }

    /// The body is too large.
    pub fn too_large(bytes_max: u64) -> ApiError {
        let message = format!("the body is larger than {bytes_max} bytes, the most this route takes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// No room or no partner right now.
    pub fn unavailable(code: &str, message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        ApiError { retry_after_s: Some(RETRY_AFTER_S), ..error }
    }

    /// Our fault: the log gets the chain, the caller only that it happened.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
        tracing::error!(error = %chain(error), "a request failed by our own fault");
        let message = "the control plane failed; its log says why. The request may be sent again with the same Idempotency-Key";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

/// An error with everything that caused it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Forbidden> for ApiError {
    fn from(error: Forbidden) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", error.to_string())
    }
}

impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> ApiError {
        ApiError::internal(&error)
    }
}

impl From<IdempotencyKeyError> for ApiError {
    fn from(error: IdempotencyKeyError) -> ApiError {
        ApiError::bad_request("bad_idempotency_key", error.to_string())
    }
}

impl From<CreateTenantError> for ApiError {
    fn from(error: CreateTenantError) -> ApiError {
        match &error {
            CreateTenantError::Exists(_) => {
                ApiError::new(StatusCode::CONFLICT, "tenant_exists", error.to_string())
            }
            CreateTenantError::TooMany => ApiError::new(StatusCode::CONFLICT, "quota", error.to_string()),
            CreateTenantError::Store(store) => ApiError::internal(store),
        }
    }
}

impl From<CreateTokenError> for ApiError {
    fn from(error: CreateTokenError) -> ApiError {
        match &error {
            CreateTokenError::NoTenant(_) => ApiError::not_found("no_such_tenant", error.to_string()),
            CreateTokenError::TooMany => ApiError::new(StatusCode::CONFLICT, "quota", error.to_string()),
            CreateTokenError::Store(store) => ApiError::internal(store),
        }
    }
}

impl From<SetSecretError> for ApiError {
    fn from(error: SetSecretError) -> ApiError {
        match &error {
            SetSecretError::AppFull { .. } | SetSecretError::TenantFull => {
                ApiError::new(StatusCode::CONFLICT, "quota", error.to_string())
            }
            SetSecretError::Store(store) => ApiError::internal(store),
        }
    }
}

impl From<KvError> for ApiError {
    fn from(error: KvError) -> ApiError {
        ApiError::internal(&error)
    }
}

impl From<KvRefusal> for ApiError {
    fn from(refusal: KvRefusal) -> ApiError {
        let message = refusal.to_string();
        match refusal {
            KvRefusal::Precondition => {
                ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
            }
            KvRefusal::ValueTooLarge | KvRefusal::MetadataTooLarge => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
            }
            KvRefusal::Invalid { .. } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_value", message)
            }
            KvRefusal::Quota { .. } => ApiError::new(StatusCode::CONFLICT, "quota", message),
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> ApiError {
        match &error {
            UploadError::Quota { .. } => ApiError::new(StatusCode::CONFLICT, "quota", error.to_string()),
            UploadError::Store(store) => ApiError::internal(store),
        }
    }
}

impl From<AssetQuotaError> for ApiError {
    fn from(error: AssetQuotaError) -> ApiError {
        match &error {
            AssetQuotaError::Quota { .. } | AssetQuotaError::Idle(_) => {
                ApiError::new(StatusCode::CONFLICT, "quota", error.to_string())
            }
            AssetQuotaError::Store(store) => ApiError::internal(store),
        }
    }
}

impl From<CompilerError> for ApiError {
    fn from(error: CompilerError) -> ApiError {
        match &error {
            CompilerError::Refused(refusal) => {
                let code = code_word(&refusal.code);
                if error.is_uploads_fault() {
                    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &code, refusal.message.clone())
                } else if error.is_busy() {
                    ApiError::unavailable(
                        "compiler_busy",
                        format!("the compiler is full, try again: {}", refusal.message),
                    )
                } else {
                    let message = format!("the compiler failed, its log says why: {}", refusal.message);
                    tracing::error!(error = %refusal.message, "the compiler failed");
                    ApiError::new(StatusCode::BAD_GATEWAY, "compiler_failed", message)
                }
            }
            CompilerError::Unreachable { .. } | CompilerError::Slow { .. } => {
                tracing::warn!(error = %chain(&error), "no answer from the compiler");
                ApiError::unavailable("compiler_unreachable", error.to_string())
            }
            CompilerError::NoTargets => ApiError::unavailable("compiler_no_targets", error.to_string()),
            CompilerError::Token(_) | CompilerError::TokenRefused { .. } => {
                tracing::error!(error = %chain(&error), "the compiler's shared token does not work");
                ApiError::unavailable("compiler_token", error.to_string())
            }
            CompilerError::Stopping => ApiError::unavailable("stopping", error.to_string()),
            CompilerError::OtherKey { .. }
            | CompilerError::Unreadable { .. }
            | CompilerError::Container { .. }
            | CompilerError::Untrusted { .. }
            | CompilerError::OtherThing { .. } => {
                tracing::error!(error = %chain(&error), "the compiler's answer is not to be believed");
                ApiError::new(StatusCode::BAD_GATEWAY, "compiler_untrusted", error.to_string())
            }
        }
    }
}

/// A closed set of words as it stands in JSON.
pub fn code_word(code: &impl Serialize) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}
