//! Back to an older version, and deletion. Both are one append; no bytes of code move.

use std::sync::Arc;

use artifact::{
    AppId, AppName,
    record::{Body, VersionNumber},
};
use axum::{Json, extract::State};
use fleet_sync_proto::{ClaimConflict, FleetView};
use http::StatusCode;

use super::{
    apps::no_such_app,
    body::{self, Named, RequestKey},
    error::{ApiError, ErrorBody},
    types::{Deleted, RollbackRequest, RolledBack},
    write::{audited, log_key, once},
};
use crate::{
    fleet::PublishFailure,
    local_ca::LocalCaError,
    plane::Plane,
    tokens::{Action, Caller},
    upload::{DeployError, Reach, certificates_for, check_reach},
};

/// Let an older version answer again.
#[utoipa::path(
    post, path = "/v1/apps/{app}/rollback", tag = "apps", security(("token" = [])), request_body = RollbackRequest,
    params(
        ("app" = String, Path, description = "The app's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer")
    ),
    responses((status = 200, body = RolledBack), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub async fn rollback_app(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    RequestKey(key): RequestKey,
    body::Json(request): body::Json<RollbackRequest>,
) -> Result<Json<RolledBack>, ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    let object = app.to_string();
    let reach = if caller.only_app().is_some() { Reach::App } else { Reach::Tenant };
    let (work_plane, actor, tenant) = (Arc::clone(&plane), caller.token_id.clone(), caller.tenant.clone());
    let work = async move {
        let id = AppId { tenant: tenant.clone(), app };
        let log_key = log_key(&tenant, key.as_ref());
        let text = ("rollback", id.app.clone(), request.clone());
        let rolled = async {
            let (decide_id, ca, secrets) = (id.clone(), work_plane.ca.clone(), work_plane.secrets.clone());
            let decide = move |view: &FleetView| {
                let number = rollback_target(view, &decide_id, request.to)?;
                let mut bodies = Vec::new();
                if let Some(wanted) = view.version(&decide_id, number) {
                    view.check_claim(&decide_id, &wanted.version.config)?;
                    check_reach(view, reach, &decide_id, &wanted.version.config)
                        .map_err(|refused| RollbackError::Reach(Box::new(refused)))?;
                    bodies = certificates_for(view, &wanted.version.config.hosts, &ca, &secrets)?;
                }
                bodies.push(Body::Release { id: decide_id, version: number });
                Ok::<_, RollbackError>(bodies)
            };
            let rev = work_plane.fleet.publish(actor, log_key, decide).await.map_err(ApiError::from)?;
            // Read back, because a repeated request was answered by an earlier append.
            match work_plane.fleet.record(rev).await.map_err(|error| ApiError::internal(&error))? {
                Some(Body::Release { id: released, version }) if released == id => {
                    Ok(RolledBack { app: id.app.clone(), version, rev })
                }
                _ => Err(no_such_app(&id.app)),
            }
        };
        once(&work_plane, &tenant, key.as_ref(), &text, rolled).await
    };
    Ok(Json(audited(&plane, &caller, "rollback", object, work).await?))
}

/// Delete an app with its versions. Its host names are free for anyone from then on.
#[utoipa::path(
    delete, path = "/v1/apps/{app}", tag = "apps", security(("token" = [])),
    params(
        ("app" = String, Path, description = "The app's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer")
    ),
    responses((status = 200, body = Deleted), (status = 404, body = ErrorBody))
)]
pub async fn delete_app(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    RequestKey(key): RequestKey,
) -> Result<Json<Deleted>, ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    let object = app.to_string();
    let (work_plane, actor, tenant) = (Arc::clone(&plane), caller.token_id.clone(), caller.tenant.clone());
    let work = async move {
        let id = AppId { tenant: tenant.clone(), app };
        let log_key = log_key(&tenant, key.as_ref());
        let deleted = async {
            let decide_id = id.clone();
            let decide = move |view: &FleetView| match view.app(&decide_id) {
                None => Err(RollbackError::NoApp(decide_id.app)),
                Some(_) => Ok(vec![Body::AppDeleted { id: decide_id }]),
            };
            let rev = work_plane.fleet.publish(actor, log_key, decide).await.map_err(ApiError::from)?;
            // After the log: an app that is still there must not lose what its next version would pin.
            work_plane.admin.forget_secrets(id.clone()).await?;
            Ok(Deleted { app: id.app.clone(), rev })
        };
        once(&work_plane, &tenant, key.as_ref(), &("delete", &id.app), deleted).await
    };
    Ok(Json(audited(&plane, &caller, "delete", object, work).await?))
}

/// Why an app is not rolled back or deleted.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// Not in this tenant.
    #[error("this tenant has no app {0}")]
    NoApp(AppName),
    /// Never made, or pruned since.
    #[error("the app has no version {0}: GET /v1/apps/{{app}} lists those it has")]
    NoVersion(VersionNumber),
    /// The active version is the oldest there is.
    #[error("there is no version below the active one to go back to: name one with `to`")]
    NothingOlder,
    /// Somebody else answers there by now.
    #[error(transparent)]
    Claim(#[from] ClaimConflict),
    /// The caller may not take routes from other apps.
    #[error(transparent)]
    Reach(Box<DeployError>),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] LocalCaError),
}

/// The named version, or the newest one below the active one.
fn rollback_target(
    view: &FleetView,
    id: &AppId,
    to: Option<VersionNumber>,
) -> Result<VersionNumber, RollbackError> {
    let app = view.app(id).ok_or_else(|| RollbackError::NoApp(id.app.clone()))?;
    match (to, app.active) {
        (Some(to), _) if app.versions.contains_key(&to) => Ok(to),
        (Some(to), _) => Err(RollbackError::NoVersion(to)),
        (None, None) => Err(RollbackError::NothingOlder),
        (None, Some(active)) => app
            .versions
            .keys()
            .copied()
            .filter(|number| *number < active)
            .max()
            .ok_or(RollbackError::NothingOlder),
    }
}

impl From<RollbackError> for ApiError {
    fn from(error: RollbackError) -> ApiError {
        let message = error.to_string();
        match error {
            RollbackError::NoApp(app) => no_such_app(&app),
            RollbackError::NoVersion(_) => ApiError::not_found("no_such_version", message),
            RollbackError::NothingOlder => ApiError::new(StatusCode::CONFLICT, "nothing_older", message),
            RollbackError::Claim(conflict) => conflict.into(),
            RollbackError::Reach(refused) => (*refused).into(),
            RollbackError::Certificate(error) => ApiError::internal(&error),
        }
    }
}

impl<E: Into<ApiError>> From<PublishFailure<E>> for ApiError {
    fn from(failure: PublishFailure<E>) -> ApiError {
        match failure {
            PublishFailure::Refused(error) => error.into(),
            PublishFailure::Fleet(error) => ApiError::internal(&error),
        }
    }
}
