//! Config, secrets and key-value stores.

use std::path::Path;

use artifact::{
    record::{Body, RawRecord, Version},
    seal::SecretsKey,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Plane, program};

#[tokio::test]
async fn changed_config_is_a_new_version_of_the_same_program_and_an_unchanged_one_is_none() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let config = json!({ "config": { "a": "1", "b": "2" }, "config_stores": { "one": { "x": "y" } } });
    let first = plane.deploy(&plane.operator, "shop", &program("shop"), config).await.ok();
    let change = |body: Value| plane.ask(Method::POST, "/v1/apps/shop/config").json(body).send();

    let second = change(json!({ "set": { "a": "new" }, "unset": ["b"] })).await.ok();
    assert_eq!((&second["version"], &second["compile_ms"]), (&json!(2), &json!(0)));
    assert_eq!((&second["targets"], &second["hosts"]), (&first["targets"], &first["hosts"]));
    let third = change(json!({ "store": "two", "set": { "k": "v" } })).await.ok();
    let shown = plane.ask(Method::GET, "/v1/apps/shop/config").send().await.ok();
    assert_eq!(
        shown,
        json!({
            "app": "shop", "version": 3, "config": { "a": "new" },
            "config_stores": { "one": { "x": "y" }, "two": { "k": "v" } },
        })
    );
    let again = change(json!({ "store": "two", "set": { "k": "v" } })).await.ok();
    assert_eq!((&again["version"], &again["rev"]), (&third["version"], &third["rev"]));
    let app = plane.ask(Method::GET, "/v1/apps/shop").send().await.ok();
    let programs: Vec<&Value> = app["versions"].as_array().unwrap().iter().map(|v| &v["wasm"]).collect();
    assert_eq!(programs.len(), 3);
    assert!(programs.iter().all(|wasm| *wasm == programs[0]));

    for (body, status, code) in [
        (json!({ "unset": ["b"] }), 404, "no_such_key"),
        (json!({ "set": { "k": "x".repeat(8193) } }), 422, "bad_config"),
        (json!({ "store": "a/b", "set": { "k": "v" } }), 422, "bad_config"),
    ] {
        let refused = change(body).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (status, code), "{refused:?}");
    }
    let missing =
        plane.ask(Method::POST, "/v1/apps/blog/config").json(json!({ "set": { "k": "v" } })).send().await;
    assert_eq!((missing.status.as_u16(), missing.code()), (404, "no_such_app"));
}

/// The versions of the log, in their order.
fn versions(data_dir: &Path) -> Vec<Version> {
    let log = rusqlite::Connection::open(data_dir.join("log.sqlite")).unwrap();
    let mut query = log.prepare("SELECT text FROM records ORDER BY rev").unwrap();
    let records = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let bodies = records.map(|text| RawRecord::from_text(text.unwrap()).unwrap().decode().unwrap().body);
    bodies.filter_map(|body| if let Body::Version(version) = body { Some(version) } else { None }).collect()
}

fn opened(data_dir: &Path, version: &Version) -> Vec<(String, String)> {
    let key = std::fs::read_to_string(data_dir.join("secrets.key")).unwrap();
    let key = SecretsKey::from_text(&key).unwrap();
    let open = |secret: &artifact::secrets::PinnedSecret| {
        let value = secret.at.open(&key, &version.id, &secret.value).unwrap();
        (secret.at.to_string(), String::from_utf8(value.expose().to_vec()).unwrap())
    };
    version.secrets.iter().map(open).collect()
}

