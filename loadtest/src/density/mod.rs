//! `loadtest density`: ten thousand apps on one node, most of them idle.
//!
//! The node is the shipped binary in a memory cgroup of its own. It follows an origin in this process ([`fleet`]) whose
//! log releases every app: so what a node keeps, fetches, verifies, maps, routes by and swaps is all real. Apps are
//! distinct signed programs ([`apps`]).
//!
//! | Module | One job |
//! |---|---|
//! | [`apps`] | many programs that differ |
//! | [`fleet`] | the origin, and releases |
//! | [`node`], [`memory`] | the node's process, and what is known of it from outside |
//! | [`ask`] | who asks |
//! | [`routes`] | what finding a route costs, in process |
//! | [`stages`] | where the time of a load goes, in process |
//! | [`figures`] | what is told of them |
//! | [`report`], [`text`] | goals, and what is printed |

mod apps;
mod ask;
mod figures;
mod fleet;
mod memory;
mod node;
mod report;
mod routes;
mod stages;
mod text;

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
    apps::Bases,
    figures::{Artifacts, Holding, Loading, Stall, Swap, Times},
    fleet::{App, Fleet},
    node::{Node, Settings},
    report::{Found, Report},
};
use crate::{
    Verdict,
    machine::Machine,
    options::{Binaries, Guests, Output},
    stop,
    under_load::threads::{self, SERVING},
};

/// Routes that a lookup is measured among.
const ROUTES: [u32; 4] = [10, 1_000, 10_000, 100_000];
/// Asked of one app while releases are applied, and before.
const STEADY_PER_SECOND: f64 = 1_000.0;
const STEADY_CONNECTIONS: u32 = 2;
/// Time for a node to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);
/// The app that is asked steadily is not released again meanwhile: it is its neighbours' releases that it may notice.
const STEADY_APPS: usize = 1;
/// Apps that are asked again, once their code is loaded.
const AGAIN_MAX: usize = 500;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Apps on the node
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    apps: u32,
    /// The node's budget for native code, in MiB
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    code_mib: u64,
    /// Serving threads of the node; the machine's cores when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: Option<u32>,
    /// Seconds of steady requests in peace, to compare those during swaps with
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    quiet_s: u64,
    #[command(flatten)]
    guests: Guests,
    #[command(flatten)]
    binaries: Binaries,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints. Told to stop, it prints what there was, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let stop = stop::when_told()?;
    let machine = Machine::here();
    let mut found = Found::default();
    let stopped = stop::cut(measure(args, &ROUTES, &stop, &mut found), &stop)?;
    let report = Report::new(machine, args.apps, args.threads, found, stopped);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict))
}

fn measure(args: &Args, routes: &[u32], stop: &AtomicBool, found: &mut Found) -> anyhow::Result<()> {
    said("looking up routes, in process");
    for routes in routes {
        stop::check(stop)?;
        found.routes.push(routes::measure(*routes)?);
    }
    said("loading programs, in process");
    let bases = Arc::new(Bases::compile(&args.guests.folder)?);
    // A thread of its own: it is pinned to one core, which the node would inherit.
    let stages = thread::scope(|scope| scope.spawn(|| stages::measure(&bases, stop)).join());
    found.stages = Some(stages.map_err(|_| anyhow::anyhow!("measuring loads panicked"))??);
    let folder = tempfile::tempdir().context("making a folder for the fleet")?;
    let fleet = Fleet::start(&folder.path().join("origin"))?;
    let settings = Settings {
        binary: args.binaries.folder()?.join("edge-node"),
        folder: folder.path().to_owned(),
        control: fleet.address,
        join_token: fleet.join_token()?,
        code_bytes_max: args.code_mib << 20,
        threads: args.threads,
    };
    settings.write_token()?;
    said(&format!("signing {} programs", args.apps));
    let mut apps = fleet.stock(&bases, args.apps, stop)?;
    found.artifacts = Some(Artifacts::of(&apps));

    let empty = settings.start(stop)?;
    stop::sleep(REST, stop)?;
    found.empty = Some(empty.memory()?);
    found.deploy_s = Some(deploy(&fleet, &empty, &mut apps, stop)?.as_secs_f64());
    drop(empty);

    said("starting the node anew, with nothing loaded");
    let node = settings.start(stop)?;
    found.start_s = Some(node.start.as_secs_f64());
    let measured = on_a_running_node(args, &fleet, &node, &mut apps, stop, found);
    measured.with_context(|| format!("the node said: {}", node.said()))
}

fn deploy(fleet: &Fleet, node: &Node, apps: &mut [App], stop: &AtomicBool) -> anyhow::Result<Duration> {
    said("releasing them, until the node has fetched and loaded each once");
    let start = Instant::now();
    let rev = fleet.release(apps, 1, 0)?;
    fleet.converged(rev, stop).with_context(|| format!("the node said: {}", node.said()))?;
    Ok(start.elapsed())
}

