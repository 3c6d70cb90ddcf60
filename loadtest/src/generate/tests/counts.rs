//! What is counted is what the server saw.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::server::Server;
use crate::generate::{Outcome, Scenario, Target, generate};

/// h1, one connection, a short time, and `more`.
pub fn scenario(more: &str) -> Scenario {
    Scenario::parse(&format!("name = 'test'\nprotocol = 'h1'\nduration_seconds = 0.3\n{more}")).unwrap()
}

pub fn run(scenario: &Scenario, target: &Target) -> Outcome {
    generate(scenario, target, &|_| {}, &AtomicBool::new(false)).unwrap()
}

#[test]
fn every_answer_is_counted_once() {
    let server = Server::start();
    let outcome = run(&scenario("connections = 4\nthreads = 2"), &server.target());
    assert_eq!(outcome.errors, [].into());
    // One goes before the load.
    assert_eq!(outcome.answered + 1, server.seen.requests.load(Relaxed));
    assert_eq!(outcome.statuses, [(200, outcome.answered)].into());
    assert_eq!(outcome.latency_ns.len(), outcome.answered);
    assert_eq!(outcome.per_second.iter().sum::<u64>(), outcome.answered);
    assert_eq!(server.seen.connections.load(Relaxed), 1 + 4);
    assert!(outcome.answered > 4 && outcome.bytes_in > outcome.answered * 5 && !outcome.stopped_early);
}

#[test]
fn statuses_and_large_answers_are_told() {
    let server = Server::start();
    let mut asked = scenario("connections = 1\n[request]\npath = '/missing'");
    let outcome = run(&asked, &server.target());
    assert_eq!(outcome.statuses, [(404, outcome.answered)].into());
    asked.request.path = "/large".into();
    let outcome = run(&asked, &server.target());
    assert!(outcome.answered > 0 && outcome.bytes_in > outcome.answered * 100_000);
}
