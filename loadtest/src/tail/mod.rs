//! `loadtest tail`: latencies of a node at 60 % of the most it answers, beside bare hyper at the same rate, and beside
//! hostile neighbours.
//!
//! 1. The most: each lane's hello on a node, in a closed loop, briefly.
//! 2. In each round, a fleet anew: each lane in an open loop at 60 % of its most, first quiet, then while hostile
//!    neighbours are kept in flight; then bare hyper anew at the same rates.
//!
//! The goal leaves a guest its own time, which the node's bill says (CPU of an execution, from its metrics, during the
//! quiet run). One server lives at a time, and the client shares the machine with it.
//!
//! | Module | One job |
//! |---|---|
//! | [`hostile`] | the neighbours |
//! | [`bill`] | a guest's own time |
//! | [`report`] | what is printed |

mod bill;
mod hostile;
mod report;

use std::{sync::atomic::AtomicBool, time::Duration};

use anyhow::Context as _;

use self::{
    bill::Bill,
    report::{Lane, Method, Report},
};
use crate::{
    Verdict,
    generate::{Arrivals, Scenario},
    machine::Machine,
    options::{Binaries, Guests, Output},
    progress::{Bar, whole},
    servers::{Places, Running, Server, Wire, host, lineup, together},
    stop,
    under_load::{client, figures::Measured},
};

/// Part of the most that is asked for.
const PART: f64 = 0.6;
/// In the closed loop: enough to keep two cores busy.
const MOST_CONNECTIONS: u32 = 32;
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Seconds of the closed loop that finds the most
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    most_seconds: u32,
    /// Connections of the open loop
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Hostile neighbours kept in flight: endless loops and memory bombs in turns
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200))]
    hostile: u32,
    /// Of the arrivals; each round has the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
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
    let tail = Tail::new(args, &stop)?;
    let mut found = Found::default();
    let stopped = stop::cut(tail.measure(&mut found), &stop)?;
    drop(tail.bar);
    let method = Method {
        rounds: args.rounds,
        rounds_whole: found.rounds,
        part: PART,
        hostile: args.hostile,
        scenario: tail.open,
        node: lineup::build(&tail.places),
        stopped,
    };
    let report = Report::new(machine, method, found.lanes);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict))
}

/// What was measured.
#[derive(Default)]
struct Found {
    lanes: Vec<Lane>,
    /// That were whole.
    rounds: u32,
}

/// What is to be done, and how far it is.
struct Tail<'a> {
    nodes: Vec<Server>,
    bare: Server,
    places: Places,
    rounds: u32,
    hostile: u32,
    closed: Scenario,
    /// Its rate is each lane's own.
    open: Scenario,
    bar: Bar,
    stop: &'a AtomicBool,
}

impl<'a> Tail<'a> {
    fn new(args: &Args, stop: &'a AtomicBool) -> anyhow::Result<Tail<'a>> {
        let places = Places::find(&args.guests, &args.binaries)?;
        let mut nodes = lineup::all_of(Wire::H1, &["hyper", "fastly-hello", "wasi-hello"], &places)?;
        let bare = nodes.remove(0);
        let closed = Scenario {
            connections: MOST_CONNECTIONS,
            duration: Duration::from_secs(args.most_seconds.into()),
            warm_up: WARM_UP,
            ..Scenario::named("hello-h1")?
        };
        let open = Scenario {
            name: "tail".to_owned(),
            connections: args.connections,
            duration: Duration::from_secs(args.seconds.into()),
            seed: args.seed,
            look_every: Duration::ZERO,
            ..closed.clone()
        };
        let each = whole(&closed) + whole(&open) * 3 * args.rounds;
        let bar = Bar::new(each * nodes.len() as u32)?;
        let (rounds, hostile) = (args.rounds, args.hostile);
        Ok(Tail { nodes, bare, places, rounds, hostile, closed, open, bar, stop })
    }

    fn measure(&self, found: &mut Found) -> anyhow::Result<()> {
        self.most(&mut found.lanes).context("finding the most a node answers")?;
        for round in 1..=self.rounds {
            // A round that is cut is none.
            let mut lanes = found.lanes.clone();
            self.round(round, &mut lanes)?;
            *found = Found { lanes, rounds: round };
        }
        Ok(())
    }

    /// The most that each lane answers.
    fn most(&self, lanes: &mut Vec<Lane>) -> anyhow::Result<()> {
        let node = together(&self.nodes, Wire::H1, &self.places, self.stop)?;
        for server in &self.nodes {
            let measured =
                self.ask(&format!("the most: {}", server.name), &self.closed, &node, server.name)?;
            let most = measured.map_err(|why| anyhow::anyhow!("{}: {why}", server.name))?;
            lanes.push(Lane::new(server.name, most.requests_per_second, PART));
        }
        Ok(())
    }

    fn round(&self, round: u32, lanes: &mut [Lane]) -> anyhow::Result<()> {
        let said =
            |what: &str, lane: &Lane| format!("round {round} of {}: {} {what}", self.rounds, lane.name);
        let node = together(&self.nodes, Wire::H1, &self.places, self.stop)?;
        let fleet = node.fleet()?;
        for lane in &mut *lanes {
            let before = Bill::of(fleet, lane.name)?;
            lane.quiet.push(self.ask(&said("quiet", lane), &self.at(round, lane), &node, lane.name)?);
            lane.own_us.extend(Bill::of(fleet, lane.name)?.each_us_since(before));
        }
        let hosts = hostile::deploy(&node, self.hostile).context("deploying the hostile neighbours")?;
        for lane in &mut *lanes {
            let ask =
                || self.ask(&said("beside hostile ones", lane), &self.at(round, lane), &node, lane.name);
            let (measured, attacked) = hostile::beside(&node, &hosts, &self.closed, ask)?;
            lane.beside.push(measured?);
            lane.hostile.add(&attacked);
        }
        drop(node);
        let bare = self.bare.start(Wire::H1, &self.places, self.stop)?;
        for lane in lanes {
            lane.bare.push(self.ask(
                &said("rate on bare hyper", lane),
                &self.at(round, lane),
                &bare,
                "hello",
            )?);
        }
        Ok(())
    }

    /// The open loop at the rate of a lane: within a round everybody is asked at the same moments.
    fn at(&self, round: u32, lane: &Lane) -> Scenario {
        let seed = self.open.seed.wrapping_add(u64::from(round) - 1);
        let open = self.open.clone().arriving(Arrivals::Poisson { per_second: lane.per_second });
        Scenario { seed, ..open }
    }

    /// An error if it was told to stop: then there is nothing measured.
    fn ask(&self, what: &str, scenario: &Scenario, server: &Running, app: &str) -> anyhow::Result<Measured> {
        stop::check(self.stop)?;
        self.bar.load(what.to_owned());
        let target = server.target_at(&host(app));
        let measured = client::measure(scenario, &target, &server.pids, &self.bar, self.stop);
        self.bar.over(scenario);
        stop::check(self.stop)?;
        Ok(measured)
    }
}
