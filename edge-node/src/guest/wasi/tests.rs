//! Components written by hand: what no toolchain would make.

use std::cell::Cell;

use artifact::manifest::{AppConfig, Limits};
use http::Request;

use super::Program;
use crate::{
    failure::Failure,
    front::InboundBody,
    guest::Run,
    host::{
        door::{Event, Source},
        tape::Tape,
    },
    testing::{ask_run, component, engine, exchange, local},
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

fn run(
    program: &Program,
) -> impl FnOnce(crate::exchange::Exchange, crate::exchange::GuestRequest, crate::exchange::Responder) -> Run
{
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

#[test]
fn an_entry_of_the_log_has_its_context_and_level() {
    let imports = r#"
        (import "wasi:logging/logging" (instance $log
            (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
            (export "level" (type $level (eq $l)))
            (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))"#;
    let lowered = r#"
        (core func $l (canon lower (func $log "log") (memory $memory "memory")))
        (core instance $host (export "log" (func $l)))"#;
    let core = r#"
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (import "memory" "memory" (memory 1))
        (data (i32.const 0) "cartempty")
        (func (export "handle") (param i32 i32)
            (call $log (i32.const 3) (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 5)))"#;
    let program = link(&guest(imports, lowered, core)).unwrap();
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
        (super::slab::RESOURCES_MAX, Failure::GuestTrap),
    ] {
        let program = make(count);
        let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
        let asked = ask_run(run(&program), exchange(AppConfig { limits, ..AppConfig::default() }), get());
        assert_eq!(local(asked).map(|_| ()).unwrap_err(), failure, "{count}");
    }
}