#[tokio::test]
async fn several_secrets_are_set_together_as_one_version_or_not_at_all() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let set = async |secrets: Value| {
        let key = artifact::Digest::of(secrets.to_string().as_bytes()).to_string();
        let ask = plane.ask(Method::POST, "/v1/apps/shop/secrets").header("idempotency-key", &key);
        ask.json(json!({ "secrets": secrets })).send().await
    };
    let secret = |name: &str, value: &str| json!({ "name": name, "value_base64": BASE64.encode(value) });
    let first = set(json!([secret("A", "a1"), secret("B", "b1")])).await.ok();
    assert_eq!((&first["set"], &first["released"]), (&json!(2), &Value::Null));
    let config = json!({ "secrets": ["A", "B"], "secret_stores": { "vault": ["A"] } });
    let mut vaulted = secret("A", "vaulted");
    vaulted["store"] = json!("vault");
    set(json!([vaulted])).await.ok();
    plane.deploy(&plane.operator, "shop", &program("shop"), config).await.ok();
    let changes = json!([secret("A", "plain-a2"), secret("B", "plain-b2"), secret("UNDECLARED", "plain-c2")]);
    let changed = set(changes.clone()).await.ok();
    assert_eq!((&changed["set"], &changed["released"]["version"]), (&json!(3), &json!(2)), "one version");
    assert_eq!(set(changes).await.ok(), changed, "by the same key, once");
    let of: Vec<_> = versions(plane.data_dir()).iter().map(|v| opened(plane.data_dir(), v)).collect();
    let pins = |a: &str, b: &str| {
        [("A", a), ("B", b), ("A (store vault)", "vaulted")]
            .map(|(at, value)| (at.to_owned(), value.to_owned()))
    };
    assert_eq!(of, [pins("a1", "b1"), pins("plain-a2", "plain-b2")]);
    assert_eq!(files_with(plane.folder.path(), b"plain-"), [""; 0].map(std::path::PathBuf::from));

    let large = "x".repeat(64 * 1024);
    for (bad, code) in [
        (json!([]), "bad_value"),
        (json!([secret("A", "x"), secret("A", "y")]), "bad_value"),
        (json!([secret("A", "")]), "empty_secret"),
        (json!([{ "name": "A", "value_base64": "hunter2!" }]), "bad_value"),
        (json!([secret("A", &format!("{large}x"))]), "bad_value"),
        (json!([secret("A", "lost"), secret("L", &large), secret("M", &large)]), "quota"),
        (json!([{ "name": "A=B", "value_base64": "" }]), "bad_json"),
        (json!({ "A": "hunter2" }), "bad_json"),
        (json!(["hunter2"]), "bad_json"),
    ] {
        let refused = set(bad).await;
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(!refused.body.to_string().contains("hunter2"), "{refused:?}");
    }
    let count = versions(plane.data_dir()).len();
    set(json!([secret("B", "plain-b3")])).await.ok();
    let last = versions(plane.data_dir());
    assert_eq!(last.len(), count + 1);
    assert_eq!(
        opened(plane.data_dir(), &last[count]),
        pins("plain-a2", "plain-b3"),
        "nothing of what was refused"
    );
}

#[tokio::test]
async fn the_same_bytes_in_other_secrets_are_another_request_under_a_key() {
    let plane = Plane::without_compiler().await;
    let set = |a: &str, b: &str| {
        let secret = |name: &str, value: &str| json!({ "name": name, "value_base64": BASE64.encode(value) });
        let ask = plane.ask(Method::POST, "/v1/apps/shop/secrets").header("idempotency-key", "once");
        ask.json(json!({ "secrets": [secret("A", a), secret("B", b)] })).send()
    };
    let first = set("ab", "c").await.ok();
    assert_eq!(set("ab", "c").await.ok(), first);
    assert_eq!(set("a", "bc").await.code(), "idempotency_key_reused", "the values end elsewhere");
    let store = rusqlite::Connection::open(plane.data_dir().join("admin.sqlite")).unwrap();
    let row = "SELECT object FROM audit WHERE action = 'secrets.set' AND outcome = 'ok' LIMIT 1";
    let object: String = store.query_row(row, [], |row| row.get(0)).unwrap();
    assert_eq!(object, "shop/A, B", "the row tells which were set");
}

