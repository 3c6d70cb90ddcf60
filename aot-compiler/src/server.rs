//! The process around the service: key and token, listener, ready file, clean stop.

use std::{
    future::{Future, IntoFuture as _},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use artifact::Profile;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::{
    config::{Config, cores},
    files::{self, FileError},
    functions::{Shelf, ShelfLimits},
    job::{JobCaps, JobRunner},
    service::Service,
};

/// How long running jobs may take to end after a stop was asked for, in seconds. Callers ask again elsewhere or later.
const GRACE_S: u64 = 20;
/// In the data directory.
const FUNCTIONS_FOLDER: &str = "functions";

/// The service could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Key, token or ready file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A configured target has no engine.
    #[error("preparing the engines")]
    Engine(#[from] engine::EngineError),
    /// The address is taken or not ours.
    #[error("listening on {address}: set another `listen` in the configuration")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The folder of compiled functions.
    #[error(
        "making the folder of compiled functions {folder}: set `function_cache_mib_max = 0` to keep none"
    )]
    Functions {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process could not be shielded.
    #[error("keeping other processes from reading this one's memory")]
    Shield(#[source] std::io::Error),
    /// The listener failed.
    #[error("accepting connections")]
    Accept(#[source] std::io::Error),
}

#[derive(Serialize)]
struct Ready {
    listen: SocketAddr,
    pid: u32,
}

/// Serves until `stop` completes, then for at most [`GRACE_S`] more.
pub async fn serve(
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    shield()?;
    for target in &config.targets {
        // A mistake in the engine's tables is told now and not at the first upload.
        engine::compiler::engine(*target, Profile::Serve)?;
    }
    let service = Service {
        key: files::compiler_key(&config.data_dir)?,
        token: files::token(&config.token_file)?,
        functions: shelf(&config)?,
        targets: config.targets,
        runner: JobRunner::this_executable(JobCaps::DEFAULT),
        jobs_max: config.jobs_max,
        cores: cores(),
    };
    let key = service.key.public().id();
    let failed = |source| ServerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let listen = listener.local_addr().map_err(failed)?;

    let (stopping, mut stopped) = tokio::sync::watch::channel(false);
    let stop = async move {
        stop.await;
        let _ = stopping.send(true);
    };
    let serving = axum::serve(listener, service.router()).with_graceful_shutdown(stop);
    write_ready_file(config.ready_file, listen)?;
    tracing::info!(%listen, %key, jobs_max = config.jobs_max, "ready");

    let grace_over = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(Duration::from_secs(GRACE_S)).await;
    };
    tokio::select! {
        ended = serving.into_future() => ended.map_err(ServerError::Accept)?,
        () = grace_over => tracing::warn!("stopping with unfinished jobs after {GRACE_S} s"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// A job runs as the same user: without this a job that was taken over could read the key out of this process.
/// (Not against root; an own user id for jobs is part of a later issue.)
fn shield() -> Result<(), ServerError> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| ServerError::Shield(error.into()))
}

/// Where compiled functions are kept, if they are.
fn shelf(config: &Config) -> Result<Option<Shelf>, ServerError> {
    let limits = ShelfLimits {
        bytes_max: config.function_cache_mib_max << 20,
        tenant_bytes_max: config.function_cache_tenant_mib_max << 20,
    };
    if limits.bytes_max == 0 || limits.tenant_bytes_max == 0 {
        return Ok(None);
    }
    let folder = config.data_dir.join(FUNCTIONS_FOLDER);
    let shelf = Shelf::open(folder.clone(), limits);
    shelf.map(Some).map_err(|source| ServerError::Functions { folder, source })
}

fn write_ready_file(path: Option<PathBuf>, listen: SocketAddr) -> Result<(), ServerError> {
    if let Some(path) = path {
        let ready = Ready { listen, pid: std::process::id() };
        let json = serde_json::to_vec(&ready).expect("an address and a number");
        files::replace(&path, &json, 0o644)?;
    }
    Ok(())
}
