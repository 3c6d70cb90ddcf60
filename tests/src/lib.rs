//! The harness of the whole-flow tests: real processes, real sockets, foreign clients (curl, aioquic).
//!
//! A test reads as a sentence: `Fleet::up().start()`, `fleet.deploy("fastly-echo")`,
//! `fleet.get(Proto::H2, "fastly-echo", "/")`. Every fleet has its own temporary directory and ports the system
//! picks, every wait is bounded, and every process ends with its fleet: by id when the fleet is dropped, and by the
//! end of its standard input when the test process itself is killed.
//!
//! Relied on: `target/debug/{skerry,control-plane,aot-compiler,edge-node}`, guests in `target/guests`
//! (`./dev test` builds both) and curl. Deliberately absent: mocks, and any knowledge of the servers' insides but
//! where they keep their files.

mod another_node;
mod asking;
mod bad;
mod client;
mod command;
mod dev;
mod fleet;
mod guests;
mod listening;
mod process;
mod raw;
mod registry;
mod separate;
mod start;

pub use another_node::AnotherNode;
pub use bad::Bad;
pub use client::{Proto, Request, Response, h3_is_there};
pub use command::{Said, aot_compiler, skerry, skerry_with};
pub use dev::Dev;
pub use fleet::{Fleet, Process};
pub use guests::{guest, has_guest};
pub use listening::Listening;
pub use raw::Raw;
pub use registry::{Asks, Registry};
pub use start::FleetBuilder;

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

/// Pause between looks at something that is waited for.
const LOOK_MS: u64 = 20;

/// Waits until `look` finds something, at most `seconds`; fails the test with `what` otherwise.
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {seconds} s in vain for {what}");
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
}

/// Set to `1` where every tool is there (CI): a test that skips then fails.
const MUST_NOT_SKIP: &str = "SKERRY_TESTS_MUST_NOT_SKIP";

/// Says past the test runner's capture that something was not tested; fails where nothing may be skipped.
#[track_caller]
pub fn skipped(what: &str) {
    assert!(
        std::env::var_os(MUST_NOT_SKIP).is_none_or(|value| value != "1"),
        "{MUST_NOT_SKIP}=1, but this would be skipped: {what}"
    );
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// `length` bytes that no compression or repetition can fake, the same for the same seed.
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    // splitmix64: good enough to have no pattern, and needs no dependency.
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}
