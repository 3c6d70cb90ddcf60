//! What must not be deployed is refused with its reason, and the running version keeps serving.

use whole_flow::{Bad, Fleet, Proto, guest};

/// Exit code of a rejection.
const REJECTED: i32 = 3;

/// Uploads `file` over a running app, expects a refusal that says `reason`, and that the app is as it was.
fn refused(fleet: &Fleet, app: &str, file: &std::path::Path, reason: &str) {
    let path = file.display().to_string();
    fleet.skerry(&["deploy", &path, "--app", app, "--json"]).failed_with(REJECTED, reason);
    assert_eq!(fleet.get(Proto::H2, app, "/").expect(200).text, "Hello from wstd!\n", "after {path}");
    assert_eq!(fleet.status(app)["active_version"], 1, "after {path}");
}

#[test]
fn bad_uploads_are_refused_by_name_and_the_running_version_keeps_serving() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "shop");
    let folder = tempfile::tempdir().unwrap();
    for (bad, reason) in [
        (Bad::Empty, "empty"),
        (Bad::Text, "not_wasm"),
        (Bad::Truncated, "invalid"),
        (Bad::GarbageAfterMagic, "invalid"),
        (Bad::Native, "not_wasm"),
        (Bad::UnknownImport, "mystery"),
        (Bad::CoreNoStart, "_start"),
    ] {
        refused(&fleet, "shop", &bad.write(folder.path()), reason);
    }
    refused(&fleet, "shop", &guest("not-http"), "wasi:http");
}

#[test]
fn two_hundred_megabytes_are_refused_by_the_command_line_and_by_the_api() {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "big");
    let folder = tempfile::tempdir().unwrap();
    let file = Bad::TooBig.write(folder.path());
    refused(&fleet, "big", &file, "at most");

    // Past the command line: curl announces the length, and is refused before it has sent it.
    let authorization = format!("authorization: Bearer {}", fleet.token());
    let digest = "0".repeat(64);
    let arguments = ["--header", &authorization, "--upload-file", &file.display().to_string()];
    let (status, body) = fleet.call_api(&format!("/v1/wasm/{digest}"), &arguments);
    assert_eq!(status, 413, "{body}");
}

#[test]
fn bytes_that_are_not_those_of_the_digest_are_refused() {
    let fleet = Fleet::shared();
    let authorization = format!("authorization: Bearer {}", fleet.token());
    let file = guest("wstd-hello").display().to_string();
    let arguments = ["--header", authorization.as_str(), "--upload-file", &file];
    let (status, body) = fleet.call_api(&format!("/v1/wasm/{}", "0".repeat(64)), &arguments);
    assert_eq!(status, 422, "{body}");
}

#[test]
fn the_same_idempotency_key_never_makes_a_second_version() {
    let fleet = Fleet::shared();
    let wasm = fleet.deploy_as("wstd-hello", "twice")["wasm"].as_str().unwrap().to_owned();
    let authorization = format!("authorization: Bearer {}", fleet.token());
    let body = format!("{{\"wasm\":\"{wasm}\",\"config\":{{}}}}");
    let call = |key: &str| {
        let key = format!("idempotency-key: {key}");
        let json = "content-type: application/json";
        let arguments = ["--header", &authorization, "--header", &key, "--header", json, "--data", &body];
        let (status, answer) = fleet.call_api("/v1/apps/twice/versions", &arguments);
        assert_eq!(status, 201, "{answer}");
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["version"].as_u64().unwrap()
    };
    assert_eq!(call("key-a"), 2);
    assert_eq!(call("key-a"), 2);
    assert_eq!(call("key-b"), 3);
    assert_eq!(fleet.status("twice")["versions"].as_array().unwrap().len(), 3);
}

#[test]
fn a_folder_with_a_manifest_is_deployed_with_its_hosts_and_rolled_back() {
    let fleet = Fleet::shared();
    let folder = tempfile::tempdir().unwrap();
    let deploy = |program: &str| {
        std::fs::copy(guest(program), folder.path().join("app.wasm")).unwrap();
        let manifest =
            "name = \"shop2\"\ncomponent = \"app.wasm\"\nhosts = [\"shop.example\", \"www.shop.example\"]\n";
        std::fs::write(folder.path().join("skerry.toml"), manifest).unwrap();
        fleet
            .skerry(&["deploy", &folder.path().display().to_string(), "--json", "--timeout", "60s"])
            .ok()
            .json()
    };
    let says = |text: &str| {
        for host in ["shop.example", "www.shop.example"] {
            assert_eq!(fleet.request_host(Proto::H2, host).send().expect(200).text, text, "{host}");
        }
    };
    assert_eq!(deploy("wstd-hello")["hosts"], serde_json::json!(["shop.example", "www.shop.example"]));
    says("Hello from wstd!\n");
    deploy("wasi-hello");
    says("Hello from wasi:http!\n");

    let back = fleet.skerry(&["rollback", "shop2", "--json"]).ok().json();
    assert_eq!((&back["version"], &back["outcome"]), (&1.into(), &"live".into()), "{back}");
    says("Hello from wstd!\n");
    fleet.skerry(&["rollback", "shop2", "--to", "2"]).ok();
    says("Hello from wasi:http!\n");
    fleet.skerry(&["rollback", "shop2", "--to", "9"]).failed_with(REJECTED, "9");

    fleet.skerry(&["app", "delete", "shop2", "--json"]).ok();
    let gone = || (fleet.request_host(Proto::Plain, "shop.example").send().status == 404).then_some(());
    whole_flow::wait_for("the deleted app to be gone", 10, gone);
    fleet.skerry(&["status", "shop2"]).failed_with(REJECTED, "shop2");
}