/// Every file under a directory that holds these bytes.
fn files_with(directory: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, needle));
        } else if std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle) {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn each_version_pins_the_secrets_it_declares_and_no_file_holds_a_plain_value() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let set = |path: &str, value: &str| {
        let path = format!("/v1/apps/shop/secrets/{path}");
        plane.ask(Method::PUT, &path).bytes(value.as_bytes().to_vec()).send()
    };
    let config = json!({ "secrets": ["KEY"], "secret_stores": { "my vault": ["KEY"] } });
    let wasm = program("shop");
    let deploy = || plane.deploy(&plane.operator, "shop", &wasm, config.clone());

    let refused = deploy().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "secrets_missing"));
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("`skerry secrets set shop KEY`"), "{message}");
    assert!(message.contains("`skerry secrets set shop KEY --store 'my vault'`"), "{message}");

    let first = set("KEY", "plain-value-one").await.ok();
    assert_eq!(first["released"], Value::Null, "nothing is there that declares it");
    set("KEY?store=my%20vault", "plain-value-two").await.ok();
    set("UNUSED", "plain-value-three").await.ok();
    assert_eq!(deploy().await.ok()["version"], 1);
    let second = set("KEY", "plain-value-four").await.ok();
    assert_eq!((&second["released"]["version"], &second["released"]["compile_ms"]), (&json!(2), &json!(0)));
    let third = plane.ask(Method::POST, "/v1/apps/shop/config").json(json!({ "set": { "k": "v" } }));
    assert_eq!(third.send().await.ok()["version"], 3);

    let (key, vaulted) =
        ("KEY".to_owned(), ("KEY (store my vault)".to_owned(), "plain-value-two".to_owned()));
    let pins = |value: &str| vec![(key.clone(), value.to_owned()), vaulted.clone()];
    let of: Vec<_> = versions(plane.data_dir()).iter().map(|v| opened(plane.data_dir(), v)).collect();
    assert_eq!(of, [pins("plain-value-one"), pins("plain-value-four"), pins("plain-value-four")]);
    assert_eq!(files_with(plane.folder.path(), b"plain-value"), [""; 0].map(std::path::PathBuf::from));

    let listed = plane.ask(Method::GET, "/v1/apps/shop/secrets").send().await.ok();
    let shown: Vec<_> =
        listed.as_array().unwrap().iter().map(|s| (&s["name"], &s["store"], &s["declared"])).collect();
    let (key, unused, vault) = (json!("KEY"), json!("UNUSED"), json!("my vault"));
    let wanted = [
        (&key, &Value::Null, &json!(true)),
        (&unused, &Value::Null, &json!(false)),
        (&key, &vault, &json!(true)),
    ];
    assert_eq!(shown, wanted);
    assert!(!listed.to_string().contains("plain-value"));
    let unset = |path: &str| plane.ask(Method::DELETE, &format!("/v1/apps/shop/secrets/{path}")).send();
    assert_eq!(unset("KEY").await.code(), "secret_in_use");
    unset("UNUSED").await.ok();
    assert_eq!(unset("UNUSED").await.code(), "no_such_secret");
    for (bad, code) in [("KEY", "empty_secret"), ("A=B", "bad_name"), ("KEY?store=%2F", "bad_query")] {
        assert_eq!(set(bad, "").await.code(), code, "{bad}");
    }
    assert_eq!(set("KEY", &"x".repeat(64 * 1024 + 1)).await.status.as_u16(), 413);
    set("LARGE", &"x".repeat(64 * 1024)).await.ok();
    assert_eq!(set("LARGE2", &"x".repeat(17 * 1024)).await.code(), "quota");

    // A deleted app's secrets go with it.
    plane.ask(Method::DELETE, "/v1/apps/shop").send().await.ok();
    assert_eq!(plane.ask(Method::GET, "/v1/apps/shop/secrets").send().await.ok(), json!([]));
}

#[tokio::test]
async fn secrets_set_at_the_same_time_are_all_in_the_last_version() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let names: Vec<String> = (0..6).map(|n| format!("S{n}")).collect();
    for name in &names {
        let path = format!("/v1/apps/shop/secrets/{name}");
        plane.ask(Method::PUT, &path).bytes(b"old".to_vec()).send().await.ok();
    }
    plane.deploy(&plane.operator, "shop", &program("shop"), json!({ "secrets": names })).await.ok();
    let sets = names.iter().map(|name| {
        let path = format!("/v1/apps/shop/secrets/{name}");
        let ask = plane.ask(Method::PUT, &path).bytes(b"new".to_vec());
        async move { ask.send().await.ok() }
    });
    futures_util::future::join_all(sets).await;
    let versions = versions(plane.data_dir());
    // One version may pin what several requests have set by then.
    assert!((2..=7).contains(&versions.len()), "{}", versions.len());
    let last: Vec<String> =
        opened(plane.data_dir(), versions.last().unwrap()).into_iter().map(|(_, value)| value).collect();
    assert_eq!(last, ["new"; 6]);
}

