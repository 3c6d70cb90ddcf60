//! The load: one server asked as the scenario says, the counters looked at meanwhile.
//!
//! CPU is counted between two looks at a running client, beside the answers it had by then: what connections and
//! handshakes cost at the start is not in it.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    generate::{self, Outcome, Progress, Protocol, Scenario, Target},
    progress::Bar,
    servers::Wire,
    statistics::Point,
};

use super::{
    figures::{Look, Measured, Round},
    seen::Seen,
    usage::{Machine, Usage},
};

/// What a scenario speaks. `None`: nothing that is compared.
pub fn wire(scenario: &Scenario) -> Option<Wire> {
    match (scenario.protocol, scenario.tls) {
        (Protocol::H1, false) => Some(Wire::H1),
        (Protocol::H1, true) => Some(Wire::H1Tls),
        (Protocol::H2, true) => Some(Wire::H2),
        (Protocol::H2, false) => None,
        (Protocol::H3, _) => Some(Wire::H3),
    }
}

/// Asks a server that is ready. What goes wrong voids the round.
pub fn measure(scenario: &Scenario, target: &Target, pids: &[u32], bar: &Bar, stop: &AtomicBool) -> Measured {
    let looks = Looks::default();
    let look = |progress: Progress| {
        bar.show(progress);
        looks.take(progress, scenario.warm_up, pids);
    };
    let outcome = generate::generate(scenario, target, &look, stop).map_err(|error| format!("{error:#}"))?;
    if stop.load(Relaxed) {
        return Err("it was stopped".to_owned());
    }
    let (first, last) = looks.both()?;
    Round::new(&seen(&outcome, scenario), first, last, scenario.threads)
}

fn seen(outcome: &Outcome, scenario: &Scenario) -> Seen {
    let at = |part| Duration::from_nanos(outcome.latency_ns.value_at_quantile(part));
    let errors = outcome.errors.iter().map(|(kind, count)| (kind.clone(), *count));
    let statuses = outcome.statuses.iter().filter(|(status, _)| **status != 200);
    let statuses = statuses.map(|(status, count)| (format!("status {status}"), *count));
    Seen {
        asked: outcome.answered + outcome.errors_total(),
        answered: outcome.answered,
        wrong: errors.chain(statuses).filter(|(_, count)| *count > 0).collect(),
        elapsed: outcome.elapsed,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        latency_us: Point::all(&outcome.latency_ns),
        // What comes after the last whole second is no rate.
        per_second: outcome.per_second.iter().take(scenario.duration.as_secs() as usize).copied().collect(),
        client_cpu: outcome.client_cpu,
        late_starts: outcome.late_starts,
        looks_for_an_answer: outcome.looks_for_an_answer(scenario),
        stopped_early: outcome.stopped_early,
    }
}

/// The first and the last look within the measured time.
#[derive(Default)]
struct Looks(Mutex<(Option<Look>, Option<Look>, Option<String>)>);

impl Looks {
    fn take(&self, progress: Progress, warm_up: Duration, pids: &[u32]) {
        if progress.elapsed < warm_up || progress.elapsed > progress.total {
            return;
        }
        let Ok(mut looks) = self.0.lock() else { return };
        match look(progress.elapsed - warm_up, progress.answered, pids) {
            Ok(look) if looks.0.is_none() => looks.0 = Some(look),
            Ok(look) => looks.1 = Some(look),
            Err(error) => looks.2 = Some(format!("{error:#}")),
        }
    }

    fn both(self) -> Result<(Look, Look), String> {
        match self.0.into_inner().map_err(|_| "the looks were lost".to_owned())? {
            (_, _, Some(error)) => Err(error),
            (Some(first), Some(last), None) => Ok((first, last)),
            _ => Err("it was too short to look at".to_owned()),
        }
    }
}

fn look(at: Duration, answered: u64, pids: &[u32]) -> anyhow::Result<Look> {
    let server = Usage::of(pids)?;
    let client = Usage::of(&[std::process::id()])?.cpu;
    Ok(Look { at, answered, server, machine: Machine::now()?, client })
}
