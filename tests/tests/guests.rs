//! Real programs of others' tools, deployed through the command line, answer by every protocol.

use serde_json::Value;
use whole_flow::{Fleet, Proto, has_guest, random_bytes, skipped};

/// One mebibyte: beyond every buffer and flow-control window on the way.
const MIB: usize = 1 << 20;

/// Deploys `guest` and checks what it says at `/` by every protocol.
fn says(guest: &str, lane: &str, body: &str, content_type: &str) {
    let fleet = Fleet::shared();
    let deployed = fleet.deploy(guest);
    answers(&fleet, guest, &deployed, lane, body, content_type);
}

fn answers(fleet: &Fleet, guest: &str, deployed: &Value, lane: &str, body: &str, content_type: &str) {
    assert_eq!((&deployed["lane"], &deployed["outcome"]), (&lane.into(), &"live".into()), "{deployed}");
    for proto in Proto::secure() {
        let response = fleet.get(proto, guest, "/").expect(200);
        assert_eq!(response.text, body, "{guest} by {proto:?}");
        assert_eq!(response.header("content-type"), Some(content_type), "{guest} by {proto:?}");
        assert!(response.complete, "{response:?}");
    }
}

/// Deploys `guest` and checks that it gives back a random body by every protocol.
fn echoes(guest: &str, path: &str) {
    let fleet = Fleet::shared();
    fleet.deploy_with_cpu_ms(guest, 5_000);
    gives_back(&fleet, guest, path);
}

fn gives_back(fleet: &Fleet, guest: &str, path: &str) {
    for (seed, proto) in Proto::secure().into_iter().enumerate() {
        let body = random_bytes(seed as u64, MIB);
        let request = fleet.request(proto, guest).path(path).body(&body);
        let response = request.header("content-type", "application/x-random").send().expect(200);
        assert!(response.is_body(&body), "{guest} by {proto:?}: {} bytes, {response:?}", response.body_len);
        assert_eq!(response.header("content-type"), Some("application/x-random"), "{guest} by {proto:?}");
    }
}

#[test]
fn a_wstd_component_answers_by_h1_h2_and_h3() {
    says("wstd-hello", "wasi", "Hello from wstd!\n", "text/plain");
}

#[test]
fn a_fastly_crate_module_answers_by_h1_h2_and_h3() {
    says("fastly-hello", "fastly", "Hello from the fastly crate!\n", "text/plain; charset=utf-8");
}

#[test]
fn a_wasi_crate_component_answers_by_h1_h2_and_h3() {
    says("wasi-hello", "wasi", "Hello from wasi:http!\n", "text/plain");
}

#[test]
fn a_componentize_js_component_answers_and_echoes() {
    if !has_guest("js-echo") {
        return skipped("js-echo: not built; it needs node and npm (fixtures/build --all)");
    }
    // Deployed once: its engine is 12 MB of code, the longest compilation of the suite.
    let fleet = Fleet::shared();
    let deployed = fleet.deploy_with_cpu_ms("js-echo", 5_000);
    answers(&fleet, "js-echo", &deployed, "wasi", "Hello from JS\n", "text/plain");
    gives_back(&fleet, "js-echo", "/echo");
}

#[test]
fn a_mebibyte_comes_back_unchanged_through_the_wasi_lane() {
    echoes("echo", "/");
}

#[test]
fn a_mebibyte_comes_back_unchanged_through_a_wasi_guests_memory() {
    echoes("echo-copy", "/");
}

#[test]
fn a_mebibyte_comes_back_unchanged_through_the_fastly_lane() {
    echoes("fastly-echo", "/");
}

#[test]
fn method_path_query_and_headers_reach_a_wasi_guest_and_its_status_and_headers_come_back() {
    let fleet = Fleet::shared();
    fleet.deploy("headers");
    for proto in Proto::secure() {
        let request = fleet.request(proto, "headers").path("/a/b?c=d%20e&f").method("PUT").body(b"x");
        let response = request.header("x-status", "418").header("x-mark", "here").send().expect(418);
        let seen: serde_json::Value = serde_json::from_str(&response.text).unwrap();
        assert_eq!(seen["method"], "PUT", "{proto:?}");
        assert_eq!(seen["path_with_query"], "/a/b?c=d%20e&f", "{proto:?}");
        assert_eq!(seen["scheme"], "https", "{proto:?}");
        assert!(
            seen["authority"].as_str().is_some_and(|name| name.starts_with("headers.localhost")),
            "{seen}"
        );
        assert!(
            seen["headers"].as_array().unwrap().contains(&serde_json::json!(["x-mark", "here"])),
            "{seen}"
        );
        assert_eq!(response.header_all("set-cookie"), ["a=1; Path=/", "b=2; Path=/"], "{proto:?}");
    }
}