fn on_a_running_node(
    args: &Args,
    fleet: &Fleet,
    node: &Node,
    apps: &mut [App],
    stop: &AtomicBool,
    found: &mut Found,
) -> anyhow::Result<()> {
    stop::sleep(REST, stop)?;
    found.idle = Some(Holding::of(node)?);
    said("asking each app for the first time");
    let order = shuffled(apps.len());
    let first = ask::each_once(node.http, order.iter().map(|at| asked(&apps[*at])), stop)?;
    // Half of what is loaded: so the oldest of them have not left for others' sake.
    let loaded = node.metrics()?.get("skerry_code_programs").map_or(0, |programs| programs as usize / 2);
    let last: Vec<usize> = order.iter().rev().take(AGAIN_MAX.min(loaded)).copied().collect();
    let again = ask::each_once(node.http, last.iter().map(|at| asked(&apps[*at])), stop)?;
    found.loading = Some(Loading::new(&first, &again, node)?);
    stop::sleep(REST, stop)?;
    found.full = Some(Holding::of(node)?);
    found.swap = Some(swaps(args, fleet, node, apps, stop)?);
    Ok(())
}

fn asked(app: &App) -> (&str, &str) {
    (&app.host, &app.mark)
}

/// Releases another program for every app but one, while that one is asked.
fn swaps(
    args: &Args,
    fleet: &Fleet,
    node: &Node,
    apps: &mut [App],
    stop: &AtomicBool,
) -> anyhow::Result<Swap> {
    said("asking one app steadily, in peace");
    let (steady, others) = apps.split_at_mut(STEADY_APPS);
    let host = steady[0].host.clone();
    let quiet = during(node, &host, || stop::sleep(Duration::from_secs(args.quiet_s), stop))?;
    said("asking it while every other app is released anew");
    let before = node.metrics()?;
    let started = Instant::now();
    let busy = during(node, &host, || fleet.converged(fleet.release(others, 2, 1)?, stop))?;
    let seconds = started.elapsed().as_secs_f64();
    let after = node.metrics()?;
    let checked = ask::each_once(node.http, others.iter().take(AGAIN_MAX).map(asked), stop);
    checked.context("after the releases")?;
    Swap::new(quiet, busy, others.len(), seconds, &before, &after)
}

/// Asks steadily while `work` goes on.
fn during(node: &Node, host: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Stall> {
    let done = AtomicBool::new(false);
    let before = threads::Times::of(node.pid(), SERVING)?;
    let us = thread::scope(|scope| {
        let asking =
            scope.spawn(|| ask::steadily(node.http, host, STEADY_PER_SECOND, STEADY_CONNECTIONS, &done));
        let worked = work();
        done.store(true, Relaxed);
        let us = asking.join().map_err(|_| anyhow::anyhow!("the asking thread panicked"))?;
        worked.and(us)
    })?;
    let threads = threads::Times::of(node.pid(), SERVING)?.since(before);
    let times = Times::of(&us).context("nothing was answered")?;
    let over_1_ms = us.iter().filter(|us| **us > 1_000.0).count();
    Ok(Stall { answers: us.len(), times, over_1_ms, threads })
}

/// Every place below `count` once, in an order of no pattern, the same each time.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for at in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

fn said(what: &str) {
    eprintln!("density: {what}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The short form: what is counted, not how long it took.
    #[test]
    fn apps_answer_with_their_own_code_when_it_was_not_loaded_and_the_budget_is_kept() {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let (guests_dir, binaries) = (target.join("guests"), target.join("debug"));
        let missing = [guests_dir.join("wasi-hello.wasm"), binaries.join("edge-node")];
        if let Some(missing) = missing.iter().find(|file| !file.is_file()) {
            let missing = format!("{} is missing; ./dev test makes it", missing.display());
            assert!(
                !std::env::var("SKERRY_TESTS_MUST_NOT_SKIP").is_ok_and(|value| value == "1"),
                "{missing}"
            );
            eprintln!("SKIPPED: {missing}");
            return;
        }
        let args = Args {
            apps: 60,
            code_mib: 16,
            threads: Some(1),
            quiet_s: 1,
            guests: Guests { folder: guests_dir },
            binaries: Binaries { binaries: Some(binaries) },
            output: Output::default(),
        };
        let mut found = Found::default();
        measure(&args, &[10, 1_000], &AtomicBool::new(false), &mut found).unwrap();
        let report = Report::new(Machine::here(), args.apps, args.threads, found, false);
        let loading = report.loading.as_ref().unwrap();
        assert_eq!((report.apps, loading.apps), (60, 60));
        assert!(loading.loads >= Some(60.0) && loading.evictions > Some(20.0), "{loading:?}");
        let held = report.full.unwrap();
        assert!(held.programs > Some(5.0) && held.programs < Some(40.0), "{held:?}");
        assert_eq!(report.verdicts.budget, Verdict::Met, "{held:?}");
        assert_eq!(report.idle.unwrap().programs, Some(0.0), "a node loads nothing before it is asked");
        let swap = report.swap.as_ref().unwrap();
        assert!(swap.swap_longest.is_some() && swap.swaps_over_1_ms.is_some(), "{swap:?}");
        assert!(swap.releases == 59 && swap.swaps >= Some(1.0) && swap.busy.answers > 0, "{swap:?}");
        assert!(serde_json::to_string(&report).is_ok() && report.text().contains("goal"));
    }
}
