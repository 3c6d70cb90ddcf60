//! The same Idempotency-Key: the same answer, and never a second version.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::harness::{Answer, Plane, program};

async fn deploy_under(plane: &Plane, key: &str, digest: &str, config: serde_json::Value) -> Answer {
    let body = json!({ "wasm": digest, "config": config });
    plane.ask(Method::POST, "/v1/apps/shop/versions").header("idempotency-key", key).json(body).send().await
}

async fn versions(plane: &Plane) -> usize {
    let app = plane.ask(Method::GET, "/v1/apps/shop").send().await.ok();
    app["versions"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_key_makes_one_version_in_turn_at_once_and_after_a_restart() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let digest = plane.upload(&plane.operator, &program("once")).await;
    let plane = Arc::new(plane);
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (plane, digest) = (Arc::clone(&plane), digest.clone());
            tokio::spawn(async move { deploy_under(&plane, "key-1", &digest, json!({})).await })
        })
        .collect();
    let mut answers = Vec::new();
    for one in tries {
        answers.push(one.await.unwrap());
    }
    assert_eq!(answers[0].status.as_u16(), 201, "{:?}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(versions(&plane).await, 1);

    let mut plane = Arc::into_inner(plane).unwrap();
    plane.restart().await;
    assert_eq!(deploy_under(&plane, "key-1", &digest, json!({})).await, answers[0]);

    // As after a crash between publishing and remembering the answer: the log itself knows the key.
    let store = rusqlite::Connection::open(plane.data_dir().join("admin.sqlite")).unwrap();
    assert_eq!(store.execute("DELETE FROM answers", []).unwrap(), 1);
    let again = deploy_under(&plane, "key-1", &digest, json!({})).await.ok();
    assert_eq!((&again["version"], &again["rev"]), (&answers[0].body["version"], &answers[0].body["rev"]));
    assert_eq!(versions(&plane).await, 1);

    let other = deploy_under(&plane, "key-1", &digest, json!({ "path_prefix": "/x" })).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency_key_reused"));
    assert_eq!(deploy_under(&plane, "key-2", &digest, json!({})).await.ok()["version"], 2);
    let bad = deploy_under(&plane, "not a key", &digest, json!({})).await;
    assert_eq!((bad.status.as_u16(), bad.code()), (400, "bad_idempotency_key"));
}

#[tokio::test]
async fn a_repeated_rollback_or_deletion_changes_nothing_more() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let wasm = program("back");
    for _ in 0..3 {
        plane.deploy(&plane.operator, "shop", &wasm, json!({})).await.ok();
    }
    let back = || {
        plane
            .ask(Method::POST, "/v1/apps/shop/rollback")
            .header("idempotency-key", "back")
            .json(json!({}))
            .send()
    };
    let first = back().await;
    assert_eq!(first.clone().ok()["version"], 2);
    assert_eq!(back().await, first, "not back to version 1");
    let delete = || plane.ask(Method::DELETE, "/v1/apps/shop").header("idempotency-key", "gone").send();
    let first = delete().await;
    assert_eq!(delete().await, first);
    first.ok();
    let unkeyed = plane.ask(Method::DELETE, "/v1/apps/shop").send().await;
    assert_eq!(unkeyed.code(), "no_such_app");
}
