//! Plain configuration of the version that answers: look at it, and change it without a deploy of one's own.

use std::sync::Arc;

use artifact::{AppId, AppName};
use axum::{Json, extract::State};

use super::{
    apps::no_such_app,
    body::{self, Named, RequestKey},
    error::{ApiError, ErrorBody},
    types::{ChangeConfig, ConfigAnswer, Deployed},
    write::{audited, log_key, once},
};
use crate::{
    plane::Plane,
    tokens::{Action, Caller},
    upload::{Change, Edit, change},
};

/// The configuration of the active version.
#[utoipa::path(
    get, path = "/v1/apps/{app}/config", tag = "apps", security(("token" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, body = ConfigAnswer), (status = 404, body = ErrorBody))
)]
pub async fn get_config(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
) -> Result<Json<ConfigAnswer>, ApiError> {
    caller.allow_app(&[Action::Read], &app)?;
    let id = AppId { tenant: caller.tenant, app };
    let active = plane.fleet.view().active(&id).cloned().ok_or_else(|| no_such_app(&id.app))?;
    let config = &active.version.config;
    Ok(Json(ConfigAnswer {
        app: id.app,
        version: active.version.version,
        config: config.config.clone(),
        config_stores: config.config_stores.clone(),
    }))
}

/// Put entries into a config store of the app, or take some out: a new version of the same program, released at once.
/// If nothing changes, the answer is the version that is active already.
#[utoipa::path(
    post, path = "/v1/apps/{app}/config", tag = "apps", security(("token" = [])), request_body = ChangeConfig,
    params(
        ("app" = String, Path, description = "The app's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer and one version")
    ),
    responses((status = 200, body = Deployed), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub async fn change_config(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    RequestKey(key): RequestKey,
    body::Json(request): body::Json<ChangeConfig>,
) -> Result<Json<Deployed>, ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    let object = app.to_string();
    let (work_plane, actor, tenant) = (Arc::clone(&plane), caller.token_id.clone(), caller.tenant.clone());
    let work = async move {
        let ChangeConfig { store, set, unset } = request.clone();
        let wish = Change {
            id: AppId { tenant: tenant.clone(), app: app.clone() },
            edit: Edit::Config { store, set, unset },
            actor,
            request: log_key(&tenant, key.as_ref()),
        };
        let changed = async { Ok(change(&work_plane, wish).await?) };
        once(&work_plane, &tenant, key.as_ref(), &("config", &app, &request), changed).await
    };
    Ok(Json(audited(&plane, &caller, "config.change", object, work).await?))
}
