//! Heads of requests and responses, and what is known of the client.

use std::sync::Arc;

use http::Request;

use super::script::{
    Arg::{At, N, T, To},
    Out, Script,
};
use crate::{
    front::{Connection, InboundBody, Protocol, TlsInfo},
    guest::fastly::{
        abi::Status,
        body::GuestBody,
        handles::{HANDLES_MAX, Item},
        table,
    },
    limits::Limit,
    testing,
};

const REQ: &str = "fastly_http_req";
const RESP: &str = "fastly_http_resp";

/// A text that a call gives: where, and its length.
fn text(guest: &mut Script, function: &str, handle: Out) -> (Out, Out) {
    let (buffer, written) = (guest.out(64), guest.out(4));
    guest.call(function, &[At(handle), To(buffer), N(64), To(written)]);
    (buffer, written)
}

pub fn a_request_is_built_and_read_back() {
    let mut guest = Script::new();
    let request = guest.gives("fastly_http_req.new", vec![]);
    guest.call("fastly_http_req.method_set", &[At(request), T("PURGE")]);
    guest.call("fastly_http_req.uri_set", &[At(request), T("https://a.example/b?c")]);
    guest.call("fastly_http_req.version_set", &[At(request), N(3)]);
    guest.call("fastly_http_req.framing_headers_mode_set", &[At(request), N(0)]);
    guest.call("fastly_http_req.auto_decompress_response_set", &[At(request), N(1)]);
    let (method, method_length) = text(&mut guest, "fastly_http_req.method_get", request);
    let (uri, uri_length) = text(&mut guest, "fastly_http_req.uri_get", request);
    let version = guest.gives("fastly_http_req.version_get", vec![At(request)]);
    // A buffer that is too short gets the length it needs.
    let (short, needed) = (guest.out(8), guest.out(4));
    let arguments = [At(request), To(short), N(8), To(needed)];
    guest.answers(Status::BufferTooShort, "fastly_http_req.uri_get", &arguments);
    guest.call("fastly_http_req.close", &[At(request)]);
    guest.answers(Status::BadHandle, "fastly_http_req.close", &[At(request)]);
    let memory = guest.run();
    assert_eq!(memory.text(method, method_length), "PURGE");
    assert_eq!(memory.text(uri, uri_length), "https://a.example/b?c");
    assert_eq!((memory.u32(version), memory.u32(needed)), (3, 21));
    assert_eq!(memory.bytes(short, 8), [0; 8], "nothing is written");
}

pub fn a_response_is_built_and_read_back() {
    let mut guest = Script::new();
    let response = guest.gives("fastly_http_resp.new", vec![]);
    guest.call("fastly_http_resp.status_set", &[At(response), N(418)]);
    guest.call("fastly_http_resp.version_set", &[At(response), N(1)]);
    guest.call("fastly_http_resp.framing_headers_mode_set", &[At(response), N(0)]);
    guest.call("fastly_http_resp.http_keepalive_mode_set", &[At(response), N(0)]);
    guest.answers(Status::Unsupported, "fastly_http_resp.http_keepalive_mode_set", &[At(response), N(1)]);
    let status = guest.gives("fastly_http_resp.status_get", vec![At(response)]);
    let version = guest.gives("fastly_http_resp.version_get", vec![At(response)]);
    guest.answers(Status::BadStatusCode, "fastly_http_resp.status_set", &[At(response), N(99)]);
    let out = guest.out(16);
    guest.answers(Status::None, "fastly_http_resp.get_addr_dest_ip", &[At(response), To(out), To(out)]);
    guest.answers(Status::None, "fastly_http_resp.get_addr_dest_port", &[At(response), To(out)]);
    guest.call("fastly_http_resp.close", &[At(response)]);
    let memory = guest.run();
    assert_eq!((memory.u32(status), memory.u32(version)), (418, 1));
}

