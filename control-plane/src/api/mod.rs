//! The HTTP API: which route does what. Bodies are in [`types`], refusals in [`error`].
//!
//! Every route but `/healthz` and `/openapi.json` needs a token ([`auth`]); every write leaves an audit row and honours
//! `Idempotency-Key` where it makes a record ([`write`]). The router and the OpenAPI document are both made from the
//! handlers' own annotations. Deliberately absent: TLS. The API listens on loopback or behind a terminator.

mod apps;
mod assets;
mod auth;
mod body;
mod compiler_keys;
mod config;
pub mod error;
mod kv;
mod logs;
mod meta;
mod nodes;
mod recompiles;
mod rollback;
mod running;
mod secrets;
mod tenants;
mod tokens;
pub mod types;
mod uploads;
mod write;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use http::{Method, StatusCode};
use utoipa::openapi::path::HttpMethod;

use crate::plane::Plane;
pub(crate) use auth::default_tenant;
use error::ApiError;
pub(crate) use tokens::issue as issue_token;

/// A route, as its handler is annotated.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: String,
    handler: MethodRouter<Arc<Plane>>,
}

macro_rules! route {
    ($module:ident :: $handler:ident, $annotation:ident) => {
        Route::annotated::<$module::$annotation>(|filter| on(filter, $module::$handler))
    };
}

/// Every route there is.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        route!(meta::healthz, __path_healthz),
        route!(meta::openapi, __path_openapi),
        route!(uploads::put_wasm, __path_put_wasm),
        route!(uploads::head_wasm, __path_head_wasm),
        route!(uploads::wasm_queue, __path_wasm_queue),
        route!(assets::ask_missing, __path_ask_missing),
        route!(assets::put_asset, __path_put_asset),
        route!(apps::create_version, __path_create_version),
        route!(apps::list_apps, __path_list_apps),
        route!(apps::get_app, __path_get_app),
        route!(apps::get_version, __path_get_version),
        route!(apps::convergence, __path_convergence),
        route!(running::get_running, __path_get_running),
        route!(logs::get_logs, __path_get_logs),
        route!(rollback::rollback_app, __path_rollback_app),
        route!(rollback::delete_app, __path_delete_app),
        route!(recompiles::start_recompile, __path_start_recompile),
        route!(recompiles::get_recompile, __path_get_recompile),
        route!(recompiles::cancel_recompile, __path_cancel_recompile),
        route!(config::get_config, __path_get_config),
        route!(config::change_config, __path_change_config),
        route!(secrets::list_secrets, __path_list_secrets),
        route!(secrets::set_secret, __path_set_secret),
        route!(secrets::set_secrets, __path_set_secrets),
        route!(secrets::unset_secret, __path_unset_secret),
        route!(kv::list_stores, __path_list_stores),
        route!(kv::list_keys, __path_list_keys),
        route!(kv::get_entry, __path_get_entry),
        route!(kv::put_entry, __path_put_entry),
        route!(kv::delete_entry, __path_delete_entry),
        route!(tenants::create_tenant, __path_create_tenant),
        route!(tenants::list_tenants, __path_list_tenants),
        route!(tokens::create_token, __path_create_token),
        route!(tokens::list_tokens, __path_list_tokens),
        route!(tokens::revoke_token, __path_revoke_token),
        route!(nodes::create_node_token, __path_create_node_token),
        route!(nodes::list_nodes, __path_list_nodes),
        route!(nodes::revoke_node, __path_revoke_node),
        route!(compiler_keys::list_compiler_keys, __path_list_compiler_keys),
        route!(compiler_keys::add_key_change, __path_add_key_change),
    ]
}

impl Route {
    fn annotated<A: utoipa::Path>(handler: impl FnOnce(MethodFilter) -> MethodRouter<Arc<Plane>>) -> Route {
        let (method, filter) = match A::methods().first() {
            Some(HttpMethod::Put) => (Method::PUT, MethodFilter::PUT),
            Some(HttpMethod::Post) => (Method::POST, MethodFilter::POST),
            Some(HttpMethod::Delete) => (Method::DELETE, MethodFilter::DELETE),
            Some(HttpMethod::Head) => (Method::HEAD, MethodFilter::HEAD),
            _ => (Method::GET, MethodFilter::GET),
        };
        Route { method, path: A::path(), handler: handler(filter) }
    }
}

/// The whole API.
pub fn router(plane: Arc<Plane>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        tracing::debug!(method = %route.method, path = route.path, "a route");
        router = router.route(&route.path, route.handler);
    }
    router
        .fallback(|| async {
            ApiError::not_found("no_such_route", "there is no such route: see /openapi.json")
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this route has other methods: see /openapi.json",
            )
        })
        // Bodies are bounded by the extractors that read any: `body::Json`, `body::Raw` and the upload.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn(bounded_in_time))
        .with_state(plane)
}

/// Time for anything that only reads or writes our own stores.
const PLAIN_WAIT_MAX: Duration = Duration::from_secs(30);
/// A long poll of 30 s, and what is around it.
const CONVERGENCE_WAIT_MAX: Duration = Duration::from_secs(40);
/// 64 MiB at 1 Mbit/s take nine minutes; a compile call is given up after five.
const BULK_WAIT_MAX: Duration = Duration::from_secs(600);

async fn bounded_in_time(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let wait = match route {
        "/v1/wasm/{sha256}" | "/v1/assets/{sha256}" | "/v1/apps/{app}/versions" => BULK_WAIT_MAX,
        "/v1/apps/{app}/convergence" => CONVERGENCE_WAIT_MAX,
        _ => PLAIN_WAIT_MAX,
    };
    tokio::time::timeout(wait, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!(
            "no answer within {} s; a write may still end well: repeat it with the same Idempotency-Key",
            wait.as_secs()
        );
        ApiError::unavailable("timeout", message).into_response()
    })
}
