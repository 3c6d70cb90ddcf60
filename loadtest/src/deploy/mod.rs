//! `loadtest deploy`: from starting `skerry deploy` to the first 200 of the new version, on a whole fleet of this
//! machine: real processes, real compile for every target, one node.
//!
//! Each run deploys a program that was never seen before ([`patch`]), and asks the node over HTTPS every
//! [`PAUSE`] until it answers with that program's own mark. What is asked meanwhile costs the machine
//! about 2 % of a core.

pub mod fleet;
pub mod patch;
mod report;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustls::ClientConfig;

use self::{
    fleet::{Deployed, Fleet},
    report::{Deploys, Report, Run},
};
use crate::{
    Verdict,
    machine::Machine,
    options::{Binaries, Output},
    questions::{self, Client},
    stop,
};

/// Pause between two questions: what the first answer may be seen late.
const PAUSE: Duration = Duration::from_millis(2);
/// Pause after a question that failed: a TLS handshake costs a core 1 ms.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// A node that does not answer within it is taken for gone, and asked anew.
const ONE_ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// A version that does not answer by then voids the run.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// What `skerry up` sets: the compiler of each deploy shares the machine with the node.
const SLOW_LANE_NICE: u8 = 0;
/// The fleet's domain: app `x` answers at `x.localhost`.
const DOMAIN: &str = "localhost";

#[derive(clap::Args)]
pub struct Args {
    /// Deploys to measure, after the first one
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Program to deploy
    #[arg(long, value_name = "FILE", default_value = "target/guests/wasi-hello.wasm")]
    guest: PathBuf,
    /// A text the program answers with and holds once; its end becomes each version's mark
    #[arg(long, value_name = "TEXT", default_value = "Hello from wasi:http!")]
    text: String,
    /// Deploy a new app with a host name of its own each time, instead of a new version of one app
    #[arg(long)]
    new_apps: bool,
    #[command(flatten)]
    binaries: Binaries,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints. Told to stop, it prints what there was, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let stop = stop::when_told()?;
    let machine = Machine::here();
    let wasm = fs::read(&args.guest).with_context(|| {
        format!(
            "reading {} (fixtures/build makes the guests, or name one with --guest)",
            args.guest.display()
        )
    })?;
    let mut deploys = Deploys::default();
    let done = measure(args, &wasm, &stop, &mut deploys);
    if deploys.first.is_some() {
        eprintln!();
    }
    let stopped = stop::cut(done, &stop)?;
    let report = Report::new(machine, args.new_apps, wasm.len(), deploys, stopped);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict))
}

/// Deploys one after the other. One that was cut is none.
fn measure(args: &Args, wasm: &[u8], stop: &AtomicBool, deploys: &mut Deploys) -> anyhow::Result<()> {
    let fleet = Fleet::start(&args.binaries.folder()?, SLOW_LANE_NICE)?;
    let tls = questions::trusting(&fleet.ca)?;
    let bench = Bench { fleet: &fleet, tls, wasm, text: &args.text, stop };

    let mut asker = bench.asker("app");
    deploys.first = Some(bench.deploy(0, "app", &mut asker).context("the first deploy")?);
    for number in 1..=args.runs {
        eprint!("\rdeploy {number} of {}", args.runs);
        let run = match args.new_apps {
            false => bench.deploy(number, "app", &mut asker),
            true => {
                let app = format!("app-{number}");
                bench.deploy(number, &app, &mut bench.asker(&app))
            }
        };
        deploys.runs.push(run.with_context(|| format!("deploy {number}"))?);
    }
    Ok(())
}

/// Asks for one app.
struct Asker {
    client: Client,
    authority: String,
}

/// A fleet and what is deployed to it.
struct Bench<'a> {
    fleet: &'a Fleet,
    tls: Arc<ClientConfig>,
    wasm: &'a [u8],
    text: &'a str,
    stop: &'a AtomicBool,
}

impl Bench<'_> {
    fn asker(&self, app: &str) -> Asker {
        let (host, address) = (format!("{app}.{DOMAIN}"), self.fleet.https);
        let client = Client::secure(address, ONE_ANSWER_TIME_MAX, self.tls.clone(), &host);
        Asker { client, authority: format!("{host}:{}", address.port()) }
    }

    /// One deploy, asked for while it goes on.
    fn deploy(&self, number: u32, app: &str, asker: &mut Asker) -> anyhow::Result<Run> {
        let mark = patch::mark(number);
        let file = self.fleet.folder().join(format!("{mark}.wasm"));
        fs::write(&file, patch::patch(self.wasm, self.text, &mark)?)
            .context("writing the program to deploy")?;
        let start = Instant::now();
        let (deployed, answered) = thread::scope(|scope| {
            let answered = scope.spawn(|| await_mark(asker, &mark, start, self.stop));
            let deployed = self.fleet.deploy(&file, app).map(|deployed| (deployed, start.elapsed()));
            (deployed, answered.join().expect("asking does not panic: it returns its errors"))
        });
        let ((deployed, cli), first_answer) = (deployed?, answered?);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Deployed { version, compile_ms, publish_ms, active_ms, targets } = deployed;
        Ok(Run {
            version,
            first_answer_ms: ms(first_answer),
            cli_ms: ms(cli),
            compile_ms,
            publish_ms,
            active_ms,
            targets: targets.len(),
        })
    }
}

/// Asks until the answer is the new version's own, and says when that was.
fn await_mark(asker: &mut Asker, mark: &str, start: Instant, stop: &AtomicBool) -> anyhow::Result<Duration> {
    let mut last = "nothing was answered".to_owned();
    while start.elapsed() < ANSWER_TIME_MAX {
        stop::check(stop)?;
        match asker.client.get(&asker.authority, "/") {
            Ok(answer) if answer.status == 200 && contains(&answer.body, mark) => return Ok(start.elapsed()),
            Ok(answer) => {
                last = format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
                thread::sleep(PAUSE);
            }
            Err(error) => {
                last = error.to_string();
                thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
    anyhow::bail!("the new version did not answer within {ANSWER_TIME_MAX:?}; last: {last}")
}

fn contains(body: &[u8], mark: &str) -> bool {
    body.windows(mark.len()).any(|window| window == mark.as_bytes())
}
