//! Components written by hand: what no toolchain would make.

use std::{
    cell::Cell,
    task::{Context, Poll, Waker},
};

use artifact::manifest::{AppConfig, Limits};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::Program;
use crate::{
    exchange::{Exchange, GuestRequest, Responder},
    failure::Failure,
    front::{InboundBody, OutboundBody},
    guest::Run,
    host::{
        door::{Event, Source},
        pipe::HELD_BYTES_MAX,
        tape::Tape,
    },
    limits::EXECUTION,
    testing::{self, ask_run, component, engine, exchange, local},
};

/// A component that exports the handler, with `imports` and what its core module does: `start` when it is
/// instantiated, `handle` when it is called with request and outparam.
fn guest(imports: &str, lowered: &str, core: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            (import "wasi:http/types@0.2.9" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $outparam))
            {imports}
            (core module $memory (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
            (core instance $memory (instantiate $memory))
            {lowered}
            (core module $main {core})
            (core instance $main (instantiate $main
                (with "host" (instance $host))
                (with "memory" (instance $memory))))
            (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
                (canon lift (core func $main "handle")))
            (component $handler
                (import "request" (type $r (sub resource)))
                (import "outparam" (type $o (sub resource)))
                (import "handle" (func $f (param "request" (own $r)) (param "response-out" (own $o))))
                (export $r2 "incoming-request" (type $r))
                (export $o2 "response-outparam" (type $o))
                (export "handle" (func $f)
                    (func (param "request" (own $r2)) (param "response-out" (own $o2)))))
            (instance $exported (instantiate $handler
                (with "request" (type $request))
                (with "outparam" (type $outparam))
                (with "handle" (func $handle))))
            (export "wasi:http/incoming-handler@0.2.9" (instance $exported)))"#
    );
    wat::parse_str(text).unwrap()
}

const NO_HOST: &str = "(core instance $host)";
const RETURNS: &str = r#"(func (export "handle") (param i32 i32))"#;

fn link(wasm: &[u8]) -> Result<Program, String> {
    Program::link(engine(), &component(wasm)).map_err(|error| format!("{error:#}"))
}

fn run(program: &Program) -> impl FnOnce(Exchange, GuestRequest, Responder) -> Run {
    |exchange, request, responder| Box::pin(program.run(exchange, request, responder))
}

fn get() -> Request<InboundBody> {
    Request::get("http://test.localhost/").body(InboundBody::Empty).unwrap()
}

#[test]
fn interfaces_link_at_any_0_2_and_at_drafts_that_are_named() {
    let log = |name: &str| {
        let imports = format!(
            r#"(import "{name}" (instance $log
                (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
                (export "level" (type $level (eq $l)))
                (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))"#
        );
        guest(&imports, NO_HOST, RETURNS)
    };
    assert!(link(&log("wasi:logging/logging")).is_ok());
    assert!(link(&log("wasi:logging/logging@0.1.0-draft")).is_ok());
    for name in ["wasi:logging/logging@0.2.0", "wasi:logging/other", "wasi:http/types@0.3.0"] {
        let said = link(&log(name)).err().unwrap();
        assert!(said.contains(name) && said.contains("does not offer"), "{said}");
    }
}

#[test]
fn a_function_that_an_interface_lacks_is_named() {
    let imports =
        r#"(import "wasi:random/random@0.2.99" (instance (export "get-dice" (func (result u32)))))"#;
    let said = link(&guest(imports, NO_HOST, RETURNS)).err().unwrap();
    assert!(said.contains("get-dice") && said.contains("wasi:random/random@0.2.99"), "{said}");
    // The right name with another type.
    let imports =
        r#"(import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u32)))))"#;
    let said = link(&guest(imports, NO_HOST, RETURNS)).err().unwrap();
    assert!(said.contains("get-random-u64"), "{said}");
}

