//! What is told of each thing that `loadtest density` measures.

use serde::Serialize;

use super::{fleet::App, memory::Memory, node::Node};
use crate::under_load::{metrics::Metrics, threads};

/// With a longer answer in peace the machine had no core for the node, and what swaps add to it says nothing.
const QUIET_MS_MAX: f64 = 20.0;
/// The node's histogram of making and publishing a generation, and the longest of its life.
const SWAPS: &str = "skerry_generation_swap_seconds";
const SWAP_LONGEST: &str = "skerry_generation_swap_longest_seconds";

/// Times of answers, in µs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

impl Times {
    /// `None` of nothing.
    pub fn of(us: &[f64]) -> Option<Times> {
        let mut us = us.to_vec();
        us.sort_by(f64::total_cmp);
        let rank = |part: f64| us.get(((part * us.len() as f64).ceil() as usize).max(1) - 1).copied();
        Some(Times { p50_us: rank(0.5)?, p99_us: rank(0.99)?, p999_us: rank(0.999)?, max_us: rank(1.0)? })
    }

    pub fn text(&self) -> String {
        let Times { p50_us, p99_us, p999_us, max_us } = self;
        format!("p50 {p50_us:>6.0}  p99 {p99_us:>6.0}  p99.9 {p999_us:>6.0}  max {max_us:>7.0} µs")
    }
}

/// The artifacts, before and after compression.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Artifacts {
    pub native_bytes_mean: f64,
    pub native_bytes_max: u64,
    pub container_bytes_mean: f64,
}

impl Artifacts {
    pub fn of(apps: &[App]) -> Artifacts {
        let mean = |of: fn(&App) -> u64| apps.iter().map(of).sum::<u64>() as f64 / apps.len().max(1) as f64;
        Artifacts {
            native_bytes_mean: mean(App::native_bytes),
            native_bytes_max: apps.iter().map(App::native_bytes).max().unwrap_or(0),
            container_bytes_mean: mean(App::container_bytes),
        }
    }
}

/// What a node holds at a moment: by the machine's account, and by its own.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Holding {
    pub memory: Memory,
    pub programs: Option<f64>,
    pub code_bytes: f64,
    pub code_bytes_max: Option<f64>,
    pub metrics_bytes: usize,
}

impl Holding {
    pub fn of(node: &Node) -> anyhow::Result<Holding> {
        let metrics = node.metrics()?;
        let (memory, _) = node.memory()?;
        Ok(Holding {
            memory,
            programs: metrics.get("skerry_code_programs"),
            code_bytes: metrics.get("skerry_code_bytes").unwrap_or(0.0),
            code_bytes_max: metrics.get("skerry_code_bytes_max"),
            metrics_bytes: metrics.bytes(),
        })
    }
}

/// First answers.
#[derive(Debug, Clone, Serialize)]
pub struct Loading {
    pub apps: usize,
    pub first: Times,
    /// Of apps whose code is loaded.
    pub loaded: Times,
    pub loads: Option<f64>,
    pub evictions: Option<f64>,
    /// Mean time of a load, as the node measured it.
    pub load_us: Option<f64>,
}

impl Loading {
    pub fn new(first: &[f64], loaded: &[f64], node: &Node) -> anyhow::Result<Loading> {
        let nothing = || anyhow::anyhow!("nothing was answered");
        let metrics = node.metrics()?;
        let loads = metrics.get("skerry_code_load_seconds_count");
        let seconds = metrics.get("skerry_code_load_seconds_sum");
        Ok(Loading {
            apps: first.len(),
            first: Times::of(first).ok_or_else(nothing)?,
            loaded: Times::of(loaded).ok_or_else(nothing)?,
            loads,
            evictions: metrics.get("skerry_code_evictions_total"),
            load_us: seconds.zip(loads).map(|(seconds, loads)| seconds / loads.max(1.0) * 1e6),
        })
    }
}

/// Steady answers of one app.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Stall {
    pub answers: usize,
    pub times: Times,
    pub over_1_ms: usize,
    /// Of the node's serving threads, meanwhile.
    pub threads: threads::Times,
}

impl Stall {
    pub fn cpu_us(&self) -> f64 {
        self.threads.cpu_ns as f64 / 1e3 / self.answers.max(1) as f64
    }
}

/// Releases on all other apps while one is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Swap {
    pub releases: usize,
    pub seconds: f64,
    pub quiet: Stall,
    pub busy: Stall,
    pub swaps: Option<f64>,
    /// Mean time to make and publish a generation, on the thread that does it.
    pub swap_us: Option<f64>,
    pub swap_longest: Option<Longest>,
    /// That took more than 1 ms.
    pub swaps_over_1_ms: Option<f64>,
    /// What the longest answer grew by, in ms. Never below 0.
    pub stall_ms: f64,
}

