//! Compiling kept versions anew: asking for it, and how far it is. The work itself is `crate::recompiles`.

use std::sync::Arc;

use artifact::{AppId, visible};
use axum::{Json, extract::State};
use http::StatusCode;

use super::{
    apps::no_such_app,
    body::{self, Named, RequestKey},
    error::{ApiError, ErrorBody},
    types::{AskRecompile, FailedRecompile, RecompileSummary},
    write::{audited, log_key, once},
};
use crate::{
    admin::{Asked, Recompile, Scope, StartError},
    clock::now_ms,
    plane::Plane,
    recompiles,
    tokens::{Action, Caller, Scope as TokenScope},
};

/// Bytes of a reason: a sentence.
const REASON_BYTES_MAX: usize = 500;

/// Compile kept versions anew. Goes on by itself, also over restarts; ask for its progress by its id.
#[utoipa::path(
    post, path = "/v1/recompiles", tag = "apps", security(("token" = [])), request_body = AskRecompile,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key gives the same answer")),
    responses(
        (status = 201, body = RecompileSummary), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody)
    )
)]
pub async fn start_recompile(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    RequestKey(key): RequestKey,
    body::Json(request): body::Json<AskRecompile>,
) -> Result<(StatusCode, Json<RecompileSummary>), ApiError> {
    let scope = match (&request.app, request.all) {
        (Some(app), false) => {
            caller.allow_app(&[Action::Deploy], app)?;
            Scope::App(app.clone())
        }
        (None, true) => {
            caller.allow_operator()?;
            Scope::Fleet
        }
        _ => {
            caller.allow_somewhere(&[Action::Deploy])?;
            return Err(unusable("bad_scope", "name one of `app` and `all`".to_owned()));
        }
    };
    check_reason(&request.reason)?;
    let object = request.app.as_ref().map_or_else(|| "the fleet".to_owned(), ToString::to_string);
    let (work_plane, tenant, by) = (Arc::clone(&plane), caller.tenant.clone(), caller.token_id.clone());
    let work = async move {
        let plane = &work_plane;
        if let Scope::App(app) = &scope {
            let id = AppId { tenant: tenant.clone(), app: app.clone() };
            plane.fleet.view().app(&id).ok_or_else(|| no_such_app(app))?;
        }
        let started = async {
            let (key, reason) = (log_key(&tenant, key.as_ref()), request.reason.clone());
            let asked =
                Asked { tenant: tenant.clone(), scope, reason, by, now_ms: now_ms(), key, seen_rev: 0 };
            let id = recompiles::start(plane, asked).await?;
            let taken = plane.admin.recompile(id).await?.ok_or_else(no_such_recompile)?;
            Ok(summary(taken))
        };
        once(plane, &tenant, key.as_ref(), &("recompile", &request), started).await
    };
    let taken = audited(&plane, &caller, "recompile", object, work).await?;
    Ok((StatusCode::CREATED, Json(taken)))
}

/// How far a request to recompile is. The last hundred that ended are still known.
#[utoipa::path(
    get, path = "/v1/recompiles/{id}", tag = "apps", security(("token" = [])),
    params(("id" = u64, Path, description = "The request's id")),
    responses((status = 200, body = RecompileSummary), (status = 404, body = ErrorBody))
)]
pub async fn get_recompile(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Json<RecompileSummary>, ApiError> {
    caller.allow_somewhere(&[Action::Read, Action::Deploy, Action::Admin])?;
    let id: u64 = id.parse().map_err(|_| no_such_recompile())?;
    let found = plane.admin.recompile(id).await?;
    // Somebody else's and none look alike.
    found.filter(|found| is_for(&caller, found)).map(summary).map(Json).ok_or_else(no_such_recompile)
}

/// End a request to recompile. Versions that are done keep their new code, the others what they have.
#[utoipa::path(
    delete, path = "/v1/recompiles/{id}", tag = "apps", security(("token" = [])),
    params(("id" = u64, Path, description = "The request's id")),
    responses((status = 200, body = RecompileSummary), (status = 404, body = ErrorBody))
)]
pub async fn cancel_recompile(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(id): Named<String>,
) -> Result<Json<RecompileSummary>, ApiError> {
    caller.allow_somewhere(&[Action::Deploy])?;
    let id: u64 = id.parse().map_err(|_| no_such_recompile())?;
    let found = plane.admin.recompile(id).await?;
    let found = found.filter(|found| is_for(&caller, found)).ok_or_else(no_such_recompile)?;
    match &found.scope {
        Scope::Fleet => caller.allow_operator()?,
        Scope::App(app) => caller.allow_app(&[Action::Deploy], app)?,
    }
    let (work_plane, by) = (Arc::clone(&plane), caller.token_id.clone());
    let work = async move {
        // One that has ended is as it was.
        work_plane.admin.cancel_recompile(id, format!("cancelled by {by}"), now_ms()).await?;
        work_plane.admin.recompile(id).await?.ok_or_else(no_such_recompile)
    };
    let ended = audited(&plane, &caller, "cancel recompile", id.to_string(), work).await?;
    Ok(Json(summary(ended)))
}

fn is_for(caller: &Caller, found: &Recompile) -> bool {
    match &found.scope {
        _ if caller.grant.scope == TokenScope::Operator => true,
        Scope::Fleet => false,
        Scope::App(app) => {
            caller.tenant == found.tenant && caller.allow_app(&[Action::Read, Action::Deploy], app).is_ok()
        }
    }
}

fn check_reason(reason: &str) -> Result<(), ApiError> {
    let is_line = !reason.trim().is_empty() && reason.chars().all(visible::is_plain);
    if is_line && reason.len() <= REASON_BYTES_MAX {
        return Ok(());
    }
    let message = format!("say why in `reason`: one line of 1 to {REASON_BYTES_MAX} bytes of visible text");
    Err(unusable("bad_reason", message))
}

fn unusable(code: &str, message: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

fn no_such_recompile() -> ApiError {
    ApiError::not_found("no_such_recompile", "there is no such recompilation here, or it ended long ago")
}

fn summary(found: Recompile) -> RecompileSummary {
    let Recompile { id, scope, reason, by, asked_ms, ended_ms, problem, counts, failed, .. } = found;
    let failures = failed.into_iter().map(|failed| FailedRecompile {
        tenant: failed.id.tenant,
        app: failed.id.app,
        version: failed.version,
        why: failed.why,
    });
    RecompileSummary {
        id,
        app: match scope {
            Scope::Fleet => None,
            Scope::App(app) => Some(app),
        },
        reason,
        by,
        asked_ms,
        ended_ms,
        problem,
        versions: counts.total,
        done: counts.changed + counts.same + counts.gone + counts.failed,
        changed: counts.changed,
        same: counts.same,
        gone: counts.gone,
        failed: counts.failed,
        failures: failures.collect(),
    }
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> ApiError {
        match &error {
            StartError::TooMany { .. } => ApiError::new(StatusCode::CONFLICT, "quota", error.to_string()),
            StartError::Store(store) => ApiError::internal(store),
        }
    }
}
