//! `control-plane --config control.toml`: the deploy API and the fleet's origin as one process.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use control_plane::{Config, ControlPlane};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let config = Config::load(&Arguments::parse().config)?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let running = ControlPlane::start(config).await.context("starting the control plane")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    running.stop().await;
    Ok(())
}
