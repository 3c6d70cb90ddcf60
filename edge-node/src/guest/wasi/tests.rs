//! Components written by hand: what no toolchain would make.

use std::{
    cell::Cell,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use artifact::manifest::{AppConfig, Limits};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::{Program, State};
use crate::{
    exchange::{Exchange, GuestRequest, Responder},
    failure::Failure,
    front::{InboundBody, OutboundBody},
    guest::Run,
    host::{
        Host,
        door::{Event, Source},
        kv::{self, memory::MemoryKv},
        pipe::HELD_BYTES_MAX,
        tape::Tape,
    },
    limits::{EXECUTION, Limit},
    load::Code,
    memory::Budget,
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

/// Lists of fields, and requests made of them.
const FIELDS: &str = r#"
    (import "wasi:http/types@0.2.0" (instance $http
        (export "fields" (type $fields (sub resource)))
        (export "outgoing-request" (type $request (sub resource)))
        (type $e (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
        (export "header-error" (type $error (eq $e)))
        (type $m (variant (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect")
            (case "options") (case "trace") (case "patch") (case "other" string)))
        (export "method" (type $method (eq $m)))
        (export "[constructor]fields" (func (result (own $fields))))
        (export "[method]fields.append" (func (param "self" (borrow $fields)) (param "name" string)
            (param "value" (list u8)) (result (result (error $error)))))
        (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
        (export "[method]outgoing-request.set-method" (func (param "self" (borrow $request))
            (param "method" $method) (result (result))))
        (export "[method]outgoing-request.set-path-with-query" (func (param "self" (borrow $request))
            (param "path-with-query" (option string)) (result (result))))))"#;
const LOWERED_FIELDS: &str = r#"
    (alias export $http "fields" (type $fields))
    (core func $n (canon lower (func $http "[constructor]fields")))
    (core func $a (canon lower (func $http "[method]fields.append") (memory $memory "memory")))
    (core func $d (canon resource.drop $fields))
    (core func $r (canon lower (func $http "[constructor]outgoing-request")))
    (core func $m (canon lower (func $http "[method]outgoing-request.set-method") (memory $memory "memory")))
    (core func $p (canon lower (func $http "[method]outgoing-request.set-path-with-query")
        (memory $memory "memory")))
    (core instance $host (export "new" (func $n)) (export "append" (func $a)) (export "drop" (func $d))
        (export "request" (func $r)) (export "method" (func $m)) (export "path" (func $p)))"#;

/// A guest with [`FIELDS`] and 200 KiB of `a`s at 0, behind `/` and the name `n`, that does `then`.
fn with_fields(then: &str) -> Program {
    let core = format!(
        r#"(import "host" "new" (func $new (result i32)))
        (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
        (import "host" "drop" (func $drop (param i32)))
        (import "host" "request" (func $request (param i32) (result i32)))
        (import "host" "method" (func $method (param i32 i32 i32 i32) (result i32)))
        (import "host" "path" (func $path (param i32 i32 i32 i32) (result i32)))
        (import "memory" "memory" (memory 1))
        (func (export "handle") (param i32 i32)
            (local $at i32) (local $times i32)
            (drop (memory.grow (i32.const 4)))
            (memory.fill (i32.const 8) (i32.const 97) (i32.const 204800))
            (i32.store8 (i32.const 8) (i32.const 47))
            (i32.store8 (i32.const 0) (i32.const 110))
            {then})"#
    );
    link(&guest(FIELDS, LOWERED_FIELDS, &core)).unwrap()
}

/// So many times `once`, which leaves a handle, and then `then` with it.
fn times(times: usize, once: &str, then: &str) -> String {
    format!(
        "(local.set $times (i32.const {times}))
        (loop {once} {then} (br_if 0 (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))"
    )
}

/// A list with one field of 100 KiB.
const LARGE_LIST: &str = "(local.set $at (call $new))
    (call $append (local.get $at) (i32.const 0) (i32.const 1) (i32.const 9) (i32.const 102400) (i32.const 4))
    (local.get $at)";
/// A request for a path of 50 KiB.
const LARGE_REQUEST: &str = "(local.set $at (call $request (call $new)))
    (if (call $path (local.get $at) (i32.const 1) (i32.const 8) (i32.const 51200)) (then unreachable))
    (local.get $at)";

#[test]
fn what_the_host_holds_for_all_handles_together_has_an_end() {
    let outcome = |program: &Program, node_bytes: u64| {
        let memory = Budget::new(node_bytes, 0).unwrap();
        let limits = Limits { cpu_ms: 30_000, ..Limits::default() };
        let mut exchange = exchange(AppConfig { limits, ..AppConfig::default() });
        exchange.host = Arc::new(Host { memory: memory.clone(), ..testing::bare_host() });
        let bill = exchange.bill.clone();
        let failure = local(ask_run(run(program), exchange, get())).map(drop).unwrap_err();
        assert_eq!(memory.bytes(), 0, "the node has it back");
        (failure, bill.limits_met().iter().collect::<Vec<_>>())
    };
    let large_node = 1 << 30;
    for (once, fit) in [(LARGE_LIST, 600), (LARGE_REQUEST, 1_200)] {
        let handles = |count| with_fields(&times(count, once, "drop"));
        assert_eq!(outcome(&handles(10_000), large_node), (Failure::HeldLimit, vec![Limit::Held]));
        assert_eq!(outcome(&handles(fit), large_node), (Failure::NoResponse, vec![]));
        assert_eq!(outcome(&handles(fit), 8 << 20), (Failure::NodeMemory, vec![Limit::NodeMemory]));
    }
    let dropped = with_fields(&times(1_300, LARGE_LIST, "call $drop"));
    assert_eq!(outcome(&dropped, 1 << 20), (Failure::NoResponse, vec![]));
}

#[test]
fn a_method_of_its_own_is_short_and_a_token() {
    let says = |at: u32, length: u32, refused: u32| {
        format!(
            "(if (i32.ne (call $method (call $request (call $new)) (i32.const 9) (i32.const {at}) (i32.const {length}))
                (i32.const {refused})) (then unreachable))"
        )
    };
    let methods =
        [says(9, 32, 0), says(9, 33, 1), says(9, 200_000, 1), says(9, 0, 1), says(8, 5, 1)].concat();
    let program = with_fields(&methods);
    let asked = ask_run(run(&program), exchange(AppConfig::default()), get());
    assert_eq!(local(asked).map(drop).unwrap_err(), Failure::NoResponse);
}

#[test]
fn a_poll_of_more_than_it_may_name_ends_at_its_limit() {
    let imports = r#"
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $q (eq $p)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))"#;
    let lowered = r#"
        (core func $s (canon lower (func $clock "subscribe-duration")))
        (core func $p (canon lower (func $poll "poll") (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core instance $host (export "subscribe" (func $s)) (export "poll" (func $p)))"#;
    for (count, failure) in [(1_000, Failure::NoResponse), (1_001, Failure::ResourceLimit)] {
        let core = format!(
            r#"(import "host" "subscribe" (func $subscribe (param i64) (result i32)))
            (import "host" "poll" (func $poll (param i32 i32 i32)))
            (import "memory" "memory" (memory 1))
            (func (export "handle") (param i32 i32)
                (local $at i32) (local $pollable i32)
                (local.set $pollable (call $subscribe (i64.const 0)))
                (local.set $at (i32.const 16384))
                (loop
                    (i32.store (local.get $at) (local.get $pollable))
                    (local.set $at (i32.add (local.get $at) (i32.const 4)))
                    (br_if 0 (i32.lt_u (local.get $at) (i32.const {}))))
                (call $poll (i32.const 16384) (i32.const {count}) (i32.const 0)))"#,
            16384 + 4 * count
        );
        let program = link(&guest(imports, lowered, &core)).unwrap();
        let limits = Limits { cpu_ms: 2_000, ..Limits::default() };
        let asked = ask_run(run(&program), exchange(AppConfig { limits, ..AppConfig::default() }), get());
        assert_eq!(local(asked).map(|_| ()).unwrap_err(), failure, "{count}");
    }
}

#[test]
fn a_program_weighs_what_it_takes_of_the_pool() {
    let table = "(table 1 funcref)";
    for (more, weight) in [
        (String::new(), 1),
        (table.repeat(2), 1),
        (table.repeat(3), 2),
        (table.repeat(4), 2),
        ("(memory 1)".into(), 2),
    ] {
        // One memory is in every one of them.
        let code = Code::Component(component(&guest("", NO_HOST, &format!("{more}{RETURNS}"))));
        assert_eq!(crate::guest::weight(&code), weight, "{more}");
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
            // Nobody bills a guest that is polled by hand: an epoch tick must find a slice that has just begun.
            let limits = Limits { cpu_ms: 5_000, ..Limits::default() };
            let exchange = exchange(AppConfig { limits, ..AppConfig::default() });
            exchange.bill.begin_slice();
            let mut guest = ByHand::new(&program, exchange, get());
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

/// A draft of `wasi:keyvalue`: the type of its cursors, and that of its counters.
fn keyvalue(version: &str, cursor: &str, number: &str, more: &str) -> String {
    let found = match version {
        "0.2.0-draft" => "(option (tuple string (list u8)))",
        _ => "(tuple string (option (list u8)))",
    };
    format!(
        r#"(import "wasi:keyvalue/store@{version}" (instance $store
            (export "bucket" (type $bucket (sub resource)))
            (type $e (variant (case "no-such-store") (case "access-denied") (case "other" string)))
            (export "error" (type $error (eq $e)))
            (type $k (record (field "keys" (list string)) (field "cursor" (option {cursor}))))
            (export "key-response" (type $keys (eq $k)))
            (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
            (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
                (result (result (option (list u8)) (error $error)))))
            (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
                (param "value" (list u8)) (result (result (error $error)))))
            (export "[method]bucket.delete" (func (param "self" (borrow $bucket)) (param "key" string)
                (result (result (error $error)))))
            (export "[method]bucket.exists" (func (param "self" (borrow $bucket)) (param "key" string)
                (result (result bool (error $error)))))
            (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket))
                (param "cursor" (option {cursor})) (result (result $keys (error $error)))))))
        (alias export $store "bucket" (type $bucket))
        (alias export $store "error" (type $error))
        (import "wasi:keyvalue/batch@{version}" (instance $batch
            (alias outer 1 $bucket (type $b)) (export "bucket" (type $bucket (eq $b)))
            (alias outer 1 $error (type $e)) (export "error" (type $error (eq $e)))
            (export "get-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
                (result (result (list {found}) (error $error)))))
            (export "set-many" (func (param "bucket" (borrow $bucket))
                (param "key-values" (list (tuple string (list u8)))) (result (result (error $error)))))
            (export "delete-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
                (result (result (error $error)))))))
        (import "wasi:keyvalue/atomics@{version}" (instance $atomics
            (alias outer 1 $bucket (type $b)) (export "bucket" (type $bucket (eq $b)))
            (alias outer 1 $error (type $e)) (export "error" (type $error (eq $e)))
            {more}
            (export "increment" (func (param "bucket" (borrow $bucket)) (param "key" string)
                (param "delta" {number}) (result (result {number} (error $error)))))))"#
    )
}

