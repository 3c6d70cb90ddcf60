//! `loadtest compare`: a node and its peers under the same load, beside a server with nothing in it.
//!
//! The node is the shipped binary with its default limits, metrics and access log, a fleet of its own around it; only
//! the node's own CPU counts. In each round every server is started anew, warmed up, asked and ended before the next
//! is started; rounds are interleaved, A B C A B C, so that a machine that drifts drifts for all.
//!
//! | Module | One job |
//! |---|---|
//! | [`client`] | the load, and the looks at the counters |
//! | [`usage`] | what `/proc` says |
//! | [`figures`] | what is told of a server |
//! | [`goals`] | what is to be reached |
//! | [`report`] | what is printed |

mod client;
mod figures;
mod goals;
mod report;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use self::{
    figures::Measured,
    report::{Method, Report},
};
use crate::{
    Verdict,
    generate::Scenario,
    machine::Machine,
    servers::{
        Places, Server, Wire,
        lineup::{NAMES, lineup},
    },
};

/// The exit code of a second Ctrl-C, which does not wait for anybody.
const IMPATIENT: i32 = 130;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A scenario by its name or file; it decides the protocol
    #[arg(default_value = "hello-h1")]
    scenario: String,
    /// How often every server is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that count in each round; default: the scenario's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,
    /// Only these servers
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = NAMES)]
    only: Vec<String>,
    /// Folder with the guests
    #[arg(long, value_name = "DIR", default_value = "target/guests")]
    guests_dir: PathBuf,
    /// Folder with skerry and the servers; default: that of this command
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Exit with 1 if a goal is not met
    #[arg(long)]
    check: bool,
}

/// Measures and prints.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let scenario = scenario(args)?;
    let wire = client::wire(&scenario).context("no server here speaks HTTP/2 without TLS")?;
    let stop = stop_when_told()?;
    let places = places(args)?;
    let machine = Machine::here();
    let (servers, left_out) = lineup(wire, &args.only, &places);
    for one in &left_out {
        let cure = one.cure.as_ref().map_or_else(String::new, |cure| format!("; {cure}"));
        eprintln!("left out: {}: {}{cure}", one.name, one.why);
    }
    anyhow::ensure!(!servers.is_empty(), "there is no server to measure");
    let method = Method {
        scenario: scenario.name.clone(),
        wire,
        rounds: args.rounds,
        seconds: scenario.duration.as_secs_f64(),
        warm_up_seconds: scenario.warm_up.as_secs_f64(),
        connections: scenario.connections,
        streams: scenario.streams,
        client_threads: scenario.threads,
    };
    let measured =
        rounds(args.rounds, servers, |server| one(&scenario, server, wire, &places, &stop), &stop)?;
    let report = Report::new(machine, method, measured, left_out);
    crate::print(&report, args.json, Report::text)?;
    Ok(if args.check { report.verdict } else { Verdict::NoGoal })
}

fn scenario(args: &Args) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::named(&args.scenario)?;
    if let Some(seconds) = args.seconds {
        scenario.duration = Duration::from_secs(seconds.into());
    }
    Ok(scenario)
}

/// The first signal ends what is running and then this; a second one ends this at once.
fn stop_when_told() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, and raises it.
        flag::register_conditional_shutdown(signal, IMPATIENT, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("listening for signals")?;
    }
    Ok(stop)
}

fn places(args: &Args) -> anyhow::Result<Places> {
    let own = std::env::current_exe().context("finding this executable")?;
    let own = own.parent().map(Path::to_owned).context("finding the folder of this executable")?;
    let absolute = |path: &Path| {
        std::path::absolute(path).with_context(|| format!("finding the folder {}", path.display()))
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(Places {
        guests: absolute(&args.guests_dir)?,
        binaries: absolute(args.binaries.as_deref().unwrap_or(&own))?,
        path: std::env::split_paths(&path).collect(),
    })
}

/// A B C, A B C, and so on.
fn rounds(
    rounds: u32,
    servers: Vec<Server>,
    measure: impl Fn(&Server) -> Measured,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<(Server, Vec<Measured>)>> {
    let mut measured: Vec<(Server, Vec<Measured>)> =
        servers.into_iter().map(|server| (server, Vec::new())).collect();
    for round in 1..=rounds {
        for (server, so_far) in &mut measured {
            eprintln!("round {round} of {rounds}: {}", server.name);
            let one = measure(server);
            anyhow::ensure!(!stop.load(Relaxed), "told to stop; every server has been ended");
            so_far.push(one);
        }
    }
    Ok(measured)
}

/// Starts one server, asks it, ends it. One that does not start is void as one that does not answer.
fn one(scenario: &Scenario, server: &Server, wire: Wire, places: &Places, stop: &AtomicBool) -> Measured {
    let running = server.start(wire, places, stop).map_err(|error| format!("{error:#}"))?;
    client::measure(scenario, &running, stop)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn servers() -> Vec<Server> {
        ["a", "b"].map(Server::called).into()
    }

    #[test]
    fn rounds_are_interleaved() {
        let order = Mutex::new(String::new());
        let measure = |server: &Server| {
            order.lock().unwrap().push_str(server.name);
            Err("not now".to_owned())
        };
        let measured = rounds(3, servers(), measure, &AtomicBool::new(false)).unwrap();
        assert_eq!(*order.lock().unwrap(), "ababab");
        assert!(measured.iter().all(|(_, rounds)| rounds.len() == 3));
    }

    #[test]
    fn told_to_stop_nothing_more_is_started() {
        let stop = AtomicBool::new(false);
        let measure = |_: &Server| {
            assert!(!stop.swap(true, Relaxed), "another was started");
            Err("it was stopped".to_owned())
        };
        assert!(rounds(3, servers(), measure, &stop).is_err());
    }
}
