//! Who may do what: tokens, tenants and host names.

use serde_json::Value;
use whole_flow::{Fleet, Proto, guest};

const REJECTED: i32 = 3;

/// Makes a token and returns (id, token).
fn token(fleet: &Fleet, arguments: &[&str]) -> (String, String) {
    let created = fleet.skerry(&[&["token", "create", "--json"], arguments].concat()).ok().json();
    let text = |key: &str| created[key].as_str().unwrap().to_owned();
    (text("id"), text("token"))
}

fn get(fleet: &Fleet, path: &str, token: Option<&str>, headers: &[&str]) -> (u16, String) {
    let authorization = token.map(|token| format!("authorization: Bearer {token}"));
    let mut arguments = Vec::new();
    for header in authorization.iter().map(String::as_str).chain(headers.iter().copied()) {
        arguments.extend(["--header", header]);
    }
    fleet.call_api(path, &arguments)
}

#[test]
fn a_missing_wrong_revoked_or_expired_token_gets_one_and_the_same_401() {
    let fleet = Fleet::shared();
    let (id, revoked) = token(&fleet, &["--tenant", "default"]);
    assert_eq!(get(&fleet, "/v1/apps", Some(&revoked), &[]).0, 200);
    fleet.skerry(&["token", "revoke", &id]).ok();
    let (_, expired) = token(&fleet, &["--tenant", "default", "--ttl", "1s"]);
    let mut wrong = revoked.clone().into_bytes();
    let last = wrong.len() - 1;
    wrong[last] = if wrong[last] == b'0' { b'1' } else { b'0' };
    let wrong = String::from_utf8(wrong).unwrap();
    let unauthorized = || get(&fleet, "/v1/apps", Some(&expired), &[]).0 == 401;
    whole_flow::wait_for("the token to expire", 10, || unauthorized().then_some(()));

    let missing = get(&fleet, "/v1/apps", None, &[]);
    assert_eq!(missing.0, 401);
    for (what, token) in [
        ("wrong", wrong.as_str()),
        ("revoked", &revoked),
        ("expired", &expired),
        ("no token", "x"),
        ("empty", ""),
    ] {
        // Not the slightest hint which it is.
        assert_eq!(get(&fleet, "/v1/apps", Some(token), &[]), missing, "{what}");
    }
    fleet.skerry_with("skt_wrong", &["apps"]).failed_with(REJECTED, "token");
    assert_eq!(get(&fleet, "/v1/apps", Some(&fleet.token()), &[]).0, 200);
}

#[test]
fn the_documents_need_no_token() {
    let fleet = Fleet::shared();
    assert_eq!(get(&fleet, "/healthz", None, &[]).0, 200);
    let (status, text) = get(&fleet, "/openapi.json", None, &[]);
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&text).unwrap();
    for path in
        ["/v1/apps", "/v1/apps/{app}/versions", "/v1/tokens", "/v1/nodes", "/v1/node-tokens", "/v1/tenants"]
    {
        assert!(document["paths"][path].is_object(), "{path} is not in the OpenAPI document");
    }
}

#[test]
fn a_tenant_sees_and_changes_only_what_is_its_own() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "ours");
    fleet.skerry(&["tenant", "create", "acme"]).ok();
    let tenants = fleet.skerry(&["tenant", "list", "--json"]).ok().out;
    assert!(tenants.contains("acme") && tenants.contains("default"), "{tenants}");
    let (_, acme) =
        token(&fleet, &["--tenant", "acme", "--action", "deploy", "--action", "read", "--action", "admin"]);

    // Its own list is empty; the other's app is not there for it.
    assert_eq!(fleet.skerry_with(&acme, &["apps", "--json"]).ok().json(), serde_json::json!([]));
    for arguments in [&["status", "ours"][..], &["rollback", "ours"], &["app", "delete", "ours"]] {
        fleet.skerry_with(&acme, arguments).failed_with(REJECTED, "");
    }
    // Acting for another tenant, or as operator, is forbidden, not unknown.
    assert_eq!(get(&fleet, "/v1/apps", Some(&acme), &["skerry-tenant: default"]).0, 403);
    for path in ["/v1/nodes", "/v1/tenants"] {
        assert_eq!(get(&fleet, path, Some(&acme), &[]).0, 403, "{path}");
    }
    fleet.skerry_with(&acme, &["node", "token", "create", "--pop", "fra1"]).failed_with(REJECTED, "");
    fleet.skerry_with(&acme, &["token", "create", "--tenant", "default"]).failed_with(REJECTED, "");

    // An upload of one tenant is not there for another: it cannot learn what others run.
    let wasm = artifact_digest(&guest("wstd-hello"));
    let head = |token: &str| {
        let authorization = format!("authorization: Bearer {token}");
        fleet.call_api(&format!("/v1/wasm/{wasm}"), &["--head", "--header", &authorization]).0
    };
    assert_eq!((head(&fleet.token()), head(&acme)), (200, 404));
    assert_eq!(fleet.get(Proto::H2, "ours", "/").expect(200).text, "Hello from wstd!\n");
}

