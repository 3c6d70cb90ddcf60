//! Both lanes against real guests, without sockets: what a program gets and what its faults become.

mod differential;
mod fetches;
mod reference;
mod seam;

use std::{sync::Arc, time::Instant};

use artifact::manifest::{AppConfig, Limits};
use bytes::Bytes;
use http::Request;

use crate::{
    failure::Failure,
    front::{BodyError, InboundBody},
    host::Host,
    limits::LimitSet,
    memory::Budget,
    testing::{self, Seen, ask, ask_in, local, program},
};

fn get(path: &str) -> Request<InboundBody> {
    Request::get(path).header("host", "test.localhost").body(InboundBody::Empty).unwrap()
}

fn post(path: &str, body: Vec<u8>) -> Request<InboundBody> {
    let request = Request::post(path).header("host", "test.localhost").header("content-type", "app/x");
    request.header("content-length", body.len()).body(InboundBody::Full(Bytes::from(body))).unwrap()
}

/// Asks a fixture once, with limits wide enough for a busy machine.
fn answer(guest: &str, request: Request<InboundBody>) -> Option<Result<Seen, Failure>> {
    let limits = Limits { cpu_ms: 1_000, ..Limits::default() };
    program(guest).map(|program| local(ask(&program, limits, request)))
}

#[test]
fn hello_answers_in_every_kind_of_program() {
    for guest in ["wasi-hello", "wstd-hello", "fastly-hello"] {
        let Some(seen) = answer(guest, get("/")) else { continue };
        let seen = seen.unwrap();
        assert_eq!((seen.head.status.as_u16(), seen.error), (200, None), "{guest}");
        assert!(seen.body.starts_with(b"Hello"), "{guest}: {:?}", String::from_utf8_lossy(&seen.body));
    }
}

#[test]
fn hello_asks_the_node_for_no_memory() {
    for guest in ["wasi-hello", "wstd-hello", "fastly-hello"] {
        let Some(program) = program(guest) else { continue };
        let limits = Limits { cpu_ms: 1_000, ..Limits::default() };
        let mut exchange = testing::exchange(AppConfig { limits, ..AppConfig::default() });
        let memory = Budget::new(0, 0).unwrap(); // whoever asks is refused
        exchange.host = Arc::new(Host { memory, ..testing::bare_host() });
        let bill = exchange.bill.clone();
        let seen = local(ask_in(&program, exchange, get("/"))).unwrap();
        assert_eq!((seen.head.status.as_u16(), bill.limits_met()), (200, LimitSet::default()), "{guest}");
    }
}

#[test]
fn a_megabyte_is_echoed_unchanged() {
    let sent: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for guest in ["echo", "echo-copy", "fastly-echo"] {
        let Some(seen) = answer(guest, post("/", sent.clone())) else { continue };
        let seen = seen.unwrap();
        assert_eq!((seen.head.status.as_u16(), seen.error), (200, None), "{guest}");
        assert_eq!(seen.head.headers["x-method"], "POST", "{guest}");
        assert!(seen.body == sent, "{guest}: {} bytes came back", seen.body.len());
    }
}

#[test]
fn a_program_sees_the_whole_head_and_sets_the_whole_head() {
    for guest in ["headers", "fastly-headers"] {
        let mut request = get("/a/b?c=d");
        request.headers_mut().insert("x-status", "418".parse().unwrap());
        request.headers_mut().append("x-many", "one".parse().unwrap());
        request.headers_mut().append("x-many", "two".parse().unwrap());
        let Some(seen) = answer(guest, request) else { continue };
        let seen = seen.unwrap();
        let text = String::from_utf8(seen.body).unwrap();
        assert_eq!(seen.head.status, 418, "{guest}");
        assert_eq!(seen.head.headers.get_all("set-cookie").iter().count(), 2, "{guest}");
        for part in ["/a/b?c=d", "GET", "x-many", "one", "two", "test.localhost"] {
            assert!(text.contains(part), "{guest} lacks {part:?}: {text}");
        }
    }
}

#[test]
fn faults_are_their_own_failures() {
    for (guest, failure) in [
        ("trap", Failure::GuestTrap),
        ("stack", Failure::StackLimit),
        ("no-response", Failure::NoResponse),
        ("memory-bomb", Failure::MemoryLimit),
        ("fastly-trap", Failure::GuestTrap),
        ("fastly-exit-1", Failure::GuestTrap),
        ("fastly-memory-bomb", Failure::MemoryLimit),
    ] {
        let Some(seen) = answer(guest, get("/")) else { continue };
        assert_eq!(seen.map(|seen| seen.head.status).unwrap_err(), failure, "{guest}");
    }
}