const LOG: &str = r#"
    (import "wasi:logging/logging" (instance $log
        (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
        (export "level" (type $level (eq $l)))
        (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))"#;
const LOWERED_LOG: &str = r#"
    (core func $l (canon lower (func $log "log") (memory $memory "memory")))
    (core instance $host (export "log" (func $l)))"#;

#[test]
fn an_entry_of_the_log_has_its_context_and_level() {
    let core = r#"
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (import "memory" "memory" (memory 1))
        (data (i32.const 0) "cartempty")
        (func (export "handle") (param i32 i32)
            (call $log (i32.const 3) (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5)))"#;
    let program = link(&guest(LOG, LOWERED_LOG, core)).unwrap();
    local(async {
        let tape = Tape::record();
        let mut exchange = exchange(AppConfig::default());
        exchange.door = tape.door();
        let answered = ask_run(run(&program), exchange, get()).await;
        assert_eq!(answered.map(|_| ()).unwrap_err(), Failure::NoResponse);
        let said = tape.recording().caused[&Source::Log].clone();
        assert_eq!(said, [Event::Bytes("cart\0warn: empty".into())]);
    });
}

#[test]
fn a_call_that_copies_too_much_ends_at_its_limit() {
    for (bytes, failure) in
        [(EXECUTION.copy_bytes_per_call - 9, Failure::NoResponse), (17 << 20, Failure::CopyLimit)]
    {
        let core = format!(
            r#"(import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
            (import "memory" "memory" (memory 1))
            (func (export "handle") (param i32 i32)
                (drop (memory.grow (i32.const 300)))
                (call $log (i32.const 3) (i32.const 0) (i32.const 4) (i32.const 4) (i32.const {bytes})))"#
        );
        let program = link(&guest(LOG, LOWERED_LOG, &core)).unwrap();
        let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
        let asked = ask_run(run(&program), exchange(AppConfig { limits, ..AppConfig::default() }), get());
        assert_eq!(local(asked).map(|_| ()).unwrap_err(), failure, "{bytes} bytes");
    }
}

#[test]
fn a_start_function_that_spins_ends_at_the_cpu_limit_and_lets_others_run() {
    let core = r#"(func $spin (loop br 0)) (start $spin) (func (export "handle") (param i32 i32))"#;
    let program = link(&guest("", NO_HOST, core)).unwrap();
    local(async {
        let limits = Limits { cpu_ms: 20, ..Limits::default() };
        let spinning = ask_run(run(&program), exchange(AppConfig { limits, ..AppConfig::default() }), get());
        let turns = Cell::new(0);
        let others = async {
            loop {
                tokio::task::yield_now().await;
                turns.set(turns.get() + 1);
            }
        };
        tokio::select! {
            ended = spinning => assert_eq!(ended.map(|_| ()).unwrap_err(), Failure::CpuLimit),
            () = others => unreachable!("it never ends"),
        }
        assert!(turns.get() > 3, "others had {} turns in 20 ms", turns.get());
    });
}

#[test]
fn more_handles_than_an_execution_may_hold_are_a_trap() {
    let imports = r#"
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $q (eq $p)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))"#;
    let lowered = r#"
        (core func $s (canon lower (func $clock "subscribe-duration")))
        (core instance $host (export "subscribe" (func $s)))"#;
    let make = |count: usize| {
        let core = format!(
            r#"(import "host" "subscribe" (func $subscribe (param i64) (result i32)))
            (func (export "handle") (param i32 i32)
                (local $left i32)
                (local.set $left (i32.const {count}))
                (loop
                    (drop (call $subscribe (i64.const 0)))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br_if 0 (local.get $left))))"#
        );
        link(&guest(imports, lowered, &core)).unwrap()
    };
    // Two are the request and the place for its response.
    for (count, failure) in [
        (super::slab::RESOURCES_MAX - 2, Failure::NoResponse),
        (super::slab::RESOURCES_MAX, Failure::ResourceLimit),
    ] {
        let program = make(count);
        let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
        let asked = ask_run(run(&program), exchange(AppConfig { limits, ..AppConfig::default() }), get());
        assert_eq!(local(asked).map(|_| ()).unwrap_err(), failure, "{count}");
    }
}

fn fixture(name: &str) -> Option<Program> {
    match testing::program(name)? {
        crate::guest::Program::Wasi(program) => Some(program),
        crate::guest::Program::Fastly(_) => panic!("{name} is no component"),
    }
}

/// A run that is polled by hand, and where its response arrives.
struct ByHand {
    run: Option<Run>,
    head: oneshot::Receiver<Response<OutboundBody>>,
}

impl ByHand {
    fn new(program: &Program, exchange: Exchange, request: GuestRequest) -> ByHand {
        let (responder, head) = Responder::new();
        ByHand { run: Some(Box::pin(program.run(exchange, request, responder))), head }
    }

    /// Polls it once and gives the response, if it is sent now.
    fn poll(&mut self) -> Option<Response<OutboundBody>> {
        let polled = self.run.as_mut().map(|run| run.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        if let Some(Poll::Ready(ended)) = polled {
            ended.unwrap();
            self.run = None;
        }
        self.head.try_recv().ok()
    }
}

#[test]
fn an_answer_that_is_finished_at_once_is_one_buffer() {
    let Some(program) = fixture("wasi-hello") else { return };
    local(async {
        // An epoch tick in the middle makes it a stream; that does not happen every time.
        let sent = (0..20).any(|_| {
            let mut guest = ByHand::new(&program, exchange(AppConfig::default()), get());
            let response = std::iter::repeat_with(|| guest.poll()).take(1_000).find_map(|sent| sent).unwrap();
            assert_eq!(response.status(), 200);
            matches!(response.body(), OutboundBody::Full(_))
        });
        assert!(sent, "always a stream");
    });
}

#[test]
fn a_guest_is_ahead_of_its_client_by_a_buffer_and_no_more() {
    let Some(program) = fixture("echo-copy") else { return };
    local(async {
        let sent: Bytes = (0..1_000_000u32).map(|n| n as u8).collect();
        let request = Request::post("http://test.localhost/").body(InboundBody::Full(sent.clone())).unwrap();
        let limits = Limits { cpu_ms: 5_000, ..Limits::default() };
        let exchange = exchange(AppConfig { limits, ..AppConfig::default() });
        exchange.bill.begin_slice();
        let mut guest = ByHand::new(&program, exchange, request);
        let (mut response, mut got, mut idle) = (None, Vec::new(), 0);
        while idle < 3 {
            // Until it does nothing more by itself: a poll that ends at an epoch tick is not the end.
            for _ in 0..20 {
                response = response.or(guest.poll());
            }
            let Some(response) = &mut response else { continue };
            match response.body_mut().frame().now_or_never() {
                Some(Some(frame)) => {
                    let data = frame.unwrap().into_data().unwrap();
                    assert!(data.len() <= HELD_BYTES_MAX, "{} bytes held", data.len());
                    got.extend_from_slice(&data);
                }
                Some(None) => break,
                None => idle += 1,
            }
        }
        assert!(got == sent, "{} bytes", got.len());
    });
}