#[tokio::test]
async fn entries_are_written_read_listed_and_deleted_and_survive_a_restart() {
    let mut plane = Plane::without_compiler().await;
    let key = "carts/1%C3%A9%20%2F..";
    let put = plane.ask(Method::PUT, &format!("/v1/kv/my%20store/{key}?ttl_ms=60000"));
    let metadata = BASE64.encode(b"\0meta");
    let put = put.header("skerry-metadata", &metadata).bytes(b"\xff\0value".to_vec());
    // A slash inside a key must be encoded: the path has one segment for it.
    assert_eq!(put.send().await.code(), "no_such_route");
    let key = "carts%2F1%C3%A9%20%2F..";
    let path = format!("/v1/kv/my%20store/{key}");
    let put = plane.ask(Method::PUT, &format!("{path}?ttl_ms=60000")).header("skerry-metadata", &metadata);
    let written = put.bytes(b"{\"json\":1}".to_vec()).send().await.ok();
    let generation = written["generation"].as_u64().unwrap();
    plane.restart().await;

    assert_eq!(plane.ask(Method::GET, &path).send().await.ok(), json!({ "json": 1 }));
    let listed = plane.ask(Method::GET, "/v1/kv/my%20store?prefix=carts%2F").send().await.ok();
    assert_eq!(listed, json!({ "keys": ["carts/1é /.."], "next": null }));

    let put_if = |wanted: u64, value: &'static str| {
        let path = format!("{path}?if_generation={wanted}");
        plane.ask(Method::PUT, &path).bytes(value.as_bytes().to_vec()).send()
    };
    let refused = put_if(generation + 1, "2").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (412, "precondition_failed"));
    assert!(put_if(generation, "3").await.ok()["generation"].as_u64().unwrap() > generation);
    assert_eq!(plane.ask(Method::GET, &path).send().await.ok(), json!(3));
    assert_eq!(plane.ask(Method::DELETE, &path).send().await.ok(), json!({ "existed": true }));
    assert_eq!(plane.ask(Method::DELETE, &path).send().await.ok(), json!({ "existed": false }));
    assert_eq!(plane.ask(Method::GET, &path).send().await.code(), "no_such_key");
    for (path, code) in [
        ("/v1/kv/s/k?ttl_ms=1", "bad_value"),
        ("/v1/kv/s/k?mode=sideways", "bad_query"),
        ("/v1/kv/s/a%0Ab", "bad_name"),
        ("/v1/kv/..%2F/k", "bad_name"),
    ] {
        assert_eq!(plane.ask(Method::PUT, path).bytes(vec![1]).send().await.code(), code, "{path}");
    }
    let large = plane.ask(Method::PUT, "/v1/kv/s/k").bytes(vec![0; (8 << 20) + 1]).send().await;
    assert_eq!(large.status.as_u16(), 413);
    plane.ask(Method::PUT, "/v1/kv/s/k").bytes(vec![0; 8 << 20]).send().await.ok();
}

#[tokio::test]
async fn a_value_holds_its_place_until_its_reader_has_it() {
    let plane = Plane::without_compiler().await;
    plane.ask(Method::PUT, "/v1/kv/s/large").bytes(vec![0; 8 << 20]).send().await.ok();
    plane.ask(Method::PUT, "/v1/kv/s/small").bytes(b"1".to_vec()).send().await.ok();
    let get = |key: &str| plane.ask(Method::GET, &format!("/v1/kv/s/{key}"));
    // Small ones hold nothing, however many of them nobody reads.
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(get("small").begin().await);
    }
    for _ in 0..16 {
        let response = get("large").begin().await;
        assert_eq!(response.status().as_u16(), 200);
        unread.push(response);
    }
    let refused = get("large").send().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "busy"));
    drop(unread);
    for _ in 0..500 {
        if get("large").send().await.status.as_u16() == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the places did not come back within 5 s");
}

#[tokio::test]
async fn a_page_ends_in_a_cursor_and_an_append_with_a_key_is_done_once() {
    let mut plane = Plane::without_compiler().await;
    for key in ["a", "b", "c"] {
        plane.ask(Method::PUT, &format!("/v1/kv/s/{key}")).bytes(b"1".to_vec()).send().await.ok();
    }
    let page = plane.ask(Method::GET, "/v1/kv/s?limit=2").send().await.ok();
    assert_eq!(page["keys"], json!(["a", "b"]));
    let rest = format!("/v1/kv/s?limit=2&cursor={}", page["next"].as_str().unwrap());
    assert_eq!(plane.ask(Method::GET, &rest).send().await.ok(), json!({ "keys": ["c"], "next": null }));
    assert_eq!(plane.ask(Method::GET, "/v1/kv/s?cursor=zz").send().await.code(), "bad_value");

    let append = async |plane: &Plane, value: &'static str| {
        let ask = plane.ask(Method::PUT, "/v1/kv/s/a?mode=append").header("idempotency-key", "once");
        ask.bytes(value.as_bytes().to_vec()).send().await
    };
    let first = append(&plane, "2").await.ok();
    assert_eq!(append(&plane, "2").await.ok(), first);
    plane.restart().await;
    assert_eq!(append(&plane, "2").await.ok(), first);
    assert_eq!(append(&plane, "3").await.code(), "idempotency_key_reused");
    assert_eq!(plane.ask(Method::GET, "/v1/kv/s/a").send().await.ok(), json!(12));
}

