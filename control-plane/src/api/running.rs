//! What runs where: an app's active version with its native code, and what each node really serves of it.

use std::{sync::Arc, time::Duration};

use artifact::{AppId, AppName, record::ArtifactRef};
use axum::{Json, extract::State};
use fleet_sync_origin::{Answers, NodeStatus};
use fleet_sync_proto::{AppState, VersionState};

use super::{
    apps::no_such_app,
    body::Named,
    error::{ApiError, ErrorBody},
    types::{NodeFailure, RunningAnswer, RunningArtifact, RunningNode},
};
use crate::{
    plane::Plane,
    tokens::{Action, Caller},
};

/// How long nodes have to answer. It is a message each way and a look at a table; what takes longer is stuck, or too old to
/// know the question.
const NODES_WAIT_MAX: Duration = Duration::from_secs(3);

/// The app's active version, the signed statements about its native code, and what each node serves of it: what is mapped
/// there, as the node itself says, not what it was told to serve.
#[utoipa::path(
    get, path = "/v1/apps/{app}/running", tag = "apps", security(("token" = [])),
    params(("app" = String, Path, description = "The app's name")),
    responses(
        (status = 200, body = RunningAnswer), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)
    )
)]
pub async fn get_running(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(app): Named<AppName>,
) -> Result<Json<RunningAnswer>, ApiError> {
    // Who deploys wants to know what became of it.
    caller.allow_app(&[Action::Read, Action::Deploy], &app)?;
    let id = AppId { tenant: caller.tenant, app };
    let view = plane.fleet.view();
    let app = view.app(&id).ok_or_else(|| no_such_app(&id.app))?;
    let active = app.active_version().ok_or_else(|| no_such_app(&id.app))?;
    let asked = plane.fleet.inspect(&id, NODES_WAIT_MAX).await;
    let answers = asked.map_err(|error| ApiError::unavailable("busy", error.to_string()))?;
    let nodes = plane.fleet.living_nodes().into_iter();
    Ok(Json(RunningAnswer {
        version: active.version.version,
        rev: app.release_rev,
        wasm: active.version.wasm,
        wasm_bytes: active.version.wasm_bytes,
        lane: active.version.lane,
        artifacts: artifacts(&plane, active).await?,
        nodes: nodes.map(|node| running(app, active, &answers, node)).collect(),
        app: id.app,
    }))
}

async fn artifacts(plane: &Plane, active: &VersionState) -> Result<Vec<RunningArtifact>, ApiError> {
    let mut found = Vec::with_capacity(active.artifacts.len());
    for artifact in &active.artifacts {
        let replaced = active.latest(artifact) != Some(artifact);
        let ArtifactRef { target, profile, fingerprint, blob, blob_bytes } = artifact.clone();
        let statement = plane.fleet.statement(blob).await.map_err(|error| ApiError::internal(&error))?;
        found.push(RunningArtifact { target, profile, fingerprint, blob, blob_bytes, replaced, statement });
    }
    Ok(found)
}

fn running(app: &AppState, active: &VersionState, answers: &Answers, node: NodeStatus) -> RunningNode {
    let answer = answers.get(&node.node);
    let serving = answer.and_then(Option::as_ref);
    let failed = node.failed.get(&app.release_rev).cloned();
    RunningNode {
        connected: node.connected,
        answered: answer.is_some(),
        version: serving.map(|serving| serving.version),
        is_active: serving.is_some_and(|serving| serving.version_rev == active.rev),
        code: serving.and_then(|serving| serving.code),
        failed: failed.map(|nack| NodeFailure { code: nack.code, detail: nack.detail }),
        node: node.node,
        pop: node.pop,
    }
}
