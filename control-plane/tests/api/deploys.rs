//! The upload path with the real compiler service.

use std::time::{Duration, Instant};

use artifact::{Digest, statement::Statement};
use http::Method;
use serde_json::json;

use crate::harness::{Plane, program};

#[tokio::test]
async fn a_program_becomes_a_version_for_every_target_with_its_host_and_url() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let wasm = program("hello");
    let made = plane.deploy(&plane.operator, "hello", &wasm, json!({})).await.ok();
    assert_eq!(made["targets"], json!(["x86_64-v2", "x86_64-v3", "x86_64-v4", "aarch64", "aarch64-lse"]));
    assert_eq!(made["hosts"], json!(["hello.localhost"]));
    assert_eq!(made["urls"], json!(["https://hello.localhost:8443/"]));
    assert_eq!(
        (&made["lane"], &made["version"], &made["tenant"]),
        (&json!("fastly"), &json!(1), &json!("default"))
    );

    let app = plane.ask(Method::GET, "/v1/apps/hello").send().await.ok();
    assert_eq!((&app["active_version"], &app["rev"]), (&json!(1), &made["rev"]));
    assert_eq!(app["versions"][0]["wasm_bytes"], wasm.len());
    assert_eq!(app["versions"][0]["targets"], made["targets"]);
    let listed = plane.ask(Method::GET, "/v1/apps").send().await.ok();
    assert_eq!(listed[0]["app"], "hello");

    let convergence = plane.ask(Method::GET, "/v1/apps/hello/convergence?wait_ms=1000").send().await.ok();
    assert_eq!(
        convergence,
        json!({ "rev": made["rev"], "nodes": 0, "active": 0, "failed": [], "lagging": [] })
    );
    let future = plane.ask(Method::GET, "/v1/apps/hello/convergence?rev=999").send().await;
    assert_eq!(future.code(), "no_such_rev");
}

#[tokio::test]
async fn what_runs_is_told_with_the_statements_that_its_compiler_signed() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let wasm = program("running");
    let made = plane.deploy(&plane.operator, "running", &wasm, json!({})).await.ok();
    let said = plane.ask(Method::GET, "/v1/apps/running/running").send().await.ok();
    assert_eq!((&said["version"], &said["rev"], &said["nodes"]), (&json!(1), &made["rev"], &json!([])));
    assert_eq!(said["wasm"], json!(Digest::of(&wasm)));
    let artifacts = said["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), made["targets"].as_array().unwrap().len());
    for artifact in artifacts {
        let envelope = serde_json::from_value(artifact["statement"].clone()).unwrap();
        let statement = Statement::unchecked(&envelope).unwrap();
        assert_eq!(statement.wasm, Digest::of(&wasm));
        assert_eq!(json!(statement.target), artifact["target"]);
    }

    // A blob that is gone is told so, and hides nothing of the others.
    let blob = artifacts[0]["blob"].as_str().unwrap();
    let file = plane.data_dir().join("blobs/sha256").join(&blob[..2]).join(blob);
    std::fs::remove_file(file).unwrap();
    let said = plane.ask(Method::GET, "/v1/apps/running/running").send().await.ok();
    assert_eq!(
        (said["artifacts"][0]["statement"].is_null(), said["artifacts"][1]["statement"].is_null()),
        (true, false)
    );
    let none = plane.ask(Method::GET, "/v1/apps/none/running").send().await;
    assert_eq!(none.code(), "no_such_app");
}

#[tokio::test]
async fn what_cannot_be_prepared_is_a_mistake_of_the_configuration_or_of_the_program() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let digest = plane.upload(&plane.operator, &program("prepare")).await;
    let deploy = |wasm: Option<&str>, prepare: serde_json::Value, config: serde_json::Value| {
        let body = json!({ "wasm": wasm, "prepare": prepare, "config": config });
        plane.ask(Method::POST, "/v1/apps/shop/versions").json(body)
    };
    let wish = json!({ "initialize": "two words", "initial_memory_mib": 64 });
    let refused = deploy(Some(&digest), wish, json!({ "limits": { "memory_mib": 32 } })).send().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "bad_config"));
    assert_eq!(refused.body["error"]["mistakes"].as_array().unwrap().len(), 2, "{refused:?}");
    let refused = deploy(None, json!({ "initial_memory_mib": 2 }), json!({})).send().await;
    assert!(refused.body["error"]["mistakes"].to_string().contains("no program"), "{refused:?}");
    let refused = deploy(Some(&digest), json!({ "initialize": "absent" }), json!({})).send().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "invalid"), "{refused:?}");

    let made = deploy(Some(&digest), json!({ "initial_memory_mib": 2 }), json!({})).send().await.ok();
    assert_ne!(made["prepared"], json!(digest));
    let app = plane.ask(Method::GET, "/v1/apps/shop").send().await.ok();
    assert_eq!(app["versions"][0]["wasm"], made["prepared"], "what is recompiled and rolled back to");
}

