//! Compiling kept versions anew: what is covered, what makes a record, and that it goes on.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use artifact::{Digest, compile::RefusalCode};
use http::Method;
use serde_json::{Value, json};

use crate::{
    compiler_faults::{Behaviour, StandIn},
    harness::{Answer, Plane, program},
};

async fn ask(plane: &Plane, token: &str, body: Value) -> Answer {
    plane.ask_as(token, Method::POST, "/v1/recompiles").json(body).send().await
}

async fn look(plane: &Plane, id: u64) -> Value {
    plane.ask(Method::GET, &format!("/v1/recompiles/{id}")).send().await.ok()
}

/// Asks until it is done.
async fn ended(plane: &Plane, taken: Value) -> Value {
    let id = taken["id"].as_u64().unwrap();
    let until = Instant::now() + Duration::from_secs(40);
    loop {
        let now = look(plane, id).await;
        if !now["ended_ms"].is_null() {
            return now;
        }
        assert!(Instant::now() < until, "it did not end: {now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn counts(of: &Value) -> [u64; 5] {
    ["versions", "changed", "same", "gone", "failed"].map(|key| of[key].as_u64().unwrap())
}

async fn rev(plane: &Plane) -> u64 {
    plane.ask_openly(Method::GET, "/healthz").send().await.ok()["rev"].as_u64().unwrap()
}

#[tokio::test]
async fn every_kept_version_is_compiled_anew_and_only_other_code_makes_a_record() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let tenant = plane.tenant("a").await;
    for (token, app, name) in [(&tenant, "shop", "1"), (&tenant, "shop", "2"), (&plane.operator, "till", "1")]
    {
        plane.deploy(token, app, &program(name), json!({})).await.ok();
    }
    // The same program under other settings: compiled once for both.
    plane.deploy(&tenant, "blog", &program("1"), json!({})).await.ok();
    assert_eq!(stand_in.compiled.load(Ordering::Relaxed), 3, "a tenant's program is compiled once");

    let before = rev(&plane).await;
    let all = json!({ "all": true, "reason": "drill" });
    let same = ended(&plane, ask(&plane, &plane.operator, all.clone()).await.ok()).await;
    assert_eq!(counts(&same), [4, 0, 4, 0, 0], "{same}");
    assert_eq!((stand_in.compiled.load(Ordering::Relaxed), rev(&plane).await), (6, before), "{same}");
    assert_eq!((&same["reason"], &same["app"]), (&json!("drill"), &Value::Null));

    *stand_in.name.lock() = "mended".into();
    let one = json!({ "app": "shop", "reason": "mended" });
    let changed = ended(&plane, ask(&plane, &tenant, one).await.ok()).await;
    assert_eq!(counts(&changed), [2, 2, 0, 0, 0], "{changed}");
    assert_eq!(rev(&plane).await, before + 2);
    let changed = ended(&plane, ask(&plane, &plane.operator, all).await.ok()).await;
    assert_eq!(
        counts(&changed),
        [4, 2, 2, 0, 0],
        "the other tenant's, and the app that shares a program: {changed}"
    );
    let app = plane.ask_as(&tenant, Method::GET, "/v1/apps/shop").send().await.ok();
    let numbers: Vec<&Value> =
        app["versions"].as_array().unwrap().iter().map(|made| &made["version"]).collect();
    assert_eq!(numbers, [2, 1], "no new version");

    // From the request on whoever deploys the program gets the new code, too.
    let compiled = stand_in.compiled.load(Ordering::Relaxed);
    plane.deploy(&tenant, "late", &program("1"), json!({})).await.ok();
    assert_eq!(stand_in.compiled.load(Ordering::Relaxed), compiled, "known again");
}

#[tokio::test]
async fn it_waits_for_a_compiler_that_is_away_goes_on_after_a_restart_and_names_what_fails() {
    let (stand_in, url) = StandIn::start().await;
    let mut plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    for name in ["1", "2"] {
        plane.deploy(&plane.operator, "shop", &program(name), json!({})).await.ok();
    }
    *stand_in.name.lock() = "mended".into();
    stand_in.behave(Behaviour::Refuses(RefusalCode::Internal));
    let body = json!({ "app": "shop", "reason": "drill" });
    let keyed = async |plane: &Plane| {
        let ask = plane.ask(Method::POST, "/v1/recompiles").header("idempotency-key", "k1");
        ask.json(body.clone()).send().await.ok()["id"].as_u64().unwrap()
    };
    let id = keyed(&plane).await;
    problem(&plane, id, "it could not be compiled").await;
    plane.restart().await;
    assert_eq!(keyed(&plane).await, id, "the same request");
    stand_in.behave(Behaviour::Sound);
    let done = ended(&plane, json!({ "id": id })).await;
    assert_eq!(counts(&done), [2, 2, 0, 0, 0], "{done}");
    assert_eq!(done["problem"], Value::Null);

    stand_in.behave(Behaviour::Refuses(RefusalCode::NotWasm));
    let again = json!({ "app": "shop", "reason": "drill" });
    let failed = ended(&plane, ask(&plane, &plane.operator, again).await.ok()).await;
    assert_eq!(counts(&failed), [2, 0, 0, 0, 2], "{failed}");
    assert_eq!(
        failed["failures"][0],
        json!({ "tenant": "default", "app": "shop", "version": 2, "why": "the reason" })
    );
}

/// Waits for words on why nothing goes on.
async fn problem(plane: &Plane, id: u64, words: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let now = look(plane, id).await;
        if now["problem"].as_str().is_some_and(|problem| problem.contains(words)) {
            return now;
        }
        assert!(Instant::now() < until, "no {words:?}: {now}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_no_versions_fault_uses_up_no_tries_and_holds_back_no_other_request() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let a = plane.tenant("a").await;
    plane.deploy(&a, "shop", &program("1"), json!({})).await.ok();
    plane.deploy(&plane.operator, "till", &program("2"), json!({})).await.ok();
    *stand_in.name.lock() = "mended".into();
    stand_in.behave(Behaviour::SpeaksGibberish);
    let id = ask(&plane, &a, json!({ "app": "shop", "reason": "x" })).await.ok()["id"].as_u64().unwrap();
    problem(&plane, id, "does not answer").await;
    // It pauses for longer each time now; one that comes meanwhile does not.
    tokio::time::sleep(Duration::from_secs(2)).await;
    stand_in.behave(Behaviour::Sound);
    let all = ask(&plane, &plane.operator, json!({ "app": "till", "reason": "x" })).await.ok();
    let done = ended(&plane, all).await;
    assert_eq!(counts(&done), [1, 1, 0, 0, 0], "{done}");
    let done = ended(&plane, json!({ "id": id })).await;
    assert_eq!(counts(&done), [1, 1, 0, 0, 0], "{done}");
}

#[tokio::test]
async fn a_compiler_that_is_busy_uses_up_no_tries() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    plane.deploy(&plane.operator, "shop", &program("1"), json!({})).await.ok();
    *stand_in.name.lock() = "mended".into();
    // The client itself waits ten seconds for a place.
    stand_in.behave(Behaviour::IsBusyFor(22));
    let body = json!({ "app": "shop", "reason": "drill" });
    let taken = ask(&plane, &plane.operator, body).await.ok();
    problem(&plane, taken["id"].as_u64().unwrap(), "other work").await;
    let done = ended(&plane, taken).await;
    assert_eq!(counts(&done), [1, 1, 0, 0, 0], "{done}");
}

/// Its program is new, so that no epoch tells: only the label of what the app shares functions with.
#[tokio::test]
async fn a_deploy_that_a_request_overtakes_is_compiled_without_functions_of_before_the_request() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    plane.deploy(&plane.operator, "shop", &program("1"), json!({})).await.ok();
    stand_in.behave(Behaviour::TakesItsTime);
    let new = program("2");
    let overtaken = plane.deploy(&plane.operator, "shop", &new, json!({}));
    let request = async {
        let until = Instant::now() + Duration::from_secs(10);
        while stand_in.caches.lock().len() < 2 {
            assert!(Instant::now() < until, "the deploy is not being compiled");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ask(&plane, &plane.operator, json!({ "app": "shop", "reason": "drill" })).await.ok()
    };
    let (deployed, taken) = tokio::join!(overtaken, request);
    deployed.ok();
    stand_in.behave(Behaviour::Sound);
    ended(&plane, taken).await;
    let caches = stand_in.caches.lock().clone();
    assert_eq!(caches[..2], ["shop/0", "shop/0"]);
    assert!(caches.contains(&"shop/1".to_owned()), "compiled once more: {caches:?}");
}

#[tokio::test]
async fn a_version_that_fails_lets_the_others_pass_and_a_cancelled_request_ends() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    for name in ["1", "2"] {
        plane.deploy(&plane.operator, "shop", &program(name), json!({})).await.ok();
    }
    *stand_in.name.lock() = "mended".into();
    stand_in.behave(Behaviour::Refuses(RefusalCode::Internal));
    let body = json!({ "app": "shop", "reason": "drill" });
    let id = ask(&plane, &plane.operator, body).await.ok()["id"].as_u64().unwrap();
    problem(&plane, id, "shop v1").await; // after v2, which stands first
    let path = format!("/v1/recompiles/{id}");
    let cancelled = plane.ask(Method::DELETE, &path).send().await.ok();
    assert!(cancelled["ended_ms"].is_u64() && cancelled["done"] == 0, "{cancelled}");
    assert!(cancelled["problem"].as_str().unwrap().starts_with("cancelled by "), "{cancelled}");
    stand_in.behave(Behaviour::Sound);
    assert_eq!(plane.ask(Method::DELETE, &path).send().await.ok(), cancelled, "twice is once");
    assert_eq!(plane.ask(Method::DELETE, "/v1/recompiles/99").send().await.code(), "no_such_recompile");
    let other = plane.tenant("b").await;
    assert_eq!(plane.ask_as(&other, Method::DELETE, &path).send().await.code(), "no_such_recompile");
}

