//! `edge-node --config node.toml`

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::Context as _;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: edge_node::Allocator = edge_node::Allocator;

/// With the cargo profile it was built by.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SKERRY_BUILD"), ")");

/// The POP node of a Skerry fleet.
#[derive(Parser)]
#[command(version = VERSION)]
struct Arguments {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    without_backtraces()?;
    process::init_logging();
    let path = arguments.config.display();
    let text = std::fs::read_to_string(&arguments.config).with_context(|| format!("reading {path}"))?;
    let config = edge_node::config::Config::parse(&text).with_context(|| format!("in {path}"))?;
    edge_node::run::run(config)
}

/// A backtrace of every host error costs 19 µs a request (measured), and these variables ask for one: with them set,
/// the process starts itself again without.
fn without_backtraces() -> anyhow::Result<()> {
    let asked =
        ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"].into_iter().filter(|name| std::env::var_os(name).is_some());
    let asked: Vec<&str> = asked.collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe().context("finding this program")?);
    again.args(std::env::args_os().skip(1));
    for name in asked {
        again.env_remove(name);
    }
    Err(again.exec()).context("starting again without RUST_BACKTRACE")
}

#[cfg(test)]
mod tests {
    use super::VERSION;

    #[test]
    fn the_version_says_how_it_was_built() {
        assert_eq!(VERSION.ends_with(" (debug)"), cfg!(debug_assertions), "{VERSION}");
    }
}
