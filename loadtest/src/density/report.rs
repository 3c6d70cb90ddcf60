//! What `loadtest density` prints.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    fleet::App,
    memory::{Memory, Source},
    node::Node,
    routes::Lookup,
    stages::Loads,
};
use crate::{
    Verdict,
    machine::Machine,
    statistics::Summary,
    under_load::{metrics::Metrics, threads},
};

/// Memory of an app, code included, once the budget for code is spent.
const APP_KB_MAX: f64 = 60.0;
/// p99 of the first answer of an app that is not loaded.
const FIRST_P99_MS_MAX: f64 = 2.0;
/// A lookup among 100,000 routes over one among 10. Not 1: what is not in a cache of the processor must be fetched.
const LOOKUP_GROWTH_NS_MAX: f64 = 300.0;
/// What a swap may add to the longest answer.
const STALL_MS_MAX: f64 = 1.0;
/// With a longer answer in peace the machine had no core for the node, and what swaps add to it says nothing.
const QUIET_MS_MAX: f64 = 20.0;

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

    fn text(&self) -> String {
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
    fn cpu_us(&self) -> f64 {
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
    /// Mean and longest time to make and publish a generation, on the thread that does it.
    pub swap_us: Option<f64>,
    pub swap_us_max: Option<f64>,
    /// What the longest answer grew by, in ms. Never below 0.
    pub stall_ms: f64,
}

impl Swap {
    /// Was the node without a core, even in peace?
    fn is_void(&self) -> bool {
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
        let swaps = grown("skerry_generation_swap_seconds_count");
        let all = grown("skerry_generation_swap_seconds_sum");
        Ok(Swap {
            releases,
            seconds,
            quiet,
            busy,
            swaps,
            swap_us: all.zip(swaps).map(|(seconds, swaps)| seconds / swaps.max(1.0) * 1e6),
            swap_us_max: after.get("skerry_generation_swap_longest_seconds").map(|seconds| seconds * 1e6),
            stall_ms: ((busy.times.max_us - quiet.times.max_us) / 1e3).max(0.0),
        })
    }
}

/// What was measured.
pub struct Parts {
    pub machine: Machine,
    pub apps: usize,
    pub artifacts: Artifacts,
    pub threads: Option<u32>,
    pub empty: (Memory, Source),
    pub deploy_s: f64,
    pub start_s: f64,
    pub idle: Holding,
    pub loading: Loading,
    pub full: Holding,
    pub routes: Vec<Lookup>,
    pub stages: Loads,
    pub swap: Swap,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub apps: usize,
    pub artifacts: Artifacts,
    pub threads: Option<u32>,
    pub memory_source: Source,
    pub empty: Memory,
    pub deploy_s: f64,
    pub start_s: f64,
    pub idle: Holding,
    /// Memory over that of a node without apps, for each app: before any code was loaded, and when each was asked.
    pub idle_app_kb: f64,
    pub full: Holding,
    pub full_app_kb: f64,
    /// The same without what the node says its code takes.
    pub full_app_kb_beside_code: f64,
    pub loading: Loading,
    pub routes: Vec<Lookup>,
    pub stages: Loads,
    pub swap: Swap,
    pub verdicts: Verdicts,
    pub verdict: Verdict,
}

/// Goal by goal.
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

fn verdict(met: bool) -> Verdict {
    if met { Verdict::Met } else { Verdict::NotMet }
}

impl Report {
    pub fn new(parts: Parts) -> Report {
        let (empty, memory_source) = parts.empty;
        let apps = parts.apps.max(1) as f64;
        let over_empty =
            |holding: &Holding| holding.memory.bytes().saturating_sub(empty.bytes()) as f64 / 1024.0;
        let idle_app_kb = over_empty(&parts.idle) / apps;
        let full_app_kb = over_empty(&parts.full) / apps;
        let full_app_kb_beside_code =
            (over_empty(&parts.full) - parts.full.code_bytes / 1024.0).max(0.0) / apps;
        let within = |holding: &Holding| holding.code_bytes_max.is_none_or(|max| holding.code_bytes <= max);
        let verdicts = Verdicts {
            memory: verdict(full_app_kb <= APP_KB_MAX),
            budget: verdict(within(&parts.full) && within(&parts.idle)),
            first_answer: verdict(parts.loading.first.p99_us <= FIRST_P99_MS_MAX * 1e3),
            lookup: verdict(growth_ns(&parts.routes) <= LOOKUP_GROWTH_NS_MAX),
            stall: verdict(parts.swap.stall_ms <= STALL_MS_MAX && !parts.swap.is_void()),
        };
        let verdict = verdict(verdicts.all().into_iter().all(|one| one == Verdict::Met));
        let Parts { machine, apps, artifacts, threads, deploy_s, start_s, .. } = parts;
        let Parts { idle, loading, full, routes, stages, swap, .. } = parts;
        Report {
            machine,
            apps,
            artifacts,
            threads,
            memory_source,
            empty,
            deploy_s,
            start_s,
            idle,
            idle_app_kb,
            full,
            full_app_kb,
            full_app_kb_beside_code,
            loading,
            routes,
            stages,
            swap,
            verdicts,
            verdict,
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.machine.text());
        self.apps_text(&mut text);
        self.memory_text(&mut text);
        self.loading_text(&mut text);
        self.routes_text(&mut text);
        self.swap_text(&mut text);
        text
    }

    fn apps_text(&self, text: &mut String) {
        let Artifacts { native_bytes_mean, native_bytes_max, container_bytes_mean } = self.artifacts;
        let _ = writeln!(
            text,
            "{} apps, each with a program and an artifact of its own: {:.0} KB of native code (at most {:.0}), {:.0} compressed\n\
             released, fetched and loaded once in {:.1} s; a node that knows them starts in {:.2} s",
            self.apps,
            native_bytes_mean / 1024.0,
            native_bytes_max as f64 / 1024.0,
            container_bytes_mean / 1024.0,
            self.deploy_s,
            self.start_s,
        );
    }

    fn memory_text(&self, text: &mut String) {
        let source = match self.memory_source {
            Source::Cgroup => {
                "what the node's own memory cgroup is charged for, page cache of files left out"
            }
            Source::Proc => {
                "RSS and memory files by /proc: no cgroup could be made here, the kernel's own memory is not in it"
            }
        };
        let _ = writeln!(text, "\nmemory: {source}; MB");
        let row = |text: &mut String, name: &str, memory: &Memory, rest: &str| {
            let mb = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            let _ = writeln!(
                text,
                "{name:<22} {:>8.1}  = {:>7.1} own + {:>7.1} shmem + {:>6.1} kernel{rest}",
                mb(memory.bytes()),
                mb(memory.anonymous),
                mb(memory.shmem),
                mb(memory.kernel),
            );
        };
        row(text, "no apps", &self.empty, "");
        for (name, holding) in [("all idle, none loaded", &self.idle), ("each asked once", &self.full)] {
            let of =
                holding.code_bytes_max.map_or_else(String::new, |max| format!(" of {:.1}", max / 1048576.0));
            let rest = format!(
                ";  code {:.1}{of} in {:.0} programs; /metrics has {:.1}",
                holding.code_bytes / 1048576.0,
                holding.programs.unwrap_or(f64::NAN),
                holding.metrics_bytes as f64 / 1048576.0
            );
            row(text, name, &holding.memory, &rest);
        }
        let Verdicts { memory, budget, .. } = self.verdicts;
        let _ = writeln!(
            text,
            "each app over no apps: {:.1} KB with nothing loaded; with the budget spent {:.1} KB, code included ({:.1} beside it)\n\
             goals: <= {APP_KB_MAX} KB: {}; the budget kept: {}",
            self.idle_app_kb,
            self.full_app_kb,
            self.full_app_kb_beside_code,
            memory.text(),
            budget.text(),
        );
    }

    fn loading_text(&self, text: &mut String) {
        let Loading { apps, first, loaded, loads, evictions, load_us } = &self.loading;
        let _ = writeln!(
            text,
            "\nfirst answers of {apps} apps that were not loaded, one after the other over a real socket\n\
             first    {}\nloaded   {}\n\
             the node counts {:.0} loads of {:.0} µs in the mean, {:.0} evictions",
            first.text(),
            loaded.text(),
            loads.unwrap_or(f64::NAN),
            load_us.unwrap_or(f64::NAN),
            evictions.unwrap_or(f64::NAN),
        );
        text.push_str("CPU of a load in µs, by the loading thread's own clock\n");
        for load in &self.stages.hellos {
            let _ = writeln!(
                text,
                "{:<13} {:>5.0} KB: read {:>3.0}, statement {:>3.0}, copy {:>4.0}, digest {:>4.0}, map {:>3.0}, link {:>3.0} = {:>5.0}; unload {:.0}; decompressing would take {:.0}; heap {:.0} KB",
                load.name,
                load.native_bytes / 1024.0,
                load.read_us,
                load.statement_us,
                load.unpack_us,
                load.digest_us,
                load.map_us,
                load.link_us,
                load.all_us,
                load.unload_us,
                load.decompress_us,
                load.heap_bytes / 1024.0
            );
        }
        let Loads { descriptors, mappings, .. } = self.stages;
        let _ =
            writeln!(text, "a loaded program has {descriptors:.1} descriptors and {mappings:.1} mappings");
        let _ = writeln!(text, "goal: p99 <= {FIRST_P99_MS_MAX} ms: {}", self.verdicts.first_answer.text());
    }

    fn routes_text(&self, text: &mut String) {
        text.push_str(
            "\nfinding a route, ns of CPU [range]; a name that is not there; a route put into a copy\n",
        );
        for Lookup { routes, ns: Summary { median, min, max }, miss_ns, allocations, insert_us } in
            &self.routes
        {
            let _ = writeln!(
                text,
                "{routes:>8} routes {median:>6.0} [{min:.0}..{max:.0}]  {miss_ns:>6.0}  {insert_us:>6.1} µs  {allocations:.2} allocations"
            );
        }
        let _ = writeln!(
            text,
            "goal: flat, at most {LOOKUP_GROWTH_NS_MAX} ns more of the most than of the fewest: {}",
            self.verdicts.lookup.text()
        );
    }

    fn swap_text(&self, text: &mut String) {
        let Swap { releases, seconds, quiet, busy, swaps, swap_us, swap_us_max, stall_ms } = &self.swap;
        let _ = writeln!(
            text,
            "\none app asked {:.0} times a second while {releases} others get another program, in {seconds:.1} s",
            super::STEADY_PER_SECOND
        );
        for (name, stall) in [("quiet", quiet), ("swaps", busy)] {
            let _ = writeln!(
                text,
                "{name:<8} {}  {} of {} over 1 ms; serving threads {:.1} µs of CPU and {:.1} µs without a core an answer",
                stall.times.text(),
                stall.over_1_ms,
                stall.answers,
                stall.cpu_us(),
                stall.threads.waited_ns as f64 / 1e3 / stall.answers.max(1) as f64
            );
        }
        let _ = writeln!(
            text,
            "{:.0} generations made and published, {:.0} µs each in the mean, at most {:.0}, on no serving thread\n\
             goal: the longest answer grows by <= {STALL_MS_MAX} ms: {stall_ms:.1}: {}{}",
            swaps.unwrap_or(f64::NAN),
            swap_us.unwrap_or(f64::NAN),
            swap_us_max.unwrap_or(f64::NAN),
            self.verdicts.stall.text(),
            if self.swap.is_void() { " (void: the machine was not quiet)" } else { "" }
        );
    }
}

fn growth_ns(routes: &[Lookup]) -> f64 {
    let of = |lookup: Option<&Lookup>| lookup.map_or(0.0, |lookup| lookup.ns.median);
    of(routes.iter().max_by_key(|lookup| lookup.routes))
        - of(routes.iter().min_by_key(|lookup| lookup.routes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_of_values_that_were_measured() {
        let us: Vec<f64> = (1..=1000).map(f64::from).collect();
        let times = Times::of(&us).unwrap();
        assert_eq!(times, Times { p50_us: 500.0, p99_us: 990.0, p999_us: 999.0, max_us: 1000.0 });
        assert_eq!(Times::of(&[]), None);
    }
}
