//! `loadtest growth`: what a request costs when connections and apps become many.
//!
//! 1. In each round a fleet anew, asked over more and more connections in a closed loop, each lane's hello in turn; then
//!    bare hyper, alone, over the same. CPU of a request on the node over that on hyper is to stay the same.
//! 2. One fleet with one app, and then with many; asked for one of them and for all of them in turns.
//!
//! | Module | One job |
//! |---|---|
//! | [`apps`] | many apps |
//! | [`files`] | how many connections this process may have |
//! | [`report`] | what is printed |

mod apps;
mod files;
mod report;

use std::{sync::atomic::AtomicBool, time::Duration};

use self::{
    apps::Programs,
    report::{At, Many, Method, Report},
};
use crate::{
    Verdict,
    generate::{Hosts, Scenario},
    machine::Machine,
    options::{Binaries, Guests, Output},
    progress::{Bar, whole},
    servers::{Places, Running, Server, Wire, fleet_of, host, lineup, together},
    stop,
    under_load::{client, figures::Measured, metrics::Metrics},
};

/// Connections are made in it, and a thousand programs are loaded.
const WARM_UP: Duration = Duration::from_secs(2);
/// When apps are many.
const APPS_CONNECTIONS: u32 = 32;
/// A hello of each lane.
const LANES: [&str; 2] = ["fastly-hello", "wasi-hello"];
/// The domain of a fleet's apps.
const DOMAIN: &str = "localhost";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Connections, one after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [16, 64, 256, 1_000, 2_000],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Vec<u32>,
    /// Active apps to compare with one; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    apps: u32,
    /// What these apps are
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_values = LANES, value_parser = LANES)]
    apps_of: Vec<String>,
    /// Compile a program for each of these apps, instead of one for all; a node loads each app's for itself either way
    #[arg(long)]
    own_programs: bool,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
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
    let growth = Growth::new(args, &stop)?;
    let at = growth.over_connections()?;
    let many = growth.over_apps();
    let stopped = stop::told(&stop);
    // What goes wrong because it was told to stop is no news.
    let many = many.or_else(|error| if stopped { Ok(Vec::new()) } else { Err(error) })?;
    let Growth { bar, places, scenario, left_out, .. } = growth;
    drop(bar);
    let node = lineup::build(&places);
    let method = Method { rounds: args.rounds, scenario, node, left_out, stopped };
    let report = Report::new(machine, method, at, many);
    args.output.print(&report, Report::text)?;
    anyhow::ensure!(!stopped, "it was told to stop: this is what there was");
    Ok(args.output.verdict(report.verdict))
}

/// What is to be done, and how far it is.
struct Growth<'a> {
    nodes: Vec<Server>,
    bare: Server,
    places: Places,
    connections: Vec<u32>,
    /// Counts of connections that this process may not have, and why.
    left_out: Vec<String>,
    apps: u32,
    apps_of: Vec<String>,
    programs: Programs,
    rounds: u32,
    scenario: Scenario,
    bar: Bar,
    stop: &'a AtomicBool,
}

