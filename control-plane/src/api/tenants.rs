//! Tenants: operators only.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;

use super::{
    body,
    error::{ApiError, ErrorBody},
    types::{CreateTenant, TenantSummary},
    write::audited,
};
use crate::{clock::now_ms, plane::Plane, tokens::Caller};

/// Make a tenant.
#[utoipa::path(
    post, path = "/v1/tenants", tag = "operator", security(("token" = [])), request_body = CreateTenant,
    responses((status = 201, body = TenantSummary), (status = 409, body = ErrorBody))
)]
pub async fn create_tenant(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    body::Json(request): body::Json<CreateTenant>,
) -> Result<(StatusCode, Json<TenantSummary>), ApiError> {
    caller.allow_operator()?;
    let (work_plane, tenant) = (Arc::clone(&plane), request.tenant.clone());
    let work = async move {
        let created_ms = now_ms();
        work_plane.admin.create_tenant(tenant.clone(), created_ms).await?;
        Ok(TenantSummary { tenant, created_ms })
    };
    let made = audited(&plane, &caller, "tenant.create", request.tenant.to_string(), work).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Every tenant, by name.
#[utoipa::path(
    get, path = "/v1/tenants", tag = "operator", security(("token" = [])),
    responses((status = 200, body = Vec<TenantSummary>))
)]
pub async fn list_tenants(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
) -> Result<Json<Vec<TenantSummary>>, ApiError> {
    caller.allow_operator()?;
    let tenants = plane.admin.tenants().await?;
    let shown =
        tenants.into_iter().map(|found| TenantSummary { tenant: found.name, created_ms: found.created_ms });
    Ok(Json(shown.collect()))
}
