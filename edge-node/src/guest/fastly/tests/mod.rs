//! The lane against programs built with the published `fastly` crate.

use artifact::manifest::{AppConfig, Limits};
use bytes::Bytes;
use http::Request;
use serde_json::Value;

mod backends;
mod bodies;
mod coverage;
mod fetch;
mod heads;
mod misc;
mod origin;
mod programs;
mod script;
mod stores;
pub(super) mod trace;

use super::{FastlyState, table, wasi_p1};
use crate::{
    exchange::{Exchange, Responder},
    failure::Failure,
    front::{BodyError, InboundBody},
    guest::Program,
    testing::{self, Seen, ask, ask_in, local, program},
};

/// Limits that debug builds can keep.
fn config() -> AppConfig {
    AppConfig { limits: Limits { cpu_ms: 5_000, ..Limits::default() }, ..AppConfig::default() }
}

/// The state of a guest that was not made.
pub(super) fn state() -> FastlyState {
    FastlyState::new(testing::exchange(config()), get("/"), Responder::new().0).unwrap()
}

fn run_in(program: &Program, exchange: Exchange, request: Request<InboundBody>) -> Result<Seen, Failure> {
    local(ask_in(program, exchange, request))
}

/// Asks a fixture once. `None`, said loudly, when the guests were not built.
fn answer(guest: &str, request: Request<InboundBody>) -> Option<Result<Seen, Failure>> {
    let limits = Limits { cpu_ms: 1_000, ..Limits::default() };
    program(guest).map(|program| local(ask(&program, limits, request)))
}

fn get(path: &str) -> Request<InboundBody> {
    Request::get(path).header("host", "test.localhost").body(InboundBody::Empty).unwrap()
}

fn json(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

#[test]
fn hello_has_status_type_and_body() {
    let Some(seen) = answer("fastly-hello", get("/")) else { return };
    let seen = seen.unwrap();
    assert_eq!(seen.head.status, 200);
    assert_eq!(seen.head.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(seen.body, b"Hello from the fastly crate!\n");
}

#[test]
fn a_mebibyte_crosses_the_guest_unchanged() {
    let mut sent = vec![0; 1 << 20];
    getrandom::fill(&mut sent).unwrap();
    let request = Request::post("/").header("host", "test.localhost").header("content-type", "a/b");
    let request = request.body(InboundBody::Full(Bytes::from(sent.clone()))).unwrap();
    let Some(seen) = answer("fastly-echo", request) else { return };
    let seen = seen.unwrap();
    assert!(seen.body == sent, "{} bytes came back", seen.body.len());
    assert_eq!(seen.head.headers["x-method"], "POST");
    assert_eq!(seen.head.headers["content-type"], "a/b");
}

#[test]
fn a_guest_sees_an_absolute_url_and_every_field() {
    let mut request = get("/a/b?c=d");
    for value in ["one", "two"] {
        request.headers_mut().append("x-many", value.parse().unwrap());
    }
    request.headers_mut().insert("x-long", "v".repeat(60_000).parse().unwrap());
    request.headers_mut().insert("x-status", "404".parse().unwrap());
    let Some(seen) = answer("fastly-headers", request) else { return };
    let seen = seen.unwrap();
    assert_eq!(seen.head.status, 404);
    let cookies: Vec<_> = seen.head.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2; Path=/"]);
    let saw = json(&seen);
    assert_eq!(saw["url"], "http://test.localhost/a/b?c=d");
    assert_eq!((&saw["method"], &saw["version"]), (&"GET".into(), &"HTTP/1.1".into()));
    let fields = saw["headers"].as_array().unwrap();
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|field| field[0] == name).map(|field| field[1].as_str().unwrap()).collect()
    };
    assert_eq!(values("x-many"), ["one", "two"]);
    assert_eq!(values("host"), ["test.localhost"]);
    assert_eq!(values("x-long")[0].len(), 60_000, "longer than the SDK's first buffer");
}

#[test]
fn an_authority_without_a_host_field_becomes_one() {
    let request = Request::get("https://test.localhost/x").version(http::Version::HTTP_2);
    let Some(seen) = answer("fastly-headers", request.body(InboundBody::Empty).unwrap()) else { return };
    let saw = json(&seen.unwrap());
    assert_eq!(saw["headers"], serde_json::json!([["host", "test.localhost"]]));
    assert_eq!(saw["version"], "HTTP/2.0");
    assert_eq!(saw["url"], "http://test.localhost/x", "the scheme is the connection's");
}

