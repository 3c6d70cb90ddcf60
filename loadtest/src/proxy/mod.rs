//! `loadtest proxy`: CPU that a node spends on a request its guest passes on to a backend, beside that of a hello, on a
//! node in this process with real sockets.
//!
//! The guest takes the client's request, sends it to its one backend and answers with what came back, reading neither
//! body. Time is CPU of the node's own threads between two looks at the running client, from the kernel's count for each,
//! so neither the backend's nor the client's is in it.
//!
//! [`backend`] is what is asked.

mod backend;

use std::{collections::BTreeMap, fmt::Write as _, sync::atomic::AtomicBool, time::Duration};

use anyhow::Context as _;
use artifact::manifest::{AppConfig, Backend as Declared};
use parking_lot::Mutex;
use serde::Serialize;

use self::backend::Backend;
use crate::{
    Verdict,
    generate::Progress,
    machine::Machine,
    neighbours::{
        bills::Bills,
        guests::{self, Program},
        load,
        node::{Running, host},
    },
    options::Output,
    stop::{self, STOPPED},
    under_load::threads::{SERVING, SLOW, Times},
};

/// CPU a proxied request may cost the node.
const GOAL_US: f64 = 60.0;
/// Guests at once: as many as connections, and some.
const INSTANCES_MAX: u32 = 100;
/// Before anything counts: connections to the backend are made, slots are warm.
const WARM_UP: Duration = Duration::from_secs(1);
const TENANT: &str = "bench";

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Seconds of each of the two measurements
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    /// CPU of the node for each request, in µs. What it was told to stop before is not there.
    hello_us: Option<f64>,
    proxied_us: Option<f64>,
    hello: Option<Spent>,
    proxied: Option<Spent>,
    goal_us: f64,
    stopped: bool,
    verdict: Verdict,
}

/// What was measured.
#[derive(Default)]
struct Found {
    hello: Option<Spent>,
    proxied: Option<Spent>,
}

/// Measures and prints. Told to stop, it prints what there was, and then an error.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let stop = stop::when_told()?;
    let machine = Machine::here();
    let mut found = Found::default();
    let stopped = stop::cut(measure(args, &stop, &mut found), &stop)?;
    let report = Report::new(machine, found, stopped);
    args.output.print(&report, Report::text)?;
    stop::whole(stopped)?;
    Ok(args.output.verdict(report.verdict))
}

fn measure(args: &Args, stop: &AtomicBool, found: &mut Found) -> anyhow::Result<()> {
    let backend = Backend::start()?;
    let node = Running::start(1, INSTANCES_MAX, edge_node::lane::NICE_DEFAULT, Bills::default())?;
    let measured = both(args, &node, &backend, stop, found);
    node.stop().context("stopping the node")?;
    measured
}

fn both(
    args: &Args,
    node: &Running,
    backend: &Backend,
    stop: &AtomicBool,
    found: &mut Found,
) -> anyhow::Result<()> {
    let tenants = [TENANT.to_owned()];
    node.deploy(&node.stock(&guests::good())?, &tenants)?;
    let origin = Declared { url: format!("http://{}", backend.address), ..Declared::default() };
    let config =
        AppConfig { backends: BTreeMap::from([("origin".to_owned(), origin)]), ..AppConfig::default() };
    node.deploy_with(&node.stock(&passes_on())?, &tenants, &config)?;
    let time = Duration::from_secs(args.seconds);
    eprintln!("asking a hello, {} s", args.seconds);
    found.hello = Some(spent(node, "good", time, stop)?);
    eprintln!("asking one that passes its request on, {} s", args.seconds);
    found.proxied = Some(spent(node, "passes-on", time, stop)?);
    Ok(())
}

/// What a request costs the node, in µs of CPU.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spent {
    serving_us: f64,
    slow_us: f64,
    requests: u64,
}

fn spent(node: &Running, app: &str, time: Duration, stop: &AtomicBool) -> anyhow::Result<Spent> {
    let host = host(TENANT, app);
    let looks = Mutex::new(Vec::new());
    let watch = |progress: Progress| {
        if progress.elapsed >= WARM_UP && progress.elapsed <= progress.total {
            looks.lock().push(Look::take(progress.answered));
        }
    };
    load::saturated(node.address, &host, WARM_UP, time, &watch, stop)
        .with_context(|| format!("asking {app}"))?;
    let looks = looks.into_inner().into_iter().collect::<anyhow::Result<Vec<Look>>>()?;
    match looks[..] {
        [first, .., last] if last.answered > first.answered => Ok(Spent::between(first, last)),
        _ => anyhow::bail!("asking {app}: nothing was answered between two looks"),
    }
}

