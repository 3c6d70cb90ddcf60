//! Hostile neighbours of a node: endless loops and memory bombs, each an app of a tenant of its own, kept in flight.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    generate::{Hosts, Outcome, Scenario, generate},
    neighbours::guests::{self, Program},
    servers::{Running, host},
};

/// Longer than any run; it ends when it is told to.
const TIME: Duration = Duration::from_secs(3600);

/// After an answer that was not even the guest's end.
const PAUSE: Duration = Duration::from_millis(20);

/// What came of them.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Attacked {
    /// Answers by status: a guest that was ended at its limit is a 504 or a 500.
    pub statuses: BTreeMap<u16, u64>,
    /// Questions without an answer.
    pub errors: u64,
}

impl Attacked {
    /// Guests that were started and ended by the node.
    pub fn ended(&self) -> u64 {
        [500, 504].iter().filter_map(|status| self.statuses.get(status)).sum()
    }

    pub fn add(&mut self, other: &Attacked) {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.errors += other.errors;
    }

    fn of(outcome: &Outcome) -> Attacked {
        Attacked { statuses: outcome.statuses.clone(), errors: outcome.errors_total() }
    }
}

/// Deploys `count` of them: loops and bombs in turns.
pub fn deploy(node: &Running, count: u32) -> anyhow::Result<Vec<String>> {
    let fleet = node.fleet()?;
    let programs = [guests::endless_loop(), guests::memory_bomb()];
    let mut hosts = Vec::new();
    for (number, Program { name, text }) in (0..count).zip(programs.iter().cycle()) {
        let file = fleet.folder().join(format!("{name}.wasm"));
        let wasm = wat::parse_str(text).with_context(|| format!("the guest {name}"))?;
        fs::write(&file, wasm).context("writing a hostile program")?;
        let (tenant, app) = (format!("hostile-{number}"), format!("{name}-{number}"));
        fleet.tenant(&tenant)?;
        fleet.deploy_for(&tenant, &file, &app)?;
        hosts.push(format!("{}:{}", host(&app), node.address.port()));
    }
    Ok(hosts)
}

/// Does `work` while one question to each of `hosts` is in flight.
pub fn beside<T>(
    node: &Running,
    hosts: &[String],
    scenario: &Scenario,
    work: impl FnOnce() -> T,
) -> anyhow::Result<(T, Attacked)> {
    let scenario = Scenario {
        name: "hostile".to_owned(),
        connections: hosts.len() as u32,
        hosts: Hosts::Each { names: hosts.to_vec() },
        duration: TIME,
        warm_up: Duration::ZERO,
        pause_after_503: PAUSE,
        look_every: Duration::ZERO,
        ..scenario.clone()
    };
    let (target, stop) = (node.target_at(&hosts[0]), AtomicBool::new(false));
    thread::scope(|scope| {
        let attack = scope.spawn(|| generate(&scenario, &target, &|_| {}, &stop));
        let done = work();
        stop.store(true, Relaxed);
        let outcome = attack.join().map_err(|_| anyhow::anyhow!("a thread of the client panicked"))?;
        Ok((done, Attacked::of(&outcome.context("asking the hostile neighbours")?)))
    })
}
