//! The command line as types. Help texts are golden files in `tests/golden`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use artifact::{
    AppName, HostName, NodeName, TenantName,
    names::{KvKey, PopName, SecretName, StoreName},
};
use clap::{Args, Parser, Subcommand, ValueEnum};

mod oci;
mod project;
mod verify;

pub use oci::{Push, Registry};
pub use project::{Build, Completions, Dev, Diff, New, Publish, Test, Versions};
pub use verify::Verify;

/// Skerry: run WebAssembly handlers at the edge.
#[derive(Debug, Parser)]
#[command(name = "skerry", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 something failed, 2 usage, 3 rejected, 4 halted and reverted (reserved),\n\
                        5 timed out, 6 control plane or registry unreachable.\n\n\
                        Credentials: --api and --token, else SKERRY_API and SKERRY_TOKEN, else the fleet in --data\n\
                        (default: `.skerry` here or in a directory above)."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// A command that talks to a control plane.
#[derive(Debug, Args)]
pub struct With<T: Args> {
    #[command(flatten)]
    pub command: T,
    #[command(flatten)]
    pub shared: Shared,
}

/// A group of commands that talk to a control plane.
#[derive(Debug, Args)]
pub struct Group<T: Subcommand> {
    #[command(subcommand)]
    pub command: T,
    #[command(flatten)]
    pub shared: Shared,
}

