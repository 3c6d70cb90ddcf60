//! `loadtest stages`: where the CPU time of a request goes on the shipped node, in stages that sum to the whole.
//!
//! For each guest a fleet is started anew, as `compare` does it, and asked twice. First undisturbed: CPU of a request is the
//! node's own time between two looks at the running client, over the answers between them. Then with `perf record` beside it
//! from the end of the warm-up on: each sample's stack is sorted into a stage, and a stage's share of the samples is its
//! share of the undisturbed time. What `perf` itself costs is the second figure, printed beside the first.
//!
//! Relied on: `perf` (Debian's linux-perf) with the right to look at the kernel. Deliberately absent: goals.
//!
//! | Module | One job |
//! |---|---|
//! | [`rules`] | which stage a stack belongs to |
//! | [`perf`] | the tool: its rights, a recording, its samples |
//! | [`script`] | what `perf script` prints |
//! | [`tally`] | samples, added up |
//! | [`report`] | what is printed |

mod perf;
mod report;
mod rules;
mod script;
mod tally;

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use self::{
    perf::Recording,
    report::{Guest, Measured, Method, Report},
};
use crate::{
    Verdict,
    generate::Scenario,
    machine::Machine,
    options,
    overrides::Overrides,
    progress::{Bar, whole},
    servers::{Places, Running, Server, Wire, lineup},
    stop,
    under_load::client,
};

/// What can be asked.
const GUESTS: [&str; 4] = ["fastly-hello", "wasi-hello", "as-hello", "wstd-hello"];
/// Some 8,000 samples of two busy threads: a stage of 1 % is then known within a tenth of itself.
const RECORDED_MAX: Duration = Duration::from_secs(5);
/// The load goes on for so long after the recording, so that no sample is of its end.
const AFTER_RECORDING: Duration = Duration::from_millis(500);
/// Of a load, or there would be nothing between two looks.
const LOAD_TIME_MIN: Duration = Duration::from_secs(1);
/// Between two looks at whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A scenario by its name or file; it decides the protocol
    #[arg(default_value = "hello-h1")]
    scenario: String,
    /// Guests to ask, one after the other
    #[arg(long = "guest", value_name = "NAME", value_delimiter = ',', value_parser = GUESTS,
          default_values = &GUESTS[..3])]
    guests: Vec<String>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    guests_dir: options::Guests,
    #[command(flatten)]
    binaries: options::Binaries,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures and prints. Told to stop, it prints the guests that were whole, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let scenario = args.overrides.of(Scenario::named(&args.scenario)?)?;
    let wire = client::wire(&scenario).context("no server here speaks HTTP/2 without TLS")?;
    anyhow::ensure!(scenario.duration >= LOAD_TIME_MIN, "--seconds must be at least 1 here");
    perf::usable()?;
    let stop = stop::when_told()?;
    let places = Places::find(&args.guests_dir, &args.binaries)?;
    let names: Vec<&str> =
        GUESTS.into_iter().filter(|name| args.guests.iter().any(|one| one == name)).collect();
    let servers = lineup::all_of(wire, &names, &places)?;
    let machine = Machine::here();
    let recorded = recorded(&scenario);
    let bar = Bar::new((whole(&scenario) + whole(&recorded)) * servers.len() as u32)?;
    let stages = Stages { scenario, recorded, wire, places, bar, stop: &stop };
    let guests = stages.guests(&servers);
    let Stages { scenario, recorded, places, bar, .. } = stages;
    drop(bar);
    let method = Method {
        scenario,
        recorded: recorded_for(&recorded),
        samples_per_second: perf::FREQUENCY,
        node: lineup::build(&places),
        stopped: stop::told(&stop),
    };
    let report = Report { machine, method, guests };
    crate::print(&report, args.json, Report::text)?;
    anyhow::ensure!(!report.method.stopped, "it was told to stop: this is what there was");
    anyhow::ensure!(!report.is_void(), "not every guest could be measured");
    Ok(Verdict::NoGoal)
}

/// The load of the second run: the recording begins with it, and it ends a little later.
fn recorded(scenario: &Scenario) -> Scenario {
    Scenario { duration: scenario.duration.min(RECORDED_MAX + AFTER_RECORDING), ..scenario.clone() }
}

fn recorded_for(recorded: &Scenario) -> Duration {
    recorded.duration.saturating_sub(AFTER_RECORDING)
}

/// What is to be done, and how far it is.
struct Stages<'a> {
    scenario: Scenario,
    /// The same, as long as it is recorded.
    recorded: Scenario,
    wire: Wire,
    places: Places,
    bar: Bar,
    stop: &'a AtomicBool,
}

impl Stages<'_> {
    /// One after the other, until it is told to stop: a guest that was cut short is none.
    fn guests(&self, servers: &[Server]) -> Vec<Guest> {
        let mut guests = Vec::new();
        for server in servers {
            let measured = self.guest(server).map_err(|error| format!("{error:#}"));
            if stop::told(self.stop) {
                break;
            }
            guests.push(Guest::new(server.name, measured));
        }
        guests
    }

    fn guest(&self, server: &Server) -> anyhow::Result<Measured> {
        let node = server.start(self.wire, &self.places, self.stop)?;
        let ask = |what: &str, scenario: &Scenario| {
            self.bar.load(format!("{}: {what}", server.name));
            let measured = client::measure(scenario, &node.target(), &node.pids, &self.bar, self.stop);
            self.bar.over(scenario);
            measured.map_err(|why| anyhow::anyhow!("{what}: {why}"))
        };
        let alone = ask("without perf", &self.scenario)?;
        let (beside, recording) = thread::scope(|scope| {
            let recording = scope.spawn(|| self.record(&node));
            (ask("with perf", &self.recorded), recording.join())
        });
        // Reading takes `perf` a while, in which nobody is asked.
        drop(node);
        let recording = recording.map_err(|_| anyhow::anyhow!("the thread that records panicked"))?;
        let recording = recording.context("recording with perf")?;
        let beside = beside?;
        self.bar.load(format!("{}: sorting stacks", server.name));
        let sorted = recording.tally(self.stop).context("reading what perf recorded")?.sorted(alone.cpu_us);
        Ok(Measured { alone, beside, sorted })
    }

    /// From the end of the warm-up on.
    fn record(&self, node: &Running) -> anyhow::Result<Recording> {
        let begin = Instant::now() + self.recorded.warm_up;
        while Instant::now() < begin {
            anyhow::ensure!(!stop::told(self.stop), "told to stop");
            thread::sleep(LOOK);
        }
        let [node] = node.pids[..] else { anyhow::bail!("a node is one process") };
        Recording::take(node, recorded_for(&self.recorded), self.stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_ends_before_its_load_and_is_no_longer_than_its_file_may_be() {
        let scenario = |seconds| Scenario {
            duration: Duration::from_secs_f64(seconds),
            ..Scenario::named("hello-h1").unwrap()
        };
        for (asked, load, recording) in [(10.0, 5.5, 5.0), (3.0, 3.0, 2.5), (1.0, 1.0, 0.5)] {
            let recorded = recorded(&scenario(asked));
            assert_eq!(recorded.duration.as_secs_f64(), load);
            assert_eq!(recorded_for(&recorded).as_secs_f64(), recording);
        }
    }
}
