//! Every figure's command. Each prints the machine, the commit and how it measured, and compares with a reference
//! measured in the same run.
//!
//! | Command | Figure |
//! |---|---|
//! | [`micro`] | one execution in process: instantiate + run + drop, against plain wasmtime |
//! | [`counts`] | counts of one request, compared with those the repository keeps |
//! | [`neighbours`] | what a tenant notices of hostile ones beside it |
//! | [`proxy`] | CPU of a request that is passed on to a backend |
//! | [`density`] | memory, first answers, lookups and swaps of a node with thousands of apps |
//! | [`deploy`] | from `skerry deploy` to the first answer of the new version |
//! | [`compile`] | time and memory of compiling, with functions known and without |
//! | [`run`] | what a server answers under the load of a scenario, which [`generate`] makes |
//! | [`compare`] | a node and its peers under one load; [`servers`] starts them |
//! | [`tail`] | latencies at 60 % of the most, quiet and beside hostile neighbours |
//! | [`growth`] | CPU of a request when connections and apps become many |
//! | [`stages`] | where the CPU of a request goes, by stage |
//!
//! What commands share: [`options`]; [`questions`] that are not the load; [`under_load`] for a server that is asked;
//! [`progress`] and [`stop`] while they measure; [`page`] for a browser; [`machine`] and [`statistics`] in what they say.
//!
//! Deliberately absent so far: the fleet simulation.

mod compare;
mod compile;
mod counters;
mod counts;
mod density;
mod deploy;
mod generate;
mod growth;
mod machine;
mod micro;
mod neighbours;
mod options;
mod overrides;
mod page;
mod progress;
mod proxy;
mod questions;
mod run;
mod servers;
mod stages;
mod statistics;
mod stop;
mod tail;
mod under_load;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Measures Skerry.
#[derive(Parser)]
#[command(name = "loadtest", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One execution in process: instantiate + run + drop in microseconds, page faults, system calls, allocations
    Micro(micro::Args),
    /// Counts of one request that do not depend on a quiet machine: allocations, page faults, system calls, instructions
    Counts(counts::Args),
    /// What compiling takes: all levels of a hello, each level of a JS app, and one of which most is known
    Compile(compile::Args),
    /// From `skerry deploy` to the first 200 of the new version, on a whole fleet of this machine
    Deploy(deploy::Args),
    /// What a tenant notices of endless loops and whole-memory fills beside it, on a node with real sockets
    Neighbours(neighbours::Args),
    /// CPU that a node spends on a request its guest passes on to a backend, beside that of a hello
    Proxy(proxy::Args),
    /// Ten thousand apps on one node: memory of an idle one, its first answer, route lookup, releases
    Density(density::Args),
    /// Load of a scenario on a server: answers a second, latencies, errors
    Run(run::Args),
    /// A node and its peers under one load, beside bare hyper: CPU of a request, answers a second, latencies, memory
    Compare(compare::Args),
    /// Latencies of a node at 60 % of the most it answers, beside bare hyper and beside hostile neighbours
    Tail(tail::Args),
    /// What a request costs over 16 to 2,000 connections, and with 1,000 active apps
    Growth(growth::Args),
    /// Where the CPU of a request goes on a node, by stage: needs perf
    Stages(stages::Args),
    /// The process whose system calls `micro` counts
    #[command(hide = true)]
    Cycles(micro::syscalls::Args),
    /// A server with nothing in it, as a process of its own: what `compare` measures against
    #[command(hide = true)]
    ServeBare(servers::bare::Args),
}

/// The exit code of `--check` when a figure is above its goal.
const NOT_MET: u8 = 1;

/// Did every figure reach its goal?
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Met,
    NotMet,
    /// There is no goal for it.
    NoGoal,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::NotMet => "NOT MET",
            Verdict::NoGoal => "-",
        }
    }
}

fn main() -> ExitCode {
    let ran = match Cli::parse().command {
        Command::Micro(args) => micro::run(&args),
        Command::Counts(args) => counts::run(&args),
        Command::Compile(args) => compile::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Neighbours(args) => neighbours::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Density(args) => density::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Growth(args) => growth::run(&args),
        Command::Stages(args) => stages::run(&args),
        Command::Cycles(args) => micro::syscalls::child(&args).map(|()| Verdict::NoGoal),
        Command::ServeBare(args) => servers::bare::run(&args).map(|()| Verdict::NoGoal),
    };
    match ran {
        Ok(Verdict::NotMet) => ExitCode::from(NOT_MET),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What a command has found: for a person, or as JSON.
fn print<R: serde::Serialize>(
    report: &R,
    as_json: bool,
    text: impl FnOnce(&R) -> String,
) -> anyhow::Result<()> {
    match as_json {
        true => println!("{}", serde_json::to_string_pretty(report)?),
        false => print!("{}", text(report)),
    }
    Ok(())
}

/// A page of it.
fn write(path: &std::path::Path, page: &str) -> anyhow::Result<()> {
    std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