/// Options of the commands that talk to a control plane; of `up`, `--api` is the address to listen on.
#[derive(Debug, Clone, Default, Args)]
pub struct Shared {
    /// URL of the control plane's API
    #[arg(long, global = true, value_name = "URL", help_heading = "Control plane")]
    pub api: Option<String>,
    /// API token; prefer SKERRY_TOKEN, other users of this machine can see command lines
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "Control plane")]
    pub token: Option<String>,
    /// Directory of a fleet started with `skerry up`
    #[arg(long, global = true, value_name = "DIR", help_heading = "Control plane")]
    pub data: Option<PathBuf>,
    /// Tenant to act for; needs an operator's token [env: SKERRY_TENANT]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Control plane")]
    pub tenant: Option<TenantName>,
    /// PEM file with the certificate authorities to trust for an https API, instead of the system's
    #[arg(long, global = true, value_name = "FILE", help_heading = "Control plane")]
    pub ca: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a project: a folder with a program, its tests and a skerry.toml
    New(New),
    /// Run a project on this machine: build, serve, rebuild on save, show its logs
    Dev(Dev),
    /// Build a project by the command in its skerry.toml
    Build(Build),
    /// Run a project's tests by the command in its skerry.toml
    Test(Test),
    /// Build a project and deploy it
    Publish(With<Publish>),
    /// Run a whole fleet on this machine: compiler, control plane and one node
    Up(Up),
    /// Deploy a program and wait until it answers everywhere
    Deploy(With<Deploy>),
    /// Push a program to a registry of OCI images
    Push(Push),
    /// Show what is live where: of one app, or of the fleet
    Status(With<Status>),
    /// Show what runs where, by digest, and check that it is what was uploaded
    Verify(With<Verify>),
    /// Show what an app said, and what its requests cost
    Logs(With<Logs>),
    /// List the apps
    Apps(With<Apps>),
    /// Make an earlier version answer again
    Rollback(With<Rollback>),
    /// Compile kept versions anew, as for a compiler that was mended
    Recompile(With<Recompile>),
    /// List an app's versions
    Versions(With<Versions>),
    /// Show what differs between two versions of an app
    Diff(With<Diff>),
    /// Manage an app
    App(Group<App>),
    /// Change an app's plain configuration without a deploy
    Config(Group<Config>),
    /// Manage an app's secrets
    Secrets(Group<Secrets>),
    /// Read and write key-value stores
    Kv(Group<Kv>),
    /// Manage tenants (operator)
    Tenant(Group<Tenant>),
    /// Manage API tokens
    Token(Group<Token>),
    /// Manage nodes (operator)
    Node(Group<Node>),
    /// Change the keys that sign native code (operator)
    CompilerKey(Group<CompilerKey>),
    /// Make a component of a core module, as AssemblyScript compiles it
    Component(Component),
    /// Print a script that completes command lines
    Completions(Completions),
    /// Print the manual's page
    Man,
    /// Write a skerry.toml for a project made for another platform
    ///
    /// Says of each thing whether it was taken. Values of secrets and items of KV stores are not written.
    Init(Init),
    /// Print the JSON schema of skerry.toml, for editors
    Schema,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry init --from fastly.toml\n  skerry init --from spin.toml --component cart apps/cart\n  \
                        skerry init --from pkg/shop.tar.gz shop"
)]
pub struct Init {
    /// A fastly.toml or spin.toml, a folder with one, or a Fastly package (.tar.gz)
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Where skerry.toml goes; default: beside FILE, for a package here
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Which component of a spin.toml
    #[arg(long, value_name = "NAME")]
    pub component: Option<String>,
    /// The app's name; default: that of the manifest
    #[arg(long, value_name = "NAME")]
    pub app: Option<AppName>,
    /// Write over a skerry.toml that is there
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Up {
    /// Deploy this once the fleet is up: a folder with skerry.toml, fastly.toml or spin.toml, a Fastly package, or a .wasm file
    #[arg(value_name = "PROJECT|PACKAGE")]
    pub project: Option<PathBuf>,
    /// Read fastly.<ENV>.toml instead of fastly.toml
    #[arg(long, value_name = "ENV", value_parser = env_name, requires = "project")]
    pub env: Option<String>,
    /// Address to serve HTTPS on, TCP and UDP; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub https: SocketAddr,
    /// Also serve plain HTTP on this address
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Address of the control plane's API; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7400")]
    pub api: SocketAddr,
    /// Database for the geography of clients (.mmdb)
    #[arg(long, value_name = "FILE")]
    pub geo_database: Option<PathBuf>,
    /// Niceness of the node's threads for programs that take longer; 19, as any other node has, to measure latencies
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub slow_lane_nice: u8,
    /// Where the fleet keeps everything; the same directory brings back the same fleet
    #[arg(long, value_name = "DIR", default_value = ".skerry")]
    pub data: PathBuf,
    /// Write addresses, files and process ids to this file (JSON) when ready
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Print what stands in the ready file, instead of the summary
    #[arg(long)]
    pub json: bool,
    /// Compile for this machine alone: what `dev` wants.
    #[arg(skip)]
    pub this_machine_only: bool,
}

#[derive(Debug, Args)]
pub struct Component {
    /// The core module: it imports wasi: interfaces of 0.2 and exports wasi:http/incoming-handler@0.2.x#handle
    #[arg(value_name = "FILE.core.wasm")]
    pub module: PathBuf,
    /// Where the component goes
    #[arg(long, value_name = "FILE.wasm")]
    pub out: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// The app; default: that of skerry.toml here or above, else the fleet
    pub app: Option<AppName>,
    /// The fleet, also in an app's folder
    #[arg(long, conflicts_with = "app")]
    pub fleet: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry logs shop              the last lines, as far as nodes remember them\n  \
                  skerry logs shop -f           these, then each line as it comes; Ctrl-C ends it\n  \
                  skerry logs shop -f --since 0s --json | jq -r .text\n\n\
                  Times are UTC. What would do more in a terminal than show itself is spelled out: \\u{1b}."
)]
pub struct Logs {
    /// The app; default: that of skerry.toml here or above
    pub app: Option<AppName>,
    /// Go on with what comes, until it is stopped
    #[arg(long, short)]
    pub follow: bool,
    /// Of what nodes remember only that of the last so long, such as 5m; 0s: nothing
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Option<Duration>,
}

#[derive(Debug, Args)]
pub struct Apps {}

