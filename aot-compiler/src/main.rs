//! `aot-compiler --config FILE` serves; `compile`, `inspect` and `key` are for people; the hidden `job` is one compile inside its caps.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use aot_compiler::{
    command::{self, compile::Compile, key::Say},
    config::Config,
    job::{
        JobCaps,
        child::{self, JobOrder, PrepareOrder},
    },
    server,
};
use artifact::{Profile, Target, key_change::Verb, manifest::Prepare};
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
    /// Compile a program to a signed artifact, as the service would
    #[command(
        after_help = "Examples:\n  aot-compiler compile app.wasm --target x86_64-v3 --out app.skerry\n  aot-compiler compile app.wasm --out artifacts/"
    )]
    Compile(CompileArgs),
    /// Show what an artifact is: its statement, who signed it, and its parts. Exit code 1: it is not sound
    #[command(
        after_help = "Examples:\n  aot-compiler inspect app.skerry\n  aot-compiler inspect app.skerry --key /var/lib/skerry/compiler/compiler.pub"
    )]
    Inspect(InspectArgs),
    /// Make signing keys, and say by one that another is to be believed, or is not any more
    #[command(
        subcommand,
        after_help = "Examples:\n  aot-compiler key new --data-dir next\n  aot-compiler key endorse next/compiler.pub --data-dir /var/lib/skerry/compiler --out next.endorsed\n  aot-compiler key revoke old.pub --data-dir /var/lib/skerry/compiler --out old.revoked\n\nWhat is signed here reaches the fleet by `skerry compiler-key add FILE`."
    )]
    Key(KeyCommand),
    /// One compile: wasm on standard input, the answer on standard output. Started by the service.
    #[command(hide = true)]
    Job(JobArgs),
    /// The same for preparing a program.
    #[command(hide = true)]
    PrepareJob(PrepareJobArgs),
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key: compiler.key and compiler.pub in a folder that has none
    New {
        /// The folder; made when missing
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Sign that what another key signs is to be believed as what this one signs
    Endorse(SayArgs),
    /// Sign that what another key signs is not to be believed any more, ever
    Revoke(SayArgs),
    /// Show which key a compiler.pub holds, or what a signed change says
    Show {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct SayArgs {
    /// File with the other's public key (compiler.pub)
    #[arg(value_name = "KEY")]
    of: PathBuf,
    /// Folder with the compiler.key that signs
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where the signed change goes; a new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Must be higher than in every change before. Default: this machine's time in milliseconds
    #[arg(long, value_name = "NUMBER")]
    serial: Option<u64>,
}

#[derive(Debug, Args)]
struct JobArgs {
    #[arg(long)]
    target: Target,
    #[arg(long, value_parser = parse_profile)]
    profile: Profile,
    /// See [`JobOrder`].
    #[arg(long)]
    pack_bytes: Option<u64>,
    #[command(flatten)]
    caps: CapArgs,
}

#[derive(Debug, Args)]
struct PrepareJobArgs {
    #[arg(long, value_parser = parse_wish)]
    wish: Prepare,
    #[command(flatten)]
    caps: CapArgs,
}

#[derive(Debug, Args)]
struct CapArgs {
    #[arg(long, default_value_t = JobCaps::DEFAULT.memory_bytes)]
    memory_bytes: u64,
    #[arg(long, default_value_t = JobCaps::DEFAULT.cpu_s)]
    cpu_s: u64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, Args)]
struct CompileArgs {
    /// The program: a component of wasi:http, or a core module of the Fastly interface
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Processor level; may be repeated. Default: all
    #[arg(long = "target", value_name = "LEVEL")]
    targets: Vec<Target>,
    /// Where the artifact goes; for several levels a folder
    #[arg(short, long, value_name = "PATH")]
    out: PathBuf,
    /// Folder with the compiler.key that signs. Default: a key made for this command, which no node trusts
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InspectArgs {
    /// The artifact, as `compile` or a blob store has it
    #[arg(value_name = "ARTIFACT")]
    file: PathBuf,
    /// File with the compiler's public key (compiler.pub), to check the signature by
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

fn parse_wish(text: &str) -> Result<Prepare, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn parse_profile(text: &str) -> Result<Profile, String> {
    let profile = Profile::Serve;
    if text == profile.to_string() { Ok(profile) } else { Err(format!("the only profile is {profile}")) }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match (cli.command, cli.config) {
        (Some(Command::Job(job)), _) => run_job(&job),
        (Some(Command::PrepareJob(job)), _) => run_prepare_job(job),
        (Some(Command::Compile(args)), _) => run_compile(args),
        (Some(Command::Inspect(args)), _) => run_inspect(&args),
        (Some(Command::Key(command)), _) => run_key(command),
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
    let (caps, threads) = (job.caps.caps(), job.caps.threads);
    let JobArgs { target, profile, pack_bytes, .. } = *job;
    let order = JobOrder { target, profile, caps, threads, pack_bytes };
    child::run(&order).context("running a compile job")
}

fn run_prepare_job(job: PrepareJobArgs) -> anyhow::Result<()> {
    let order = PrepareOrder { caps: job.caps.caps(), threads: job.caps.threads, wish: job.wish };
    child::run_prepare(&order).context("running a prepare job")
}

impl CapArgs {
    fn caps(&self) -> JobCaps {
        JobCaps { memory_bytes: self.memory_bytes, cpu_s: self.cpu_s, wall: Duration::MAX }
    }
}

fn run_compile(args: CompileArgs) -> anyhow::Result<()> {
    let targets = if args.targets.is_empty() { Target::ALL.to_vec() } else { args.targets };
    let order = Compile { file: args.file, targets, out: args.out, data_dir: args.data_dir };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    for line in runtime.block_on(command::compile::run(&order))? {
        println!("{line}");
    }
    Ok(())
}

fn run_inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| format!("reading the key {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no compiler's public key", path.display()))
    };
    let key = args.key.as_ref().map(read).transpose()?;
    let found = command::inspect::run(&args.file, key.as_ref())?;
    print!("{}", found.text);
    anyhow::ensure!(found.is_sound, "{} is not sound: a node would refuse it", args.file.display());
    Ok(())
}

fn run_key(command: KeyCommand) -> anyhow::Result<()> {
    let say = |verb, SayArgs { of, data_dir, out, serial }: SayArgs| {
        command::key::say(&Say { verb, of, data_dir, out, serial })
    };
    let line = match command {
        KeyCommand::New { data_dir } => command::key::new(&data_dir)?,
        KeyCommand::Endorse(args) => say(Verb::Endorses, args)?,
        KeyCommand::Revoke(args) => say(Verb::Revokes, args)?,
        KeyCommand::Show { file } => command::key::show(&file)?,
    };
    println!("{line}");
    Ok(())
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
