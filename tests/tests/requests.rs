//! Requests that must never reach an app, and apps that must never be mixed up. Bare hyper answers 200 to most.

use whole_flow::{Fleet, Proto, Raw, Request, Response};

/// What a request without a usable authority may be answered.
const REFUSALS: [u16; 3] = [400, 404, 421];

fn fleet() -> std::sync::Arc<Fleet> {
    let fleet = Fleet::shared();
    fleet.deploy_as("wstd-hello", "hello");
    fleet
}

/// h1 request heads that must be refused, with what is wrong about them. `{host}` is the app's own.
const BAD_HEADS: [(&str, &str); 13] = [
    ("no Host", "GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
    ("two different Hosts", "GET / HTTP/1.1\r\nHost: {host}\r\nHost: other.localhost\r\n\r\n"),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: {host}, other.localhost\r\n\r\n"),
    ("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("userinfo", "GET / HTTP/1.1\r\nHost: user@{host}\r\n\r\n"),
    ("userinfo in an absolute URI", "GET https://user@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ("an absolute URI of another host", "GET https://other.localhost/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ("an absolute URI and another Host", "GET https://{host}/ HTTP/1.1\r\nHost: other.localhost\r\n\r\n"),
    ("an unknown host", "GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n"),
    ("an address as Host", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a path in Host", "GET / HTTP/1.1\r\nHost: {host}/x\r\n\r\n"),
    ("a bad port", "GET / HTTP/1.1\r\nHost: {host}:port\r\n\r\n"),
];

#[test]
fn h1_over_tls_refuses_requests_without_one_sound_authority() {
    let fleet = fleet();
    let send = |head: &str| {
        Raw::tls(fleet.https(), &fleet.ca(), "hello.localhost")
            .status(&head.replace("{host}", "hello.localhost"))
    };
    assert_eq!(send("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), 200, "a good request");
    for (what, head) in BAD_HEADS {
        let status = send(head);
        assert!(REFUSALS.contains(&status), "{what}: {status}");
    }
}

#[test]
fn h1_without_tls_refuses_the_same() {
    let fleet = fleet();
    let send = |head: &str| Raw::plain(fleet.http()).status(&head.replace("{host}", "hello.localhost"));
    assert_eq!(send("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), 200, "a good request");
    assert_eq!(
        send("GET / HTTP/1.1\r\nHost: HELLO.localhost.:80\r\nConnection: close\r\n\r\n"),
        200,
        "another form"
    );
    for (what, head) in BAD_HEADS {
        let status = send(head);
        assert!(REFUSALS.contains(&status), "{what}: {status}");
    }
    assert_eq!(send("GET / HTTP/1.1\r\nHost: nobody.localhost\r\n\r\n"), 404);
}

/// RFC 9112 §6.1: refuse it, or take the chunked one and close; what follows must not be read as a second request.
#[test]
fn a_request_with_two_framings_smuggles_nothing() {
    let fleet = fleet();
    let mut raw = Raw::plain(fleet.http());
    let head = "POST / HTTP/1.1\r\nHost: hello.localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let first = raw.status(head);
    let second = raw.status("GET / HTTP/1.1\r\nHost: hello.localhost\r\n\r\n");
    assert!(
        first == 400 || second == 0,
        "first {first}, then {second} on a connection that had to be closed"
    );
}

/// Refused with a status, or by ending the stream or connection; never routed.
fn never_routed(what: &str, response: &Response) {
    let refused = REFUSALS.contains(&response.status) || (response.status == 0 && !response.complete);
    assert!(refused, "{what}: {response:?}");
}

#[test]
fn h2_refuses_the_same_or_resets_the_stream() {
    let fleet = fleet();
    let ask = || fleet.request(Proto::H2, "hello");
    assert_eq!(ask().send().expect(200).version, "2");
    let host = |value: &str| ask().header("host", value).send();
    for authority in [
        "other.localhost",
        "nobody.localhost",
        "hello.localhost, other.localhost",
        "user@hello.localhost",
        "127.0.0.1",
        "hello.localhost:port",
    ] {
        never_routed(authority, &host(authority));
    }
}

#[test]
fn h3_refuses_the_same_or_resets_the_stream() {
    if !whole_flow::h3_is_there() {
        return;
    }
    let fleet = fleet();
    let ask = || fleet.request(Proto::H3, "hello");
    ask().send().expect(200);
    let refused = |what: &str, request: Request| never_routed(what, &request.send());
    refused("no authority", ask().with(&["--no-authority"]));
    for authority in [
        "",
        "other.localhost",
        "nobody.localhost",
        "hello.localhost, other.localhost",
        "user@hello.localhost",
        "127.0.0.1",
        "hello.localhost:port",
    ] {
        refused(authority, ask().with(&["--authority", authority]));
    }
    refused("another Host", ask().with(&["--raw-header", "host: other.localhost"]));
    refused("two authorities", ask().with(&["--raw-header", ":authority: other.localhost"]));
    refused("an upper-case name", ask().with(&["--raw-header", "X-Upper: 1"]));
    refused("a connection header", ask().with(&["--raw-header", "connection: close"]));
    // And the connection to the node is as good as before.
    ask().send().expect(200);
}

#[test]
fn a_certificate_is_for_exact_names_and_an_unknown_name_gets_none() {
    let fleet = fleet();
    let response = fleet.request_host(Proto::H2, "nobody.localhost").send();
    assert!(response.status == 0 || response.status == 421, "{response:?}");
}

#[test]
fn apps_on_one_connection_are_not_mixed_up() {
    let fleet = fleet();
    fleet.deploy_as("wasi-hello", "second");
    for _ in 0..3 {
        assert_eq!(fleet.get(Proto::H2, "hello", "/").expect(200).text, "Hello from wstd!\n");
        assert_eq!(fleet.get(Proto::H2, "second", "/").expect(200).text, "Hello from wasi:http!\n");
    }
    // A connection for one name is not for the other.
    let mut raw = Raw::tls(fleet.https(), &fleet.ca(), "hello.localhost");
    assert_eq!(raw.status("GET / HTTP/1.1\r\nHost: second.localhost\r\n\r\n"), 421);
}

#[test]
fn methods_an_app_does_not_answer_are_refused_on_every_protocol() {
    let fleet = fleet();
    let folder = tempfile::tempdir().unwrap();
    let manifest = "name = \"reader\"\ncomponent = \"app.wasm\"\nmethods = [\"GET\", \"OPTIONS\"]\n";
    std::fs::write(folder.path().join("skerry.toml"), manifest).unwrap();
    std::fs::copy(whole_flow::guest("wasi-hello"), folder.path().join("app.wasm")).unwrap();
    let path = folder.path().display().to_string();
    fleet.skerry(&["deploy", &path, "--timeout", "120s"]).ok();
    for proto in Proto::secure().into_iter().chain([Proto::Plain]) {
        let refused = fleet.request(proto, "reader").method("DELETE").send().expect(405);
        assert_eq!(refused.header("allow"), Some("GET, OPTIONS"), "{proto:?}");
        assert!(
            refused.text.starts_with(r#"{"error":{"code":"method_not_allowed","request_id":""#),
            "{refused:?}"
        );
        fleet.request(proto, "reader").body(b"x").send().expect(405);
        fleet.get(proto, "reader", "/").expect(200);
        fleet.request(proto, "reader").method("OPTIONS").send().expect(200);
    }
    let metric = fleet.metric("skerry_failures_total", &["app=\"reader\"", "code=\"method_not_allowed\""]);
    assert!(metric >= 6.0, "{metric}");
}