#[derive(Debug, Args)]
pub struct Deploy {
    /// A folder with skerry.toml, fastly.toml or spin.toml, a Fastly package (.tar.gz), a .wasm file, or an image in a registry
    #[arg(value_name = "FOLDER|PACKAGE|FILE.wasm|oci://IMAGE", default_value = ".")]
    pub source: PathBuf,
    /// Settings for a .wasm file or an image: a skerry.toml, whose component is not read
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// The app's name; default: that of the manifest, or of the file
    #[arg(long, value_name = "NAME")]
    pub app: Option<AppName>,
    /// Host name the app answers for, instead of those in skerry.toml; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<HostName>,
    /// Read fastly.<ENV>.toml instead of fastly.toml
    #[arg(long, value_name = "ENV", value_parser = env_name)]
    pub env: Option<String>,
    /// How long to wait until all nodes serve it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Return as soon as the deploy is durable
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
    #[command(flatten)]
    pub registry: Registry,
}

#[derive(Debug, Args)]
pub struct Rollback {
    /// The app; default: that of skerry.toml here or above
    pub app: Option<AppName>,
    /// Version to go back to; default: the one before the active one
    #[arg(value_name = "VERSION", value_parser = project::version, conflicts_with = "to")]
    pub version: Option<u64>,
    /// The same, where no app is named
    #[arg(long, value_name = "VERSION", value_parser = project::version)]
    pub to: Option<u64>,
    /// How long to wait until all nodes serve it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Return as soon as the rollback is durable
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry recompile --all --reason \"compiler 45.0.2 mends a wrong shift\"\n  \
                  skerry recompile --app shop --reason \"CVE-2026-1\" --no-wait\n  skerry recompile --watch 7\n\n\
                  Versions keep their numbers, and nodes take the new code while the old serves. Ctrl-C stops looking, not\n\
                  the work. Exit code 1: some versions could not be compiled; they keep the code they have."
)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["all", "app", "watch", "cancel"]))]
pub struct Recompile {
    /// All kept versions of all apps of all tenants (operator)
    #[arg(long, requires = "reason")]
    pub all: bool,
    /// All kept versions of this app
    #[arg(long, value_name = "NAME", requires = "reason")]
    pub app: Option<AppName>,
    /// Look at what was asked for before
    #[arg(long, value_name = "ID", conflicts_with_all = ["reason", "no_wait"])]
    pub watch: Option<u64>,
    /// End what was asked for before: what is done keeps its new code, the rest what it has
    #[arg(long, value_name = "ID", conflicts_with_all = ["reason", "no_wait"])]
    pub cancel: Option<u64>,
    /// Why; kept with the request
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Return as soon as the request is durable
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum App {
    /// Delete an app, its versions and its host names
    Delete {
        /// The app
        app: AppName,
    },
}

/// How long a change is watched.
#[derive(Debug, Clone, Args)]
pub struct Waiting {
    /// How long to wait until all nodes serve it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Return as soon as the change is durable
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Set entries: a new version of the same program, released at once
    ///
    /// The next deploy brings the configuration of its manifest again: what is to stay belongs there too.
    #[command(override_usage = "skerry config set [OPTIONS] [APP] <KEY=VALUE>...")]
    Set {
        /// Entries to set, after the app if that is not the one of skerry.toml here or above
        #[arg(value_name = "[APP] KEY=VALUE", required = true, value_parser = app_or_entry)]
        entries: Vec<AppOrEntry>,
        /// The config store; default: the app's default one
        #[arg(long, value_name = "NAME")]
        store: Option<StoreName>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List the entries of the active version
    List {
        /// The app; default: that of skerry.toml here or above
        app: Option<AppName>,
    },
    /// Take entries out: a new version of the same program, released at once
    #[command(override_usage = "skerry config unset [OPTIONS] [APP] <KEY>...")]
    Unset {
        /// Keys to take out, after the app; with one word alone it is the app of skerry.toml here or above
        #[arg(value_name = "[APP] KEY", required = true)]
        keys: Vec<String>,
        /// The config store; default: the app's default one
        #[arg(long, value_name = "NAME")]
        store: Option<StoreName>,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Subcommand)]
pub enum Secrets {
    /// Set a secret; its value is typed unseen, or read from standard input
    ///
    /// An app that declares it gets a new version of the same program, released at once. One line end at the value's end
    /// is dropped; --file keeps every byte.
    #[command(allow_missing_positional = true)]
    Set {
        /// The app, which need not be deployed yet; default: that of skerry.toml here or above
        app: Option<AppName>,
        /// The secret's name
        // Text: an error of clap's own would repeat what was typed, and that may be a value.
        #[arg(required = true)]
        key: String,
        /// The secret store; default: the app's default one
        #[arg(long, value_name = "NAME")]
        store: Option<StoreName>,
        /// Read the value from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Set several secrets, from lines NAME=VALUE of a file or of standard input
    ///
    /// All of them are set or none. An app that declares any of them gets one new version of the same program, released at
    /// once. Lines are those of an .env file: empty ones and those that begin with # are left out, `export ` may stand
    /// before a name, and a value may stand in '…', as it is, or in "…", with \n, \t, \" and \\ for a line end, a
    /// tab, a quote and a backslash. A value with a # behind a space must stand in quotes.
    Import {
        /// The app, which need not be deployed yet; default: that of skerry.toml here or above
        app: Option<AppName>,
        /// The secret store; default: the app's default one
        #[arg(long, value_name = "NAME")]
        store: Option<StoreName>,
        /// Read the lines from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List the secrets by name; values are never shown
    List {
        /// The app; default: that of skerry.toml here or above
        app: Option<AppName>,
    },
    /// Forget a secret that the active version does not declare
    #[command(allow_missing_positional = true)]
    Unset {
        /// The app; default: that of skerry.toml here or above
        app: Option<AppName>,
        /// The secret's name
        #[arg(required = true)]
        key: SecretName,
        /// The secret store; default: the app's default one
        #[arg(long, value_name = "NAME")]
        store: Option<StoreName>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Kv {
    /// Write an entry; its value is read from standard input or a file
    Put {
        /// The store; it is made with its first entry
        store: StoreName,
        /// The key
        #[arg(value_parser = key)]
        key: KvKey,
        /// Read the value from this file instead of standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How long it lives, such as 1h; default: until deleted
        #[arg(long, value_name = "TIME", value_parser = duration)]
        ttl: Option<Duration>,
        /// Text to keep beside the value, at most 2 KiB
        #[arg(long, value_name = "TEXT")]
        metadata: Option<String>,
        /// Only if the entry has this generation
        #[arg(long, value_name = "NUMBER")]
        if_generation: Option<u64>,
        /// How it meets an entry that is there
        #[arg(long, value_enum, default_value = "overwrite")]
        mode: KvMode,
    },
    /// Write an entry's value to standard output as it is; with --json also what stands beside it
    Get {
        /// The store
        store: StoreName,
        /// The key
        #[arg(value_parser = key)]
        key: KvKey,
    },
    /// List keys, in the order of their bytes
    List {
        /// The store; without it: the stores
        store: Option<StoreName>,
        /// Only keys that begin with this
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
        /// At most so many, 1 to 1000
        #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Where the page before ended
        #[arg(long, value_name = "CURSOR")]
        cursor: Option<String>,
    },
    /// Delete an entry
    Delete {
        /// The store
        store: StoreName,
        /// The key
        #[arg(value_parser = key)]
        key: KvKey,
        /// Only if the entry has this generation
        #[arg(long, value_name = "NUMBER")]
        if_generation: Option<u64>,
    },
}

/// How a written value meets one that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvMode {
    /// Take its place
    Overwrite,
    /// Refuse
    Add,
    /// Go behind it
    Append,
    /// Go before it
    Prepend,
}

impl KvMode {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            KvMode::Overwrite => "overwrite",
            KvMode::Add => "add",
            KvMode::Append => "append",
            KvMode::Prepend => "prepend",
        }
    }
}

/// A word of `config set`.
#[derive(Debug, Clone)]
pub enum AppOrEntry {
    /// The app.
    App(AppName),
    /// `KEY=VALUE`.
    Entry(String, String),
}

fn app_or_entry(text: &str) -> Result<AppOrEntry, String> {
    match text.parse() {
        Ok(app) => Ok(AppOrEntry::App(app)),
        Err(_) => entry(text).map(|(key, value)| AppOrEntry::Entry(key, value)),
    }
}

fn entry(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not of the form KEY=VALUE".to_owned()),
    }
}

fn key(text: &str) -> Result<KvKey, String> {
    text.parse().map_err(|error: artifact::names::NameError| error.to_string())
}

#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Create a tenant
    Create {
        /// Its name
        // Not `tenant`: that is the option's id, and clap would take one for the other.
        #[arg(value_name = "NAME")]
        name: TenantName,
    },
    /// List the tenants
    List,
}

#[derive(Debug, Subcommand)]
pub enum Token {
    /// Create an API token; it is shown once
    Create {
        /// What it may do; may be repeated
        #[arg(long = "action", value_name = "ACTION", value_enum, default_values = ["deploy", "read"])]
        actions: Vec<Action>,
        /// Only for this app
        #[arg(long, value_name = "NAME")]
        app: Option<AppName>,
        /// A token for the whole fleet instead of a tenant (operator)
        #[arg(long, conflicts_with_all = ["app", "tenant"])]
        operator: bool,
        /// How long it is valid, such as 12h or 30d; default: until revoked
        #[arg(long, value_name = "TIME", value_parser = duration)]
        ttl: Option<Duration>,
    },
    /// List the tokens, without their secrets
    List,
    /// Revoke a token
    Revoke {
        /// Its id, as in `token list`
        id: String,
    },
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Action {
    /// Deploy, roll back and delete apps
    Deploy,
    /// Read
    Read,
    /// Manage the tenant's tokens
    Admin,
}

impl Action {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Read => "read",
            Action::Admin => "admin",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Node {
    /// Manage join tokens
    #[command(subcommand)]
    Token(NodeToken),
    /// List the nodes
    List,
    /// Revoke a node's identity: it may not connect again
    Revoke {
        /// The node, as in `node list`
        node: NodeName,
    },
}

#[derive(Debug, Subcommand)]
pub enum CompilerKey {
    /// List the keys: which are trusted, and by whose word
    List,
    /// Publish what one key says of another: an endorsement, or a revocation
    #[command(
        after_help = "FILE is what `aot-compiler key endorse` or `aot-compiler key revoke` wrote. A key that is trusted has to have\n\
                      signed it: neither an operator nor the control plane can make a key trusted. A revoked key never comes\n\
                      back; code that it signed is not loaded any more, so compile all anew before: skerry recompile --all"
    )]
    Add {
        /// The signed change
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum NodeToken {
    /// Create a single-use token for one node to join with
    Create {
        /// The POP the node will be in, such as fra1
        #[arg(long, value_name = "POP")]
        pop: PopName,
        /// How long it may be used, such as 15m or 1h
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
        ttl: Duration,
    },
}

/// An environment's name: part of a file's name, and no path.
fn env_name(text: &str) -> Result<String, String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
    match !text.is_empty() && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("an environment's name has letters, digits, '-' and '_' only".into()),
    }
}

/// The longest time span an option takes: ten years. Longer is a slip of the keyboard.
const DURATION_S_MAX: u64 = 10 * 365 * 24 * 3600;

/// `30s`, `15m`, `12h`, `7d` or `250ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted =
        || format!("{text:?} is no time span; write a number and its unit: 250ms, 30s, 15m, 12h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wanted()),
    };
    let ms = number.checked_mul(ms_per_unit).filter(|ms| *ms <= DURATION_S_MAX * 1_000);
    ms.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is longer than ten years"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_manual_parses() {
        for line in [
            "skerry up",
            "skerry up examples/hello --data d --https 127.0.0.1:0 --http 127.0.0.1:0 --api 127.0.0.1:0 --ready-file f --json",
            "skerry deploy",
            "skerry deploy hello.wasm --app hello --host a.example --host b.example --api http://x --token t --json",
            "skerry new shop --lang rust --template router --dir d --json",
            "skerry new --list --json",
            "skerry dev shop --https 127.0.0.1:0 --http 127.0.0.1:0",
            "skerry build --json",
            "skerry test shop",
            "skerry publish . --host a.example --timeout 5s --json",
            "skerry versions shop --json",
            "skerry diff shop 1 v2 --json",
            "skerry completions bash",
            "skerry man",
            "skerry deploy --no-wait",
            "skerry deploy app.tar.gz --env staging",
            "skerry up . --env staging --geo-database city.mmdb --slow-lane-nice 19",
            "skerry status --json",
            "skerry status hello",
            "skerry apps --json",
            "skerry logs shop -f --since 5m --json",
            "skerry rollback hello --to 3 --json",
            "skerry rollback hello v3",
            "skerry rollback --to 3",
            "skerry logs -f",
            "skerry versions",
            "skerry status --fleet",
            "skerry diff 1 2",
            "skerry config set a=1",
            "skerry config unset a",
            "skerry config list",
            "skerry secrets set KEY",
            "skerry secrets unset KEY",
            "skerry secrets list",
            "skerry kv list",
            "skerry app delete hello --json",
            "skerry config set shop a=1 b=c=d --store s --no-wait --json",
            "skerry config list shop",
            "skerry config unset shop a b",
            "skerry secrets set shop KEY --store vault --file f --timeout 5s",
            "skerry secrets import shop --store vault --file .env --no-wait --json",
            "skerry secrets list shop --json",
            "skerry secrets unset shop KEY",
            "skerry kv put carts k --ttl 1h --file f --metadata m --if-generation 3 --json",
            "skerry kv put carts k --mode append",
            "skerry kv get carts k",
            "skerry kv list carts --prefix a --limit 10 --cursor 61",
            "skerry kv delete carts k --if-generation 3",
            "skerry tenant create acme --json",
            "skerry tenant list --json",
            "skerry token create --tenant acme --action deploy --action admin --app hello --ttl 30d --json",
            "skerry token list --json",
            "skerry token revoke id --json",
            "skerry node token create --pop fra1 --ttl 1h --json",
            "skerry node list --json",
            "skerry node revoke fra1-1 --json",
            "skerry init --from spin.toml --component cart apps/cart --app cart --force --json",
            "skerry schema",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn up_takes_api_as_the_address_to_listen_on_and_deploy_as_a_url() {
        let Command::Up(up) = parse("skerry up --api 127.0.0.1:7000").unwrap().command else { panic!("up") };
        assert_eq!(up.api.port(), 7000);
        let Command::Deploy(deploy) = parse("skerry deploy --api http://x:1").unwrap().command else {
            panic!("deploy")
        };
        assert_eq!(deploy.shared.api.as_deref(), Some("http://x:1"));
    }

    #[test]
    fn creating_a_tenant_does_not_act_for_it() {
        let Command::Tenant(group) = parse("skerry tenant create acme").unwrap().command else {
            panic!("tenant")
        };
        assert_eq!(group.shared.tenant, None);
        assert!(matches!(group.command, Tenant::Create { name } if name.as_str() == "acme"));
    }

    #[test]
    fn names_are_checked_before_anything_is_sent() {
        for line in [
            "skerry deploy --app Bad_Name",
            "skerry deploy --host 127.0.0.1",
            "skerry app delete ../x",
            "skerry deploy --env ../x",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "5", "h", "1.5h", "-1s", "99999999999999999999s", "4000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