#[test]
fn method_url_and_headers_reach_a_fastly_guest_and_its_status_and_headers_come_back() {
    let fleet = Fleet::shared();
    fleet.deploy("fastly-headers");
    for proto in Proto::secure() {
        let request = fleet.request(proto, "fastly-headers").path("/a/b?c=d").method("PUT").body(b"x");
        let response = request.header("x-status", "418").header("x-mark", "here").send().expect(418);
        let seen: serde_json::Value = serde_json::from_str(&response.text).unwrap();
        assert_eq!(seen["method"], "PUT", "{proto:?}");
        let url = seen["url"].as_str().unwrap();
        assert!(url.starts_with("https://fastly-headers.localhost") && url.ends_with("/a/b?c=d"), "{url}");
        assert!(
            seen["headers"].as_array().unwrap().contains(&serde_json::json!(["x-mark", "here"])),
            "{seen}"
        );
        assert_eq!(response.header_all("set-cookie"), ["a=1; Path=/", "b=2; Path=/"], "{proto:?}");
    }
}

#[test]
fn a_fastly_guest_gets_its_environment_and_unsupported_from_calls_no_host_knows() {
    let fleet = Fleet::shared();
    fleet.deploy("fastly-env");
    let response = fleet.get(Proto::H2, "fastly-env", "/").expect(200);
    let env: serde_json::Value = serde_json::from_str(&response.text).unwrap();
    assert!(env["FASTLY_SERVICE_VERSION"].is_string() && env["FASTLY_TRACE_ID"].is_string(), "{env}");
    fleet.deploy("fastly-unsupported");
    let response = fleet.get(Proto::H2, "fastly-unsupported", "/").expect(200);
    let seen: serde_json::Value = serde_json::from_str(&response.text).unwrap();
    assert_eq!(seen["not_yet"], 5, "{seen}");
}

#[test]
fn a_streamed_response_starts_before_it_ends() {
    let fleet = Fleet::shared();
    fleet.deploy("stream");
    for proto in Proto::secure() {
        let response = fleet.get(proto, "stream", "/").expect(200);
        let wanted: String = (0..10).map(|n| format!("chunk {n}\n")).collect();
        assert_eq!(response.text, wanted, "{proto:?}");
    }
    // Ten chunks 20 ms apart: the head is there long before the 180 ms that the body takes.
    let response = fleet.get(Proto::H1, "stream", "/").expect(200);
    let (first_ms, all_ms) = response.times_ms.expect("curl says when");
    assert!(all_ms - first_ms >= 100, "first byte after {first_ms} ms, all after {all_ms} ms");
}

#[test]
fn every_request_gets_a_fresh_instance() {
    let fleet = Fleet::shared();
    fleet.deploy("canary");
    for _ in 0..20 {
        assert_eq!(fleet.get(Proto::H2, "canary", "/").expect(200).text, "clean\n");
    }
}

#[test]
fn http_3_is_announced_over_tcp() {
    let fleet = Fleet::shared();
    fleet.deploy("wstd-hello");
    for proto in [Proto::H1, Proto::H2] {
        let response = fleet.get(proto, "wstd-hello", "/").expect(200);
        let wanted = format!("h3=\":{}\"", fleet.https().port());
        assert!(response.header("alt-svc").is_some_and(|value| value.contains(&wanted)), "{response:?}");
        assert_eq!(response.version, if proto == Proto::H1 { "1.1" } else { "2" });
    }
}

#[test]
fn the_plain_listener_serves_too_when_asked_for() {
    let fleet = Fleet::shared();
    fleet.deploy("wstd-hello");
    assert_eq!(fleet.get(Proto::Plain, "wstd-hello", "/").expect(200).text, "Hello from wstd!\n");
}