/// Compare-and-swap, of the second draft only.
const CAS: &str = r#"
    (export "cas" (type $cas (sub resource)))
    (type $f (variant (case "store-error" $error) (case "cas-failed" (own $cas))))
    (export "cas-error" (type $failed (eq $f)))
    (export "[static]cas.new" (func (param "bucket" (borrow $bucket)) (param "key" string)
        (result (result (own $cas) (error $error)))))
    (export "[method]cas.current" (func (param "self" (borrow $cas))
        (result (result (option (list u8)) (error $error)))))
    (export "swap" (func (param "cas" (own $cas)) (param "value" (list u8)) (result (result (error $failed)))))"#;

#[test]
fn both_drafts_of_keyvalue_link_and_neither_by_the_others_types() {
    let links = |version, cursor, number, more| {
        link(&guest(&keyvalue(version, cursor, number, more), NO_HOST, RETURNS)).is_ok()
    };
    assert!(links("0.2.0-draft", "u64", "u64", ""));
    assert!(links("0.2.0-draft2", "string", "s64", CAS));
    assert!(!links("0.2.0-draft", "string", "u64", ""));
    assert!(!links("0.2.0-draft2", "string", "u64", CAS));
    assert!(!links("0.2.0-draft", "u64", "u64", CAS));
    assert!(!links("0.2.0-draft3", "string", "s64", CAS));
}

