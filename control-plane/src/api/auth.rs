//! Who is asking. A handler that takes a [`Caller`] cannot be reached without a live token.
//!
//! Missing, malformed, unknown, revoked and expired tokens get one answer. What a token may do is asked by the handler,
//! before it looks anything up, so a refusal never tells whether the thing exists.

use std::sync::Arc;

use artifact::TenantName;
use axum::extract::FromRequestParts;
use http::{header, request::Parts};

use super::error::ApiError;
use crate::{
    clock::now_ms,
    plane::Plane,
    tokens::{Caller, Forbidden, Scope, TokenText},
};

/// Names the tenant an operator acts for; absent: [`DEFAULT_TENANT`].
pub const TENANT_HEADER: &str = "skerry-tenant";
/// Made at first start.
pub const DEFAULT_TENANT: &str = "default";

impl FromRequestParts<Arc<Plane>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, plane: &Arc<Plane>) -> Result<Caller, ApiError> {
        let text = bearer(parts).ok_or_else(ApiError::unauthorized)?;
        let found = plane.admin.live_token(text.hash(), now_ms()).await?;
        let token = found.ok_or_else(ApiError::unauthorized)?;
        let named = named_tenant(parts)?;
        let tenant = match (&token.grant.scope, named) {
            (Scope::Tenant { tenant, .. }, None) => tenant.clone(),
            (Scope::Tenant { tenant, .. }, Some(named)) if *tenant == named => named,
            (Scope::Tenant { .. }, Some(_)) => return Err(Forbidden.into()),
            (Scope::Operator, named) => acted_for(plane, named).await?,
        };
        Ok(Caller { token_id: token.id, grant: token.grant, tenant })
    }
}

/// The token of `Authorization: Bearer skt_...`. Two such headers are none: which one counts would be a guess.
fn bearer(parts: &Parts) -> Option<TokenText> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let (value, more) = (values.next()?, values.next());
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    if more.is_some() || !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    token.trim().parse().ok()
}

fn named_tenant(parts: &Parts) -> Result<Option<TenantName>, ApiError> {
    let Some(value) = parts.headers.get(TENANT_HEADER) else { return Ok(None) };
    let malformed =
        || ApiError::bad_request("bad_tenant", format!("the header {TENANT_HEADER} holds no tenant name"));
    let name = value.to_str().map_err(|_| malformed())?;
    name.parse().map(Some).map_err(|_| malformed())
}

async fn acted_for(plane: &Plane, named: Option<TenantName>) -> Result<TenantName, ApiError> {
    let tenant = named.unwrap_or_else(default_tenant);
    if plane.admin.has_tenant(tenant.clone()).await? {
        return Ok(tenant);
    }
    let message = format!("there is no tenant {tenant}: create it with POST /v1/tenants");
    Err(ApiError::not_found("no_such_tenant", message))
}

/// The tenant that every fleet has.
pub fn default_tenant() -> TenantName {
    DEFAULT_TENANT.parse().expect("DEFAULT_TENANT is one lower-case label")
}