pub fn headers_are_told_in_batches() {
    for module in [REQ, RESP] {
        let mut guest = Script::new();
        let function = |name: &str| format!("{module}.{name}");
        let head = guest.gives(&function("new"), vec![]);
        for value in ["1", "22", "333"] {
            guest.call(&function("header_append"), &[At(head), T("X-Many"), T(value)]);
        }
        guest.call(&function("header_insert"), &[At(head), T("x-one"), T("1")]);
        guest.call(&function("header_values_set"), &[At(head), T("x-two"), T("a\0b\0")]);
        let (first, next, written) = (guest.out(16), guest.out(8), guest.out(4));
        let values =
            |cursor, length, to| [At(head), T("x-many"), To(to), N(length), N(cursor), To(next), To(written)];
        guest.call(&function("header_values_get"), &values(0, 6, first));
        let (rest, rest_next, rest_written) = (guest.out(16), guest.out(8), guest.out(4));
        let more = [At(head), T("x-many"), To(rest), N(16), N(2), To(rest_next), To(rest_written)];
        guest.call(&function("header_values_get"), &more);
        // The first value does not fit into 1 byte and a NUL.
        let needed = guest.out(4);
        let short = [At(head), T("x-many"), To(rest), N(1), N(1), To(rest_next), To(needed)];
        guest.answers(Status::BufferTooShort, &function("header_values_get"), &short);
        let (names, names_next, names_written) = (guest.out(64), guest.out(8), guest.out(4));
        let all = [At(head), To(names), N(64), N(0), To(names_next), To(names_written)];
        guest.call(&function("header_names_get"), &all);
        let (value, length) = (guest.out(8), guest.out(4));
        guest.call(&function("header_value_get"), &[At(head), T("x-many"), To(value), N(8), To(length)]);
        guest.call(&function("header_remove"), &[At(head), T("x-one")]);
        guest.answers(Status::Invalid, &function("header_remove"), &[At(head), T("x-one")]);
        let memory = guest.run();
        assert_eq!((memory.text(first, written), memory.u64(next)), ("1\x0022\0", 2));
        assert_eq!((memory.text(rest, rest_written), memory.u64(rest_next)), ("333\0", u64::MAX));
        assert_eq!(memory.u32(needed), 3);
        assert_eq!(memory.text(names, names_written), "x-many\0x-one\0x-two\0");
        assert_eq!(memory.text(value, length), "1");
    }
}

pub fn what_is_no_http_is_refused() {
    let mut guest = Script::new();
    let request = guest.gives("fastly_http_req.new", vec![]);
    let long = "x".repeat(9_000);
    for (status, function, value) in [
        (Status::HttpInvalid, "fastly_http_req.method_set", "GET /"),
        (Status::LimitExceeded, "fastly_http_req.method_set", long.as_str()),
        (Status::HttpInvalid, "fastly_http_req.uri_set", "http://a b/"),
        (Status::LimitExceeded, "fastly_http_req.uri_set", long.as_str()),
    ] {
        guest.answers(status, function, &[At(request), T(value)]);
    }
    let insert = "fastly_http_req.header_insert";
    guest.answers(Status::HttpInvalid, insert, &[At(request), T("a b"), T("c")]);
    guest.answers(Status::HttpInvalid, insert, &[At(request), T("a"), T("b\r\nc: d")]);
    guest.answers(Status::Invalid, "fastly_http_req.version_set", &[At(request), N(5)]);
    guest.answers(Status::Invalid, "fastly_http_req.framing_headers_mode_set", &[At(request), N(2)]);
    guest.answers(Status::Invalid, "fastly_http_req.auto_decompress_response_set", &[At(request), N(2)]);
    guest.answers(Status::BadHandle, "fastly_http_req.method_set", &[N(u32::MAX), T("GET")]);
    guest.answers(Status::BadHandle, "fastly_http_resp.close", &[At(request)]);
    guest.run();
}

