//! Apps: deploy, list, look, and how far a release has come.

use std::{sync::Arc, time::Duration};

use artifact::{AppId, AppName, Digest, record::VersionNumber};
use axum::{Json, extract::State};
use fleet_sync_proto::{AppState, VersionState};
use http::StatusCode;

use super::{
    body::{self, Asked, Named, NamedTwo, RequestKey},
    error::{ApiError, ErrorBody},
    types::{
        AppDetail, AppSummary, ConvergenceAnswer, ConvergenceQuery, DeployRequest, Deployed, SecretPin,
        VersionDetail, VersionSummary,
    },
    write::{audited, log_key, once},
};
use crate::{
    admin::UploadError,
    plane::{self, Plane},
    tokens::{Action, Caller},
    upload::{DeployError, Reach, Wish, deploy},
};

/// Longest wait of a convergence question, ms.
const CONVERGENCE_MS_MAX: u64 = 30_000;
/// Longest wait for other deploys to make room.
const DEPLOY_TURN_WAIT_MAX: Duration = Duration::from_secs(60);

/// Make a version of an app and let it answer. The app is made with its first version.
#[utoipa::path(
    post, path = "/v1/apps/{app}/versions", tag = "apps", security(("token" = [])), request_body = DeployRequest,
    params(
        ("app" = String, Path, description = "The app's name"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer and one version")
    ),
    responses(
        (status = 201, body = Deployed), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody),
        (status = 503, body = ErrorBody)
    )
)]
pub async fn create_version(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    RequestKey(key): RequestKey,
    body::Json(request): body::Json<DeployRequest>,
) -> Result<(StatusCode, Json<Deployed>), ApiError> {
    caller.allow_app(&[Action::Deploy], &app)?;
    let object = app.to_string();
    let (work_plane, actor, tenant) = (Arc::clone(&plane), caller.token_id.clone(), caller.tenant.clone());
    let reach = if caller.only_app().is_some() { Reach::App } else { Reach::Tenant };
    let work = async move {
        let wish = Wish {
            id: AppId { tenant: tenant.clone(), app: app.clone() },
            wasm: request.wasm,
            assets: request.assets,
            prepare: request.prepare.clone(),
            config: request.config.clone(),
            actor,
            request: log_key(&tenant, key.as_ref()),
            reach,
        };
        // Room is taken once, and inside: a repeated request that already has its answer needs none.
        let deployed = async {
            let place = tokio::time::timeout(DEPLOY_TURN_WAIT_MAX, work_plane.deploys.place(&tenant)).await;
            let Ok(_place) = place else {
                return Err(ApiError::unavailable(
                    "busy",
                    "too many deploys are under way: try again in a moment",
                ));
            };
            Ok(deploy(&work_plane, wish).await?)
        };
        once(&work_plane, &tenant, key.as_ref(), &("deploy", &app, &request), deployed).await
    };
    let deployed = audited(&plane, &caller, "deploy", object, work).await?;
    Ok((StatusCode::CREATED, Json(deployed)))
}

/// The tenant's apps, by name.
#[utoipa::path(
    get, path = "/v1/apps", tag = "apps", security(("token" = [])), responses((status = 200, body = Vec<AppSummary>))
)]
pub async fn list_apps(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
) -> Result<Json<Vec<AppSummary>>, ApiError> {
    caller.allow_somewhere(&[Action::Read])?;
    let view = plane.fleet.view();
    let reachable = |id: &AppId| caller.only_app().is_none_or(|only| *only == id.app);
    let apps = plane::apps_of(&view, &caller.tenant).filter(|(id, _)| reachable(id));
    Ok(Json(apps.map(|(id, app)| summary(&plane, id, app)).collect()))
}

/// An app with its versions, newest first.
#[utoipa::path(
    get, path = "/v1/apps/{app}", tag = "apps", security(("token" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses((status = 200, body = AppDetail), (status = 404, body = ErrorBody))
)]
pub async fn get_app(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
) -> Result<Json<AppDetail>, ApiError> {
    caller.allow_app(&[Action::Read], &app)?;
    let id = AppId { tenant: caller.tenant, app };
    let view = plane.fleet.view();
    let app = view.app(&id).ok_or_else(|| no_such_app(&id.app))?;
    let versions = app.versions.values().rev().map(|made| version_summary(app, made));
    Ok(Json(AppDetail { summary: summary(&plane, &id, app), versions: versions.collect() }))
}

/// One version with its configuration and the names of its secrets.
#[utoipa::path(
    get, path = "/v1/apps/{app}/versions/{version}", tag = "apps", security(("token" = [])),
    params(
        ("app" = String, Path, description = "The app's name"),
        ("version" = u64, Path, description = "The version's number")
    ),
    responses((status = 200, body = VersionDetail), (status = 404, body = ErrorBody))
)]
pub async fn get_version(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    NamedTwo(app, number): NamedTwo<AppName, VersionNumber>,
) -> Result<Json<VersionDetail>, ApiError> {
    caller.allow_app(&[Action::Read], &app)?;
    let id = AppId { tenant: caller.tenant, app };
    let view = plane.fleet.view();
    let app = view.app(&id).ok_or_else(|| no_such_app(&id.app))?;
    let Some(made) = app.versions.get(&number) else {
        let message = format!("{} has no version {number}: see `skerry versions {}`", id.app, id.app);
        return Err(ApiError::not_found("no_such_version", message));
    };
    let secrets = made.version.secrets.iter().map(|pinned| SecretPin {
        store: pinned.at.store.clone(),
        name: pinned.at.name.clone(),
        set: Digest::of(pinned.value.text().as_bytes()),
    });
    Ok(Json(VersionDetail {
        summary: version_summary(app, made),
        config: made.version.config.clone(),
        secrets: secrets.collect(),
    }))
}

