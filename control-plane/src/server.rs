//! One running control plane: parts put together, two listeners, background work, and an orderly end.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use artifact::{
    keys::{Compiler, KeyError, PublicKey, Release, SecretKey},
    seal::SecretsKey,
};
use axum::Router;
use fleet_sync_origin::{Origin, OriginConfig, OriginError};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustix::{fs::FlockOperation, io::Errno};
use socket2::SockRef;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::{
    admin::{Admin, AdminError, CreateTenantError, CreateTokenError},
    api::{self, error::chain},
    background,
    clock::now_ms,
    compiler::CompilerClient,
    config::{self, Config},
    files::{self, FileError, Mode},
    fleet::Fleet,
    local_ca::{LocalCa, LocalCaError},
    plane::Plane,
    random, recompiles,
    stall::Noted,
    tokens::{Grant, Scope},
    upload,
};

/// Bytes of answers that the system takes ahead of what a client can be sent.
const UNSENT_BYTES: u32 = 128 * 1024;
/// Connections to the API at once. More wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;
/// Longest wait for a request's head: a client that sends bytes slowly is cut off.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// Time that requests under way have to end after a stop.
const STOP_WAIT_MAX: Duration = Duration::from_secs(10);
/// Locked while a process works on the data directory. Empty, and never removed: a lock on a removed file is no lock.
const LOCK_FILE: &str = "control-plane.lock";
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The control plane did not start. The message ends with the cure where there is one.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error("making the data directory {0}")]
    DataDir(PathBuf, #[source] std::io::Error),
    /// Another process works on it.
    #[error(
        "the data directory {0} is in use by another control plane: stop that one first, or give this one a data_dir of its own"
    )]
    DataDirInUse(PathBuf),
    /// One of our files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The compiler's public key is not there.
    #[error(
        "the compiler's public key is needed: start aot-compiler once, then point compiler.public_key_file at its compiler.pub"
    )]
    CompilerKey(#[source] FileError),
    /// A key file holds something else.
    #[error("reading the key in {0}")]
    Key(PathBuf, #[source] KeyError),
    /// The secrets key is damaged.
    #[error("{0} does not hold a secrets key: restore it from a backup, or every sealed secret is lost")]
    SecretsKey(PathBuf),
    /// `compiler.url`.
    #[error("compiler.url: {0}")]
    CompilerUrl(String),
    /// The admin store.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The first tenant.
    #[error("making the first tenant")]
    FirstTenant(#[source] CreateTenantError),
    /// The first token.
    #[error("making the operator's token")]
    FirstToken(#[source] CreateTokenError),
    /// The local CA.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
    /// The origin.
    #[error("opening the fleet's origin")]
    Origin(#[from] OriginError),
    /// A listener.
    #[error("listening on {0}: is another control plane running?")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// The machine refused a thread or a thread was lost.
    #[error("preparing the stores: the process is stopping")]
    Stopping,
}

/// A control plane that serves.
pub struct ControlPlane {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where nodes connect.
    pub sync: SocketAddr,
    origin: Arc<Origin>,
    stop: watch::Sender<bool>,
    /// End by themselves after a stop.
    listeners: [JoinHandle<()>; 2],
    /// Are cut off: all they do is additive and durable in pieces.
    background: [JoinHandle<()>; 4],
    /// Locked for as long as we run; the kernel lets go of it when the process ends, however it ends.
    _data_dir_lock: File,
}

/// Another process took office over the release log, although it must not share our data directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "another control plane took over the release log, and this one can publish nothing any more: end one of the two, then start this one again"
)]
pub struct Fenced;

impl ControlPlane {
    /// Opens or makes everything in the data directory, takes up work, and says so in the ready file.
    pub async fn start(config: Config) -> Result<ControlPlane, StartError> {
        let data_dir_lock = lock_data_dir(&config.data_dir)?;
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || Opened::open(&opening)).await;
        let opened = opened.map_err(|_| StartError::Stopping)??;
        first_start(&config.data_dir, &opened.admin).await?;
        // All that can be refused comes before the origin, which takes office over the log.
        let (api_listener, api_addr) = listen(config.api).await?;
        let (sync_listener, sync_addr) = listen(config.sync).await?;
        let origin = Origin::open(OriginConfig {
            data_dir: config.data_dir.clone(),
            release_key: opened.release_key,
            compiler_keys: vec![opened.compiler_key],
            secrets_key: opened.secrets.clone(),
            sync_names: config.sync_names.clone(),
            kv_quotas: config.kv.into(),
            who: "control-plane".to_owned(),
        })
        .await?;
        if !origin.view().compiler_keys.ring().trusts(&opened.compiler_key) {
            let (id, file) = (opened.compiler_key.id(), config.compiler.public_key_file.display());
            tracing::warn!("compiler key {id} in {file} was revoked: put the compiler.pub of now there");
        }
        if !api_addr.ip().is_loopback() {
            tracing::warn!(%api_addr, "the API speaks plain HTTP beyond this machine: put a TLS terminator before it");
        }
        let authority = config::compiler_authority(&config.compiler.url).map_err(StartError::CompilerUrl)?;
        let fleet = Fleet::new(Arc::clone(&origin));
        let compiler = CompilerClient::new(authority, config.compiler.token_file.clone(), fleet.clone());
        let ready_file = config.ready_file.clone();
        let plane = Arc::new(Plane::new(
            config,
            opened.admin,
            fleet,
            Arc::new(compiler),
            Arc::new(opened.ca),
            opened.secrets,
        ));

        let (stop, stopped) = watch::channel(false);
        let listeners = [
            tokio::spawn(serve_api(api_listener, api::router(Arc::clone(&plane)), stopped.clone())),
            tokio::spawn(serve_sync(Arc::clone(&origin), sync_listener, stopped)),
        ];
        let background = [
            tokio::spawn(background::recompile(Arc::clone(&plane))),
            tokio::spawn(recompiles::work(Arc::clone(&plane))),
            tokio::spawn(background::renew_certificates(Arc::clone(&plane))),
            tokio::spawn(upload::sweep_assets(plane)),
        ];
        if let Some(path) = ready_file {
            say_ready(&path, api_addr, sync_addr)?;
        }
        tracing::info!(api = %api_addr, sync = %sync_addr, "the control plane is ready");
        Ok(ControlPlane {
            api: api_addr,
            sync: sync_addr,
            origin,
            stop,
            listeners,
            background,
            _data_dir_lock: data_dir_lock,
        })
    }

    /// Resolves when this process can publish nothing any more, for good: it should be stopped and end with this error,
    /// so that whoever watches over it starts it again.
    pub async fn fenced(&self) -> Fenced {
        self.origin.fenced().await;
        Fenced
    }

    /// Takes no more requests, lets those under way end (10 s at most), then stops everything. What was acknowledged is
    /// on disk at any moment, so nothing is lost by a harder end either.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // Requests that would never end by themselves.
        self.origin.stop_listening();
        for listener in self.listeners {
            if let Err(error) = listener.await {
                tracing::error!(error = %chain(&error), "a listener had failed");
            }
        }
        for task in self.background {
            task.abort();
            // Its end is awaited, so that nothing holds the stores after this call.
            let _aborted = task.await;
        }
    }
}