/// The longest swap of some. A node tells the longest of its life, which is theirs if it grew meanwhile; if not, they were in
/// buckets of a histogram that did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Longest {
    Us(f64),
    /// The bound of the highest bucket, or of what is not in any the longest of the node's life.
    AtMostUs(f64),
}

impl Longest {
    /// From one look to another. `None` if there was no swap, or the node does not tell.
    fn between(before: &Metrics, after: &Metrics) -> Option<Longest> {
        let (was, is) = (before.get(SWAP_LONGEST).unwrap_or(0.0), after.get(SWAP_LONGEST)?);
        if is > was {
            return Some(Longest::Us(is * 1e6));
        }
        let bound = grown_by_bucket(before, after).into_iter().find_map(|(bound, within, all)| {
            // The first bound that none of them is above.
            (all > 0.0 && within == all).then_some(bound)
        })?;
        Some(Longest::AtMostUs(bound.min(is) * 1e6))
    }

    /// For a person.
    pub fn text(self) -> String {
        match self {
            Longest::Us(us) => format!("the longest {us:.0}"),
            Longest::AtMostUs(us) => format!("none above {us:.0}"),
        }
    }
}

/// How many swaps there were between two looks: each bound, those not above it, and all.
fn grown_by_bucket(before: &Metrics, after: &Metrics) -> Vec<(f64, f64, f64)> {
    let (was, is) = (before.buckets(SWAPS), after.buckets(SWAPS));
    let grown = |at: usize| {
        let (bound, count) = is[at];
        // A node that has not swapped yet may have no buckets.
        let before = was.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        (bound, count - before)
    };
    let all = is.len().checked_sub(1).map_or(0.0, |last| grown(last).1);
    (0..is.len()).map(grown).map(|(bound, within)| (bound, within, all)).collect()
}

impl Swap {
    /// Was the node without a core, even in peace?
    pub fn is_void(&self) -> bool {
        self.quiet.times.max_us > QUIET_MS_MAX * 1e3
    }

    pub fn new(
        quiet: Stall,
        busy: Stall,
        releases: usize,
        seconds: f64,
        before: &Metrics,
        after: &Metrics,
    ) -> anyhow::Result<Swap> {
        let grown = |series| Some(after.get(series)? - before.get(series).unwrap_or(0.0));
        let over_1_ms = grown_by_bucket(before, after).into_iter().find(|(bound, ..)| *bound == 0.001);
        let swaps = grown("skerry_generation_swap_seconds_count");
        let all = grown("skerry_generation_swap_seconds_sum");
        Ok(Swap {
            releases,
            seconds,
            quiet,
            busy,
            swaps,
            swap_us: all.zip(swaps).map(|(seconds, swaps)| seconds / swaps.max(1.0) * 1e6),
            swap_longest: Longest::between(before, after),
            swaps_over_1_ms: over_1_ms.map(|(_, within, all)| all - within),
            stall_ms: ((busy.times.max_us - quiet.times.max_us) / 1e3).max(0.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node tells after swaps of these times in µs.
    fn after(swaps: &[f64]) -> Metrics {
        let within = |bound: f64| swaps.iter().filter(|us| **us <= bound * 1e6).count();
        let longest = swaps.iter().fold(0.0, |most, us| f64::max(most, *us));
        let mut text = format!("{SWAP_LONGEST} {}\n", longest / 1e6);
        for bound in [0.0001, 0.001, 0.05] {
            text += &format!("{SWAPS}_bucket{{le=\"{bound}\"}} {}\n", within(bound));
        }
        Metrics::said(&(text + &format!("{SWAPS}_bucket{{le=\"+Inf\"}} {}\n", swaps.len())))
    }

    #[test]
    fn the_longest_swap_is_of_those_that_were_measured_and_not_of_the_nodes_start() {
        let longest =
            |before: &[f64], more: &[f64]| Longest::between(&after(before), &after(&[before, more].concat()));
        // The start swapped for 8 ms.
        assert_eq!(longest(&[8_000.0], &[90.0, 300.0]), Some(Longest::AtMostUs(1_000.0)));
        assert_eq!(longest(&[8_000.0], &[90.0, 9_000.0]), Some(Longest::Us(9_000.0)));
        assert_eq!(longest(&[8_000.0], &[90.0, 2_000.0]), Some(Longest::AtMostUs(8_000.0)));
        assert_eq!(longest(&[90_000.0], &[60_000.0]), Some(Longest::AtMostUs(90_000.0)));
        assert_eq!(longest(&[8_000.0], &[]), None);
        assert_eq!(Longest::between(&Metrics::said(""), &Metrics::said("")), None);
    }

    #[test]
    fn ranks_are_of_values_that_were_measured() {
        let us: Vec<f64> = (1..=1000).map(f64::from).collect();
        let times = Times::of(&us).unwrap();
        assert_eq!(times, Times { p50_us: 500.0, p99_us: 990.0, p999_us: 999.0, max_us: 1000.0 });
        assert_eq!(Times::of(&[]), None);
    }
}
