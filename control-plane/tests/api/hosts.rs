//! Host names belong to one tenant, and a route to one app.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Plane, program};

/// Tries at the same host name at once.
const CLAIMANTS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_claims_at_once_by_two_tenants_one_tenant_wins() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let plane = Arc::new(plane);
    let tokens = [plane.tenant("a").await, plane.tenant("b").await];
    let wasm = program("race");
    for token in &tokens {
        // Compiled before, so that the race is in the log and not in the compiler.
        plane.deploy(token, "warm-up", &wasm, json!({ "hosts": [format!("{}.example", &token[4..8].to_lowercase().replace(['_', '-'], "x"))] })).await.ok();
    }
    let mut claims = Vec::new();
    for number in 0..CLAIMANTS {
        let (plane, token, wasm) = (Arc::clone(&plane), tokens[number % 2].clone(), wasm.clone());
        claims.push(tokio::spawn(async move {
            let app = format!("app-{number}");
            (number % 2, plane.deploy(&token, &app, &wasm, json!({ "hosts": ["shop.example"] })).await)
        }));
    }
    let mut winners = Vec::new();
    for claim in claims {
        let (tenant, answer) = claim.await.unwrap();
        match answer.status {
            StatusCode::CREATED => winners.push(tenant),
            StatusCode::CONFLICT => {
                assert!(["host_taken", "route_taken"].contains(&answer.code()), "{answer:?}")
            }
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "one app of one tenant has the host");
    let loser = &tokens[1 - winners[0]];
    let late = plane.deploy(loser, "late", &wasm, json!({ "hosts": ["shop.example"] })).await;
    assert_eq!((late.status.as_u16(), late.code()), (409, "host_taken"));
    assert!(!late.body.to_string().contains("\"a\""), "not said whose it is: {late:?}");
}

#[tokio::test]
async fn a_path_prefix_is_claimed_within_a_tenant_and_deletion_frees_the_host() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    let wasm = program("paths");
    let route = |prefix: &str| json!({ "hosts": ["shop.example"], "path_prefix": prefix });
    plane.deploy(&a, "front", &wasm, route("/")).await.ok();
    plane.deploy(&a, "api", &wasm, route("/api")).await.ok();
    let taken = plane.deploy(&a, "other", &wasm, route("/api/")).await;
    assert_eq!((taken.status.as_u16(), taken.code()), (409, "route_taken"));
    let foreign = plane.deploy(&b, "front", &wasm, route("/b")).await;
    assert_eq!((foreign.status.as_u16(), foreign.code()), (409, "host_taken"));

    for app in ["front", "api"] {
        plane.ask_as(&a, Method::DELETE, &format!("/v1/apps/{app}")).send().await.ok();
    }
    let gone = plane.ask_as(&a, Method::GET, "/v1/apps/front").send().await;
    assert_eq!(gone.code(), "no_such_app");
    let now = plane.deploy(&b, "front", &wasm, route("/b")).await.ok();
    assert_eq!(now["urls"], json!(["https://shop.example:8443/b"]));
}
