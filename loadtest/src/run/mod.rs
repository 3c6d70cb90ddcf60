//! `loadtest run`: the load of one scenario on one server.
//!
//! | Module | One job |
//! |---|---|
//! | [`place`] | from a URL to whom to ask |
//! | [`report`] | figures, and why they may be wrong |
//! | [`page`] | the same for a browser |
//! | [`steal`] | CPU time that others took |

mod page;
mod place;
mod report;
mod steal;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use self::{report::Report, steal::Ticks};
use crate::{
    Verdict,
    generate::{Outcome, Progress, Scenario, Target, generate},
    machine::Machine,
};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A scenario that comes with the command, or a file
    scenario: String,
    /// The server: its host is sent as Host, its path replaces the scenario's
    #[arg(long, value_name = "URL")]
    target: String,
    /// Connect to this address, whatever the URL's host resolves to
    #[arg(long, value_name = "ADDRESS")]
    connect: Option<SocketAddr>,
    /// Believe the certificate authorities in this PEM file, and no others
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Believe whatever certificate is shown
    #[arg(long)]
    insecure: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a page with plots, all in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs and prints. A run with errors is printed, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let mut scenario = Scenario::named(&args.scenario)?;
    let roots = place::roots(args.ca.as_deref(), args.insecure)?;
    let target = place::target(&args.target, args.connect, roots, &mut scenario)?;
    let (machine, before) = (Machine::here(), Ticks::now());
    let outcome = with_progress(&scenario, &target)?;
    let report = Report::new(machine, scenario, &target, outcome, Ticks::share_since(before));
    crate::print(&report, args.json, Report::text)?;
    if let Some(path) = &args.html {
        fs::write(path, page::html(&report)).with_context(|| format!("writing {}", path.display()))?;
    }
    match report.void {
        Some(void) => anyhow::bail!("the run is void: {void}"),
        None => Ok(Verdict::NoGoal),
    }
}

/// Ctrl-C ends it with what there is.
fn with_progress(scenario: &Scenario, target: &Target) -> anyhow::Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second one kills: the first was not heard.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .context("listening for Ctrl-C")?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("listening for Ctrl-C")?;
    }
    let total = scenario.warm_up + scenario.duration;
    let bar = ProgressBar::new(total.as_millis() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} {elapsed_precise} {msg}")?);
    let show = |progress: Progress| {
        bar.set_position(progress.elapsed.min(progress.total).as_millis() as u64);
        bar.set_message(format!("{} answers, {} errors", progress.answered, progress.errors));
    };
    let outcome = generate(scenario, target, &show, &stop);
    bar.finish_and_clear();
    outcome
}