#[test]
fn the_environment_is_the_one_programs_expect() {
    let Some(seen) = answer("fastly-env", get("/")) else { return };
    let saw = json(&seen.unwrap());
    assert_eq!(saw["FASTLY_SERVICE_VERSION"], "1");
    assert_eq!(saw["FASTLY_CUSTOMER_ID"], "default");
    assert_eq!(saw["FASTLY_SERVICE_ID"], "test");
    assert_eq!(saw["FASTLY_TRACE_ID"].as_str().unwrap().len(), 32);
    for name in ["CACHE_GENERATION", "POP", "REGION", "HOSTNAME", "IS_STAGING"] {
        assert!(saw[format!("FASTLY_{name}")].is_string(), "{name}");
    }
}

#[test]
fn what_is_not_offered_answers_unsupported() {
    let Some(seen) = answer("fastly-unsupported", get("/")) else { return };
    let saw = json(&seen.unwrap());
    assert_eq!(saw, serde_json::json!({ "geo": 10, "image_optimizer": 5, "not_yet": 5 }));
}

#[test]
fn an_end_without_a_response_is_an_empty_200_and_a_failed_end_is_the_guests_fault() {
    if let Some(seen) = answer("fastly-no-response", get("/")) {
        let seen = seen.unwrap();
        assert_eq!((seen.head.status.as_u16(), seen.body.len()), (200, 0));
    }
    for guest in ["fastly-exit-1", "fastly-trap"] {
        let Some(seen) = answer(guest, get("/")) else { continue };
        assert_eq!(seen.unwrap_err(), Failure::GuestTrap, "{guest}");
    }
}

/// Links a program written as text: what no SDK would do.
fn written(text: &str) -> Program {
    let target = *engine::levels::of_this_machine().last().unwrap();
    let engine = engine::compiler::engine(target, artifact::Profile::Serve).unwrap();
    let module = wasmtime::Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    Program::Fastly(super::Program::link(&super::Definitions::new(&engine).unwrap(), &module).unwrap())
}

/// A program that makes a response and a body (their handles at 0 and 4) before it does `then`; 64 KiB of text
/// are at 65536.
fn with_response(then: &str) -> Program {
    written(&format!(
        r#"(module
            (import "fastly_http_resp" "new" (func $resp_new (param i32) (result i32)))
            (import "fastly_http_resp" "send_downstream" (func $send (param i32 i32 i32) (result i32)))
            (import "fastly_http_body" "new" (func $body_new (param i32) (result i32)))
            (import "fastly_http_body" "write" (func $write (param i32 i32 i32 i32 i32) (result i32)))
            (import "fastly_http_body" "close" (func $close (param i32) (result i32)))
            (import "fastly_http_body" "abandon" (func $abandon (param i32) (result i32)))
            (import "fastly_http_body" "trailer_append"
                (func $trailer (param i32 i32 i32 i32 i32) (result i32)))
            (import "fastly_http_body" "append" (func $append (param i32 i32) (result i32)))
            (import "fastly_http_req" "body_downstream_get" (func $request (param i32 i32) (result i32)))
            (memory (export "memory") 4)
            (data (i32.const 1000) "name")
            (func $ok (param i32) (if (local.get 0) (then unreachable)))
            (func $text (param i32 i32) (memory.fill (i32.const 65536) (local.get 0) (local.get 1)))
            (func (export "_start") (local $left i32)
                (call $ok (call $resp_new (i32.const 0)))
                (call $ok (call $body_new (i32.const 4)))
                {then}))"#
    ))
}

const SEND_STREAMING: &str =
    "(call $ok (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 1)))";
const CLOSE: &str = "(call $ok (call $close (i32.load (i32.const 4))))";

/// Writes `length` bytes of one letter at the back.
fn write(letter: u8, length: usize) -> String {
    format!(
        "(call $text (i32.const {letter}) (i32.const {length}))
         (call $ok (call $write (i32.load (i32.const 4)) (i32.const 65536) (i32.const {length}) (i32.const 0)
            (i32.const 8)))"
    )
}

fn run(program: &Program, request: Request<InboundBody>) -> Result<Seen, Failure> {
    local(ask(program, Limits { cpu_ms: 1_000, ..Limits::default() }, request))
}

#[test]
fn a_response_is_streamed_after_its_head() {
    let program = with_response(&format!("{}{SEND_STREAMING}{}{CLOSE}", write(b'a', 3), write(b'b', 2)));
    let seen = run(&program, get("/")).unwrap();
    assert_eq!((seen.head.status.as_u16(), seen.error), (200, None));
    assert_eq!(seen.body, b"aaabb");
}

