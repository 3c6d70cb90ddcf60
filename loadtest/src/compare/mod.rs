//! `loadtest compare`: a node and its peers under the same load, beside a server with nothing in it.
//!
//! The node is the shipped binary with its default limits, metrics and access log, a fleet of its own around it; only
//! the node's own CPU counts. In each round every server is started anew, warmed up, asked and ended before the next
//! is started; rounds are interleaved, A B C A B C, so that a machine that drifts drifts for all.
//!
//! | Module | One job |
//! |---|---|
//! | [`goals`] | what is to be reached |
//! | [`report`] | what is printed |
//! | [`page`] | the same for a browser |

mod goals;
mod page;
mod report;

use std::{path::PathBuf, sync::atomic::AtomicBool};

use anyhow::Context as _;

use self::report::{Method, Report};
use crate::{
    Verdict,
    generate::Scenario,
    machine::Machine,
    options::{Binaries, Guests, Output},
    overrides::Overrides,
    progress::{Bar, whole},
    servers::{
        Places, Server, Wire,
        lineup::{NAMES, lineup},
    },
    stop,
    under_load::{client, figures::Measured},
};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A scenario by its name or file; it decides the protocol
    #[arg(default_value = "hello-h1")]
    scenario: String,
    /// How often every server is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    overrides: Overrides,
    /// Only these servers
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = NAMES)]
    only: Vec<String>,
    #[command(flatten)]
    guests: Guests,
    #[command(flatten)]
    binaries: Binaries,
    /// Write a page with plots, all in one file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints. Told to stop, it prints what there was, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let scenario = args.overrides.of(Scenario::named(&args.scenario)?)?;
    let wire = client::wire(&scenario).context("no server here speaks HTTP/2 without TLS")?;
    let stop = stop::when_told()?;
    let places = Places::find(&args.guests, &args.binaries)?;
    let machine = Machine::here();
    let (servers, left_out) = lineup(wire, &args.only, &places);
    for one in &left_out {
        eprintln!("left out: {}", one.text());
    }
    anyhow::ensure!(!servers.is_empty(), "there is no server to measure");
    let bar = Bar::new(whole(&scenario) * args.rounds * servers.len() as u32)?;
    let measure = |server: &Server| one(&scenario, server, wire, &places, &bar, &stop);
    let measured = rounds(args.rounds, servers, measure, &bar, &stop);
    drop(bar);
    let method = Method { scenario, wire, rounds: args.rounds, stopped: stop::told(&stop) };
    let report = Report::new(machine, method, measured, left_out);
    args.output.print(&report, Report::text)?;
    if let Some(path) = &args.html {
        crate::write(path, &page::html(&report))?;
    }
    stop::whole(report.method.stopped)?;
    Ok(args.output.verdict(report.verdict))
}

/// A B C, A B C, and so on, until it is told to stop: a round that was cut short is none.
fn rounds(
    rounds: u32,
    servers: Vec<Server>,
    measure: impl Fn(&Server) -> Measured,
    bar: &Bar,
    stop: &AtomicBool,
) -> Vec<(Server, Vec<Measured>)> {
    let mut measured: Vec<(Server, Vec<Measured>)> =
        servers.into_iter().map(|server| (server, Vec::new())).collect();
    for round in 1..=rounds {
        for (server, so_far) in &mut measured {
            bar.load(format!("round {round} of {rounds}: {}", server.name));
            let one = measure(server);
            if stop::told(stop) {
                return measured;
            }
            so_far.push(one);
        }
    }
    measured
}

/// Starts one server, asks it, ends it. One that does not start is void as one that does not answer.
fn one(
    scenario: &Scenario,
    server: &Server,
    wire: Wire,
    places: &Places,
    bar: &Bar,
    stop: &AtomicBool,
) -> Measured {
    let started = server.start(wire, places, stop).map_err(|error| format!("{error:#}"));
    let measured =
        started.and_then(|running| client::measure(scenario, &running.target(), &running.pids, bar, stop));
    bar.over(scenario);
    measured
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, atomic::Ordering::Relaxed},
        time::Duration,
    };

    use super::*;

    fn all_rounds(measure: impl Fn(&Server) -> Measured, stop: &AtomicBool) -> Vec<(Server, Vec<Measured>)> {
        let servers = ["a", "b"].map(Server::called).into();
        rounds(3, servers, measure, &Bar::new(Duration::ZERO).unwrap(), stop)
    }

    #[test]
    fn rounds_are_interleaved() {
        let order = Mutex::new(String::new());
        let measure = |server: &Server| {
            order.lock().unwrap().push_str(server.name);
            Err("not now".to_owned())
        };
        let measured = all_rounds(measure, &AtomicBool::new(false));
        assert_eq!(*order.lock().unwrap(), "ababab");
        assert!(measured.iter().all(|(_, rounds)| rounds.len() == 3));
    }

    #[test]
    fn told_to_stop_nothing_more_is_started_and_whole_rounds_are_kept() {
        let (stop, asked) = (AtomicBool::new(false), Mutex::new(0));
        let measure = |_: &Server| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            assert!(!stop.load(Relaxed), "another was started");
            stop.store(*asked == 4, Relaxed);
            Ok(crate::under_load::figures::tests::round())
        };
        let measured = all_rounds(measure, &stop);
        // The second round of the second was under way.
        assert_eq!(measured.iter().map(|(_, rounds)| rounds.len()).collect::<Vec<_>>(), [2, 1]);
    }
}