pub fn what_is_said_about_caching_is_checked() {
    let mut guest = Script::new();
    let request = guest.gives("fastly_http_req.new", vec![]);
    let set = "fastly_http_req.cache_override_set";
    guest.call(set, &[At(request), N(0b1111), N(60), N(30)]);
    guest.answers(Status::Invalid, set, &[At(request), N(1 << 5), N(60), N(30)]);
    let set = "fastly_http_req.cache_override_v2_set";
    guest.call(set, &[At(request), N(2), N(60), N(0), T("key-1 key-2")]);
    guest.answers(Status::HttpInvalid, set, &[At(request), N(2), N(60), N(0), T("key\n")]);
    let keys = guest.text("key");
    let fields = guest.fields(&[60, 30, keys.0, 3, 500]);
    let set = "fastly_http_req.cache_override_v3_set";
    guest.call(set, &[At(request), N(0b1_0010), To(fields)]);
    guest.answers(Status::Invalid, set, &[At(request), N(1 << 5), To(fields)]);
    guest.answers(Status::Invalid, set, &[At(request), N(0), N(u32::MAX - 8)]);
    guest.run();
}

/// The form with a handle, and the older one without.
const FORMS: [(&str, bool); 2] = [("fastly_http_downstream", true), (REQ, false)];

pub fn the_client_is_known_and_what_is_not_known_has_a_fixed_answer() {
    for (module, with_request) in FORMS {
        let mut guest = Script::new();
        let (request, body) = (guest.out(4), guest.out(4));
        guest.call("fastly_http_req.body_downstream_get", &[To(request), To(body)]);
        let id = known_text(&mut guest, module, "downstream_client_request_id", with_request, request);
        for (name, status) in fixed(module) {
            let handle = with_request.then_some(At(request));
            let out = guest.out(32);
            let outs = match table::row(module, name).unwrap().ty.len() - 2 - usize::from(with_request) {
                1 => vec![To(out)],
                2 => vec![To(out), To(out)],
                _ => vec![To(out), N(32), To(out)],
            };
            let arguments: Vec<_> = handle.into_iter().chain(outs).collect();
            guest.answers(status, &format!("{module}.{name}"), &arguments);
        }
        let (octets, written) = (guest.out(16), guest.out(4));
        for name in ["downstream_client_ip_addr", "downstream_server_ip_addr"] {
            let handle = with_request.then_some(At(request));
            let arguments: Vec<_> = handle.into_iter().chain([To(octets), To(written)]).collect();
            guest.call(&format!("{module}.{name}"), &arguments);
        }
        let memory = guest.run_in(testing::exchange(super::config()), client_request());
        assert_eq!(memory.text(id.0, id.1).len(), 32);
        assert_eq!(memory.bytes(octets, memory.u32(written)), [127, 0, 0, 1]);
    }
}

fn known_text(guest: &mut Script, module: &str, name: &str, with_request: bool, request: Out) -> (Out, Out) {
    let (buffer, written) = (guest.out(64), guest.out(4));
    let handle = with_request.then_some(At(request));
    let arguments: Vec<_> = handle.into_iter().chain([To(buffer), N(64), To(written)]).collect();
    guest.call(&format!("{module}.{name}"), &arguments);
    (buffer, written)
}

fn client_request() -> Request<InboundBody> {
    let mut request = super::get("/");
    request.headers_mut().insert("x-first", "1".parse().unwrap());
    request
}

/// What a plaintext client is asked for, and the answer.
fn fixed(module: &str) -> impl Iterator<Item = (&'static str, Status)> {
    let known = [
        "downstream_client_ip_addr",
        "downstream_server_ip_addr",
        "downstream_client_request_id",
        "downstream_original_header_names",
        "downstream_original_header_count",
    ];
    let insisted = ["fastly_key_is_valid", "downstream_bot_analyzed", "downstream_bot_detected"];
    let rows: Vec<_> = table::rows().filter(|(row_module, _)| *row_module == module).collect();
    rows.into_iter()
        .map(|(_, row)| row)
        .filter(move |row| row.support != table::Support::Unsupported)
        .filter(move |row| row.name.starts_with("downstream_") || row.name == "fastly_key_is_valid")
        .filter(move |row| !known.contains(&row.name))
        .map(move |row| (row.name, if insisted.contains(&row.name) { Status::Ok } else { Status::None }))
}