#[tokio::test]
async fn a_prepared_program_must_fit_the_apps_memory_and_the_tenants_quota_and_leaves_no_bytes_if_not() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let wasm = with_initialize();
    let digest = plane.upload(&plane.operator, &wasm).await;
    let deploy = |function: &str, limits: serde_json::Value| {
        let prepare = json!({ "initialize": function, "memory_mib_max": 128 });
        let body = json!({ "wasm": digest, "prepare": prepare, "config": { "limits": limits } });
        plane.ask(Method::POST, "/v1/apps/shop/versions").json(body)
    };
    let blobs = || {
        let shelves = std::fs::read_dir(plane.data_dir().join("blobs/sha256")).unwrap();
        shelves.flat_map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap()).count()
    };
    let before = blobs();
    let refused = deploy("i", json!({ "memory_mib": 1 })).send().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (422, "invalid"), "{refused:?}");
    assert!(
        refused.body.to_string().contains("3 MiB of memory, more than limits.memory_mib, 1"),
        "{refused:?}"
    );

    let store = rusqlite::Connection::open(plane.data_dir().join("admin.sqlite")).unwrap();
    let fill = |bytes: i64| {
        let sql = "INSERT OR REPLACE INTO uploads VALUES ('default', 'filler', ?1, 0)";
        store.execute(sql, [bytes]).unwrap();
    };
    // Room for the half of it: found when it is there. No room at all: found before the compiler is asked.
    for (filler, function) in [(((16_i64 << 30) - wasm.len() as i64 - 10), "i"), (16 << 30, "absent")] {
        fill(filler);
        let refused = deploy(function, json!({})).send().await;
        assert_eq!((refused.status.as_u16(), refused.code()), (409, "quota"), "{refused:?}");
        assert_eq!(blobs(), before, "bytes that no row names");
    }
    fill(0);
    deploy("i", json!({})).send().await.ok();
    assert!(blobs() > before);
}

#[tokio::test]
async fn a_prepared_program_is_what_is_compiled_after_it_was_recompiled_too() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let digest = plane.upload(&plane.operator, &with_initialize()).await;
    let deploy = || {
        let body = json!({ "wasm": digest, "prepare": { "initialize": "i" }, "config": {} });
        plane.ask(Method::POST, "/v1/apps/shop/versions").json(body)
    };
    let first = deploy().send().await.ok();
    let asked = json!({ "app": "shop", "reason": "drill" });
    let id = plane.ask(Method::POST, "/v1/recompiles").json(asked).send().await.ok()["id"].clone();
    let until = Instant::now() + Duration::from_secs(40);
    while plane.ask(Method::GET, &format!("/v1/recompiles/{id}")).send().await.ok()["ended_ms"].is_null() {
        assert!(Instant::now() < until, "it did not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = deploy().send().await.ok();
    assert_eq!((&second["version"], &second["prepared"]), (&json!(2), &first["prepared"]));
    assert_ne!(first["prepared"], json!(digest));
    let said = plane.ask(Method::GET, "/v1/apps/shop/running").send().await.ok();
    assert_eq!((&said["version"], &said["wasm"]), (&json!(2), &first["prepared"]));
    for artifact in said["artifacts"].as_array().unwrap() {
        let envelope = serde_json::from_value(artifact["statement"].clone()).unwrap();
        assert_eq!(json!(Statement::unchecked(&envelope).unwrap().wasm), first["prepared"]);
    }
}

/// `(module (memory (export "memory") 1) (func (export "_start")) (func (export "i") (drop (memory.grow (i32.const 32)))))`
fn with_initialize() -> Vec<u8> {
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    wasm.extend(b"\x01\x04\x01\x60\0\0\x03\x03\x02\0\0\x05\x03\x01\0\x01");
    wasm.extend(b"\x07\x17\x03\x06memory\x02\0\x06_start\0\0\x01i\0\x01");
    wasm.extend(b"\x0a\x0c\x02\x02\0\x0b\x07\0\x41\x20\x40\0\x1a\x0b");
    wasm
}

#[tokio::test]
async fn advice_is_told_with_every_deploy_of_a_program_also_when_nothing_is_compiled() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    // Its data has a computed offset: (data (i32.add (i32.const 1) (i32.const 1)) "xx…").
    let mut wasm = program("advice");
    let offset = b"\x01\0\x41\x01\x41\x01\x6a\x0b\x88\x27";
    let section = [offset.as_slice(), &[b'x'; 5_000]].concat();
    wasm.extend([11, 0x92, 0x27]);
    wasm.extend(section);
    for compiled in [true, false] {
        let made = plane.deploy(&plane.operator, "shop", &wasm, json!({})).await.ok();
        assert_eq!(made["compile_ms"] != 0, compiled);
        assert_eq!(made["advice"][0]["code"], "data_offset", "{made}");
    }
    let none = plane.deploy(&plane.operator, "shop", &program("none"), json!({})).await.ok();
    assert_eq!(none.get("advice"), None);
}

