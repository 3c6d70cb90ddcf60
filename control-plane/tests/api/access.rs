//! Who may do what: every route against every kind of token that must not pass.

use std::time::Duration;

use artifact::Digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Plane};

/// Which actions of a tenant's token pass, by route. None: operators only. A route that is missing here fails the test.
fn allowed(method: &Method, path: &str) -> &'static [&'static str] {
    match (method.as_str(), path) {
        ("PUT" | "HEAD", "/v1/wasm/{sha256}") | ("GET", "/v1/wasm/{sha256}/queue") => &["deploy"],
        ("PUT", "/v1/assets/{sha256}") | ("POST", "/v1/assets/missing") => &["deploy"],
        ("POST", "/v1/apps/{app}/versions" | "/v1/apps/{app}/rollback") | ("DELETE", "/v1/apps/{app}") => {
            &["deploy"]
        }
        ("POST", "/v1/apps/{app}/config" | "/v1/apps/{app}/secrets")
        | ("PUT" | "DELETE", "/v1/apps/{app}/secrets/{name}" | "/v1/kv/{store}/{key}") => &["deploy"],
        ("GET", "/v1/apps" | "/v1/apps/{app}" | "/v1/apps/{app}/config" | "/v1/apps/{app}/logs") => &["read"],
        ("GET", "/v1/apps/{app}/versions/{version}") => &["read"],
        ("GET", "/v1/kv" | "/v1/kv/{store}" | "/v1/kv/{store}/{key}") => &["read"],
        ("POST", "/v1/recompiles") => &["deploy"],
        ("GET", "/v1/recompiles/{id}") => &["read", "deploy", "admin"],
        ("DELETE", "/v1/recompiles/{id}") => &["deploy"],
        ("GET", "/v1/apps/{app}/convergence" | "/v1/apps/{app}/running" | "/v1/apps/{app}/secrets") => {
            &["read", "deploy"]
        }
        ("POST" | "GET", "/v1/tokens") | ("DELETE", "/v1/tokens/{id}") => &["admin"],
        ("POST" | "GET", "/v1/tenants") | ("POST", "/v1/node-tokens") => &[],
        ("GET", "/v1/nodes") | ("DELETE", "/v1/nodes/{node}") => &[],
        ("GET" | "POST", "/v1/compiler-keys") => &[],
        other => panic!("say here who may use {other:?}"),
    }
}

/// Every guarded route, as the server itself documents it.
async fn guarded_routes(plane: &Plane) -> Vec<(Method, String)> {
    let document = plane.ask_openly(Method::GET, "/openapi.json").send().await.ok();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("security").is_some() {
                routes.push((method.to_uppercase().parse().unwrap(), path.clone()));
            }
        }
    }
    assert!(routes.len() >= 16, "{routes:?}");
    routes
}

fn concrete(path: &str, own_token_id: &str) -> String {
    path.replace("{sha256}", &Digest::of(b"x").to_string())
        .replace("{app}", "shop")
        .replace("{id}", own_token_id)
        .replace("{version}", "1")
        .replace("{node}", "fra1-1")
        .replace("{name}", "API_KEY")
        .replace("{store}", "carts")
        .replace("{key}", "one")
}

fn body_for(path: &str) -> Value {
    match path {
        "/v1/apps/{app}/versions" => json!({ "wasm": Digest::of(b"x").to_string() }),
        "/v1/tenants" => json!({ "tenant": "fresh" }),
        "/v1/tokens" => json!({ "actions": ["read"] }),
        "/v1/node-tokens" => json!({ "pop": "fra1" }),
        "/v1/compiler-keys" => json!({ "change": "{}" }),
        "/v1/recompiles" => json!({ "app": "shop", "reason": "drill" }),
        _ => json!({}),
    }
}

/// Right form, right checksum, of nobody.
fn token_of_nobody() -> String {
    let body = format!("skt_{}", URL_SAFE_NO_PAD.encode([7; 32]));
    let checksum = URL_SAFE_NO_PAD.encode(&Digest::of(body.as_bytes()).as_bytes()[..4]);
    body + &checksum
}

