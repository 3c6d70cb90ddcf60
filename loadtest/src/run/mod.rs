//! `loadtest run`: the load of one scenario on one server.
//!
//! | Module | One job |
//! |---|---|
//! | [`place`] | from a URL to whom to ask |
//! | [`report`] | figures, and why they may be wrong |
//! | [`page`] | the same for a browser |
//! | [`steal`] | CPU time that others took |

pub mod page;
mod place;
pub mod report;
mod steal;

use std::{net::SocketAddr, path::PathBuf};

use self::{report::Report, steal::Ticks};
use crate::{
    Verdict,
    generate::{Outcome, Scenario, Target, generate},
    machine::Machine,
    overrides::Overrides,
    progress::{self, Bar},
};

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// A scenario that comes with the command, or a file
    scenario: String,
    /// The server: its host is sent as Host, its path replaces the scenario's
    #[arg(long, value_name = "URL")]
    target: String,
    #[command(flatten)]
    overrides: Overrides,
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
    let mut scenario = args.overrides.of(Scenario::named(&args.scenario)?)?;
    let roots = place::roots(args.ca.as_deref(), args.insecure)?;
    let target = place::target(&args.target, args.connect, roots, &mut scenario)?;
    let (machine, before) = (Machine::here(), Ticks::now());
    let outcome = with_progress(&scenario, &target)?;
    let report = Report::new(machine, scenario, &target, outcome, Ticks::share_since(before));
    crate::print(&report, args.json, Report::text)?;
    if let Some(path) = &args.html {
        crate::write(path, &page::html(&report))?;
    }
    match report.void {
        Some(void) => anyhow::bail!("the run is void: {void}"),
        None => Ok(Verdict::NoGoal),
    }
}

/// Ctrl-C ends it with what there is.
fn with_progress(scenario: &Scenario, target: &Target) -> anyhow::Result<Outcome> {
    let stop = crate::stop::when_told()?;
    let bar = Bar::new(progress::whole(scenario))?;
    generate(scenario, target, &|progress| bar.show(progress), &stop)
}