/// CPU of the node's threads, while the client asks.
#[derive(Debug, Clone, Copy)]
struct Look {
    answered: u64,
    serving_ns: u64,
    slow_ns: u64,
}

impl Look {
    fn take(answered: u64) -> anyhow::Result<Look> {
        let cpu_ns = |name| Times::of(std::process::id(), name).map(|times| times.cpu_ns);
        Ok(Look { answered, serving_ns: cpu_ns(SERVING)?, slow_ns: cpu_ns(SLOW)? })
    }
}

impl Spent {
    fn us(&self) -> f64 {
        self.serving_us + self.slow_us
    }

    fn between(first: Look, last: Look) -> Spent {
        let requests = last.answered - first.answered;
        let each_us = |before: u64, after: u64| (after - before) as f64 / 1e3 / requests as f64;
        Spent {
            serving_us: each_us(first.serving_ns, last.serving_ns),
            slow_us: each_us(first.slow_ns, last.slow_ns),
            requests,
        }
    }
}

/// Sends what it got to `origin` and answers with what it gets.
fn passes_on() -> Program {
    let text = r#"(module
        (import "fastly_http_req" "body_downstream_get" (func $get (param i32 i32) (result i32)))
        (import "fastly_http_req" "send" (func $send (param i32 i32 i32 i32 i32 i32) (result i32)))
        (import "fastly_http_resp" "send_downstream" (func $answer (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 64) "origin")
        (func (export "_start")
            (if (call $get (i32.const 16) (i32.const 20)) (then unreachable))
            (if (call $send (i32.load (i32.const 16)) (i32.load (i32.const 20))
                (i32.const 64) (i32.const 6) (i32.const 24) (i32.const 28)) (then unreachable))
            (if (call $answer (i32.load (i32.const 24)) (i32.load (i32.const 28)) (i32.const 0)) (then unreachable))))"#;
    Program { name: "passes-on", text: text.to_owned() }
}

impl Report {
    fn new(machine: Machine, found: Found, stopped: bool) -> Report {
        let Found { hello, proxied } = found;
        let met = proxied.is_some_and(|proxied| proxied.us() <= GOAL_US);
        let verdict = if met { Verdict::Met } else { Verdict::NotMet };
        let us = |spent: Option<Spent>| spent.map(|spent| spent.us());
        let (hello_us, proxied_us) = (us(hello), us(proxied));
        Report { machine, hello_us, proxied_us, hello, proxied, goal_us: GOAL_US, stopped, verdict }
    }

    fn text(&self) -> String {
        let Report { machine, hello, proxied, goal_us, stopped, verdict, .. } = self;
        let mut text = machine.text() + "\n";
        if *stopped {
            let _ = writeln!(text, "stopped   {STOPPED}");
        }
        text +=
            "\nCPU of the node for each request, HTTP/1.1 in the clear on kept connections, 24 at once:\n";
        if let Some(hello) = hello {
            let _ = writeln!(text, "  hello      {:>7.1} µs", hello.us());
        }
        let Some(proxied) = proxied else { return text };
        let Spent { serving_us, slow_us, requests } = proxied;
        let _ = writeln!(
            text,
            "  proxied    {:>7.1} µs: {serving_us:.1} on the serving thread, {slow_us:.1} in the slow lane; {requests} requests\n\
             \x20 goal       {goal_us:>7.1} µs: {}",
            proxied.us(),
            verdict.text(),
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_passed_on_and_their_cpu_is_counted() {
        let mut found = Found::default();
        let args = Args { seconds: 3, output: Output::default() };
        measure(&args, &AtomicBool::new(false), &mut found).unwrap();
        let report = Report::new(Machine::here(), found, false);
        let (hello, proxied) = (report.hello.unwrap(), report.proxied.unwrap());
        assert!(proxied.requests > 0 && proxied.us() > 0.0 && hello.us() > 0.0, "{report:?}");
        assert!(report.text().contains("proxied"));
    }
}