#[tokio::test]
async fn versions_made_and_deleted_meanwhile_are_covered_and_counted() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    for app in ["shop", "gone"] {
        plane.deploy(&plane.operator, app, &program(app), json!({})).await.ok();
    }
    *stand_in.name.lock() = "mended".into();
    stand_in.behave(Behaviour::SpeaksGibberish);
    let taken = ask(&plane, &plane.operator, json!({ "all": true, "reason": "drill" })).await.ok();
    problem(&plane, taken["id"].as_u64().unwrap(), "does not answer").await;
    plane.ask(Method::DELETE, "/v1/apps/gone").send().await.ok();
    // Other settings: a version with the code that the old one has.
    let change = json!({ "set": { "GREETING": "hi" } });
    let changed = plane.ask(Method::POST, "/v1/apps/shop/config").json(change).send().await.ok();
    assert_eq!(changed["version"], 2);
    stand_in.behave(Behaviour::Sound);
    let done = ended(&plane, taken).await;
    assert_eq!(counts(&done), [3, 2, 0, 1, 0], "{done}");
}

#[tokio::test]
async fn a_request_that_says_too_little_or_is_one_too_many_is_refused_and_others_requests_are_not_seen() {
    let (stand_in, url) = StandIn::start().await;
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    plane.deploy(&a, "shop", &program("1"), json!({})).await.ok();
    for (body, status, code) in [
        (json!({ "reason": "x" }), 422, "bad_scope"),
        (json!({ "reason": "x", "all": true, "app": "shop" }), 422, "bad_scope"),
        (json!({ "app": "shop" }), 422, "bad_reason"),
        (json!({ "app": "shop", "reason": "\u{1b}[2J" }), 422, "bad_reason"),
        (json!({ "app": "shop", "reason": "x".repeat(501) }), 422, "bad_reason"),
        (json!({ "app": "none", "reason": "x" }), 404, "no_such_app"),
        (json!({ "all": true, "reason": "x" }), 403, "forbidden"),
    ] {
        let answer = ask(&plane, &a, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{body}: {answer:?}");
    }
    // Nothing ends while the compiler is not the one that is known.
    *stand_in.fingerprint.lock() = Digest::of(b"engine 2");
    stand_in.behave(Behaviour::Refuses(RefusalCode::Internal));
    let one = || json!({ "app": "shop", "reason": "x" });
    let id = ask(&plane, &a, one()).await.ok()["id"].as_u64().unwrap();
    ask(&plane, &a, one()).await.ok();
    let third = ask(&plane, &a, one()).await;
    assert_eq!((third.status.as_u16(), third.code()), (409, "quota"), "{third:?}");
    let path = format!("/v1/recompiles/{id}");
    assert_eq!(plane.ask_as(&a, Method::GET, &path).send().await.ok()["id"], id);
    let unseen = plane.ask_as(&b, Method::GET, &path).send().await;
    let unknown = plane.ask_as(&b, Method::GET, "/v1/recompiles/999").send().await;
    assert_eq!((unseen.code(), &unseen), ("no_such_recompile", &unknown));
    let all = ask(&plane, &plane.operator, json!({ "all": true, "reason": "x" })).await.ok()["id"]
        .as_u64()
        .unwrap();
    assert_eq!(
        plane.ask_as(&a, Method::GET, &format!("/v1/recompiles/{all}")).send().await.code(),
        "no_such_recompile"
    );
}