pub fn the_older_names_answer_the_same() {
    let mut guest = Script::new();
    let (names, next, written, count) = (guest.out(64), guest.out(8), guest.out(4), guest.out(4));
    let list = |to| [To(to), N(64), N(0), To(next), To(written)];
    guest.call("fastly_http_req.original_header_names_get", &list(names));
    guest.call("fastly_http_req.original_header_count", &[To(count)]);
    let request = guest.out(4);
    guest.call("fastly_http_req.body_downstream_get", &[To(request), N(0)]);
    let (new_names, new_count) = (guest.out(64), guest.out(4));
    let downstream = [At(request), To(new_names), N(64), N(0), To(next), To(written)];
    guest.call("fastly_http_downstream.downstream_original_header_names", &downstream);
    let count_of = "fastly_http_downstream.downstream_original_header_count";
    guest.call(count_of, &[At(request), To(new_count)]);
    guest.answers(Status::BadHandle, count_of, &[N(u32::MAX), To(new_count)]);
    let memory = guest.run_in(testing::exchange(super::config()), client_request());
    assert_eq!(memory.text(names, written), "host\0x-first\0");
    assert_eq!(memory.text(new_names, written), "host\0x-first\0");
    assert_eq!((memory.u32(count), memory.u32(new_count)), (2, 2));
}

pub fn a_client_that_speaks_tls_is_known_by_it() {
    for (module, with_request) in FORMS {
        let mut guest = Script::new();
        let request = guest.out(4);
        guest.call("fastly_http_req.body_downstream_get", &[To(request), N(0)]);
        let mut known = |name| known_text(&mut guest, module, name, with_request, request);
        let protocol = known("downstream_tls_protocol");
        let cipher = known("downstream_tls_cipher_openssl_name");
        // The older module never had it.
        let name = with_request.then(|| known("downstream_tls_client_servername"));
        let mut exchange = testing::exchange(super::config());
        let address = ([127, 0, 0, 1], 443).into();
        let tls = TlsInfo {
            server_name: Some("app.example".parse().unwrap()),
            version: rustls::ProtocolVersion::TLSv1_3,
            cipher: Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256),
        };
        exchange.connection =
            Arc::new(Connection { peer: address, local: address, protocol: Protocol::H2, tls: Some(tls) });
        let memory = guest.run_in(exchange, super::get("/"));
        assert_eq!(memory.text(protocol.0, protocol.1), "TLSv1.3");
        assert_eq!(memory.text(cipher.0, cipher.1), "TLS_AES_128_GCM_SHA256");
        assert!(name.is_none_or(|(at, length)| memory.text(at, length) == "app.example"));
    }
}

pub fn what_is_over_a_limit_is_refused_and_counted() {
    let mut guest = Script::new();
    let request = guest.gives("fastly_http_req.new", vec![]);
    guest.answers(Status::LimitExceeded, "fastly_http_req.uri_set", &[At(request), N(0), N((8 << 10) + 1)]);
    let field = [At(request), T("x-large"), N(0), N((64 << 10) + 1)];
    for function in ["header_insert", "header_append"] {
        guest.answers(Status::HttpHeadTooLarge, &format!("fastly_http_req.{function}"), &field);
    }
    guest.answers_number(28, "wasi_snapshot_preview1.random_get", &[N(0), N((64 << 10) + 1)]);
    let exchange = testing::exchange(super::config());
    let bill = exchange.bill.clone();
    guest.run_in(exchange, super::get("/"));
    for limit in [Limit::Url, Limit::Headers, Limit::Random] {
        assert!(bill.limits_met().has(limit), "{limit:?}");
    }

    let mut state = super::state();
    let mut insert = || state.insert(Item::Body(GuestBody::default()));
    let refused = (0..=HANDLES_MAX).find_map(|_| insert().err());
    assert_eq!(refused, Some(Status::LimitExceeded));
    assert!(state.exchange.bill.limits_met().has(Limit::Resources));
}
