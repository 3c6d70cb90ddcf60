//! Changing the compiler's key: what the API takes, and whose native code is believed then.

use std::sync::atomic::Ordering;

use artifact::{
    key_change::{KeyChange, Verb},
    keys::{Compiler, SecretKey},
};
use http::Method;
use serde_json::{Value, json};

use crate::{
    compiler_faults::StandIn,
    harness::{Answer, Plane, program},
};

fn key(seed: u8) -> SecretKey<Compiler> {
    SecretKey::from_seed([seed; 32])
}

fn id(seed: u8) -> String {
    key(seed).public().id().to_string()
}

fn change(by: u8, verb: Verb, of: u8, serial: u64) -> String {
    KeyChange::sign(&key(by), verb, key(of).public(), serial).unwrap().to_text()
}

async fn add(plane: &Plane, change: &str) -> Answer {
    plane.ask(Method::POST, "/v1/compiler-keys").json(json!({ "change": change })).send().await
}

/// Each key's id and whether it is trusted.
async fn listed(plane: &Plane) -> Vec<(String, bool)> {
    let listed = plane.ask(Method::GET, "/v1/compiler-keys").send().await.ok();
    let row = |key: &Value| (key["id"].as_str().unwrap().to_owned(), key["trusted"].as_bool().unwrap());
    listed.as_array().unwrap().iter().map(row).collect()
}

async fn rev(plane: &Plane) -> u64 {
    plane.ask(Method::GET, "/healthz").send().await.ok()["rev"].as_u64().unwrap()
}

#[tokio::test]
async fn changes_are_taken_once_and_whatever_no_trusted_key_signed_is_refused() {
    let mut plane = Plane::without_compiler().await; // its compiler has key 1
    assert_eq!(listed(&plane).await, [(id(1), true)]);
    let endorsed = change(1, Verb::Endorses, 2, 10);
    let added = add(&plane, &endorsed).await.ok();
    assert_eq!(
        (&added["signer"], &added["verb"], &added["key"]),
        (&json!(id(1)), &json!("endorses"), &json!(id(2)))
    );
    let before = rev(&plane).await;
    assert_eq!(added["rev"], before);
    assert_eq!(add(&plane, &endorsed).await.ok()["rev"], before, "an answer that was lost");

    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    for (refused, status, code) in [
        (change(9, Verb::Endorses, 8, 20), 409, "change_refused"),
        (change(1, Verb::Endorses, 3, 10), 409, "change_refused"),
        (change(1, Verb::Endorses, 3, now_ms + 3_600_000), 422, "serial_ahead"),
        (endorsed.replace("\"sig\":\"", "\"sig\":\"AA"), 422, "bad_change"),
        ("compiler-public:00".into(), 422, "bad_change"),
        ("x".repeat(5_000), 422, "bad_change"),
    ] {
        let answer = add(&plane, &refused).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{answer:?}");
    }
    assert_eq!(rev(&plane).await, before);

    add(&plane, &change(2, Verb::Revokes, 1, 20)).await.ok();
    assert_eq!(add(&plane, &change(1, Verb::Endorses, 3, 30)).await.code(), "change_refused");
    plane.restart().await; // its file names key 1 still
    assert_eq!(listed(&plane).await, [(id(2), true), (id(1), false)]);
    let listed = plane.ask(Method::GET, "/v1/compiler-keys").send().await.ok();
    assert_eq!((&listed[0]["endorsed_by"], &listed[1]["revoked_by"]), (&json!(id(1)), &json!(id(2))));
}

#[tokio::test]
async fn a_compiler_with_an_endorsed_key_is_believed_and_code_of_a_revoked_one_is_made_anew() {
    let (stand_in, url) = StandIn::start().await; // it has key 1
    let plane = Plane::with_compiler_at(&url, &stand_in.key).await;
    let compiled = || stand_in.compiled.load(Ordering::Relaxed);
    let deploy =
        async |app: &str, what: &str| plane.deploy(&plane.operator, app, &program(what), json!({})).await;
    deploy("shop", "one").await.ok();

    *stand_in.next_key.lock() = Some(key(2));
    let refused = deploy("shop", "two").await;
    assert_eq!(refused.code(), "compiler_untrusted");
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.contains(&id(1)) && message.contains(&id(2)), "{message}");
    assert_eq!(compiled(), 1, "it is not asked");

    add(&plane, &change(1, Verb::Endorses, 2, 10)).await.ok();
    deploy("till", "two").await.ok();
    deploy("blog", "one").await.ok();
    assert_eq!(compiled(), 2, "what the old key signed is good as long as it is trusted");

    add(&plane, &change(2, Verb::Revokes, 1, 20)).await.ok();
    deploy("wiki", "one").await.ok();
    assert_eq!(compiled(), 3, "and is compiled anew once it is not");
    deploy("news", "two").await.ok();
    assert_eq!(compiled(), 3);
    *stand_in.next_key.lock() = None;
    assert_eq!(deploy("shop", "three").await.code(), "compiler_untrusted", "a compiler with the revoked key");
}
