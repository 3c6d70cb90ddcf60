//! `loadtest counts`: what one request costs in counts that do not depend on a quiet machine, beside those that the
//! repository keeps. CI fails where one is more than a tenth above them.
//!
//! Allocations are counted in this process, whichever way it was built. Instructions, system calls and page faults are
//! counted on the node that is shipped, from outside, since those of a build without optimisation say nothing. Why so:
//! `docs/design/0013-counts.md`. Deliberately absent: time.
//!
//! | Module | One job |
//! |---|---|
//! | [`in_process`] | allocations, of an execution and of a request over a socket |
//! | [`shipped`] | what the serving thread of a shipped node does for one request |
//! | [`trace`] | a thread run by instructions or by system calls |
//! | [`asker`] | the client |
//! | [`deadline`] | an end for a node that does nothing any more |
//! | [`baseline`] | counts of one kind of machine, and comparing with them |
//! | [`kept`] | the file of them |
//! | [`report`] | what is printed |

mod asker;
mod baseline;
mod deadline;
mod in_process;
mod kept;
mod report;
mod shipped;
mod trace;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use self::{
    asker::Wire,
    baseline::{Baseline, Count, Counts, Requests, Taken},
    kept::Kept,
    report::Report,
    shipped::{Shipped, Spent},
};
use crate::{
    Verdict,
    machine::Machine,
    micro::{self, guest::best_target},
};

/// Every hello, and what it is asked over.
const REQUESTS: [(&str, Wire); 5] = [
    ("fastly-hello", Wire::H1),
    ("as-hello", Wire::H1),
    ("wasi-hello", Wire::H1),
    ("wstd-hello", Wire::H1),
    ("fastly-hello", Wire::H2Tls),
];
/// Made with a tool that not every machine has.
const OPTIONAL: &str = "as-hello";
/// Set where everything is installed: what is left out is then a failure.
const MUST_NOT_SKIP: &str = "SKERRY_TESTS_MUST_NOT_SKIP";

#[derive(clap::Args)]
pub struct Args {
    /// Where the guests are (`fixtures/build` puts them there)
    #[arg(long, value_name = "DIR", default_value = "target/guests")]
    guests_dir: PathBuf,
    /// Folder with skerry, control-plane and aot-compiler, however they were built; default: that of this executable
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// The node whose instructions, system calls and page faults are counted
    #[arg(long, value_name = "FILE", default_value = "target/release/edge-node")]
    node: PathBuf,
    /// The counts to compare with
    #[arg(long, value_name = "FILE", default_value = "loadtest/counts.toml")]
    baseline: PathBuf,
    /// Make these counts the baseline of this kind of machine; those of others stay
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a count is more than a tenth above the baseline
    #[arg(long)]
    check: bool,
}

/// Counts, compares and prints.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    micro::without_backtraces()?;
    let (requests, left_out) = requests(&args.guests_dir);
    let now = Baseline { taken: taken()?, requests: count(args, &requests)? };
    if args.write {
        anyhow::ensure!(left_out.is_empty(), "a baseline has every guest: {}", left_out.join("; "));
        let mut kept = Kept::read_if_there(&args.baseline)?;
        kept.keep(now.clone());
        kept.write(&args.baseline)?;
    }
    let kept = Kept::read(&args.baseline).context("loadtest counts --write makes one")?;
    let must_not_skip = std::env::var_os(MUST_NOT_SKIP).is_some_and(|value| value == "1");
    let report = Report::new(Machine::here(), &kept, now, left_out, must_not_skip)?;
    crate::print(&report, args.json, Report::text)?;
    Ok(if args.check { report.verdict } else { Verdict::NoGoal })
}

/// What can be asked on this machine, and what cannot and why.
fn requests(guests: &Path) -> (Vec<(&'static str, Wire)>, Vec<String>) {
    let is_there = |name: &str| name != OPTIONAL || guests.join(format!("{name}.wasm")).exists();
    let (there, absent): (Vec<_>, Vec<_>) = REQUESTS.into_iter().partition(|(name, _)| is_there(name));
    let left_out = absent.iter().map(|(name, _)| format!("{name} was not built (it needs Node.js and npm)"));
    (there, left_out.collect())
}

fn taken() -> anyhow::Result<Taken> {
    let reset = match edge_node::machine::reset() {
        engine::node::Reset::PagemapScan => "PAGEMAP_SCAN",
        engine::node::Reset::Copy => "copying",
    };
    Ok(Taken { target: best_target()?.to_string(), reset: reset.to_owned() })
}

fn count(args: &Args, requests: &[(&str, Wire)]) -> anyhow::Result<Requests> {
    let mut guests: Vec<String> = requests.iter().map(|(name, _)| (*name).to_owned()).collect();
    guests.sort();
    guests.dedup();
    let mut counted = Requests::new();
    eprintln!("counting allocations");
    for (guest, counts) in in_process::executions(&args.guests_dir, &guests)? {
        counted.insert(format!("{guest} in process"), counts);
    }
    let node = in_process::Node::start(&args.guests_dir, &guests)?;
    for (guest, wire) in requests {
        let counts =
            node.count(guest, *wire).with_context(|| format!("counting allocations of {guest} {wire}"))?;
        counted.insert(format!("{guest} {wire}"), counts);
    }
    node.stop().context("stopping the node in this process")?;
    let shipped = Shipped::start(&binaries(args)?, &args.node)?;
    for guest in &guests {
        shipped.deploy(&args.guests_dir.join(format!("{guest}.wasm")), guest)?;
    }
    for (guest, wire) in requests {
        eprintln!("{guest} {wire}: counting instructions");
        let spent = shipped.count(guest, *wire).with_context(|| format!("asking for {guest} {wire}"))?;
        counted.entry(format!("{guest} {wire}")).or_default().extend(of(spent));
    }
    Ok(counted)
}

fn of(spent: Spent) -> Counts {
    let Spent { instructions, system_calls, page_faults } = spent;
    [
        (Count::Instructions, instructions),
        (Count::SystemCalls, system_calls),
        (Count::PageFaults, page_faults),
    ]
    .into()
}

fn binaries(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &args.binaries {
        return Ok(folder.clone());
    }
    let own = std::env::current_exe().context("finding this executable")?;
    Ok(own.parent().context("this executable lies in no folder")?.to_owned())
}