/// What the data directory holds, besides the origin's part.
struct Opened {
    release_key: SecretKey<Release>,
    compiler_key: PublicKey<Compiler>,
    secrets: SecretsKey,
    admin: Admin,
    ca: LocalCa,
}

impl Opened {
    fn open(config: &Config) -> Result<Opened, StartError> {
        let dir = &config.data_dir;
        let key_file = &config.compiler.public_key_file;
        let compiler_key = files::read(key_file).map_err(StartError::CompilerKey)?;
        let compiler_key = compiler_key.parse().map_err(|error| StartError::Key(key_file.clone(), error))?;

        let release_file = dir.join("release.key");
        let fresh = || SecretKey::<Release>::from_seed(random::bytes()).to_text();
        let release_key = files::read_or_make_secret(&release_file, fresh)?;
        let release_key: SecretKey<Release> =
            release_key.parse().map_err(|error| StartError::Key(release_file, error))?;
        files::replace(&dir.join("release.pub"), &release_key.public().to_text(), Mode::Public)?;

        let secrets_file = dir.join("secrets.key");
        let fresh = || SecretsKey::from_bytes(random::bytes()).to_text() + "\n";
        let secrets = SecretsKey::from_text(&files::read_or_make_secret(&secrets_file, fresh)?);
        let secrets = secrets.ok_or(StartError::SecretsKey(secrets_file))?;

        let admin = Admin::open(&dir.join("admin.sqlite"))?;
        let ca = LocalCa::open(dir, now_ms())?;
        Ok(Opened { release_key, compiler_key, secrets, admin, ca })
    }
}