impl<'a> Growth<'a> {
    fn new(args: &Args, stop: &'a AtomicBool) -> anyhow::Result<Growth<'a>> {
        let places = Places::find(&args.guests, &args.binaries)?;
        let mut nodes = lineup::all_of(Wire::H1, &["hyper", "fastly-hello", "wasi-hello"], &places)?;
        let bare = nodes.remove(0);
        let scenario = Scenario {
            name: "growth".to_owned(),
            connections: APPS_CONNECTIONS,
            duration: Duration::from_secs(args.seconds.into()),
            warm_up: WARM_UP,
            ..Scenario::named("hello-h1")?
        };
        let most = files::connections_max();
        let (connections, too_many): (Vec<u32>, Vec<u32>) =
            args.connections.iter().partition(|count| u64::from(**count) <= most);
        let why = |count: &u32| format!("{count} connections: this process may have {most}; see ulimit -Hn");
        let left_out: Vec<String> = too_many.iter().map(why).collect();
        for one in &left_out {
            eprintln!("left out: {one}");
        }
        let apps_of = if args.apps > 1 { args.apps_of.clone() } else { Vec::new() };
        let loads = connections.len() * (nodes.len() + 1) + 3 * apps_of.len();
        let bar = Bar::new(whole(&scenario) * args.rounds * loads as u32)?;
        let programs = if args.own_programs { Programs::Own } else { Programs::Shared };
        let (apps, rounds) = (args.apps, args.rounds);
        Ok(Growth {
            nodes,
            bare,
            places,
            connections,
            left_out,
            apps,
            apps_of,
            programs,
            rounds,
            scenario,
            bar,
            stop,
        })
    }

    /// Rounds that were cut short are left out.
    fn over_connections(&self) -> anyhow::Result<Vec<At>> {
        let mut all: Vec<At> = self.connections.iter().map(|count| At::new(*count, &self.nodes)).collect();
        for round in 1..=self.rounds {
            let so_far = all.clone();
            let done = self.round(round, &mut all);
            if stop::told(self.stop) {
                return Ok(so_far);
            }
            done?;
        }
        Ok(all)
    }

    fn round(&self, round: u32, all: &mut [At]) -> anyhow::Result<()> {
        let ask = |at: u32, server: &Running, app: &str, name: &str| {
            let scenario = Scenario { connections: at, ..self.scenario.clone() };
            let what = format!("round {round} of {}: {name} over {at} connections", self.rounds);
            self.ask(&what, &scenario, server, &host(app))
        };
        let node = together(&self.nodes, Wire::H1, &self.places, self.stop)?;
        for at in &mut *all {
            for (server, so_far) in self.nodes.iter().zip(&mut at.nodes) {
                so_far.rounds.push(ask(at.connections, &node, server.name, server.name));
            }
        }
        drop(node);
        let bare = self.bare.start(Wire::H1, &self.places, self.stop)?;
        for at in all {
            at.bare.push(ask(at.connections, &bare, "hello", "hyper"));
        }
        Ok(())
    }

    fn over_apps(&self) -> anyhow::Result<Vec<Many>> {
        let wanted = |node: &&Server| self.apps_of.iter().any(|name| name == node.name);
        self.nodes.iter().filter(wanted).map(|node| self.apps_of_one(node)).collect()
    }

    fn apps_of_one(&self, server: &Server) -> anyhow::Result<Many> {
        anyhow::ensure!(!stop::told(self.stop), "told to stop");
        let node = fleet_of(&apps::name(0), server, Wire::H1, &self.places, self.stop)?;
        let one = |what: &str| self.ask(what, &self.scenario, &node, &host(&apps::name(0)));
        let alone =
            self.each_round(|round| one(&format!("round {round}: one app of {}, alone", server.name)));

        let start = std::time::Instant::now();
        let fleet = node.fleet()?;
        apps::deploy(fleet, server.guest()?, 1..self.apps, self.programs, &self.bar, self.stop)?;
        let deploy_s = start.elapsed().as_secs_f64();

        // Even: each is asked as often as any other.
        let hosts = Hosts::Zipf { count: self.apps, exponent: 0.0 };
        let all = Scenario { hosts, ..self.scenario.clone() };
        let all = |what: &str| self.ask(what, &all, &node, DOMAIN);
        if let Err(why) = all("loading all apps") {
            anyhow::bail!("loading {} apps: {why}", self.apps);
        }
        let (mut among, mut many) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            among.push(one(&format!("round {round}: one app among {}", self.apps)));
            many.push(all(&format!("round {round}: {} apps", self.apps)));
        }
        Ok(Many {
            apps: self.apps,
            programs: self.programs,
            guest: server.name,
            deploy_s,
            code_mib: code_mib(&fleet.metrics()?),
            alone,
            among,
            many,
        })
    }

    fn each_round(&self, measure: impl Fn(u32) -> Measured) -> Vec<Measured> {
        (1..=self.rounds).map(measure).collect()
    }

    fn ask(&self, what: &str, scenario: &Scenario, server: &Running, host: &str) -> Measured {
        if stop::told(self.stop) {
            return Err("it was stopped".to_owned());
        }
        self.bar.load(what.to_owned());
        let target = server.target_at(host);
        let measured = client::measure(scenario, &target, &server.pids, &self.bar, self.stop);
        self.bar.over(scenario);
        measured
    }
}

/// Native code that the node holds in memory.
fn code_mib(metrics: &Metrics) -> Option<f64> {
    Some(metrics.get("skerry_code_bytes")? / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_in_memory_is_what_the_node_says() {
        let text = "# TYPE skerry_code_bytes gauge\nskerry_code_bytes 1572864\nskerry_code_bytes_max 9\n";
        assert_eq!(code_mib(&Metrics::said(text)), Some(1.5));
        assert_eq!(code_mib(&Metrics::said("")), None);
    }
}
