//! What needs no token: is the process there, and what can it do.

use std::sync::{Arc, LazyLock};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};

use super::{
    apps, assets, compiler_keys, config, kv, logs, nodes, recompiles, rollback, running, secrets, tenants,
    tokens, types::Healthz, uploads,
};
use crate::plane::Plane;

/// The process answers, and how far its log is.
#[utoipa::path(get, path = "/healthz", tag = "meta", responses((status = 200, body = Healthz)))]
pub async fn healthz(State(plane): State<Arc<Plane>>) -> Json<Healthz> {
    Json(Healthz { status: "ok".into(), rev: plane.fleet.view().rev })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "meta", responses((status = 200, content_type = "application/json")))]
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

static DOCUMENT: LazyLock<String> =
    LazyLock::new(|| document().to_json().expect("the document has only string keys"));

/// The API as an OpenAPI document, from the handlers' annotations.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Skerry deploy API", description = "Tenants, tokens, apps, versions, config, secrets, key-value stores, nodes."),
    paths(
        healthz, openapi, uploads::put_wasm, uploads::head_wasm, uploads::wasm_queue, assets::ask_missing, assets::put_asset,
        apps::create_version, apps::list_apps, apps::get_app, apps::get_version, apps::convergence,
        running::get_running, logs::get_logs, rollback::rollback_app, rollback::delete_app,
        recompiles::start_recompile, recompiles::get_recompile, recompiles::cancel_recompile, config::get_config, config::change_config,
        secrets::list_secrets, secrets::set_secret, secrets::set_secrets, secrets::unset_secret,
        kv::list_stores, kv::list_keys, kv::get_entry, kv::put_entry,
        kv::delete_entry, tenants::create_tenant, tenants::list_tenants,
        tokens::create_token, tokens::list_tokens, tokens::revoke_token, nodes::create_node_token, nodes::list_nodes,
        nodes::revoke_node, compiler_keys::list_compiler_keys, compiler_keys::add_key_change,
    ),
    modifiers(&BearerToken)
)]
struct Document;

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes;

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let text: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        let paths = text["paths"].as_object().unwrap();
        let mut documented: Vec<(String, String)> = paths
            .iter()
            .flat_map(|(path, item)| {
                item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
            })
            .collect();
        let mut routed: Vec<(String, String)> =
            routes().into_iter().map(|route| (route.path, route.method.as_str().to_lowercase())).collect();
        documented.sort();
        routed.sort();
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_route_but_two_demands_a_token() {
        let text: serde_json::Value = serde_json::from_str(&DOCUMENT).unwrap();
        for route in routes() {
            let operation = &text["paths"][&route.path][route.method.as_str().to_lowercase()];
            let open = ["/healthz", "/openapi.json"].contains(&route.path.as_str());
            assert_eq!(operation["security"].is_null(), open, "{}", route.path);
        }
        assert_eq!(text["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        assert!(text["components"]["schemas"]["Deployed"]["properties"]["rev"].is_object());
    }
}
