//! `aot-compiler --config FILE` serves; the hidden `aot-compiler job` is one compile inside its caps.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use aot_compiler::{
    config::Config,
    job::{
        JobCaps,
        child::{self, JobOrder},
    },
    server,
};
use artifact::{Profile, Target};
use clap::{Args, Parser, Subcommand};

/// Compiles WebAssembly to signed native code.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    /// The configuration, compiler.toml.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One compile: wasm on standard input, the answer on standard output. Started by the service.
    #[command(hide = true)]
    Job(JobArgs),
}

#[derive(Debug, Args)]
struct JobArgs {
    #[arg(long)]
    target: Target,
    #[arg(long, value_parser = parse_profile)]
    profile: Profile,
    #[arg(long, default_value_t = JobCaps::DEFAULT.memory_bytes)]
    memory_bytes: u64,
    #[arg(long, default_value_t = JobCaps::DEFAULT.cpu_s)]
    cpu_s: u64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn parse_profile(text: &str) -> Result<Profile, String> {
    let profile = Profile::Serve;
    if text == profile.to_string() { Ok(profile) } else { Err(format!("the only profile is {profile}")) }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match (cli.command, cli.config) {
        (Some(Command::Job(job)), _) => run_job(&job),
        (None, Some(config)) => run_service(config),
        (None, None) => unreachable!("clap requires --config without a subcommand"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aot-compiler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_job(job: &JobArgs) -> anyhow::Result<()> {
    let caps = JobCaps { memory_bytes: job.memory_bytes, cpu_s: job.cpu_s, wall: Duration::MAX };
    let order = JobOrder { target: job.target, profile: job.profile, caps, threads: job.threads };
    child::run(&order).context("running a compile job")
}

fn run_service(config: PathBuf) -> anyhow::Result<()> {
    process::init_logging();
    let config = Config::load(&config)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let stop = runtime.block_on(async { process::Stop::listen() }).context("listening for signals")?;
    let served = runtime.block_on(server::serve(config, stop.asked()));
    // A blocking thread may still wait on a pipe; what is left of it ends with the process.
    runtime.shutdown_background();
    Ok(served?)
}
