//! A load generator: asks a target what a [`Scenario`] says, and counts what comes back.
//!
//! It relies on the target being one: it talks to the one address it is given. Time, connections and requests under
//! way are bounded by the scenario. In an open loop a request's latency counts from the moment it was to start, so a
//! target that stalls is charged for those that had to wait, too.
//!
//! | Module | One job |
//! |---|---|
//! | [`scenario`] | what is asked, from TOML |
//! | [`builtin`] | scenarios that come with the command |
//! | [`target`] | whom to ask, whom to believe |
//! | [`arrivals`] | when requests start |
//! | [`hosts`] | which host a request is for |
//! | [`random`] | numbers from a seed |
//! | [`worker`] | one thread |
//! | [`link`] | connections, whatever the protocol |
//! | [`socket`], [`h1`], [`h2`], [`h3`], [`chunked`], [`body`] | bytes |
//! | [`tally`] | what was counted |
//!
//! Deliberately absent: cookies, redirects and retries. Each request is what the scenario says, once.

mod arrivals;
mod body;
pub mod builtin;
mod chunked;
mod h1;
mod h2;
mod h3;
pub mod hosts;
pub mod link;
mod random;
mod scenario;
mod socket;
mod tally;
mod target;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use self::{
    hosts::Popularity,
    link::{Plan, Sender},
    scenario::Pace,
    tally::Live,
    worker::Run,
};
pub use self::{
    scenario::{Arrivals, Hosts, Protocol, Scenario},
    tally::Outcome,
    target::{Roots, Target},
};

/// Between two looks at how far a run is.
const LOOK: Duration = Duration::from_millis(100);
/// Of the one question before the load.
const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub elapsed: Duration,
    /// Warm-up and all.
    pub total: Duration,
    /// Since the warm-up.
    pub answered: u64,
    pub errors: u64,
}

/// Asks `target` until the scenario's time is over or `stop` is set. One request goes before the load: a target that
/// cannot be reached, or that speaks something else, is an error and no outcome.
pub fn generate(
    scenario: &Scenario,
    target: &Target,
    on_progress: &(dyn Fn(Progress) + Sync),
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let scenario = scenario.clone().checked()?;
    let hosts = Popularity::new(&scenario.hosts, &target.authority);
    // At full speed: how long a slow client takes is no question of whether it is answered.
    let first = Scenario { pace: Pace::Normal, ..scenario.clone() };
    ask_once(&Plan::new(&first, target, &hosts)?)?;
    let plan = Plan::new(&scenario, target, &hosts)?;
    let threads = scenario.threads;
    let run = Arc::new(Run { scenario, plan, hosts, start: Instant::now() });
    let live: Vec<Arc<Live>> = (0..threads).map(|_| Arc::default()).collect();
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (number, live) in (0..threads).zip(&live) {
            let run = &run;
            let thread = thread::Builder::new().name(format!("load-{number}"));
            let started = thread.spawn_scoped(scope, move || worker::work(run, number, live, stop));
            workers.push(started.context("starting a thread")?);
        }
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(LOOK);
            on_progress(progress(&run, &live));
        }
        let mut outcome = Outcome::empty();
        for worker in workers {
            let one = worker.join().map_err(|_| anyhow::anyhow!("a thread of the client panicked"))?;
            outcome.add(one?);
        }
        outcome.leave_under_way(run.plan.under_way());
        Ok(outcome)
    })
}

fn progress(run: &Run, live: &[Arc<Live>]) -> Progress {
    Progress {
        elapsed: run.start.elapsed(),
        total: run.scenario.warm_up + run.scenario.duration,
        answered: live.iter().map(|live| live.answered.load(Relaxed)).sum(),
        errors: live.iter().map(|live| live.errors.load(Relaxed)).sum(),
    }
}

fn ask_once(plan: &Plan) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .context("starting a runtime")?;
    let asked = runtime.block_on(async {
        tokio::time::timeout(FIRST_ANSWER_TIME_MAX, async {
            Sender::connect(plan).await?.exchange(plan, 0).await
        })
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    });
    let address = plan.address;
    asked
        .map(drop)
        .map_err(|error| anyhow::anyhow!("{address} does not answer as the scenario asks: {error}"))
}
