//! Nodes and their join tokens: operators only.

use std::{sync::Arc, time::Duration};

use artifact::NodeName;
use axum::{Json, extract::State};
use http::StatusCode;

use super::{
    body::{self, Named},
    error::{ApiError, ErrorBody},
    types::{CreateNodeToken, CreatedNodeToken, NodeSummary, RevokedNode},
    write::audited,
};
use crate::{fleet::RevokeFailure, plane::Plane, tokens::Caller};

/// Longest life of a join token: a week, for a machine that is on its way to a far POP.
const JOIN_TTL_S_MAX: u64 = 7 * 24 * 3600;

/// Make a join token: one node may enrol with it, once.
#[utoipa::path(
    post, path = "/v1/node-tokens", tag = "operator", security(("token" = [])), request_body = CreateNodeToken,
    responses((status = 201, body = CreatedNodeToken), (status = 422, body = ErrorBody))
)]
pub async fn create_node_token(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    body::Json(request): body::Json<CreateNodeToken>,
) -> Result<(StatusCode, Json<CreatedNodeToken>), ApiError> {
    caller.allow_operator()?;
    if !(1..=JOIN_TTL_S_MAX).contains(&request.ttl_s) {
        let message = format!("ttl_s is {}; a join token lives 1 to {JOIN_TTL_S_MAX} s", request.ttl_s);
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bad_ttl", message));
    }
    let (work_plane, object) = (Arc::clone(&plane), request.pop.to_string());
    let work = async move {
        let ttl = Duration::from_secs(request.ttl_s);
        work_plane.fleet.create_join_token(request.pop, ttl).await.map_err(|error| ApiError::internal(&error))
    };
    let made = audited(&plane, &caller, "node-token.create", object, work).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Every node that has enrolled.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "operator", security(("token" = [])),
    responses((status = 200, body = Vec<NodeSummary>))
)]
pub async fn list_nodes(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
) -> Result<Json<Vec<NodeSummary>>, ApiError> {
    caller.allow_operator()?;
    Ok(Json(plane.fleet.nodes()))
}

/// Void a node's identity: it is cut off and may not connect again.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", tag = "operator", security(("token" = [])),
    params(("node" = String, Path, description = "The node's name")),
    responses((status = 200, body = RevokedNode), (status = 404, body = ErrorBody))
)]
pub async fn revoke_node(
    State(plane): State<Arc<Plane>>,
    caller: Caller,
    Named(node): Named<NodeName>,
) -> Result<Json<RevokedNode>, ApiError> {
    caller.allow_operator()?;
    let (work_plane, object, actor) = (Arc::clone(&plane), node.to_string(), caller.token_id.clone());
    let work = async move {
        match work_plane.fleet.revoke_node(actor, node.clone()).await {
            Ok(rev) => Ok(RevokedNode { node, rev }),
            Err(RevokeFailure::NoSuchNode(node)) => Err(ApiError::not_found(
                "no_such_node",
                format!("there is no node {node}: GET /v1/nodes lists them"),
            )),
            Err(RevokeFailure::Fleet(error)) => Err(ApiError::internal(&error)),
        }
    };
    Ok(Json(audited(&plane, &caller, "node.revoke", object, work).await?))
}
