//! Who asks: the load generator, HTTP/1.1 in the clear over kept connections, on other cores than the first worker's.
//!
//! The good tenant is asked at fixed times, whether or not the answers before were in time: an answer's time counts from
//! when its question was due. Hostile tenants are asked again as soon as their guest was killed.

use std::{net::SocketAddr, sync::atomic::AtomicBool, thread, time::Duration};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::attack::{self, Attacked};
use crate::{
    generate::{Arrivals, Outcome, Progress, Roots, Scenario, Target, generate},
    stop,
};

/// Connections the good tenant is asked over.
const CONNECTIONS: u32 = 24;
/// What came of asking.
#[derive(Debug)]
pub struct Asked {
    /// Questions that were due.
    pub asked: u64,
    /// Answers that were a 200.
    pub answered: u64,
    /// Times of all answers.
    pub latency_ns: Histogram<u64>,
}

/// Asks `host` as fast as it answers, over all connections, and returns answers a second.
pub fn saturate(address: SocketAddr, host: &str, time: Duration, stop: &AtomicBool) -> anyhow::Result<f64> {
    saturated(address, host, Duration::ZERO, time, &|_| {}, stop).map(|outcome| outcome.rate())
}

/// The same; what came of it after a warm-up, watched meanwhile. A question without a 200 voids it.
pub fn saturated(
    address: SocketAddr,
    host: &str,
    warm_up: Duration,
    time: Duration,
    watch: &(dyn Fn(Progress) + Sync),
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let scenario = Scenario { warm_up, ..closed(time)? };
    let outcome = whole(&scenario, address, host, watch, stop)?;
    let Asked { asked, answered, .. } = Asked::of(&outcome);
    anyhow::ensure!(answered == asked, "{} of {asked} questions were not answered", asked - answered);
    Ok(outcome)
}

/// Asks `host` this many times a second.
pub fn pace(
    address: SocketAddr,
    host: &str,
    per_second: f64,
    time: Duration,
    stop: &AtomicBool,
) -> anyhow::Result<Asked> {
    let scenario = closed(time)?.arriving(Arrivals::Constant { per_second });
    whole(&scenario, address, host, &|_| {}, stop).map(|outcome| Asked::of(&outcome))
}

/// To its end: a load that was cut is none.
fn whole(
    scenario: &Scenario,
    address: SocketAddr,
    host: &str,
    watch: &(dyn Fn(Progress) + Sync),
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    stop::check(stop)?;
    let outcome = ask(scenario, address, host, watch, stop)?;
    stop::check(stop)?;
    Ok(outcome)
}

fn closed(time: Duration) -> anyhow::Result<Scenario> {
    let hello = Scenario::named("hello-h1")?;
    let (connections, look_every) = (CONNECTIONS, Duration::ZERO);
    Ok(Scenario { connections, duration: time, warm_up: Duration::ZERO, look_every, ..hello })
}

/// On threads that leave the first core alone: the generator's own inherit where they may run.
fn ask(
    scenario: &Scenario,
    address: SocketAddr,
    host: &str,
    watch: &(dyn Fn(Progress) + Sync),
    stop: &AtomicBool,
) -> anyhow::Result<Outcome> {
    let target = Target { address, authority: host.to_owned(), roots: Roots::Any };
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            away_from_the_first_core();
            generate(scenario, &target, watch, stop)
        });
        asking.join().map_err(|_| anyhow::anyhow!("a thread of the client panicked"))?
    })
}

impl Asked {
    fn of(outcome: &Outcome) -> Asked {
        Asked {
            asked: outcome.answered + outcome.errors_total(),
            answered: outcome.statuses.get(&200).copied().unwrap_or(0),
            latency_ns: outcome.latency_ns.clone(),
        }
    }
}

/// The first worker has the first core to itself, where there is another.
fn away_from_the_first_core() {
    let Ok(mut allowed) = sched_getaffinity(None) else { return };
    let first = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core));
    if let (Some(first), true) = (first, allowed.count() > 1) {
        allowed.unset(first);
        let _ = sched_setaffinity(None, &allowed);
    }
}

/// Does `work` while one question to each of `hosts` is in flight.
pub fn beside<T>(
    address: SocketAddr,
    hosts: &[String],
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Attacked)> {
    let first = hosts.first().context("nobody attacks")?;
    let scenario = attack::scenario(hosts, &closed(Duration::ZERO)?);
    let (done, attacked) = attack::beside(|stop| ask(&scenario, address, first, &|_| {}, stop), work)?;
    Ok((done?, attacked))
}
