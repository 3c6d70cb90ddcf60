//! Commands on a project in a folder: from nothing to a program, and from a program to an app.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use artifact::{AppName, HostName};
use clap::Args;

use super::{Deploy, Registry, Up, duration};
use crate::new::Lang;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry new shop --lang rust\n  skerry new pics --lang as --template router\n  \
                        skerry new --list"
)]
pub struct New {
    /// The app's name, and that of its folder
    #[arg(required_unless_present = "list")]
    pub name: Option<AppName>,
    /// The language it is written in
    #[arg(long, value_enum, value_name = "rust|as|js|python", required_unless_present = "list")]
    pub lang: Option<Lang>,
    /// What it is to be
    #[arg(long, value_name = "TEMPLATE", default_value = "hello")]
    pub template: String,
    /// The folder, if not one of the app's name here
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// List the templates with their languages
    #[arg(long, conflicts_with_all = ["name", "lang", "template", "dir"])]
    pub list: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Build {
    /// The folder with skerry.toml
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Test {
    /// The folder with skerry.toml
    #[arg(default_value = ".")]
    pub folder: PathBuf,
}

#[derive(Debug, Args)]
pub struct Publish {
    /// The folder with skerry.toml
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// The app's name; default: that of the manifest
    #[arg(long, value_name = "NAME")]
    pub app: Option<AppName>,
    /// Host name the app answers for, instead of those in skerry.toml; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<HostName>,
    /// How long to wait until all nodes serve it
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Return as soon as the deploy is durable
    #[arg(long, conflicts_with = "timeout")]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "It asks nothing of the network. Examples:\n  skerry dev\n  skerry dev shop --https 127.0.0.1:9443\n\n\
                        A fleet that already runs in .skerry here or in a directory above is used as it is."
)]
pub struct Dev {
    /// The folder with skerry.toml, fastly.toml or spin.toml
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Address to serve HTTPS on, TCP and UDP; port 0 picks one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub https: SocketAddr,
    /// Also serve plain HTTP on this address
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Database for the geography of clients (.mmdb)
    #[arg(long, value_name = "FILE")]
    pub geo_database: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Versions {
    /// The app; default: that of skerry.toml here or above
    pub app: Option<AppName>,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "skerry diff [OPTIONS] [APP] <V1> <V2>",
    after_help = "Examples:\n  skerry diff shop 3 4\n  skerry diff 3 4        in the app's folder"
)]
pub struct Diff {
    /// The version to begin with and the one to compare with it, after the app if that is not the one of skerry.toml here or
    /// above
    #[arg(value_name = "[APP] V1 V2", required = true, num_args = 1..=3)]
    pub words: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  skerry completions bash > ~/.local/share/bash-completion/completions/skerry\n  \
                        skerry completions zsh > ~/.zfunc/_skerry\n  \
                        skerry completions fish > ~/.config/fish/completions/skerry.fish"
)]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// A version's number, as it is written or as it is shown: `4` or `v4`.
pub(super) fn version(text: &str) -> Result<u64, String> {
    text.strip_prefix('v')
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("{text:?} is no version; write 4 or v4"))
}

impl Diff {
    /// The app, if it is named, and the two versions.
    pub fn parts(&self) -> Result<(Option<AppName>, u64, u64), String> {
        let (app, versions) = match self.words.as_slice() {
            [app, versions @ ..] if versions.len() == 2 => {
                (Some(app.parse::<AppName>().map_err(|error| error.to_string())?), versions)
            }
            versions => (None, versions),
        };
        match versions {
            [from, to] => Ok((app, version(from)?, version(to)?)),
            _ => Err("two versions are wanted: skerry diff [APP] V1 V2".into()),
        }
    }
}

impl Publish {
    /// The deploy that follows the build.
    pub fn deploy(&self) -> Deploy {
        Deploy {
            source: self.folder.clone(),
            manifest: None,
            app: self.app.clone(),
            hosts: self.hosts.clone(),
            env: None,
            timeout: self.timeout,
            no_wait: self.no_wait,
            registry: Registry::default(),
        }
    }
}

impl Dev {
    /// The fleet it starts, in this directory.
    pub fn up(&self, data: PathBuf) -> Up {
        Up {
            project: None,
            env: None,
            https: self.https,
            http: self.http,
            api: SocketAddr::from(([127, 0, 0, 1], 0)),
            geo_database: self.geo_database.clone(),
            slow_lane_nice: 0,
            data,
            ready_file: None,
            json: false,
            this_machine_only: true,
        }
    }
}
