//! One small guest for every limit that a guest can go over by itself, and what becomes of it. Those of a lane's own
//! interface (random bytes, handles, bytes copied) stand with the lane.

use std::sync::Arc;

use artifact::manifest::{AppConfig, Limits};
use http::Request;

use super::*;
use crate::{
    exchange::Bill,
    front::InboundBody,
    host::Host,
    memory::Budget,
    testing::{Seen, bare_host, deployment, execute, host, local, module, slow_lane},
};

/// Ends well when the assertion of the guest's own, a number that is not 0, holds; traps if not.
const ASSERT: &str = "(func $assert (param i32) local.get 0 i32.eqz if unreachable end)";

async fn run(text: &str, limits: Limits, host: Arc<Host>) -> (Result<Seen, Failure>, Arc<Bill>) {
    let config = AppConfig { limits, ..AppConfig::default() };
    let request = Request::get("/").body(InboundBody::Empty).unwrap();
    execute(&module(text), Arc::new(deployment("test", 1, config)), host, None, request).await
}

/// What a guest's run becomes, and the limits it met.
fn outcome(text: &str, limits: Limits, host: Arc<Host>) -> (Result<u16, Failure>, Vec<Limit>) {
    let (answer, bill) = local(run(text, limits, host));
    (answer.map(|seen| seen.head.status.as_u16()), bill.limits_met().iter().collect())
}

/// Wide enough for a busy machine and a debug build.
fn wide() -> Limits {
    Limits { cpu_ms: 30_000, ..Limits::default() }
}

/// A node with this much memory beyond its slots.
fn node_with(mib: u64) -> Arc<Host> {
    Arc::new(Host { memory: Budget::new(mib << 20, 0).unwrap(), ..bare_host() })
}

const LOOP: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))"#;

#[test]
fn an_endless_loop_ends_at_its_cpu_limit_in_either_lane() {
    let limits = Limits { cpu_ms: 20, ..Limits::default() };
    assert_eq!(outcome(LOOP, limits, host()), (Err(Failure::CpuLimit), vec![Limit::Cpu]));

    let config = AppConfig { limits, ..AppConfig::default() };
    let deployment = Arc::new(deployment("loop", 1, config));
    let slow = slow_lane();
    let program = module(LOOP);
    let request = || Request::get("/").body(InboundBody::Empty).unwrap();
    for _ in 0..2 {
        let asked = execute(&program, deployment.clone(), host(), Some(slow.lanes()), request());
        let (answer, bill) = local(asked);
        assert_eq!(answer.map(drop).unwrap_err(), Failure::CpuLimit);
        // Its own CPU, by the thread's clock: what else the machine does is not in it.
        let over_ns = bill.cpu_ns().saturating_sub(20_000_000);
        assert!(bill.cpu_ns() >= 20_000_000 && over_ns <= 10_000_000, "{over_ns} ns over");
    }
    assert_eq!(slow.lanes().jobs(), 0);
}

#[test]
fn host_calls_are_cpu_however_quickly_each_returns() {
    // A loop of calls that do next to nothing. Without a limit it would be 2^31 of them.
    let calls = r#"(module
        (import "fastly_abi" "init" (func $init (param i64) (result i32)))
        (memory (export "memory") 1)
        (global $calls (mut i32) (i32.const 0))
        (func (export "_start")
            (loop
                (drop (call $init (i64.const 1)))
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (br_if 0 (i32.lt_u (global.get $calls) (i32.const 0x80000000))))))"#;
    let limits = Limits { cpu_ms: 200, ..Limits::default() };
    let (answer, bill) = local(run(calls, limits, host()));
    assert_eq!(answer.map(drop).unwrap_err(), Failure::CpuLimit);
    assert!(bill.cpu_ns() >= 200_000_000, "billed {} ns", bill.cpu_ns());
}

#[test]
fn a_million_host_calls_are_billed() {
    let billed_ns = |each: &str| {
        let text = format!(
            r#"(module
                (import "fastly_abi" "init" (func $init (param i64) (result i32)))
                (memory (export "memory") 1)
                (func (export "_start") (local i32)
                    (loop
                        {each}
                        (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 1000000))))))"#
        );
        let (answer, bill) = local(run(&text, wide(), host()));
        assert_eq!(answer.unwrap().head.status, 200);
        bill.cpu_ns()
    };
    let (with, without) = (billed_ns("(drop (call $init (i64.const 1)))"), billed_ns(""));
    assert!(with >= 1_000_000, "a million calls for {with} ns");
    // Not the loop around them: a call costs at least ten times as much as a turn.
    assert!(with > 2 * without, "{with} ns with a million calls, {without} ns without");
}