#[test]
fn a_long_stream_passes_through_a_short_buffer() {
    let program = with_response(&format!(
        "{SEND_STREAMING}
         (call $text (i32.const 120) (i32.const 196608))
         (local.set $left (i32.const 5))
         (loop $more
            (call $ok (call $write (i32.load (i32.const 4)) (i32.const 65536) (i32.const 196608)
                (i32.const 0) (i32.const 8)))
            (if (i32.ne (i32.load (i32.const 8)) (i32.const 196608)) (then unreachable))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $more (local.get $left)))
         {CLOSE}"
    ));
    let seen = run(&program, get("/")).unwrap();
    assert_eq!(seen.error, None);
    assert!(seen.body.len() == 5 * 196_608 && seen.body.iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_stream_that_is_given_up_or_forgotten_is_aborted() {
    let abandon = "(call $ok (call $abandon (i32.load (i32.const 4))))";
    for end in [abandon, ""] {
        let program = with_response(&format!("{SEND_STREAMING}{}{end}", write(b'a', 3)));
        let seen = run(&program, get("/")).unwrap();
        assert_eq!(
            (seen.body.as_slice(), seen.error),
            (&b"aaa"[..], Some(BodyError::GuestAborted)),
            "{end:?}"
        );
    }
}

#[test]
fn the_request_body_is_passed_on_by_handle() {
    let program = with_response(&format!(
        "{}(call $ok (call $request (i32.const 0) (i32.const 12)))
         (call $ok (call $append (i32.load (i32.const 4)) (i32.load (i32.const 12))))
         {}(call $ok (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0)))",
        write(b'a', 2),
        write(b'b', 2)
    ));
    // The null pointer asks for no request handle, so the response's handle at 0 is still there.
    let request = Request::post("/").header("host", "test.localhost");
    let seen =
        run(&program, request.body(InboundBody::Full(Bytes::from_static(b"-sent-"))).unwrap()).unwrap();
    assert_eq!((seen.body.as_slice(), seen.error), (&b"aa-sent-bb"[..], None));
}

#[test]
fn a_second_response_is_an_error_and_changes_nothing() {
    let program = with_response(&format!(
        "{}(call $ok (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0)))
         (call $ok (call $resp_new (i32.const 0)))
         (call $ok (call $body_new (i32.const 4)))
         (if (i32.ne (call $send (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 0)) (i32.const 1))
            (then unreachable))",
        write(b'a', 2)
    ));
    assert_eq!(run(&program, get("/")).unwrap().body, b"aa");
}

/// Calls every function with every nonsense: pointers at and over the end of memory, misaligned ones, huge lengths,
/// handles that are none. Nothing may trap, and the guest still gets its answer out.
#[test]
fn no_argument_of_any_function_harms_the_host() {
    let nonsense = [0u32, 1, 2, 65_534, 65_535, 65_536, 0x7fff_ffff, 0xffff_fff8, u32::MAX];
    let wasi = wasi_p1::FUNCTIONS.iter().map(|(name, ty)| ((wasi_p1::MODULE, *name), *ty));
    let functions: Vec<_> = table::rows()
        .map(|(module, row)| ((module, row.name), row.ty))
        .chain(wasi.filter(|((_, name), _)| *name != "proc_exit"))
        .collect();
    let (mut imports, mut calls) = (String::new(), String::new());
    let ty = |letter: char| if letter == 'I' { "i64" } else { "i32" };
    for (number, ((module, name), signature)) in functions.iter().enumerate() {
        let params = signature.trim_end_matches(":i");
        let types: Vec<_> = params.chars().map(ty).collect();
        imports += &format!(
            "(import {module:?} {name:?} (func $f{number} (param {}) (result i32)))\n",
            types.join(" ")
        );
        for shift in 0..nonsense.len() {
            for step in [0, 1, 4] {
                let arguments: Vec<_> = (0..params.len())
                    .map(|at| {
                        format!("({}.const {})", types[at], nonsense[(shift + at * step) % nonsense.len()])
                    })
                    .collect();
                calls += &format!("(drop (call $f{number} {}))\n", arguments.join(" "));
            }
        }
    }
    let program = written(&format!(
        r#"(module {imports} (memory (export "memory") 1) (func (export "_start") {calls}))"#
    ));
    assert_eq!(run(&program, get("/")).unwrap().head.status, 200);
}

/// `pending_insert_wait` of the older interface has an outcome in newer declarations of it.
#[test]
fn a_function_of_two_types_links_with_both() {
    let program = written(
        r#"(module
            (import "fastly_object_store" "pending_insert_wait" (func $wait (param i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (if (i32.ne (call $wait (i32.const 77) (i32.const 8)) (i32.const 3)) (then unreachable))))"#,
    );
    assert_eq!(run(&program, get("/")).unwrap().head.status, 200, "a bad handle, not unsupported");
}