fn artifact_digest(file: &std::path::Path) -> String {
    artifact::Digest::of(&std::fs::read(file).unwrap()).to_string()
}

#[test]
fn a_token_does_only_what_it_was_made_for() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "scoped");
    let file = guest("wasi-hello").display().to_string();
    let (_, reader) = token(&fleet, &["--tenant", "default", "--action", "read"]);
    fleet.skerry_with(&reader, &["status", "scoped"]).ok();
    fleet.skerry_with(&reader, &["deploy", &file, "--app", "scoped"]).failed_with(REJECTED, "token");
    fleet.skerry_with(&reader, &["app", "delete", "scoped"]).failed_with(REJECTED, "token");
    fleet.skerry_with(&reader, &["token", "list"]).failed_with(REJECTED, "token");

    let (_, one_app) = token(&fleet, &["--tenant", "default", "--app", "mine"]);
    fleet.skerry_with(&one_app, &["deploy", &file, "--app", "scoped"]).failed_with(REJECTED, "token");
    fleet.skerry_with(&one_app, &["deploy", &file, "--app", "mine"]).ok();
    assert_eq!(fleet.status("scoped")["active_version"], 1);

    // Secrets are shown once, and never in a list.
    let list = fleet.skerry(&["token", "list", "--json"]).ok().out;
    assert!(!list.contains(&reader) && !list.contains(&one_app), "{list}");
}

#[test]
fn a_host_name_belongs_to_one_tenant() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "owner");
    let file = guest("wasi-hello").display().to_string();
    fleet.skerry(&["deploy", &file, "--app", "named", "--host", "claimed.example"]).ok();
    fleet.skerry(&["tenant", "create", "grabber"]).ok();
    let (_, grabber) = token(&fleet, &["--tenant", "grabber"]);
    for host in ["owner.localhost", "claimed.example"] {
        let arguments = ["deploy", &file, "--app", "theirs", "--host", host, "--json"];
        let said = fleet.skerry_with(&grabber, &arguments).failed_with(REJECTED, host);
        assert_eq!(said.json()["error"]["code"], "host_taken", "{said}");
    }
    // The default name of an app is a claim like any other.
    let said = fleet
        .skerry_with(&grabber, &["deploy", &file, "--app", "owner", "--json"])
        .failed_with(REJECTED, "owner");
    assert_eq!(said.json()["error"]["code"], "host_taken", "{said}");
    assert_eq!(fleet.get(Proto::H2, "owner", "/").expect(200).text, "Hello from wstd!\n");
}

#[test]
fn a_join_token_is_short_lived_and_for_operators() {
    let fleet = Fleet::shared();
    let created =
        fleet.skerry(&["node", "token", "create", "--pop", "syd2", "--ttl", "5m", "--json"]).ok().json();
    assert!(created["token"].as_str().is_some_and(|token| token.len() >= 32), "{created}");
    assert!(created["expires_ms"].as_u64().is_some(), "{created}");
    let nodes = fleet.skerry(&["node", "list", "--json"]).ok().json();
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    assert_eq!(nodes[0]["connected"], true, "{nodes}");
}
