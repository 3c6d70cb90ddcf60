//! Guests that go wrong get their own error, and nobody else notices.

use std::{thread, time::Instant};

use whole_flow::{Fleet, Process, Proto, Response};

/// Our own answer: a stable code and a request id, never internals.
fn names_only(response: &Response, code: &str) {
    let body: serde_json::Value =
        serde_json::from_str(&response.text).unwrap_or_else(|_| panic!("{response:?}"));
    assert_eq!(body["error"]["code"], code, "{response:?}");
    assert!(body["error"]["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{response:?}");
    for internal in ["wasm", "trap", "panic", "unreachable", "/src/", "0x"] {
        let message = body["error"].get("message").map(|text| text.to_string()).unwrap_or_default();
        assert!(!message.contains(internal), "{response:?}");
    }
}

/// Deploys a guest of either lane and asks it by every protocol; all must say `status` and `code`, and the node
/// must be the same process afterwards.
fn fails(guest: &str, status: u16, code: &str) {
    let fleet = Fleet::shared();
    fleet.deploy(guest);
    fails_as_deployed(guest, status, code);
}

fn fails_as_deployed(guest: &str, status: u16, code: &str) {
    let fleet = Fleet::shared();
    fleet.deploy("wstd-hello");
    let node = fleet.pid(Process::Node).expect("the node runs");
    for proto in Proto::secure() {
        names_only(&fleet.get(proto, guest, "/").expect(status), code);
    }
    fleet.get(Proto::H2, "wstd-hello", "/").expect(200);
    assert_eq!(fleet.pid(Process::Node), Some(node), "the node was restarted");
}

#[test]
fn a_trap_is_500() {
    fails("trap", 500, "guest_trap");
    fails("fastly-trap", 500, "guest_trap");
}

#[test]
fn a_failed_exit_is_500() {
    fails("fastly-exit-1", 500, "guest_trap");
}

#[test]
fn a_memory_bomb_is_its_own_500_and_the_node_lives() {
    // Touching 128 MiB for the first time takes about 100 ms of CPU: with the default limit a bomb may end as a 504.
    let fleet = Fleet::shared();
    for bomb in ["memory-bomb", "fastly-memory-bomb"] {
        fleet.deploy_with_cpu_ms(bomb, 5_000);
        fails_as_deployed(bomb, 500, "memory_limit");
    }
    let node = fleet.pid(Process::Node);
    fleet.deploy_as("memory-bomb", "bomb-of-default-limits");
    for proto in Proto::secure() {
        let status = fleet.get(proto, "bomb-of-default-limits", "/").status;
        assert!(status == 500 || status == 504, "by {proto:?}: {status}");
    }
    assert_eq!(fleet.pid(Process::Node), node, "the node was restarted");
}

#[test]
fn a_used_up_stack_is_500() {
    fails("stack", 500, "stack_limit");
}

#[test]
fn an_endless_loop_is_504_at_its_cpu_limit() {
    fails("spin", 504, "cpu_limit");
    fails("fastly-spin", 504, "cpu_limit");
}

#[test]
fn while_guests_loop_other_requests_go_on() {
    const LOOPS: usize = 24;
    let fleet = Fleet::shared();
    fleet.deploy("wstd-hello");
    fleet.deploy("spin");
    let worst_ms = thread::scope(|scope| {
        let loops: Vec<_> =
            (0..LOOPS).map(|_| scope.spawn(|| fleet.get(Proto::H1, "spin", "/").status)).collect();
        let mut worst_ms = 0;
        while loops.iter().any(|spinning| !spinning.is_finished()) {
            let start = Instant::now();
            fleet.get(Proto::H1, "wstd-hello", "/").expect(200);
            worst_ms = worst_ms.max(start.elapsed().as_millis());
        }
        for spinning in loops {
            let status = spinning.join().unwrap();
            assert!(status == 504 || status == 503, "{status}");
        }
        worst_ms
    });
    // 24 loops of 50 ms are 600 ms of two cores; processes of curl share them. A stalled core would be seconds.
    assert!(worst_ms < 3_000, "a request beside endless loops took {worst_ms} ms");
}

#[test]
fn no_response_is_500_in_the_wasi_lane_and_an_empty_200_in_the_fastly_lane() {
    fails("no-response", 500, "no_response");
    let fleet = Fleet::shared();
    fleet.deploy("fastly-no-response");
    for proto in Proto::secure() {
        let response = fleet.get(proto, "fastly-no-response", "/").expect(200);
        assert!(response.is_body(b""), "{response:?}");
    }
}

#[test]
fn a_trap_after_the_head_never_looks_like_a_whole_response() {
    let fleet = Fleet::shared();
    fleet.deploy("trap-after-headers");
    for proto in Proto::secure() {
        // While the head had not left the node, 500 is the better answer; after it, the stream is broken.
        let response = fleet.get(proto, "trap-after-headers", "/");
        assert!(response.status == 500 || !response.complete, "by {proto:?}: {response:?}");
    }
    fleet.deploy("wstd-hello");
    fleet.get(Proto::H2, "wstd-hello", "/").expect(200);
}

#[test]
fn a_guest_meets_its_memory_limit_in_a_civil_way() {
    let fleet = Fleet::shared();
    fleet.deploy("grow-report");
    let mib: u32 = fleet.get(Proto::H2, "grow-report", "/").expect(200).text.trim().parse().unwrap();
    assert!((120..=128).contains(&mib), "{mib} MiB of a limit of 128");
}