fn version_summary(app: &AppState, made: &VersionState) -> VersionSummary {
    VersionSummary {
        version: made.version.version,
        wasm: made.version.wasm,
        wasm_bytes: made.version.wasm_bytes,
        assets: made.version.assets.map(|at| at.index),
        lane: made.version.lane,
        targets: plane::targets(&made.artifacts),
        time_ms: made.time_ms,
        active: app.active == Some(made.version.version),
    }
}

/// How far a release has come. With `wait_ms`, answers when every connected node has said something of it, or then.
#[utoipa::path(
    get, path = "/v1/apps/{app}/convergence", tag = "apps", security(("token" = [])),
    params(("app" = String, Path, description = "The app's name"), ConvergenceQuery),
    responses((status = 200, body = ConvergenceAnswer), (status = 404, body = ErrorBody))
)]
pub async fn convergence(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
    Asked(query): Asked<ConvergenceQuery>,
) -> Result<Json<ConvergenceAnswer>, ApiError> {
    // A deploy key is for deploying, and that ends with the nodes having it.
    caller.allow_app(&[Action::Read, Action::Deploy], &app)?;
    let view = plane.fleet.view();
    let release_rev =
        view.app(&AppId { tenant: caller.tenant, app: app.clone() }).map(|state| state.release_rev);
    // A deleted app is not in the view, but its deletion converges too: then the rev must be named.
    let rev = query.rev.or(release_rev).ok_or_else(|| no_such_app(&app))?;
    if rev > view.rev {
        let message = format!("rev {rev} is not in the log, which ends at {}", view.rev);
        return Err(ApiError::not_found("no_such_rev", message));
    }
    let own = release_rev == Some(rev);
    let wait = Duration::from_millis(query.wait_ms.min(CONVERGENCE_MS_MAX));
    let mut answer = plane.fleet.convergence(rev, wait).await;
    if !own {
        // Revs count over all tenants: what went wrong at somebody else's is not this caller's business.
        answer.failed.iter_mut().for_each(|node| node.detail.clear());
    }
    Ok(Json(answer))
}

/// The answer for an app that is not in the caller's tenant.
pub fn no_such_app(app: &AppName) -> ApiError {
    ApiError::not_found("no_such_app", format!("this tenant has no app {app}: deploy it first"))
}

fn summary(plane: &Plane, id: &AppId, app: &AppState) -> AppSummary {
    let config = app.active_version().map(|active| &active.version.config);
    AppSummary {
        app: id.app.clone(),
        tenant: id.tenant.clone(),
        active_version: app.active,
        rev: app.release_rev,
        hosts: config.map(|config| config.hosts.clone()).unwrap_or_default(),
        urls: config.map(|config| plane.urls(config)).unwrap_or_default(),
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> ApiError {
        let message = error.to_string();
        let unprocessable =
            |code: &str| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message.clone());
        match error {
            DeployError::Config(mistakes) => {
                let mut refusal = unprocessable("bad_config");
                refusal.detail.mistakes = mistakes;
                refusal
            }
            DeployError::ConfigTooLarge(_) => unprocessable("config_too_large"),
            DeployError::NoUpload(_) => unprocessable("wasm_not_uploaded"),
            DeployError::SecretsMissing { .. } => unprocessable("secrets_missing"),
            DeployError::AssetsMissing { .. } => {
                ApiError::new(StatusCode::CONFLICT, "assets_missing", message)
            }
            DeployError::AssetIndex(_) | DeployError::AssetsDiffer(_) => unprocessable("bad_assets"),
            DeployError::NoApp(id) => no_such_app(&id.app),
            DeployError::NoKey(..) => ApiError::not_found("no_such_key", message),
            DeployError::Claim(conflict) => conflict.into(),
            DeployError::HostOfOtherApp { .. } => {
                ApiError::new(StatusCode::FORBIDDEN, "host_of_other_app", message)
            }
            DeployError::UploadAgain(_) => ApiError::new(StatusCode::CONFLICT, "upload_again", message),
            DeployError::TooManyApps(_) => ApiError::new(StatusCode::CONFLICT, "quota", message),
            DeployError::Compiler(error) => error.into(),
            DeployError::AnswerGone(_) => ApiError::new(StatusCode::CONFLICT, "answer_gone", message),
            DeployError::Prepared(UploadError::Quota { .. }) => {
                ApiError::new(StatusCode::CONFLICT, "quota", message)
            }
            DeployError::Prepared(UploadError::Store(error)) => ApiError::internal(&error),
            DeployError::Certificate(error) => ApiError::internal(&error),
            DeployError::Store(error) => ApiError::internal(&error),
            DeployError::Blob { .. } | DeployError::Publish { .. } => ApiError::internal(&error),
        }
    }
}

impl From<fleet_sync_proto::ClaimConflict> for ApiError {
    fn from(conflict: fleet_sync_proto::ClaimConflict) -> ApiError {
        use fleet_sync_proto::ClaimConflict;
        let code = match &conflict {
            ClaimConflict::OtherTenant { .. } => "host_taken",
            ClaimConflict::OtherApp { .. } => "route_taken",
        };
        ApiError::new(StatusCode::CONFLICT, code, conflict.to_string())
    }
}
