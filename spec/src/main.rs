//! `spec-suite compile`, `run` and `smith`: native code proved on every architecture a node runs on.
//!
//! `compile` makes signed containers of every module of WebAssembly's test suite, as the compiler service does. `run`
//! gives them to `spec-runner`, one process for each script, under an emulator where the architecture is another, and
//! compares what failed with what is expected to. `smith` does the same with random modules and compares what they
//! answer on each target. How and why: docs/design/0020-spec-suite.md.

mod compile;
mod expected;
mod features;
mod run;
mod runner;
mod smith;
mod suite;

use std::{path::PathBuf, process::ExitCode};

use artifact::Target;
use clap::{Args, Parser, Subcommand};

use crate::runner::Runners;

/// WebAssembly's test suite, and random modules, through compile, sign and load.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile and sign every module of the suite for one target.
    Compile {
        /// The target.
        #[arg(long)]
        target: Target,
        /// Where to: an empty or missing folder.
        #[arg(long)]
        out: PathBuf,
        /// Only the files whose `SUITE/FILE` contains one of these words.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Run what `compile` made; fails if any directive fails that is not expected to, or no longer does.
    Run {
        /// The folder.
        folder: PathBuf,
        /// How instances are allocated: `pool` as on a node, or `on-demand`.
        #[arg(long, default_value = "pool")]
        allocator: String,
        /// Leave the table of files out: surprises and sums only.
        #[arg(long)]
        brief: bool,
        #[command(flatten)]
        with: With,
    },
    /// Compile random modules for several targets and compare what they answer.
    Smith {
        /// How many.
        #[arg(long, default_value_t = 200)]
        count: u64,
        /// The first one's number.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// Targets. The first one's answers are what the others' must be.
        #[arg(long, value_delimiter = ',', required = true)]
        targets: Vec<Target>,
        /// A folder for what is compiled; emptied after each hundred modules.
        #[arg(long)]
        work: PathBuf,
        #[command(flatten)]
        with: With,
    },
}

#[derive(Args)]
struct With {
    /// The runner for this architecture; by default the one beside this program.
    #[arg(long)]
    runner: Option<PathBuf>,
    /// The runner built for aarch64, where this is another architecture.
    #[arg(long)]
    aarch64_runner: Option<PathBuf>,
    /// What runs it.
    #[arg(long, default_value = "qemu-aarch64-static")]
    emulator: PathBuf,
    /// Runners at once; by default one for each core.
    #[arg(long)]
    jobs: Option<usize>,
}

impl With {
    fn runners(self) -> anyhow::Result<Runners> {
        Runners::new(self.runner, self.aarch64_runner, self.emulator, self.jobs)
    }
}

fn main() -> ExitCode {
    match carry_out(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spec-suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Compile { target, out, only } => compile::compile(target, &out, &only),
        Command::Run { folder, allocator, brief, with } => {
            run::run(&folder, &allocator, brief, &with.runners()?)
        }
        Command::Smith { count, first, targets, work, with } => {
            smith::smith(first..first.saturating_add(count), &targets, &work, &with.runners()?)
        }
    }
}