/// Calls of a core module on its store, with `carts` at 0, `k` at 8 and `one` at 16; answers are written to 64.
fn shopping(identifier: (u32, u32), calls: &str) -> Program {
    let lowered = r#"
        (core func $o (canon lower (func $store "open") (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $g (canon lower (func $store "[method]bucket.get")
            (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $s (canon lower (func $store "[method]bucket.set")
            (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $i (canon lower (func $atomics "increment")
            (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $n (canon lower (func $atomics "[static]cas.new")
            (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $w (canon lower (func $atomics "swap")
            (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $l (canon lower (func $log "log") (memory $memory "memory")))
        (core instance $host
            (export "open" (func $o)) (export "get" (func $g)) (export "set" (func $s))
            (export "increment" (func $i)) (export "cas" (func $n)) (export "swap" (func $w))
            (export "log" (func $l)))"#;
    let core = format!(
        r#"(import "host" "open" (func $open (param i32 i32 i32)))
        (import "host" "get" (func $get (param i32 i32 i32 i32)))
        (import "host" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
        (import "host" "increment" (func $increment (param i32 i32 i32 i64 i32)))
        (import "host" "cas" (func $cas (param i32 i32 i32 i32)))
        (import "host" "swap" (func $swap (param i32 i32 i32 i32)))
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (import "memory" "memory" (memory 1))
        (data (i32.const 0) "carts") (data (i32.const 8) "k") (data (i32.const 16) "one")
        (func $answer (result i32) (i32.load8_u (i32.const 64)))
        (func $handle_at_68 (result i32) (i32.load (i32.const 68)))
        (func (export "handle") (param i32 i32)
            (local $bucket i32) (local $cas i32)
            (call $open (i32.const {}) (i32.const {}) (i32.const 64))
            (if (call $answer) (then (call $log (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 68) (i32.const 1))
                (return)))
            (local.set $bucket (call $handle_at_68))
            {calls})"#,
        identifier.0, identifier.1
    );
    let imports = keyvalue("0.2.0-draft2", "string", "s64", CAS) + LOG;
    link(&guest(&imports, lowered, &core)).unwrap()
}

/// What is stored after a run, and what it logged.
fn shopped(program: &Program, before: &[(&str, &str)]) -> (Vec<(String, Vec<u8>)>, Vec<Event>) {
    local(async {
        let kv = Arc::new(MemoryKv::default());
        let tape = Tape::record();
        let mut exchange = exchange(AppConfig { kv_stores: vec!["carts".into()], ..AppConfig::default() });
        exchange.host = Arc::new(Host { kv: kv.clone(), ..testing::bare_host() });
        let store = kv::open(&exchange, "carts").unwrap();
        for (key, value) in before {
            let value = Bytes::copy_from_slice(value.as_bytes());
            kv::insert(&mut exchange, &store, key, value, kv::Insert::default()).unwrap().await.unwrap();
        }
        exchange.door = tape.door();
        let answered = ask_run(run(program), exchange, get()).await;
        assert_eq!(answered.map(|_| ()).unwrap_err(), Failure::NoResponse);
        let said = tape.recording().caused.remove(&Source::Log).unwrap_or_default().into();
        (kv.entries().into_iter().map(|(_, key, value)| (key, value)).collect(), said)
    })
}

#[test]
fn values_are_set_and_read_and_counters_counted() {
    let set_and_get = r#"
        (call $set (local.get $bucket) (i32.const 8) (i32.const 1) (i32.const 16) (i32.const 3) (i32.const 64))
        (if (call $answer) (then unreachable))
        (call $get (local.get $bucket) (i32.const 8) (i32.const 1) (i32.const 64))
        (call $log (i32.const 2) (i32.const 0) (i32.const 5) (i32.load (i32.const 72)) (i32.load (i32.const 76)))"#;
    let (stored, said) = shopped(&shopping((0, 5), set_and_get), &[]);
    assert_eq!(stored, [("k".to_owned(), b"one".to_vec())]);
    assert_eq!(said, [Event::Bytes("carts\0info: one".into())]);

    let count = r#"
        (call $increment (local.get $bucket) (i32.const 8) (i32.const 1) (i64.const 5) (i32.const 64))
        (if (call $answer) (then unreachable))
        (call $increment (local.get $bucket) (i32.const 8) (i32.const 1) (i64.const -7) (i32.const 64))
        (if (i64.ne (i64.load (i32.const 72)) (i64.const 38)) (then unreachable))"#;
    assert_eq!(shopped(&shopping((0, 5), count), &[("k", "40")]).0, [("k".to_owned(), b"38".to_vec())]);
    // No number, and one that would be too large, are errors of the guest's to handle.
    let fails = r#"
        (call $increment (local.get $bucket) (i32.const 8) (i32.const 1) (i64.const 5) (i32.const 64))
        (if (i32.eqz (call $answer)) (then unreachable))"#;
    for before in ["one", "9223372036854775807"] {
        let (stored, _) = shopped(&shopping((0, 5), fails), &[("k", before)]);
        assert_eq!(stored, [("k".to_owned(), before.as_bytes().to_vec())]);
    }
}

#[test]
fn a_swap_meets_what_was_found_or_says_what_there_is_now() {
    let swap = |between: &str| {
        format!(
            r#"(call $cas (local.get $bucket) (i32.const 8) (i32.const 1) (i32.const 64))
            (local.set $cas (call $handle_at_68))
            {between}
            (call $swap (local.get $cas) (i32.const 16) (i32.const 3) (i32.const 64))"#
        )
    };
    let done = swap("") + "(if (call $answer) (then unreachable))";
    for before in [&[][..], &[("k", "two")]] {
        assert_eq!(shopped(&shopping((0, 5), &done), before).0, [("k".to_owned(), b"one".to_vec())]);
    }
    // Somebody else wrote meanwhile: the case is cas-failed, its handle is good for the next try.
    let other = r#"(call $set (local.get $bucket) (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 5)
        (i32.const 80))"#;
    let again = swap(other)
        + r#"
        (if (i32.eqz (call $answer)) (then unreachable))
        (if (i32.ne (i32.load8_u (i32.const 68)) (i32.const 1)) (then unreachable))
        (call $swap (i32.load (i32.const 72)) (i32.const 16) (i32.const 2) (i32.const 64))
        (if (call $answer) (then unreachable))"#;
    assert_eq!(shopped(&shopping((0, 5), &again), &[("k", "x")]).0, [("k".to_owned(), b"on".to_vec())]);
}

/// For programs that take an empty page for the end.
#[test]
fn a_page_without_keys_is_the_last() {
    let mut exchange = exchange(AppConfig { kv_stores: vec!["carts".into()], ..AppConfig::default() });
    let kv = Arc::new(MemoryKv::with_expired("gone"));
    exchange.host = Arc::new(Host { kv, ..testing::bare_host() });
    let store = kv::open(&exchange, "carts").unwrap();
    local(async {
        for key in ["gone/1", "gone/2", "gone/3", "gone/4", "gone/5", "there"] {
            let how = kv::Insert::default();
            kv::insert(&mut exchange, &store, key, "v".into(), how).unwrap().await.unwrap();
        }
        let mut state = State::new(exchange, get(), Responder::new().0);
        let page = state.page(&store, None).await.unwrap().unwrap();
        assert_eq!(page, kv::Page { keys: vec!["there".into()], next: None });
    });
}

#[test]
fn a_store_that_was_not_declared_is_no_such_store() {
    // The error's case, 0, is what it logs.
    let (_, said) = shopped(&shopping((8, 1), "unreachable"), &[]);
    assert_eq!(said, [Event::Bytes("\0trace: \0".into())]);
}

#[test]
fn configuration_links_in_its_drafts_and_is_the_versions() {
    let imports = |name: &str| {
        format!(
            r#"(import "{name}" (instance $config
                (type $e (variant (case "upstream" string) (case "io" string)))
                (export "error" (type $error (eq $e)))
                (export "get" (func (param "key" string) (result (result (option string) (error $error)))))
                (export "get-all" (func (result (result (list (tuple string string)) (error $error)))))))"#
        )
    };
    for name in [
        "wasi:config/store@0.2.0-draft",
        "wasi:config/store@0.2.0-rc.1",
        "wasi:config/store@0.2.0-draft-2024-09-27",
        "wasi:config/runtime@0.2.0-draft",
    ] {
        assert!(link(&guest(&imports(name), NO_HOST, RETURNS)).is_ok(), "{name}");
    }
    let lowered = r#"
        (core func $g (canon lower (func $config "get") (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $l (canon lower (func $log "log") (memory $memory "memory")))
        (core instance $host (export "get" (func $g)) (export "log" (func $l)))"#;
    let core = r#"
        (import "host" "get" (func $get (param i32 i32 i32)))
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (import "memory" "memory" (memory 1))
        (data (i32.const 0) "greeting")
        (func (export "handle") (param i32 i32)
            (call $get (i32.const 0) (i32.const 5) (i32.const 64))
            (if (i32.load8_u (i32.const 68)) (then unreachable))
            (call $get (i32.const 0) (i32.const 8) (i32.const 64))
            (call $log (i32.const 2) (i32.const 0) (i32.const 8) (i32.load (i32.const 72)) (i32.load (i32.const 76))))"#;
    let program = link(&guest(&(imports("wasi:config/store@0.2.0-rc.1") + LOG), lowered, core)).unwrap();
    local(async {
        let tape = Tape::record();
        let config = [("greeting".to_owned(), "hello".to_owned())].into();
        let mut exchange = exchange(AppConfig { config, ..AppConfig::default() });
        exchange.door = tape.door();
        assert!(ask_run(run(&program), exchange, get()).await.is_err());
        assert_eq!(tape.recording().caused[&Source::Log], [Event::Bytes("greeting\0info: hello".into())]);
    });
}

/// A guest of `skerry:edge` that logs, as the context, what it was told as text at 64 (address, length).
fn told(imports: &str, lower: &str, call: &str, exchange: Exchange) -> Event {
    let lowered = format!(
        r#"(core func $g (canon lower (func {lower}) (memory $memory "memory") (realloc (func $memory "realloc"))))
        (core func $l (canon lower (func $log "log") (memory $memory "memory")))
        (core instance $host (export "get" (func $g)) (export "log" (func $l)))"#
    );
    let program = link(&guest(&(imports.to_owned() + LOG), &lowered, call)).unwrap();
    local(async {
        let (tape, mut exchange) = (Tape::record(), exchange);
        exchange.door = tape.door();
        assert!(ask_run(run(&program), exchange, get()).await.is_err(), "it answers nothing");
        let mut caused = tape.recording().caused;
        caused.remove(&Source::Log).and_then(|mut said| said.pop_back()).unwrap()
    })
}

const LOG_AT_64: &str = "(call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.load (i32.const 64)) (i32.load (i32.const 68)))";

#[test]
fn a_program_learns_its_clients_address() {
    let imports = r#"(import "skerry:edge/client@0.1.0" (instance $client
        (export "address" (func (result string)))))"#;
    let core = format!(
        r#"(import "host" "get" (func $get (param i32)))
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (import "memory" "memory" (memory 1))
        (func (export "handle") (param i32 i32) (call $get (i32.const 64)) {LOG_AT_64})"#
    );
    let told = told(imports, r#"$client "address""#, &core, exchange(AppConfig::default()));
    assert_eq!(told, Event::Bytes("\0info: 127.0.0.1".into()));
}

#[test]
fn a_place_is_told_of_an_address_and_nothing_of_what_is_none() {
    let imports = r#"(import "skerry:edge/geo@0.1.0" (instance $geo
        (export "lookup" (func (param "address" string) (result (option string))))))"#;
    let core = |address: &str| {
        format!(
            r#"(import "host" "get" (func $get (param i32 i32 i32)))
            (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
            (import "memory" "memory" (memory 1))
            (data (i32.const 0) "{address}")
            (func (export "handle") (param i32 i32)
                (call $get (i32.const 0) (i32.const {}) (i32.const 60))
                (if (i32.eqz (i32.load8_u (i32.const 60))) (then (i32.store (i32.const 68) (i32.const 0))))
                {LOG_AT_64})"#,
            address.len()
        )
    };
    let geo = [([192, 0, 2, 7].into(), r#"{"city":"Bonn"}"#.to_owned())].into();
    let config = AppConfig { geo, ..AppConfig::default() };
    let lookup = |address| told(imports, r#"$geo "lookup""#, &core(address), exchange(config.clone()));
    let Event::Bytes(known) = lookup("192.0.2.7") else { panic!("no text") };
    assert!(std::str::from_utf8(&known).unwrap().contains(r#""city":"Bonn""#), "{known:?}");
    assert_eq!(lookup("no address"), Event::Bytes("\0info: ".into()));
}

#[test]
fn secrets_are_those_the_manifest_names_and_stores_it_does_not_are_an_error() {
    let imports = r#"(import "skerry:edge/secrets@0.1.0" (instance $secrets
        (type $e (enum "no-such-store"))
        (export "error" (type $error (eq $e)))
        (export "get" (func (param "store" (option string)) (param "name" string)
            (result (result (option (list u8)) (error $error)))))))"#;
    // Logs the result's case and the option's as one digit each.
    let core = |some_store: u32| {
        format!(
            r#"(import "host" "get" (func $get (param i32 i32 i32 i32 i32 i32)))
            (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
            (import "memory" "memory" (memory 1))
            (data (i32.const 0) "absent")
            (func (export "handle") (param i32 i32)
                (call $get (i32.const {some_store}) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 6) (i32.const 80))
                (i32.store8 (i32.const 100) (i32.add (i32.const 48) (i32.load8_u (i32.const 80))))
                (i32.store8 (i32.const 101) (i32.add (i32.const 48) (i32.load8_u (i32.const 84))))
                (i32.store (i32.const 64) (i32.const 100))
                (i32.store (i32.const 68) (i32.const 2))
                {LOG_AT_64})"#
        )
    };
    let ask = |store| told(imports, r#"$secrets "get""#, &core(store), exchange(AppConfig::default()));
    assert_eq!(ask(0), Event::Bytes("\0info: 00".into()), "no such secret in the default store");
    assert_eq!(ask(1), Event::Bytes("\0info: 10".into()), "no such store");
}
