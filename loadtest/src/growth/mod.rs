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
    let mut found = Found::default();
    let stopped = stop::cut(growth.measure(&mut found), &stop)?;
    let Growth { bar, places, scenario, left_out, .. } = growth;
    drop(bar);
    let node = lineup::build(&places);
    let method =
        Method { rounds: args.rounds, rounds_whole: found.rounds, scenario, node, left_out, stopped };
    let report = Report::new(machine, method, found.at, found.many);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict))
}

/// What was measured.
#[derive(Default)]
struct Found {
    at: Vec<At>,
    /// Over connections, that were whole.
    rounds: u32,
    many: Vec<Many>,
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

    fn measure(&self, found: &mut Found) -> anyhow::Result<()> {
        found.at = self.connections.iter().map(|count| At::new(*count, &self.nodes)).collect();
        for round in 1..=self.rounds {
            // A round that is cut is none.
            let mut at = found.at.clone();
            self.round(round, &mut at)?;
            (found.at, found.rounds) = (at, round);
        }
        for node in self.nodes.iter().filter(|node| self.apps_of.iter().any(|name| name == node.name)) {
            found.many.push(Many::new(self.apps, self.programs, node.name));
            if let Some(many) = found.many.last_mut() {
                self.apps_of_one(node, many)?;
            }
        }
        Ok(())
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
                so_far.rounds.push(ask(at.connections, &node, server.name, server.name)?);
            }
        }
        drop(node);
        let bare = self.bare.start(Wire::H1, &self.places, self.stop)?;
        for at in all {
            at.bare.push(ask(at.connections, &bare, "hello", "hyper")?);
        }
        Ok(())
    }

    /// Round after round: in a round that is cut nothing was measured.
    fn apps_of_one(&self, server: &Server, many: &mut Many) -> anyhow::Result<()> {
        stop::check(self.stop)?;
        let node = fleet_of(&apps::name(0), server, Wire::H1, &self.places, self.stop)?;
        let one = |what: &str| self.ask(what, &self.scenario, &node, &host(&apps::name(0)));
        for round in 1..=self.rounds {
            many.alone.push(one(&format!("round {round}: one app of {}, alone", server.name))?);
        }

        let start = std::time::Instant::now();
        let fleet = node.fleet()?;
        apps::deploy(fleet, server.guest()?, 1..self.apps, self.programs, &self.bar, self.stop)?;
        many.deploy_s = Some(start.elapsed().as_secs_f64());

        // Even: each is asked as often as any other.
        let hosts = Hosts::Zipf { count: self.apps, exponent: 0.0 };
        let all = Scenario { hosts, ..self.scenario.clone() };
        let all = |what: &str| self.ask(what, &all, &node, DOMAIN);
        if let Err(why) = all("loading all apps")? {
            anyhow::bail!("loading {} apps: {why}", self.apps);
        }
        for round in 1..=self.rounds {
            let among = one(&format!("round {round}: one app among {}", self.apps))?;
            many.many.push(all(&format!("round {round}: {} apps", self.apps))?);
            many.among.push(among);
        }
        many.code_mib = code_mib(&fleet.metrics()?);
        Ok(())
    }

    /// An error if it was told to stop: then there is nothing measured.
    fn ask(&self, what: &str, scenario: &Scenario, server: &Running, host: &str) -> anyhow::Result<Measured> {
        stop::check(self.stop)?;
        self.bar.load(what.to_owned());
        let target = server.target_at(host);
        let measured = client::measure(scenario, &target, &server.pids, &self.bar, self.stop);
        self.bar.over(scenario);
        stop::check(self.stop)?;
        Ok(measured)
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