#[test]
fn exit_without_a_response_is_an_empty_200_in_the_fastly_lane() {
    let Some(seen) = answer("fastly-no-response", get("/")) else { return };
    let seen = seen.unwrap();
    assert_eq!((seen.head.status.as_u16(), seen.body.len()), (200, 0));
}

#[test]
fn an_endless_loop_ends_at_its_cpu_limit_and_others_go_on_meanwhile() {
    for guest in ["spin", "fastly-spin"] {
        let (Some(spin), Some(hello)) = (program(guest), program("wasi-hello")) else { continue };
        local(async {
            let limits = Limits { cpu_ms: 50, ..Limits::default() };
            let mut spinning = std::pin::pin!(ask(&spin, limits, get("/")));
            let mut answered = 0;
            let failure = loop {
                tokio::select! {
                    biased;
                    ended = &mut spinning => break ended.map(|seen| seen.head.status).unwrap_err(),
                    seen = ask(&hello, Limits::default(), get("/")) => {
                        assert_eq!(seen.unwrap().head.status, 200);
                        answered += 1;
                    }
                }
            };
            assert_eq!(failure, Failure::CpuLimit, "{guest}");
            assert!(answered > 5, "{guest}: only {answered} requests answered beside the loop");
        });
    }
}

#[test]
fn a_guest_that_waits_too_long_is_stopped_by_the_wall() {
    let Some(stream) = program("stream") else { return };
    let limits = Limits { wall_ms: 60, ..Limits::default() };
    let started = Instant::now();
    // Ten chunks, 20 ms apart: the head is out, the body cannot be finished.
    match local(ask(&stream, limits, get("/"))) {
        Ok(seen) => assert_eq!(seen.error, Some(BodyError::GuestAborted)),
        Err(failure) => assert_eq!(failure, Failure::WallLimit),
    }
    assert!(started.elapsed().as_millis() >= 55);
}

#[test]
fn a_body_is_streamed_as_it_is_made() {
    let Some(seen) = answer("stream", get("/")) else { return };
    let seen = seen.unwrap();
    assert_eq!(seen.error, None);
    assert!(seen.body.len() >= 10);
}

#[test]
fn a_trap_in_the_middle_is_never_a_clean_end() {
    let Some(seen) = answer("trap-after-headers", get("/")) else { return };
    match seen {
        Ok(seen) => assert_eq!(seen.error, Some(BodyError::GuestAborted)),
        Err(failure) => assert_eq!(failure, Failure::GuestTrap),
    }
}

#[test]
fn memory_of_one_request_is_never_seen_by_the_next() {
    let Some(canary) = program("canary") else { return };
    for _ in 0..200 {
        let seen = local(ask(&canary, Limits { cpu_ms: 1_000, ..Limits::default() }, get("/"))).unwrap();
        assert!(seen.body.starts_with(b"clean"), "{:?}", String::from_utf8_lossy(&seen.body));
    }
}

#[test]
fn memory_grows_to_the_limit_of_the_app_and_no_further() {
    let Some(grow) = program("grow-report") else { return };
    let limits = Limits { memory_mib: 16, cpu_ms: 1_000, ..Limits::default() };
    let seen = local(ask(&grow, limits, get("/"))).unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.body).trim(), "16");
}

#[test]
fn a_javascript_engine_answers_and_echoes() {
    let Some(program) = program("js-echo") else { return };
    let limits = Limits { cpu_ms: 5_000, ..Limits::default() };
    let seen = local(ask(&program, limits, get("/"))).unwrap();
    assert_eq!((seen.head.status.as_u16(), &seen.body[..]), (200, &b"Hello from JS\n"[..]));
    let sent = vec![7; 1 << 20];
    let seen = local(ask(&program, limits, post("/echo", sent.clone()))).unwrap();
    assert!(seen.error.is_none() && seen.body == sent, "{} bytes", seen.body.len());
}

#[test]
fn an_unsupported_host_call_answers_unsupported_and_does_not_stop_the_program() {
    let Some(seen) = answer("fastly-unsupported", get("/")) else { return };
    let text = String::from_utf8(seen.unwrap().body).unwrap();
    // No geography: the optional answer is absent.
    assert_eq!(text.trim_end(), r#"{"geo":10,"image_optimizer":5,"not_yet":5}"#);
}
