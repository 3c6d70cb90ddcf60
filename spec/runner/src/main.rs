//! `spec-runner script DIR NAME pool|on-demand` runs one script and prints its report as a line of JSON.
//! `spec-runner smith DIR` runs the random modules and prints a line for each call.
//! `spec-runner targets` prints what this processor runs.
//!
//! For `spec-suite`, which starts it, under an emulator where the code is for another architecture.

use std::{env, fs, path::PathBuf, process::ExitCode, thread};

use anyhow::{Context as _, bail};
use spec_runner::{
    clock,
    code::{self, Allocator, Containers},
    plan::{self, Script, SmithModule},
    script, smith,
};

/// A guest may use 1 MiB of stack, and what it calls in the host and the emulator needs some too.
const STACK_BYTES: usize = 16 << 20;

/// Instances of one script alive at once: the most of any is some hundred.
const SCRIPT_INSTANCES: u32 = 512;
/// Random modules run one after the other. Two slots, at the same addresses for all: under an emulator each new 4 GiB of
/// addresses costs 100 ms.
const SMITH_INSTANCES: u32 = 2;

fn main() -> ExitCode {
    match in_thread() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spec-runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_thread() -> anyhow::Result<()> {
    let run = thread::Builder::new().stack_size(STACK_BYTES).spawn(run).context("starting a thread")?;
    run.join().expect("the thread has no panic of its own")
}

fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["script", folder, name, allocator] => run_script(folder.into(), name, named(allocator)?),
        ["smith", folder] => run_smith(folder.into()),
        ["targets"] => {
            engine::levels::of_this_machine().iter().for_each(|target| println!("{target}"));
            Ok(())
        }
        _ => bail!("usage: spec-runner script DIR NAME ALLOCATOR | smith DIR | targets"),
    }
}

fn named(allocator: &str) -> anyhow::Result<Allocator> {
    match allocator {
        "pool" => Ok(Allocator::Pool(SCRIPT_INSTANCES)),
        "on-demand" => Ok(Allocator::OnDemand),
        other => bail!("{other:?} is no allocator: pool or on-demand"),
    }
}

fn opened(folder: PathBuf, allocator: Allocator) -> anyhow::Result<Containers> {
    let engine = code::engine(allocator)?;
    clock::start(&engine);
    Containers::open(folder, engine)
}

fn run_script(folder: PathBuf, name: &str, allocator: Allocator) -> anyhow::Result<()> {
    let path = folder.join(plan::SCRIPT_FOLDER).join(format!("{name}.json"));
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let read: Script<'_> = serde_json::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    let report = script::run(&read, &mut opened(folder, allocator)?, allocator)?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn run_smith(folder: PathBuf) -> anyhow::Result<()> {
    let path = folder.join(plan::SMITH_FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut containers = opened(folder, Allocator::Pool(SMITH_INSTANCES))?;
    for line in text.lines() {
        let module: SmithModule =
            serde_json::from_str(line).with_context(|| format!("in {}", path.display()))?;
        let seed = module.seed;
        let loaded = containers.load(module.wasm).with_context(|| format!("module {seed}"))?;
        let lines =
            smith::observe(containers.engine(), &loaded).with_context(|| format!("running module {seed}"))?;
        lines.iter().for_each(|line| println!("{seed} {line}"));
        containers.clear();
    }
    Ok(())
}
