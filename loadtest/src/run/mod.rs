//! `loadtest run`: the load of one scenario on one server.
//!
//! | Module | One job |
//! |---|---|
//! | [`place`] | from a URL to whom to ask |

mod place;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

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
}

/// Runs and prints.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let mut scenario = Scenario::named(&args.scenario)?;
    let roots = place::roots(args.ca.as_deref(), args.insecure)?;
    let target = place::target(&args.target, args.connect, roots, &mut scenario)?;
    let machine = Machine::here();
    println!("{}\n", machine.text());
    let outcome = with_progress(&scenario, &target)?;
    print!("{}", text(&outcome));
    let errors = outcome.errors_total();
    anyhow::ensure!(errors == 0, "the run is void: {errors} requests had no answer");
    Ok(Verdict::NoGoal)
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

fn text(outcome: &Outcome) -> String {
    let latency = |quantile: f64| outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    format!(
        "{} answers in {:.2?}: {:.0} a second; statuses {:?}, errors {:?}\n\
         latency in µs: p50 {:.1}, p99 {:.1}, p99.9 {:.1}, most {:.1}\n\
         in each second: {:?}\n\
         {} bytes came in; the client spent {:.2?} of CPU and started {} late{}\n",
        outcome.answered,
        outcome.elapsed,
        outcome.rate(),
        outcome.statuses,
        outcome.errors,
        latency(0.5),
        latency(0.99),
        latency(0.999),
        latency(1.0),
        outcome.per_second,
        outcome.bytes_in,
        outcome.client_cpu,
        outcome.late_starts,
        if outcome.stopped_early { "; it was stopped" } else { "" },
    )
}