#[tokio::test]
async fn the_same_program_is_compiled_once_and_a_refused_one_leaves_the_running_version() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let wasm = program("again");
    plane.deploy(&plane.operator, "shop", &wasm, json!({})).await.ok();
    let again = plane.deploy(&plane.operator, "shop", &wasm, json!({ "config": { "k": "v" } })).await.ok();
    assert_eq!((&again["version"], &again["compile_ms"]), (&json!(2), &json!(0)));

    for (bad, code) in
        [(b"".as_slice(), "empty"), (b"hello, this is text", "not_wasm"), (&wasm[..20], "invalid")]
    {
        let refused = plane.deploy(&plane.operator, "shop", bad, json!({})).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (422, code), "{refused:?}");
    }
    let config = plane.deploy(
        &plane.operator,
        "shop",
        &wasm,
        json!({ "path_prefix": "x", "limits": { "cpu_ms": 0 } }),
    );
    let config = config.await;
    assert_eq!((config.status.as_u16(), config.code()), (422, "bad_config"));
    assert_eq!(config.body["error"]["mistakes"].as_array().unwrap().len(), 2);
    let unsent = plane
        .ask(Method::POST, "/v1/apps/shop/versions")
        .json(json!({ "wasm": "0".repeat(64) }))
        .send()
        .await;
    assert_eq!((unsent.status.as_u16(), unsent.code()), (422, "wasm_not_uploaded"));
    let app = plane.ask(Method::GET, "/v1/apps/shop").send().await.ok();
    assert_eq!((&app["active_version"], app["versions"].as_array().unwrap().len()), (&json!(2), 2));
}

#[tokio::test]
async fn a_program_of_another_tenant_cannot_be_deployed() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let (a, b) = (plane.tenant("a").await, plane.tenant("b").await);
    let digest = plane.upload(&a, &program("theirs")).await;
    let stolen =
        plane.ask_as(&b, Method::POST, "/v1/apps/shop/versions").json(json!({ "wasm": digest })).send().await;
    assert_eq!((stolen.status.as_u16(), stolen.code()), (422, "wasm_not_uploaded"));
}

