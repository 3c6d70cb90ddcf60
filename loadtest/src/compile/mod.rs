//! `loadtest compile`: how long programs take to compile and how much memory, with nothing known of them, and with the functions of a
//! program like them.
//!
//! Asks a compiler service of its own, with real jobs, as the control plane asks it: over HTTP, for all levels at once or for one.

mod report;
mod service;

use std::{fs, path::PathBuf, thread, time::Instant};

use anyhow::Context as _;
use artifact::Target;

use self::{
    report::{Again, AtOnce, Level, Program, Report},
    service::{Answer, Service},
};
use crate::{
    Verdict,
    machine::Machine,
    options::{Binaries, Guests, Output},
    statistics::Spread,
};

#[derive(clap::Args)]
pub struct Args {
    /// The small program; all levels at once, this many times
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// The small program, of the guests' folder
    #[arg(long, value_name = "NAME", default_value = "wasi-hello")]
    hello: String,
    /// The large program
    #[arg(long, value_name = "NAME", default_value = "js-app")]
    large: String,
    /// The large program with another script
    #[arg(long, value_name = "NAME", default_value = "js-echo")]
    changed: String,
    #[command(flatten)]
    guests: Guests,
    #[command(flatten)]
    binaries: Binaries,
    #[command(flatten)]
    output: Output,
}

/// Measures and prints.
pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let machine = Machine::here();
    let read = |name: &str| {
        let path: PathBuf = args.guests.folder.join(name).with_extension("wasm");
        fs::read(&path)
            .with_context(|| format!("reading {} (fixtures/build makes the guests)", path.display()))
    };
    let (hello, large, changed) = (read(&args.hello)?, read(&args.large)?, read(&args.changed)?);
    let service = Service::start(&args.binaries.folder()?)?;
    let at_once = all_at_once(&service, &hello, args.runs)?;
    let programs = [(&args.hello, &hello), (&args.large, &large)]
        .into_iter()
        .map(|(name, wasm)| each_level(&service, name, wasm))
        .collect::<anyhow::Result<_>>()?;
    let again = second_compile(&service, &args.changed, &large, &changed)?;
    let report = Report::new(machine, args.hello.clone(), at_once, programs, again);
    args.output.print(&report, Report::text)?;
    Ok(args.output.verdict(report.verdict))
}

/// The small program for all levels, as a deploy asks for them. Nothing of it is known.
fn all_at_once(service: &Service, wasm: &[u8], runs: u32) -> anyhow::Result<AtOnce> {
    let once = || {
        let began = Instant::now();
        thread::scope(|scope| {
            let asked = Target::ALL.map(|target| scope.spawn(move || service.compile(wasm, target, None)));
            asked.into_iter().try_for_each(|asked| match asked.join() {
                Ok(answer) => answer.map(drop),
                Err(_) => anyhow::bail!("a thread that asked panicked"),
            })
        })?;
        Ok(began.elapsed().as_secs_f64() * 1e3)
    };
    let cpu_before_s = service.cpu_s()?;
    let ms = (0..runs).map(|_| once()).collect::<anyhow::Result<Vec<f64>>>()?;
    let cpu_ms = (service.cpu_s()? - cpu_before_s) * 1e3 / f64::from(runs);
    Ok(AtOnce { levels: Target::ALL.len(), ms: Spread::of(&ms).context("no runs")?, cpu_ms })
}

/// One level after the other, each with all cores.
fn each_level(service: &Service, name: &str, wasm: &[u8]) -> anyhow::Result<Program> {
    service.forget_peak();
    let level = |target| {
        let answer = service.compile(wasm, target, None)?;
        Ok(Level::new(target, &answer))
    };
    let levels = Target::ALL.into_iter().map(level).collect::<anyhow::Result<_>>()?;
    Ok(Program { name: name.to_owned(), wasm_bytes: wasm.len(), job_peak_bytes: service.peak(), levels })
}

/// A program whose like was compiled before, beside the same without.
fn second_compile(service: &Service, name: &str, first: &[u8], changed: &[u8]) -> anyhow::Result<Again> {
    let target = Target::X86_64V3;
    let without = service.compile(changed, target, None)?;
    let learning = service.compile(first, target, Some("bench"))?;
    let with = service.compile(changed, target, Some("bench"))?;
    anyhow::ensure!(
        with.blob == without.blob,
        "the code is another with functions of before: do not use them"
    );
    let Answer { ms, found, compiled, .. } = with;
    Ok(Again {
        name: name.to_owned(),
        target,
        without_ms: without.ms,
        without_cpu_s: without.cpu_s,
        cpu_s: with.cpu_s,
        learning_ms: learning.ms,
        ms,
        found,
        compiled,
    })
}
