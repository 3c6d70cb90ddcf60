//! `loadtest neighbours`: what a tenant notices while others keep endless loops and whole-memory fills in flight, on a
//! node in this process with real sockets.
//!
//! In turns: how fast one core answers the good tenant; how it is answered at half of that in peace; then the same
//! while the loops and fills are there, first all of one tenant, then each tenant one of either. Killed guests are
//! replaced. The node's first worker has a core to itself; all who ask share the others.
//!
//! | Module | One job |
//! |---|---|
//! | [`guests`] | the programs |
//! | [`node`] | the node |
//! | [`load`] | who asks |
//! | [`attack`] | who attacks |
//! | [`bills`] | what killed guests cost |
//! | [`report`] | what is printed |

pub mod attack;
pub mod bills;
pub mod guests;
pub mod load;
pub mod node;
mod report;

use std::{sync::atomic::AtomicBool, time::Duration};

use anyhow::Context as _;
use edge_node::lane::NICE_DEFAULT;

use self::{
    bills::Bills,
    node::{Running, host},
    report::{Found, Phase, Report, Times},
};
use crate::{Verdict, machine::Machine, options::Output, stop};

/// Seconds of warming up before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);
const GOOD_TENANT: &str = "good-tenant";
/// Fills one whole memory after the other during an attack: what a fill costs then.
const MEASURING_TENANT: &str = "measuring";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Seconds of each attack; peace is measured half as long
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Endless loops, and as many fills, kept in flight
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=200))]
    hostile: u32,
    /// Memory of a guest that fills, in MiB; all of them together must fit the node's budget
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=128))]
    fill_mib: u32,
    /// What the good tenant asks for, in percent of what one core answers
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    pace: u32,
    /// Serving threads of the node
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// Guests the node takes at once
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(16..=10_000))]
    instances_max: u32,
    /// Niceness of the node's threads for guests that take longer
    #[arg(long, value_name = "N", default_value_t = NICE_DEFAULT)]
    slow_nice: u8,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints. Told to stop, it prints what there was, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let stop = stop::when_told()?;
    let machine = Machine::here();
    let mut found = Found::default();
    let stopped = stop::cut(measure(args, &stop, &mut found), &stop)?;
    let report = Report::new(machine, args, found, stopped);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict))
}

fn measure(args: &Args, stop: &AtomicBool, found: &mut Found) -> anyhow::Result<()> {
    let bills = Bills::default();
    let node = Running::start(args.threads as usize, args.instances_max, args.slow_nice, bills.clone())?;
    let measured = phases(args, &node, &bills, stop, found);
    node.stop().context("stopping the node")?;
    measured
}

impl Args {
    /// The good tenant asks at this part of what one core answers.
    fn part(&self) -> f64 {
        f64::from(self.pace) / 100.0
    }
}

fn phases(
    args: &Args,
    node: &Running,
    bills: &Bills,
    stop: &AtomicBool,
    found: &mut Found,
) -> anyhow::Result<()> {
    let time = Duration::from_secs(args.seconds);
    let good = [GOOD_TENANT.to_owned()];
    node.deploy(&node.stock(&guests::good())?, &good)?;
    let good = host(GOOD_TENANT, "good");
    load::saturate(node.address, &good, WARM_UP, stop).context("warming up")?;
    let per_second = load::saturate(node.address, &good, WARM_UP * 3, stop)?;
    let paced = per_second * args.part();
    found.per_second_max = Some(per_second);
    let quiet = load::pace(node.address, &good, paced, time / 2, stop)?;
    found.quiet = Some(Times::of(&quiet).context("the good tenant was never answered")?);

    node.deploy(&node.stock(&guests::fill_once(args.fill_mib))?, &[MEASURING_TENANT.to_owned()])?;
    let hostile = [node.stock(&guests::endless_loop())?, node.stock(&guests::fills(args.fill_mib))?];
    let attacked = |name: &'static str, tenants: Vec<String>| {
        for guest in &hostile {
            node.deploy(guest, &tenants)?;
        }
        bills.clear();
        let each =
            |app| tenants.iter().cycle().take(args.hostile as usize).map(move |tenant| host(tenant, app));
        let measuring = host(MEASURING_TENANT, "fill-once");
        let hosts: Vec<String> = each("loop").chain(each("fill")).chain([measuring]).collect();
        eprintln!("{name}: {} loops and as many fills, {} s", args.hostile, args.seconds);
        let ask = || load::pace(node.address, &good, paced, time, stop);
        let (asked, attacked) = load::beside(node.address, &hosts, ask)?;
        anyhow::Ok(Phase::new(name, asked, &attacked, bills))
    };
    found.phases.push(attacked("from 1 tenant", vec!["hostile".to_owned()])?);
    let many = (0..args.hostile).map(|number| format!("hostile-{number}")).collect();
    found.phases.push(attacked("from many tenants", many)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{report::PHASES, *};

    /// The short form: what is counted, not how long it took.
    #[test]
    fn a_good_tenant_is_answered_while_loops_and_fills_are_in_flight_and_these_are_ended_in_time() {
        let args = Args {
            seconds: 5,
            hostile: 6,
            fill_mib: 16,
            // The machine that runs tests is busy with others: what is not asked in time counts as not answered.
            pace: 5,
            threads: 1,
            instances_max: 100,
            slow_nice: 0,
            output: Output::default(),
        };
        let mut found = Found::default();
        measure(&args, &AtomicBool::new(false), &mut found).unwrap();
        let report = Report::new(Machine::here(), &args, found, false);
        assert_eq!(report.phases.len(), PHASES);
        for phase in &report.phases {
            assert!(phase.answered_percent >= 99.0, "{phase:?}");
            assert!(phase.killed_loops > 0 && phase.killed_fills > 0, "{phase:?}");
            // Of their own bill, by the thread's clock. The usual one: on a machine that others keep busy a thread is
            // charged for time that the machine's own host took away, and the most is that.
            assert!(phase.one_fill_ms > 0.0, "{phase:?}");
            assert!(phase.loop_over_ms.median <= report::LOOP_OVER_MS_MAX, "{phase:?}");
        }
        assert!(serde_json::to_string(&report).is_ok() && report.text().contains("loop"));
    }
}
