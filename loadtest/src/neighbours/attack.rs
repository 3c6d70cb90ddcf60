//! A crowd of hostile questions, kept in flight while something else is done.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use crate::generate::{Hosts, Outcome, Scenario};

/// Longer than any attack: it ends when it is told to.
const TIME_MAX: Duration = Duration::from_secs(3600);
/// Pause after an answer that was not even the guest's end, so that a full node is not asked in a loop.
const PAUSE: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Attacked {
    /// Answers by status: a guest that was ended at its limit is a 504 or a 500.
    pub statuses: BTreeMap<u16, u64>,
    /// Questions without an answer.
    pub errors: u64,
}

impl Attacked {
    fn of(outcome: &Outcome) -> Attacked {
        Attacked { statuses: outcome.statuses.clone(), errors: outcome.errors_total() }
    }

    /// Answers with this status.
    pub fn with(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or(0)
    }

    /// Guests that were started and ended by the node.
    pub fn ended(&self) -> u64 {
        self.with(500) + self.with(504)
    }

    pub fn add(&mut self, other: &Attacked) {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.errors += other.errors;
    }
}

/// The load of one question in flight to each of `hosts`, in the manner of another scenario.
pub fn scenario(hosts: &[String], like: &Scenario) -> Scenario {
    Scenario {
        name: "hostile".to_owned(),
        connections: hosts.len() as u32,
        hosts: Hosts::Each { names: hosts.to_vec() },
        duration: TIME_MAX,
        warm_up: Duration::ZERO,
        pause_after_503: PAUSE,
        look_every: Duration::ZERO,
        ..like.clone()
    }
}

/// Does `work` while `attack` goes on, which ends when its flag is up.
pub fn beside<T>(
    attack: impl FnOnce(&AtomicBool) -> anyhow::Result<Outcome> + Send,
    work: impl FnOnce() -> T,
) -> anyhow::Result<(T, Attacked)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let attack = scope.spawn(|| attack(&stop));
        let done = work();
        stop.store(true, Relaxed);
        let outcome = attack.join().map_err(|_| anyhow::anyhow!("a thread of the client panicked"))?;
        Ok((done, Attacked::of(&outcome.context("attacking")?)))
    })
}
