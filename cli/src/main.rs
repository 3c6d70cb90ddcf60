//! `skerry`: the command line, and a whole fleet on one machine (`skerry up`).
//!
//! A command is one function in `commands/` that reads as its steps. Relied on: the deploy API (`api/`) and the
//! three servers beside this executable (`up/`). Deliberately absent: async, and any decision the control plane
//! has to take anyway.

mod api;
mod args;
mod assets;
mod build;
mod carets;
mod commands;
mod component;
mod credentials;
mod dev;
mod error;
mod exit;
mod here;
mod import;
mod logs;
mod near;
mod new;
mod oci;
mod output;
mod project;
mod tools;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    api::Api,
    args::{Cli, Command, Shared},
    credentials::{Credentials, Surroundings},
    error::{Error, Result},
    exit::Exit,
    output::Output,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results, everything else is usage; clap prints each to the right stream.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let output = Output::new(cli.command.wants_json());
    match run(cli.command, output) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            eprintln!("{}", error.report());
            // An outcome's JSON is already there: it has more to say than the error.
            if output == Output::Json && !matches!(error, Error::Outcome(..)) {
                let _ = output.print(&error.to_json(), String::new);
            }
            error.exit().into()
        }
    }
}

fn run(command: Command, output: Output) -> Result<()> {
    match command {
        Command::New(args) => new::run(&args, output),
        Command::Dev(args) => dev::run(&args),
        Command::Build(args) => commands::build::build(&args, output),
        Command::Test(args) => commands::build::test(&args),
        Command::Publish(with) => commands::build::publish(&api(&with.shared)?, &with.command, output),
        Command::Up(up) => up::run(&up, output),
        Command::Deploy(with) => commands::deploy::run(&api(&with.shared)?, &with.command, output),
        Command::Push(args) => commands::push::run(&args, output),
        Command::Status(with) => commands::status::run(&api(&with.shared)?, &with.command, output),
        Command::Verify(with) => commands::verify::run(&api(&with.shared)?, &with.command, output),
        Command::Logs(with) => commands::logs::run(&api(&with.shared)?, &with.command, output),
        Command::Apps(with) => commands::apps::list(&api(&with.shared)?, output),
        Command::Rollback(with) => commands::apps::rollback(&api(&with.shared)?, &with.command, output),
        Command::Recompile(with) => commands::recompile::run(&api(&with.shared)?, &with.command, output),
        Command::Versions(with) => commands::versions::list(&api(&with.shared)?, &with.command, output),
        Command::Diff(with) => commands::versions::diff(&api(&with.shared)?, &with.command, output),
        Command::App(group) => commands::apps::app(&api(&group.shared)?, &group.command, output),
        Command::Config(group) => commands::config::run(&api(&group.shared)?, &group.command, output),
        Command::Secrets(group) => commands::secrets::run(&api(&group.shared)?, &group.command, output),
        Command::Kv(group) => commands::kv::run(&api(&group.shared)?, &group.command, output),
        Command::Tenant(group) => commands::tenant::run(&api(&group.shared)?, &group.command, output),
        Command::Token(group) => {
            commands::token::run(&api(&group.shared)?, &group.command, group.shared.tenant.as_ref(), output)
        }
        Command::Node(group) => commands::node::run(&api(&group.shared)?, &group.command, output),
        Command::CompilerKey(group) => {
            commands::compiler_key::run(&api(&group.shared)?, &group.command, output)
        }
        Command::Component(args) => commands::component::run(&args, output),
        Command::Completions(args) => commands::shell::completions(&args),
        Command::Man => commands::shell::man(),
        Command::Init(args) => commands::init::run(&args, output),
        // It is JSON by itself.
        Command::Schema => Output::Json.print(&artifact::manifest::schema::schema(), String::new),
    }
}

fn api(shared: &Shared) -> Result<Api> {
    let directory = std::env::current_dir().map_err(Error::io("finding the current directory"))?;
    let env = |name: &str| std::env::var(name).ok();
    Api::new(Credentials::find(shared, &Surroundings { env: &env, directory: &directory })?)
}

impl Command {
    fn wants_json(&self) -> bool {
        match self {
            Command::New(args) => args.json,
            Command::Dev(_) | Command::Test(_) => false,
            Command::Build(args) => args.json,
            Command::Publish(with) => with.shared.json,
            Command::Up(up) => up.json,
            Command::Deploy(with) => with.shared.json,
            Command::Push(args) => args.json,
            Command::Status(with) => with.shared.json,
            Command::Verify(with) => with.shared.json,
            Command::Logs(with) => with.shared.json,
            Command::Apps(with) => with.shared.json,
            Command::Rollback(with) => with.shared.json,
            Command::Recompile(with) => with.shared.json,
            Command::Versions(with) => with.shared.json,
            Command::Diff(with) => with.shared.json,
            Command::Completions(_) | Command::Man => false,
            Command::App(group) => group.shared.json,
            Command::Config(group) => group.shared.json,
            Command::Secrets(group) => group.shared.json,
            Command::Kv(group) => group.shared.json,
            Command::Tenant(group) => group.shared.json,
            Command::Token(group) => group.shared.json,
            Command::Node(group) => group.shared.json,
            Command::CompilerKey(group) => group.shared.json,
            Command::Component(args) => args.json,
            Command::Init(args) => args.json,
            Command::Schema => false,
        }
    }
}
