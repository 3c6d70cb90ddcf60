//! API tokens: hand out, list, revoke. Nobody hands out more than he has.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use http::{HeaderMap, StatusCode};

use super::{
    auth::TENANT_HEADER,
    body::{self, Named},
    error::{ApiError, ErrorBody},
    types::{CreateToken, CreatedToken, TokenSummary},
    write::audited,
};
use crate::{
    admin::{Admin, CreateTokenError, StoredToken},
    clock::now_ms,
    plane::Plane,
    random,
    tokens::{Action, Caller, Forbidden, Grant, Scope, TokenText},
};

/// Longest life of a token that ends: ten years.
const TTL_S_MAX: u64 = 10 * 365 * 24 * 3600;

/// Hand out a token. Its text is in this answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", security(("token" = [])), request_body = CreateToken,
    responses((status = 201, body = CreatedToken), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub async fn create_token(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    body::Json(request): body::Json<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), ApiError> {
    caller.allow_somewhere(&[Action::Admin])?;
    let grant = asked_grant(&caller, &request)?;
    caller.allow_grant(&grant)?;
    let object = format!("{grant:?}");
    let (work_plane, actor, ttl_s) = (Arc::clone(&plane), caller.token_id.clone(), request.ttl_s);
    let work = async move { Ok(issue(&work_plane.admin, grant, ttl_s, actor).await?) };
    let (id, text, expires_ms) = audited(&plane, &caller, "token.create", object, work).await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { id, token: text.expose().to_owned(), expires_ms })))
}

fn asked_grant(caller: &Caller, request: &CreateToken) -> Result<Grant, ApiError> {
    let wrong = |message: &str| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_token_request", message);
    if request.actions.is_empty() {
        return Err(wrong("a token needs at least one of the actions deploy, read, admin"));
    }
    if request.ttl_s.is_some_and(|ttl_s| ttl_s == 0 || ttl_s > TTL_S_MAX) {
        return Err(wrong(
            "ttl_s is 1 second to ten years; leave it out for a token that lives until it is revoked",
        ));
    }
    if request.operator && (request.tenant.is_some() || request.app.is_some()) {
        return Err(wrong("an operator's token has no tenant and no app: leave both out, or `operator`"));
    }
    let scope = if request.operator {
        Scope::Operator
    } else {
        // Left out by a token of one app, the app is that one: it could not hand out more anyway.
        let app = request.app.clone().or_else(|| caller.only_app().cloned());
        Scope::Tenant { tenant: request.tenant.clone().unwrap_or_else(|| caller.tenant.clone()), app }
    };
    Ok(Grant { scope, actions: request.actions.iter().copied().collect::<BTreeSet<_>>() })
}

/// Makes and stores a token.
pub async fn issue(
    admin: &Admin,
    grant: Grant,
    ttl_s: Option<u64>,
    created_by: String,
) -> Result<(String, TokenText, Option<u64>), CreateTokenError> {
    let text = TokenText::generate();
    let created_ms = now_ms();
    let id = format!("tok_{:016x}", u64::from_be_bytes(random::bytes()));
    let expires_ms = ttl_s.map(|ttl_s| created_ms.saturating_add(ttl_s.saturating_mul(1000)));
    let token = StoredToken { id: id.clone(), grant, created_ms, created_by, expires_ms, revoked_ms: None };
    admin.create_token(text.hash(), token).await?;
    Ok((id, text, expires_ms))
}

/// The tenant's tokens, newest first; for an operator who names no tenant, everybody's. Never their texts.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", security(("token" = [])),
    responses((status = 200, body = Vec<TokenSummary>))
)]
pub async fn list_tokens(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Json<Vec<TokenSummary>>, ApiError> {
    caller.allow_somewhere(&[Action::Admin])?;
    let everybodys = caller.grant.scope == Scope::Operator && !headers.contains_key(TENANT_HEADER);
    let tokens = plane.admin.tokens((!everybodys).then(|| caller.tenant.clone())).await?;
    let reachable = tokens.into_iter().filter(|token| caller.allow_grant(&token.grant).is_ok());
    Ok(Json(reachable.map(summary).collect()))
}

/// Make a token worthless from the next request on.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "tokens", security(("token" = [])),
    params(("id" = String, Path, description = "The token's id, `tok_...`")),
    responses((status = 200, body = TokenSummary), (status = 404, body = ErrorBody))
)]
pub async fn revoke_token(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Json<TokenSummary>, ApiError> {
    caller.allow_somewhere(&[Action::Admin])?;
    let found = plane.admin.token(id.clone()).await?;
    let token = match (found, &caller.grant.scope) {
        (Some(token), _) => token,
        (None, Scope::Operator) => {
            return Err(ApiError::not_found(
                "no_such_token",
                "there is no token of this id: GET /v1/tokens lists them",
            ));
        }
        // Another tenant's token and none at all look alike.
        (None, Scope::Tenant { .. }) => return Err(Forbidden.into()),
    };
    caller.allow_grant(&token.grant)?;
    let work_plane = Arc::clone(&plane);
    let work = async move {
        let now_ms = now_ms();
        work_plane.admin.revoke_token(token.id.clone(), now_ms).await?;
        Ok(summary(StoredToken { revoked_ms: token.revoked_ms.or(Some(now_ms)), ..token }))
    };
    Ok(Json(audited(&plane, &caller, "token.revoke", id, work).await?))
}

fn summary(token: StoredToken) -> TokenSummary {
    let (tenant, app) = match token.grant.scope {
        Scope::Operator => (None, None),
        Scope::Tenant { tenant, app } => (Some(tenant), app),
    };
    TokenSummary {
        id: token.id,
        tenant,
        app,
        actions: token.grant.actions.into_iter().collect(),
        created_ms: token.created_ms,
        created_by: token.created_by,
        expires_ms: token.expires_ms,
        revoked_ms: token.revoked_ms,
    }
}