#[tokio::test]
async fn a_version_is_shown_with_what_it_pins_and_no_value_of_a_secret() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let wasm = program("pinned");
    let set = |value: &str| {
        let ask = plane.ask(Method::PUT, "/v1/apps/shop/secrets/KEY");
        ask.json(json!({ "value": value })).send()
    };
    set("c2VjcmV0").await.ok();
    let config = json!({ "config": { "k": "v" }, "limits": { "cpu_ms": 7 }, "secrets": ["KEY"] });
    plane.deploy(&plane.operator, "shop", &wasm, config).await.ok();
    set("b3RoZXI=").await.ok();

    let version = |number: u64| plane.ask(Method::GET, &format!("/v1/apps/shop/versions/{number}")).send();
    let (one, two) = (version(1).await.ok(), version(2).await.ok());
    assert_eq!((&one["version"], &one["active"], &two["active"]), (&json!(1), &json!(false), &json!(true)));
    assert_eq!((&one["config"]["config"]["k"], &one["config"]["limits"]["cpu_ms"]), (&json!("v"), &json!(7)));
    assert_eq!(one["config"], two["config"]);
    assert_eq!(one["secrets"][0]["name"], "KEY");
    assert_ne!(one["secrets"][0]["set"], two["secrets"][0]["set"], "another value, told apart");
    assert!(!one.to_string().contains("c2VjcmV0") && !one.to_string().contains("sealed"), "{one}");
    assert_eq!(version(3).await.code(), "no_such_version");
    let other = plane.tenant("b").await;
    let asked = plane.ask_as(&other, Method::GET, "/v1/apps/shop/versions/1").send().await;
    assert_eq!(asked.code(), "no_such_app");
}

#[tokio::test]
async fn rollback_names_its_version_and_a_restart_keeps_everything() {
    let Some(mut plane) = Plane::with_real_compiler().await else { return };
    let tenant = plane.tenant("a").await;
    for name in ["one", "two", "three"] {
        plane.deploy(&tenant, "shop", &program(name), json!({})).await.ok();
    }
    let roll =
        |to| plane.ask_as(&tenant, Method::POST, "/v1/apps/shop/rollback").json(json!({ "to": to })).send();
    assert_eq!(roll(json!(null)).await.ok()["version"], 2);
    assert_eq!(roll(json!(1)).await.ok()["version"], 1);
    assert_eq!(roll(json!(null)).await.code(), "nothing_older");
    assert_eq!(roll(json!(9)).await.code(), "no_such_version");

    let before = plane.ask_as(&tenant, Method::GET, "/v1/apps/shop").send().await.ok();
    let ca = std::fs::read(plane.data_dir().join("local-ca.pem")).unwrap();
    plane.restart().await;
    assert_eq!(plane.ask_as(&tenant, Method::GET, "/v1/apps/shop").send().await.ok(), before);
    assert_eq!(before["active_version"], 1);
    assert_eq!(std::fs::read(plane.data_dir().join("local-ca.pem")).unwrap(), ca);
    let fourth = plane.deploy(&tenant, "shop", &program("one"), json!({})).await.ok();
    assert_eq!((&fourth["version"], &fourth["compile_ms"]), (&json!(4), &json!(0)));
}

#[tokio::test]
async fn an_operator_acts_for_the_tenant_it_names() {
    let Some(plane) = Plane::with_real_compiler().await else { return };
    let tenant = plane.tenant("a").await;
    let digest = plane.upload(&tenant, &program("acting")).await;
    let made = plane.ask(Method::POST, "/v1/apps/shop/versions").header("skerry-tenant", "a");
    assert_eq!(made.json(json!({ "wasm": digest })).send().await.ok()["tenant"], "a");
    assert_eq!(
        plane.ask(Method::GET, "/v1/apps").send().await.ok(),
        json!([]),
        "the default tenant has none"
    );
    assert_eq!(plane.ask_as(&tenant, Method::GET, "/v1/apps").send().await.ok()[0]["app"], "shop");
}

#[tokio::test]
async fn certificates_of_an_earlier_ca_are_replaced_at_start() {
    let Some(mut plane) = Plane::with_real_compiler().await else { return };
    plane.deploy(&plane.operator, "shop", &program("certified"), json!({})).await.ok();
    assert_eq!(certificates(&plane), 1);
    plane.restart().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(certificates(&plane), 1, "a good one is left alone");

    for file in ["local-ca.pem", "local-ca.key"] {
        std::fs::remove_file(plane.data_dir().join(file)).unwrap();
    }
    plane.restart().await;
    let end = Instant::now() + Duration::from_secs(10);
    while certificates(&plane) < 2 {
        assert!(Instant::now() < end, "not renewed within 10 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Certificate records in the log.
fn certificates(plane: &Plane) -> usize {
    let log = rusqlite::Connection::open(plane.data_dir().join("log.sqlite")).unwrap();
    let count = "SELECT count(*) FROM records WHERE text LIKE '%\"kind\":\"certificate\"%'";
    log.query_row(count, [], |row| row.get(0)).unwrap()
}