#[tokio::test]
async fn no_route_opens_to_a_missing_wrong_revoked_or_expired_token_and_the_answer_is_one() {
    let plane = Plane::without_compiler().await;
    let all = json!(["deploy", "read", "admin"]);
    let made = plane
        .ask(Method::POST, "/v1/tokens")
        .json(json!({ "operator": true, "actions": all }))
        .send()
        .await
        .ok();
    let (revoked, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    plane.ask(Method::DELETE, &format!("/v1/tokens/{id}")).send().await.ok();
    let expired = plane.token(json!({ "operator": true, "actions": all, "ttl_s": 1 })).await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    let mut answers: Vec<Answer> = Vec::new();
    for (method, path) in guarded_routes(&plane).await {
        let target = concrete(&path, id);
        for (what, header) in [
            ("no token", None),
            ("another scheme", Some(format!("Basic {}", plane.operator))),
            ("garbage", Some("Bearer hunter2".to_owned())),
            // The last of six characters for four bytes is one of A, Q, g and w: '-' is always an error.
            ("a typing error", Some(format!("Bearer {}-", &plane.operator[..52]))),
            ("nobody's", Some(format!("Bearer {}", token_of_nobody()))),
            ("revoked", Some(format!("Bearer {revoked}"))),
            ("expired", Some(format!("Bearer {expired}"))),
        ] {
            let ask = plane.ask_openly(method.clone(), &target).json(body_for(&path));
            let ask = if let Some(header) = header { ask.header("authorization", &header) } else { ask };
            let answer = ask.send().await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} with {what}");
            if method != Method::HEAD {
                answers.push(answer);
            }
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "one text for all: {:?}", answers[0]);
}

#[tokio::test]
async fn every_route_refuses_another_tenants_token_and_the_wrong_action() {
    let plane = Plane::without_compiler().await;
    plane.tenant("a").await;
    let of_b = plane.tenant("b").await;
    let mut by_action = Vec::new();
    for action in ["deploy", "read", "admin"] {
        let made = plane
            .ask(Method::POST, "/v1/tokens")
            .json(json!({ "tenant": "a", "actions": [action] }))
            .send()
            .await
            .ok();
        by_action.push((
            action,
            made["token"].as_str().unwrap().to_owned(),
            made["id"].as_str().unwrap().to_owned(),
        ));
    }
    for (method, path) in guarded_routes(&plane).await {
        let foreign = plane.ask_as(&of_b, method.clone(), &concrete(&path, &by_action[0].2));
        let foreign = foreign.header("skerry-tenant", "a").json(body_for(&path)).send().await;
        assert_eq!(foreign.status, StatusCode::FORBIDDEN, "{method} {path} of tenant a with a token of b");

        // `admin` last: its turn at DELETE /v1/tokens/{id} revokes the deploy token.
        for (action, token, _) in &by_action {
            let target = concrete(&path, &by_action[0].2);
            let answer = plane.ask_as(token, method.clone(), &target).json(body_for(&path)).send().await;
            if answer.status == StatusCode::UNAUTHORIZED {
                assert_eq!(*action, "deploy", "only the revoked one: {method} {path}");
                continue;
            }
            let passes = allowed(&method, &path).contains(action);
            let refused = answer.status == StatusCode::FORBIDDEN;
            assert_eq!(refused, !passes, "{method} {path} with {action}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_token_of_one_app_learns_nothing_of_the_others() {
    let plane = Plane::without_compiler().await;
    let token = plane.token(json!({ "app": "shop", "actions": ["deploy", "read", "admin"] })).await;
    for app in ["blog", "never-made"] {
        for (method, path) in [
            (Method::GET, format!("/v1/apps/{app}")),
            (Method::DELETE, format!("/v1/apps/{app}")),
            (Method::POST, format!("/v1/apps/{app}/rollback")),
            (Method::GET, format!("/v1/apps/{app}/convergence")),
            (Method::GET, format!("/v1/apps/{app}/config")),
            (Method::GET, format!("/v1/apps/{app}/logs?follow=true")),
            (Method::GET, format!("/v1/apps/{app}/secrets")),
            (Method::POST, format!("/v1/apps/{app}/secrets")),
            (Method::PUT, format!("/v1/apps/{app}/secrets/KEY")),
            (Method::DELETE, format!("/v1/apps/{app}/secrets/KEY")),
        ] {
            let answer = plane.ask_as(&token, method, &path).send().await;
            assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "forbidden"), "{path}");
        }
    }
    let own = plane.ask_as(&token, Method::GET, "/v1/apps/shop").send().await;
    assert_eq!(own.code(), "no_such_app");
    let wider =
        plane.ask_as(&token, Method::POST, "/v1/tokens").json(json!({ "app": "blog", "actions": ["read"] }));
    assert_eq!(wider.send().await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn tenant_admins_manage_their_own_tokens_only() {
    let plane = Plane::without_compiler().await;
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    for request in [
        json!({ "tenant": "b", "actions": ["read"] }),
        json!({ "tenant": "ghost", "actions": ["read"] }),
        json!({ "operator": true, "actions": ["read"] }),
    ] {
        let answer = plane.ask_as(&a, Method::POST, "/v1/tokens").json(request.clone()).send().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{request}");
    }
    let listed = plane.ask_as(&b, Method::GET, "/v1/tokens").send().await.ok();
    let id = listed[0]["id"].as_str().unwrap();
    assert!(
        listed.as_array().unwrap().iter().all(|token| token["tenant"] == "b" && token.get("token").is_none())
    );
    let foreign = plane.ask_as(&a, Method::DELETE, &format!("/v1/tokens/{id}")).send().await;
    let unknown = plane.ask_as(&a, Method::DELETE, "/v1/tokens/tok_0").send().await;
    assert_eq!(foreign, unknown, "another tenant's token and none look alike");
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert_eq!(plane.ask_as(&b, Method::GET, "/v1/tokens").send().await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_malformed_is_refused_in_our_own_form() {
    let plane = Plane::without_compiler().await;
    for (ask, status, code) in [
        (plane.ask(Method::GET, "/v1/nothing"), 404, "no_such_route"),
        (plane.ask(Method::PATCH, "/v1/apps"), 405, "method_not_allowed"),
        (plane.ask(Method::GET, "/v1/apps/Not_A_Name"), 400, "bad_name"),
        (plane.ask(Method::GET, "/v1/apps/shop/convergence?wait=1"), 400, "bad_query"),
        (plane.ask(Method::POST, "/v1/tenants").bytes(b"{".to_vec()), 400, "bad_json"),
        (plane.ask(Method::POST, "/v1/tenants").json(json!({ "tenant": "x", "colour": 1 })), 400, "bad_json"),
        (plane.ask(Method::POST, "/v1/tenants").bytes(vec![b' '; 2 << 20]), 413, "too_large"),
        (
            plane.ask(Method::POST, "/v1/node-tokens").json(json!({ "pop": "fra1", "ttl_s": 0 })),
            422,
            "bad_ttl",
        ),
        (plane.ask(Method::GET, "/v1/apps").header("skerry-tenant", "ghost"), 404, "no_such_tenant"),
        (plane.ask(Method::DELETE, "/v1/nodes/fra1-9"), 404, "no_such_node"),
    ] {
        let answer = ask.send().await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{answer:?}");
    }
}

#[tokio::test]
async fn every_write_leaves_an_audit_row_also_a_refused_one() {
    let plane = Plane::without_compiler().await;
    plane.ask(Method::POST, "/v1/tenants").json(json!({ "tenant": "a" })).send().await.ok();
    plane.ask(Method::POST, "/v1/tenants").json(json!({ "tenant": "a" })).send().await;
    plane.ask(Method::POST, "/v1/node-tokens").json(json!({ "pop": "fra1" })).send().await.ok();
    plane.ask(Method::DELETE, "/v1/apps/ghost").send().await;
    let store = rusqlite::Connection::open(plane.data_dir().join("admin.sqlite")).unwrap();
    let mut query = store.prepare("SELECT tenant, action, object, outcome FROM audit ORDER BY seq").unwrap();
    let rows: Vec<[String; 4]> = query
        .query_map([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let expected = [
        ["default", "tenant.create", "a", "ok"],
        ["default", "tenant.create", "a", "refused tenant_exists"],
        ["default", "node-token.create", "fra1", "ok"],
        ["default", "delete", "ghost", "refused no_such_app"],
    ];
    assert_eq!(rows, expected);
}
