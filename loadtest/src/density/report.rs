//! What `loadtest density` found, and its goals.

use serde::Serialize;

use super::{
    figures::{Artifacts, Holding, Loading, Swap},
    memory::{Memory, Source},
    routes::Lookup,
    stages::Loads,
};
use crate::{Verdict, machine::Machine};

/// Memory of an app, code included, once the budget for code is spent.
pub const APP_KB_MAX: f64 = 60.0;
/// p99 of the first answer of an app that is not loaded.
pub const FIRST_P99_MS_MAX: f64 = 2.0;
/// A lookup among 100,000 routes over one among 10. Not 1: what is not in a cache of the processor must be fetched.
pub const LOOKUP_GROWTH_NS_MAX: f64 = 300.0;
/// What a swap may add to the longest answer.
pub const STALL_MS_MAX: f64 = 1.0;

/// What was measured, in this order but for the first three.
#[derive(Default)]
pub struct Found {
    pub routes: Vec<Lookup>,
    pub stages: Option<Loads>,
    pub artifacts: Option<Artifacts>,
    pub empty: Option<(Memory, Source)>,
    pub deploy_s: Option<f64>,
    pub start_s: Option<f64>,
    pub idle: Option<Holding>,
    pub loading: Option<Loading>,
    pub full: Option<Holding>,
    pub swap: Option<Swap>,
}

/// What it was told to stop before is not there.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub stopped: bool,
    pub apps: u32,
    pub artifacts: Option<Artifacts>,
    pub threads: Option<u32>,
    pub memory_source: Option<Source>,
    pub empty: Option<Memory>,
    pub deploy_s: Option<f64>,
    pub start_s: Option<f64>,
    pub idle: Option<Holding>,
    /// Memory over that of a node without apps, for each app: before any code was loaded, and when each was asked.
    pub idle_app_kb: Option<f64>,
    pub full: Option<Holding>,
    pub full_app_kb: Option<f64>,
    /// The same without what the node says its code takes.
    pub full_app_kb_beside_code: Option<f64>,
    pub loading: Option<Loading>,
    pub routes: Vec<Lookup>,
    pub stages: Option<Loads>,
    pub swap: Option<Swap>,
    pub verdicts: Verdicts,
    pub verdict: Verdict,
}

/// Goal by goal. What was not measured was not met.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Verdicts {
    pub memory: Verdict,
    pub budget: Verdict,
    pub first_answer: Verdict,
    pub lookup: Verdict,
    pub stall: Verdict,
}

impl Verdicts {
    fn all(&self) -> [Verdict; 5] {
        [self.memory, self.budget, self.first_answer, self.lookup, self.stall]
    }
}

impl Report {
    pub fn new(machine: Machine, apps: u32, threads: Option<u32>, found: Found, stopped: bool) -> Report {
        let Found { routes, stages, artifacts, empty, deploy_s, start_s, idle, loading, full, swap } = found;
        let (empty, memory_source) = empty.unzip();
        let over_empty =
            |holding: &Holding| Some(holding.memory.bytes().saturating_sub(empty?.bytes()) as f64 / 1024.0);
        let each_kb = |kb: f64| kb / f64::from(apps.max(1));
        let full_kb = full.as_ref().and_then(over_empty);
        let full_app_kb = full_kb.map(each_kb);
        let beside_code = full_kb.zip(full).map(|(kb, full)| (kb - full.code_bytes / 1024.0).max(0.0));
        let within = |holding: &Holding| holding.code_bytes_max.is_none_or(|max| holding.code_bytes <= max);
        let verdicts = Verdicts {
            memory: verdict(full_app_kb.is_some_and(|kb| kb <= APP_KB_MAX)),
            budget: verdict(full.as_ref().is_some_and(within) && idle.as_ref().is_some_and(within)),
            first_answer: verdict(
                loading.as_ref().is_some_and(|loading| loading.first.p99_us <= FIRST_P99_MS_MAX * 1e3),
            ),
            lookup: verdict(growth_ns(&routes).is_some_and(|ns| ns <= LOOKUP_GROWTH_NS_MAX)),
            stall: verdict(
                swap.as_ref().is_some_and(|swap| swap.stall_ms <= STALL_MS_MAX && !swap.is_void()),
            ),
        };
        Report {
            machine,
            stopped,
            apps,
            artifacts,
            threads,
            memory_source,
            empty,
            deploy_s,
            start_s,
            idle_app_kb: idle.as_ref().and_then(over_empty).map(each_kb),
            idle,
            full,
            full_app_kb,
            full_app_kb_beside_code: beside_code.map(each_kb),
            loading,
            routes,
            stages,
            swap,
            verdict: verdict(verdicts.all().into_iter().all(|one| one == Verdict::Met)),
            verdicts,
        }
    }
}

fn verdict(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::NotMet }
}

/// `None` of fewer than two.
fn growth_ns(routes: &[Lookup]) -> Option<f64> {
    let most = routes.iter().max_by_key(|lookup| lookup.routes)?;
    let fewest = routes.iter().min_by_key(|lookup| lookup.routes)?;
    (most.routes > fewest.routes).then_some(most.ns.median - fewest.ns.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_was_told_to_stop_before_is_neither_printed_nor_met() {
        let lookup = |routes, median| Lookup {
            routes,
            ns: crate::statistics::Summary { median, min: median, max: median },
            miss_ns: 1.0,
            allocations: 0.0,
            insert_us: 1.0,
        };
        let cut = |routes| {
            let found = Found { routes, ..Found::default() };
            Report::new(Machine::here(), 10, None, found, true)
        };
        let report = cut(vec![lookup(10, 20.0), lookup(1_000, 60.0)]);
        let text = report.text();
        assert!(text.contains("stopped   before its end") && text.contains("1000 routes"), "{text}");
        assert!(!text.contains("memory:") && !text.contains("first answers"), "{text}");
        assert_eq!((report.verdicts.lookup, report.verdicts.memory), (Verdict::Met, Verdict::NotMet));
        assert_eq!(cut(vec![lookup(10, 20.0)]).verdicts.lookup, Verdict::NotMet);
        assert!(!cut(Vec::new()).text().contains("routes"));
    }
}