/// Makes the data directory and takes it for this process alone.
fn lock_data_dir(dir: &Path) -> Result<File, StartError> {
    let fail = |error| StartError::DataDir(dir.to_owned(), error);
    make_private_dir(dir).map_err(fail)?;
    let lock = File::options().create(true).append(true).open(dir.join(LOCK_FILE)).map_err(fail)?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(Errno::WOULDBLOCK) => Err(StartError::DataDirInUse(dir.to_owned())),
        Err(error) => Err(fail(error.into())),
    }
}

fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The tenant `default` and an operator's token, once. The token is made again when its file was removed: that is how
/// an operator who lost it gets a new one (and whoever can write the data directory owns the fleet anyway).
async fn first_start(data_dir: &Path, admin: &Admin) -> Result<(), StartError> {
    match admin.create_tenant(api::default_tenant(), now_ms()).await {
        Ok(()) | Err(CreateTenantError::Exists(_)) => {}
        Err(error) => return Err(StartError::FirstTenant(error)),
    }
    let path = data_dir.join("operator.token");
    if path.exists() {
        return Ok(());
    }
    let issued =
        api::issue_token(admin, Grant::all(Scope::Operator), None, background::SYSTEM.to_owned()).await;
    let (id, text, _) = issued.map_err(StartError::FirstToken)?;
    files::replace(&path, &format!("{}\n", text.expose()), Mode::Secret)?;
    tracing::info!(token = id, path = %path.display(), "an operator's token was made");
    Ok(())
}

async fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |error| StartError::Listen(wanted, error);
    let listener = TcpListener::bind(wanted).await.map_err(fail)?;
    // As on a node: without it a client that reads slowly, and steadily, would look stalled.
    SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES).map_err(fail)?;
    let real = listener.local_addr().map_err(fail)?;
    Ok((listener, real))
}

fn say_ready(path: &Path, api: SocketAddr, sync: SocketAddr) -> Result<(), FileError> {
    let text = serde_json::json!({ "api": api, "sync": sync, "pid": std::process::id() });
    files::replace(path, &format!("{text}\n"), Mode::Public)
}

async fn serve_sync(origin: Arc<Origin>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
    let shutdown = async move { until_stopped(&mut stopped).await };
    if let Err(error) = origin.serve(listener, shutdown).await {
        tracing::error!(error = %chain(&error), "the sync server ended; nodes keep serving what they have");
    }
}

/// Accepts until stopped, then waits for requests under way.
async fn serve_api(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let room = Arc::clone(&connections).acquire_owned();
        let accepted = async { (room.await, listener.accept().await) };
        let (room, accepted) = tokio::select! {
            () = until_stopped(&mut stopped) => break,
            accepted = accepted => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Answers are small and asked for one at a time: waiting to fill a packet would only add delay.
        let _without_it_slower = stream.set_nodelay(true);
        let (stream, waiting) = Noted::new(stream);
        let service = TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WAIT_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        let stalled = waiting.too_long(stopped.clone());
        tokio::spawn(async move {
            let _room = room;
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error = %chain(&error), "an API connection ended early");
                },
                () = stalled => tracing::debug!("an API connection was cut: its client does not read"),
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_WAIT_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way {} s after the stop", STOP_WAIT_MAX.as_secs());
    }
}

async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which is a stop too.
    let _stop_or_gone = stopped.wait_for(|stop| *stop).await.is_ok();
}