#[test]
fn a_memory_grows_to_its_limit_and_a_guest_that_gives_up_over_it_says_so() {
    let grows = |pages: u32, then: &str| {
        format!(
            r#"(module {ASSERT} (memory (export "memory") 1) (func (export "_start")
                (call $assert (i32.eq (memory.grow (i32.const 15)) (i32.const 1)))
                (call $assert (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)))
                {then}))"#
        )
    };
    let limits = Limits { memory_mib: 1, ..wide() };
    assert_eq!(outcome(&grows(1, ""), limits, host()), (Ok(200), vec![Limit::Memory]));
    let gave_up = (Err(Failure::MemoryLimit), vec![Limit::Memory]);
    assert_eq!(outcome(&grows(1, "unreachable"), limits, host()), gave_up);
    let too_large = r#"(module (memory (export "memory") 17) (func (export "_start")))"#;
    assert_eq!(outcome(too_large, limits, host()), gave_up, "from its beginning");
}

#[test]
fn a_full_node_refuses_to_begin_and_to_grow_and_gets_everything_back() {
    let large = r#"(module (memory (export "memory") 1024) (func (export "_start")))"#;
    let refused = (Err(Failure::NodeMemory), vec![Limit::NodeMemory]);
    let (small_node, node) = (node_with(61), node_with(62));
    assert_eq!(outcome(large, wide(), small_node), refused);
    for _ in 0..3 {
        assert_eq!(
            outcome(large, wide(), node.clone()),
            (Ok(200), vec![]),
            "62 MiB beyond its slot, each time"
        );
    }
    let grows = format!(
        r#"(module {ASSERT} (memory (export "memory") 1) (func (export "_start")
            (call $assert (i32.eq (memory.grow (i32.const 1023)) (i32.const 1)))
            (call $assert (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))))"#
    );
    assert_eq!(outcome(&grows, wide(), node.clone()), (Ok(200), vec![Limit::NodeMemory]));
    assert_eq!(node.memory.bytes(), 0);
}

#[test]
fn a_table_grows_to_its_limit() {
    let grows = |then: &str| {
        format!(
            r#"(module {ASSERT} (table 65535 funcref) (memory (export "memory") 1) (func (export "_start")
                (call $assert (i32.eq (table.grow (ref.null func) (i32.const 1)) (i32.const 65535)))
                (call $assert (i32.eq (table.grow (ref.null func) (i32.const 1)) (i32.const -1)))
                {then}))"#
        )
    };
    assert_eq!(outcome(&grows(""), wide(), host()), (Ok(200), vec![Limit::Table]));
    let gave_up = (Err(Failure::TableLimit), vec![Limit::Table]);
    assert_eq!(outcome(&grows("unreachable"), wide(), host()), gave_up);
}

#[test]
fn a_stack_has_an_end() {
    let recurses = r#"(module (memory (export "memory") 1)
        (func $deeper (param i64) (result i64)
            (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
        (func (export "_start") (drop (call $deeper (i64.const 0)))))"#;
    assert_eq!(outcome(recurses, wide(), host()), (Err(Failure::StackLimit), vec![Limit::Stack]));
}

#[test]
fn a_guest_that_only_waits_ends_at_its_wall_limit() {
    let limits = Limits { wall_ms: 20, ..wide() };
    let (answer, bill) = local(async {
        let (send, receive) = crate::exchange::Responder::new();
        let bill = Arc::new(Bill::default());
        let waits = Box::pin(async move {
            let _unsent = send;
            std::future::pending().await
        });
        let wall = std::time::Duration::from_millis(limits.wall_ms.into());
        let account = crate::account::Account::none();
        (drive::drive(waits, receive, bill.clone(), wall, account, None).await, bill)
    });
    assert_eq!(answer.map(drop).unwrap_err(), Failure::WallLimit);
    assert!(bill.limits_met().has(Limit::Wall));
}

#[test]
fn a_limit_that_ends_a_guest_has_its_own_failure() {
    for limit in Limit::ALL {
        let error = wasmtime::Error::from(LimitReached(limit));
        assert_eq!(drive::classify(&error, &Bill::default()), limit.failure(), "{}", limit.name());
    }
    let failures: std::collections::HashSet<_> = Limit::ALL.map(Limit::failure).into();
    assert_eq!(failures.len(), 12, "eleven of their own, and one for all that are answered to the guest");
}