#[tokio::test]
async fn a_key_of_a_key_value_write_is_free_for_others_and_theirs_is_not_for_it() {
    let plane = Plane::without_compiler().await;
    let write = |key: &'static str| {
        let ask = plane.ask(Method::PUT, "/v1/kv/s/a?mode=append").header("idempotency-key", key);
        ask.bytes(b"1".to_vec()).send()
    };
    let set = |key: &'static str| {
        let ask = plane.ask(Method::PUT, "/v1/apps/shop/secrets/A").header("idempotency-key", key);
        ask.bytes(b"value".to_vec()).send()
    };
    let written = write("first-a-write").await.ok();
    set("first-a-write").await.ok();
    assert_eq!(write("first-a-write").await.code(), "idempotency_key_reused", "the other one has it now");
    set("first-a-secret").await.ok();
    assert_eq!(write("first-a-secret").await.code(), "idempotency_key_reused");
    assert_eq!(written["generation"], 1);
    assert_eq!(plane.ask(Method::GET, "/v1/kv/s/a").send().await.ok(), json!(1), "written once");
}

#[tokio::test]
async fn tenants_do_not_meet_and_a_token_reaches_what_it_is_for() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    plane.ask_as(&a, Method::PUT, "/v1/kv/s/k").bytes(b"1".to_vec()).send().await.ok();
    plane.ask_as(&a, Method::PUT, "/v1/kv/other/k").bytes(b"1".to_vec()).send().await.ok();
    assert_eq!(plane.ask_as(&b, Method::GET, "/v1/kv/s/k").send().await.code(), "no_such_key");
    assert_eq!(plane.ask_as(&b, Method::GET, "/v1/kv/s").send().await.ok()["keys"], json!([]));

    plane.deploy(&a, "shop", &program("shop"), json!({ "kv_stores": ["s"] })).await.ok();
    let of_app = plane.token(json!({ "tenant": "a", "app": "shop", "actions": ["deploy", "read"] })).await;
    assert_eq!(plane.ask_as(&of_app, Method::GET, "/v1/kv/s/k").send().await.ok(), json!(1));
    assert_eq!(plane.ask_as(&of_app, Method::GET, "/v1/kv/other/k").send().await.code(), "forbidden");
    // Nobody is told of stores out of reach; those that are declared and empty are there too.
    plane.deploy(&a, "blog", &program("blog"), json!({ "kv_stores": ["posts"] })).await.ok();
    let stores =
        async |token: &str| plane.ask_as(token, Method::GET, "/v1/kv").send().await.ok()["stores"].clone();
    assert_eq!(stores(&a).await, json!(["other", "posts", "s"]));
    assert_eq!(stores(&of_app).await, json!(["s"]));
    assert_eq!(stores(&b).await, json!([]));
    let reader = plane.token(json!({ "tenant": "a", "actions": ["read"] })).await;
    for (method, path) in [
        (Method::PUT, "/v1/kv/s/k"),
        (Method::DELETE, "/v1/kv/s/k"),
        (Method::PUT, "/v1/apps/shop/secrets/K"),
        (Method::DELETE, "/v1/apps/shop/secrets/K"),
        (Method::POST, "/v1/apps/shop/config"),
    ] {
        let refused = plane.ask_as(&reader, method.clone(), path).bytes(b"{}".to_vec()).send().await;
        assert_eq!(refused.code(), "forbidden", "{method} {path}");
    }
    for path in ["/v1/apps/blog/secrets/K", "/v1/apps/blog/secrets", "/v1/apps/blog/config"] {
        let method = if path.ends_with("/K") { Method::PUT } else { Method::GET };
        let refused = plane.ask_as(&of_app, method, path).bytes(b"x".to_vec()).send().await;
        assert_eq!(refused.code(), "forbidden", "{path}");
    }
}
