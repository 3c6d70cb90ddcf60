//! `loadtest micro`: what one execution costs in process, without sockets, beside plain wasmtime in the same run.
//!
//! The measured path is the node's own: exchange → instantiate → run → respond → read the body → drop, with every
//! limit in force and the epoch ticking. Time is CPU time of one pinned thread. Deliberately absent: HTTP framing,
//! TLS, routing and the access log's line (`--stages` shows the last one).
//!
//! | Module | One job |
//! |---|---|
//! | [`guest`] | a fixture compiled, signed, verified and mapped as on a node |
//! | [`host`] | one cycle on the node's path |
//! | [`reference`] | one cycle on plain wasmtime |
//! | [`measure`] | batches, and what is counted over them |
//! | [`stages`] | where a cycle's time goes |
//! | [`door`] | what the host door costs unwatched |
//! | [`limits`] | what limits cost |
//! | [`pair`] | what a second thread adds |
//! | [`syscalls`] | system calls, counted from outside |
//! | [`report`] | what is printed |

mod door;
pub mod guest;
pub mod host;
mod limits;
pub mod measure;
mod pair;
mod reference;
mod report;
mod stages;
pub mod syscalls;

use std::{os::unix::process::CommandExt as _, process::Command, sync::atomic::AtomicBool};

use anyhow::Context as _;
use artifact::Lane;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use self::{
    guest::{Bench, Guest},
    host::{Host, Shared},
    measure::Plan,
    reference::Reference,
    report::{GuestReport, Report},
};
use crate::{
    Verdict, counters,
    machine::Machine,
    options::{Guests, Output},
    stop,
};

#[derive(clap::Args)]
pub struct Args {
    /// Guest to measure, by the name of its file; may be repeated. Default: those with a goal, and js-echo
    #[arg(long = "guest", value_name = "NAME")]
    guests: Vec<String>,
    #[command(flatten)]
    guests_dir: Guests,
    /// CPU seconds to measure each guest for, on each host, after warming up
    #[arg(long, value_name = "N", default_value_t = 0.375, value_parser = seconds)]
    seconds: f64,
    /// Also split a cycle into its stages
    #[arg(long)]
    stages: bool,
    /// Do not start strace to count system calls
    #[arg(long)]
    no_syscalls: bool,
    #[command(flatten)]
    output: Output,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("between 0.01 and 600".to_owned()),
    }
}

/// Measures and prints. Told to stop, it prints what there was, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    without_backtraces()?;
    let stop = stop::when_told()?;
    let machine = Machine::here();
    let bench = Bench::new()?;
    let mut reports = Vec::new();
    let stopped = stop::cut(measure(args, &bench, &stop, &mut reports), &stop)?;
    let report = Report::new(machine, bench.settings(), reports, stopped);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict()))
}

/// Guest after guest. One that was cut is none.
fn measure(
    args: &Args,
    bench: &Bench,
    stop: &AtomicBool,
    reports: &mut Vec<GuestReport>,
) -> anyhow::Result<()> {
    let runtime = runtime()?;
    for name in names(args) {
        eprintln!("{name}: compiling");
        let guest = Guest::compile(&args.guests_dir.folder, &name)?;
        eprintln!("{name}: measuring");
        let report = one(args, bench, &runtime, &guest, stop).with_context(|| format!("measuring {name}"))?;
        reports.push(report);
    }
    Ok(())
}

/// Everything about one guest.
fn one(
    args: &Args,
    bench: &Bench,
    runtime: &LocalRuntime,
    guest: &Guest,
    stop: &AtomicBool,
) -> anyhow::Result<GuestReport> {
    let shared = Shared::new(bench, guest)?;
    let host = Host::of(shared.clone())?;
    let reference = Reference::new(bench, guest)?;
    let plan = Plan::of(args.seconds, stop);
    let (ours, plain) = runtime.block_on(measure::side_by_side(&plan, &host, &reference))?;
    // Counted apart: it would cost time.
    let cycles = measure::cycles_of(std::time::Duration::from_millis(20), &ours);
    let (counted, allocations) =
        counters::allocations(cycles, || runtime.block_on(measure::cycles(&host, cycles)));
    counted?;
    let stages = match args.stages {
        true => Some(runtime.block_on(stages::split(&plan, &host))?),
        false => None,
    };
    let syscalls = match args.no_syscalls {
        true => syscalls::Counted::NotCounted { reason: "switched off".to_owned() },
        false => syscalls::count(guest, cycles)?,
    };
    stop::check(stop)?;
    let door = runtime.block_on(door::cost(&host))?;
    let other = shared.on_another_engine(&Bench::new()?, guest)?;
    let pair = pair::measure(bench, [&shared, &other])?;
    stop::check(stop)?;
    let pair_together = pair::measure(bench, [&shared, &shared])?;
    stop::check(stop)?;
    let limits = match guest.lane {
        Lane::Fastly => {
            let wasm = Guest::wasm(&args.guests_dir.folder, &guest.name)?;
            Some(runtime.block_on(limits::cost(&plan, bench, &host, guest, &wasm))?)
        }
        Lane::Wasi => None,
    };
    stop::check(stop)?;
    let report = GuestReport::new(guest, &ours, &plain, allocations, syscalls, door, stages);
    Ok(GuestReport { limits, pair: Some(pair), pair_together: Some(pair_together), ..report })
}

fn names(args: &Args) -> Vec<String> {
    if !args.guests.is_empty() {
        return args.guests.clone();
    }
    // Made with tools that not every machine has.
    let optional = ["as-hello", "js-echo"];
    let is_there = |name: &&str| {
        !optional.contains(name) || args.guests_dir.folder.join(format!("{name}.wasm")).exists()
    };
    let with_goal = guest::GOALS.iter().map(|goal| goal.guest);
    with_goal.chain(["js-echo"]).filter(is_there).map(str::to_owned).collect()
}

/// A set `RUST_BACKTRACE` costs 19 µs an execution, because errors of the host capture a trace; a node removes it at
/// start, and so do we: the command starts itself again without it.
pub fn without_backtraces() -> anyhow::Result<()> {
    if BACKTRACE_VARIABLES.iter().all(|name| std::env::var_os(name).is_none()) {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe().context("finding this executable")?);
    again.args(std::env::args_os().skip(1));
    BACKTRACE_VARIABLES.iter().for_each(|name| {
        again.env_remove(name);
    });
    Err(anyhow::Error::new(again.exec()).context("starting this command again without RUST_BACKTRACE"))
}

const BACKTRACE_VARIABLES: [&str; 2] = ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

/// A runtime like a worker's.
pub fn runtime() -> anyhow::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("making a runtime")
}
