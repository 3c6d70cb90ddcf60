//! `control-plane --config control.toml`: the deploy API and the fleet's origin as one process.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use control_plane::{Config, ControlPlane};

/// The deploy API and the fleet's origin.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, TOML.
    #[arg(long)]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    process::init_logging();

    let config = Config::load(&Arguments::parse().config)?;
    let stop = process::Stop::listen().context("listening for signals")?;
    let running = ControlPlane::start(config).await.context("starting the control plane")?;
    let ended = tokio::select! {
        () = stop.asked() => Ok(()),
        fenced = running.fenced() => Err(fenced),
    };
    tracing::info!("stopping");
    running.stop().await;
    Ok(ended?)
}
