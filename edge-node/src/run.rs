//! The process, from its configuration to its end: machine → replica → generation → listeners → workers → follow →
//! drain.

use std::{
    fs::{self, File},
    net::SocketAddr,
    num::NonZero,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use engine::node::{Pool, SHARES_MAX};
use fleet_sync_replica::{EnrolError, Replica, ReplicaConfig};
use tokio::{net::TcpListener, runtime};
use wasmtime::{Engine, EngineWeak};

use crate::{
    account::{access_log::AccessLog, metrics::Metrics},
    activate::Activating,
    admin,
    assets::StaticFiles,
    code::{Bounds, CodeCache},
    config::Config,
    front::{Drain, sockets, tls},
    generation::Generation,
    guest::Linker,
    host::{
        Host, Site,
        geo::Database,
        kv::RemoteKv,
        outbound::{self, Outbound},
    },
    lane,
    load::Loader,
    machine,
    memory::{self, Budget},
    node::{Executions, Node},
    worker::{self, Work},
};

/// Threads of the side runtime: fleet-sync, fetching, admin.
const SIDE_THREADS: usize = 2;
/// Threads of it that wait for disks at once. Static files have their own.
const BLOCKING_THREADS_MAX: usize = 4;
/// Attempts to enrol, this far apart: two minutes in all, then the service manager decides.
const ENROL_ATTEMPTS_MAX: usize = 120;
const ENROL_PAUSE: Duration = Duration::from_secs(1);
/// How often the geography database is looked after: such files change daily at most.
const GEO_REFRESH_PAUSE: Duration = Duration::from_secs(60);
/// How often the epoch advances: the longest a guest holds a worker before others run.
const EPOCH_TICK: Duration = Duration::from_millis(1);

/// Runs a node until the process is asked to stop.
pub fn run(config: Config) -> anyhow::Result<()> {
    let offers = machine::offers(config.level_max)?;
    let threads = config.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let (worker_instances_max, memory) = room(&config, threads)?;
    let instances_max = worker_instances_max * threads as u32;
    let pool = Pool { instances_max: worker_instances_max, reset: machine::reset() };
    // One for each worker: two that share one meet at its pool and its types (docs/design/0014-engines.md).
    let engines: Vec<Engine> =
        (0..threads).map(|index| worker::engine(index, pool)).collect::<Result<_, _>>()?;
    let side = runtime::Builder::new_multi_thread()
        .worker_threads(SIDE_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("side")
        .enable_all()
        .build()?;
    // Before joining a fleet: a mistake in the configuration is said at once.
    let geo = config.geo_database.as_deref().map(Database::open).transpose()?;
    let mut stop = Box::pin(side.block_on(async { process::Stop::listen() })?.asked());
    raise_file_limit();

    let secure = sockets::bind_pairs(config.https, threads)?;
    let plain = config.http.map(|address| sockets::bind_tcp(address, threads)).transpose()?;
    let https = secure.first().context("at least one serving thread")?.tcp.local_addr()?;
    let http = plain.as_ref().and_then(|plain| plain.first()).map(|plain| plain.local_addr()).transpose()?;

    // A node that cannot join yet must still stop when asked.
    let opened = side.block_on(async {
        tokio::select! {
            replica = open_replica(&config, &offers, https) => replica.map(Some),
            () = &mut stop => Ok(None),
        }
    })?;
    let Some(replica) = opened else { return Ok(()) };
    let metrics = Arc::new(Metrics::new()?);
    let targets = offers.iter().map(|(target, _)| *target).collect();
    let executions = Executions::new(threads, worker_instances_max as usize);
    let files = StaticFiles::new(replica.blobs(), side.handle().clone(), memory.clone(), threads)
        .context("starting the threads that read static files")?;
    let code = CodeCache::new(
        engines.iter().map(Linker::new).collect::<Result<_, _>>()?,
        Loader::following(targets, replica.compiler_keys()),
        replica.blobs(),
        offers,
        side.handle().clone(),
        Bounds {
            bytes_max: config.code_bytes_max,
            programs_max: machine::programs_max(instances_max),
            shares_max: executions.app_max(),
        },
        metrics.clone(),
    );
    let code = code.context("starting the threads that load code")?;
    let (name, pop) = replica.node().context("an enrolled node has a name")?;
    let secrets = replica.secrets_key().context("an enrolled node holds the fleet's secrets key")?;
    let outbound = Outbound::new(outbound::Settings {
        allow: config.outbound_allow.clone(),
        side: Some(side.handle().clone()),
        fleet: Some(secrets.clone()),
    });
    outbound.warm_up();
    let node = Arc::new(Node {
        host: Arc::new(Host {
            site: Site { node: name, pop },
            outbound,
            memory,
            kv: Arc::new(RemoteKv::start(replica.kv(), side.handle())),
            geo,
        }),
        generation: ArcSwap::from_pointee(Generation::default()),
        code: Arc::new(code),
        files: Arc::new(files),
        metrics,
        access_log: open_access_log(&config)?,
        executions,
    });
    let certificates = tls::SharedCertificates::default();
    let activating = Arc::new(Activating::new(node.clone(), certificates.clone(), secrets));
    activating.start(&replica.view(), &replica.pinned());

    let admin = side.block_on(TcpListener::bind(config.admin)).context("listening for admin requests")?;
    let admin_address = admin.local_addr()?;
    side.spawn(admin::serve(admin, node.clone()));
    tick_epochs(&engines)?;
    side.spawn(refresh_geo(node.host.clone()));

    let (drain, draining) = Drain::new();
    let tls_config = tls::tcp_config(certificates.clone())?;
    // One for all workers: a token or ticket of one must be good for the others.
    let quic = tls::quic_config(certificates)?;
    let mut plain = plain.into_iter().flatten();
    let lane = lane::Settings {
        workers: threads,
        instances_max: instances_max as usize,
        nice: config.slow_lane_nice,
    };
    let mut workers = Vec::new();
    for (index, secure) in secure.into_iter().enumerate() {
        let work = Work { secure, plain: plain.next(), tls: tls_config.clone(), quic: quic.clone(), lane };
        workers.push(worker::start(index, work, node.clone(), draining.clone())?);
    }

    let (stop_following, stopped) = tokio::sync::oneshot::channel::<()>();
    let follow = side.spawn(async move { replica.run(activating, async { drop(stopped.await) }).await });
    if let Some(path) = &config.ready_file {
        let ready = Ready { https, http, admin: admin_address, pid: std::process::id() };
        process::write_ready_file(path, &ready).with_context(|| format!("writing {}", path.display()))?;
    }
    tracing::info!(%https, admin = %admin_address, threads, "serving");

    side.block_on(stop);
    tracing::info!("stopping: requests under way have {} s", config.drain_s);
    drain.start(Duration::from_secs(config.drain_s));
    drop(stop_following);
    for worker in workers {
        match worker.join() {
            Ok(ended) => ended.context("serving")?,
            Err(_) => anyhow::bail!("a serving thread panicked"),
        }
    }
    let _ = side.block_on(async { tokio::time::timeout(Duration::from_secs(2), follow).await });
    side.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// How many guests each worker takes, and the memory they all share. Fewer than asked for where the process cannot have as
/// many, or their slots would take more than half of the memory.
fn room(config: &Config, workers: usize) -> anyhow::Result<(u32, Budget)> {
    let bytes_max = config.guest_memory_bytes_max.unwrap_or_else(memory::default_bytes_max);
    let wanted = config.instances_max.unwrap_or_else(|| machine::instances_wanted(workers));
    let mapped = machine::instances_that_fit(wanted);
    let fit = memory::instances_that_fit(bytes_max, mapped);
    if let Some(asked) = config.instances_max.filter(|asked| fit < *asked) {
        let (why, cure) = match mapped < asked {
            true => {
                ("the process may not map as many slots", "raise vm.max_map_count (up to 16,000 instances)")
            }
            false => (
                "their slots would take more than half of the memory for guests",
                "raise guest_memory_bytes_max",
            ),
        };
        tracing::warn!("instances_max is {fit} instead of {asked}: {why}; for more, {cure}");
    }
    let workers = u32::try_from(workers).context("as many serving threads")?;
    let of_worker = (fit / workers).max(1);
    if of_worker < SHARES_MAX {
        tracing::warn!(
            "each of {workers} serving threads has room for {of_worker} guests at once: programs of several memories may be \
             refused; lower threads, or raise instances_max and guest_memory_bytes_max"
        );
    }
    let all = of_worker.checked_mul(workers).context("as many guests")?;
    Ok((of_worker, Budget::new(bytes_max, all).context("dividing the memory for guests")?))
}

/// The ready file's content: where the node really listens.
#[derive(serde::Serialize)]
struct Ready {
    https: SocketAddr,
    http: Option<SocketAddr>,
    admin: SocketAddr,
    pid: u32,
}

async fn open_replica(
    config: &Config,
    offers: &[(artifact::Target, artifact::Fingerprint)],
    https: SocketAddr,
) -> anyhow::Result<Replica> {
    let join_token = match &config.join_token_file {
        Some(path) => match fs::read_to_string(path) {
            Ok(token) => Some(token.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("reading the join token from {}", path.display()));
            }
        },
        None => None,
    };
    let replica = Replica::open(ReplicaConfig {
        control: config.control.clone(),
        data_dir: config.data_dir.clone(),
        join_token,
        targets: offers.to_vec(),
        serving: Some(https.to_string()),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let replica = replica.context("opening the node's copy of the fleet")?;
    enrol(&replica).await.context("joining the fleet")?;
    Ok(replica)
}

/// A node without identity can serve nothing, so it waits for its control plane for a while. One that is enrolled
/// returns at once.
async fn enrol(replica: &Replica) -> Result<(), EnrolError> {
    for _ in 1..ENROL_ATTEMPTS_MAX {
        match replica.enrol().await {
            Err(error) if error.is_worth_retrying() => {
                tracing::warn!("not enrolled yet, trying again: {}", crate::load::chain(&error));
                tokio::time::sleep(ENROL_PAUSE).await;
            }
            done => return done,
        }
    }
    replica.enrol().await
}

/// Every connection and every program is a descriptor; the usual soft limit of 1024 would be the first to be met.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit on open files could not be raised: {error}");
    }
}

fn open_access_log(config: &Config) -> anyhow::Result<AccessLog> {
    let log = match &config.access_log {
        Some(path) => {
            let file = File::options().create(true).append(true).open(path);
            AccessLog::start(file.with_context(|| format!("opening the access log {}", path.display()))?)
        }
        None => AccessLog::start(std::io::stdout()),
    };
    log.context("starting the access log")
}

/// Takes up new geography databases as the operator puts them in place.
async fn refresh_geo(host: Arc<Host>) {
    while host.geo.is_some() {
        tokio::time::sleep(GEO_REFRESH_PAUSE).await;
        let host = host.clone();
        let refreshed = tokio::task::spawn_blocking(move || host.geo.as_ref().map(Database::refresh)).await;
        match refreshed {
            Ok(Some(Ok(true))) => tracing::info!("a new geography database is in use"),
            Ok(Some(Err(error))) => {
                tracing::warn!("the last geography database stays in use: {}", crate::load::chain(&error));
            }
            _ => {}
        }
    }
}

/// The epoch ticks on a thread of its own: a guest that never ends must not stall the clock that ends it. It ends with the
/// engines.
pub(crate) fn tick_epochs(engines: &[Engine]) -> anyhow::Result<()> {
    let engines: Vec<EngineWeak> = engines.iter().map(Engine::weak).collect();
    let tick = |engine: &EngineWeak| engine.upgrade().map(|engine| engine.increment_epoch()).is_some();
    thread::Builder::new().name("epoch".into()).spawn(move || {
        while engines.iter().filter(|engine| tick(engine)).count() > 0 {
            thread::sleep(EPOCH_TICK);
        }
    })?;
    Ok(())
}
