//! A node within this process: its own workers, lanes and sockets, and a generation written by hand. Without control
//! plane and TLS, which would only add noise.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use artifact::{
    AppId, Digest, Profile,
    keys::Trusted,
    manifest::AppConfig,
    record::{ArtifactRef, Version},
    seal::SecretsKey,
};
use edge_node::{
    account::{access_log::AccessLog, metrics::Metrics},
    assets::StaticFiles,
    code::{Bounds, CodeCache},
    front::{Drain, sockets, tls},
    generation::{Deployment, Generation},
    guest::Linker,
    host::{
        Host, Site,
        outbound::{self, Outbound},
    },
    lane,
    load::Loader,
    memory::{self, Budget},
    node::{Executions, Node},
    worker::{self, Work},
};
use engine::node::Pool;
use fleet_sync_replica::{BlobShelf, Replica, ReplicaConfig, VersionState};
use tokio::runtime;
use wasmtime::Engine;

use super::guests::Program;
use crate::micro::guest::{Guest, as_on_a_running_node, best_target, compiler_key, tick_epochs};

/// Bytes of native code: more than a few small guests need.
const CODE_BYTES_MAX: u64 = 1 << 30;
/// Time that requests under way have at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// A running node. Stopped by [`Running::stop`].
pub struct Running {
    /// Plaintext HTTP/1.1.
    pub address: SocketAddr,
    /// HTTPS, which needs [`Running::certificates`].
    pub secure: SocketAddr,
    /// None at the start.
    pub certificates: tls::SharedCertificates,
    pub node: Arc<Node>,
    shelf: BlobShelf,
    drain: Drain,
    workers: Vec<thread::JoinHandle<std::io::Result<()>>>,
    _side: runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts `threads` workers. The bills of guests go to `access_log`.
    pub fn start(
        threads: usize,
        instances_max: u32,
        nice: u8,
        access_log: impl io::Write + Send + 'static,
    ) -> anyhow::Result<Running> {
        as_on_a_running_node()?;
        let bytes_max = memory::default_bytes_max();
        let of_worker =
            (memory::instances_that_fit(bytes_max, instances_max) / u32::try_from(threads)?).max(1);
        let instances_max = of_worker * u32::try_from(threads)?;
        let pool = Pool { instances_max: of_worker, reset: edge_node::machine::reset() };
        let engines: Vec<Engine> =
            (0..threads).map(|index| worker::engine(index, pool)).collect::<Result<_, _>>()?;
        let folder = tempfile::tempdir().context("making a folder for the node")?;
        let target = best_target()?;
        let offers = vec![(target, engine::fingerprint(target, Profile::Serve))];
        let replica = Replica::open(ReplicaConfig {
            control: "127.0.0.1:1".into(),
            data_dir: folder.path().into(),
            join_token: None,
            targets: offers.clone(),
            serving: None,
            software: "loadtest".into(),
        })
        .context("opening a folder for artifacts")?;
        let shelf = replica.blobs();
        let side = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let metrics = Arc::new(Metrics::new()?);
        let loader = Loader::new(vec![target], Trusted::new([compiler_key().public()]));
        let handle = side.handle().clone();
        let code = CodeCache::new(
            engines.iter().map(Linker::new).collect::<Result<_, _>>()?,
            loader,
            shelf.clone(),
            offers,
            handle,
            Bounds { bytes_max: CODE_BYTES_MAX, ..Bounds::NONE },
            metrics.clone(),
        );
        let code = code.context("starting the threads that load code")?;
        let outbound = Outbound::new(outbound::Settings {
            allow: vec!["127.0.0.0/8".parse()?],
            side: Some(side.handle().clone()),
            fleet: Some(SecretsKey::from_bytes([4; 32])),
        });
        let site = Site { node: "bench-1".parse()?, pop: "bench".parse()? };
        let memory = Budget::new(bytes_max, instances_max)?;
        let files = StaticFiles::new(shelf.clone(), side.handle().clone(), memory.clone(), threads)
            .context("starting the threads that read static files")?;
        let node = Arc::new(Node {
            host: Arc::new(Host {
                site,
                outbound,
                geo: None,
                kv: Arc::new(edge_node::host::kv::Away),
                memory,
            }),
            generation: ArcSwap::from_pointee(Generation::default()),
            code: Arc::new(code),
            files: Arc::new(files),
            metrics,
            access_log: AccessLog::start(access_log).context("starting the access log")?,
            executions: Executions::new(threads, of_worker as usize),
        });
        engines.iter().try_for_each(tick_epochs)?;
        let (drain, draining) = Drain::new();
        let certificates = tls::SharedCertificates::default();
        let (tls_config, quic) =
            (tls::tcp_config(certificates.clone())?, tls::quic_config(certificates.clone())?);
        let secure = sockets::bind_pairs(([127, 0, 0, 1], 0).into(), threads)?;
        let plain = sockets::bind_tcp(([127, 0, 0, 1], 0).into(), threads)?;
        let address = plain.first().context("at least one thread")?.local_addr()?;
        let https = secure.first().context("at least one thread")?.tcp.local_addr()?;
        let lane = lane::Settings { workers: threads, instances_max: instances_max as usize, nice };
        let mut workers = Vec::new();
        for (index, (secure, plain)) in secure.into_iter().zip(plain).enumerate() {
            let work = Work { secure, plain: Some(plain), tls: tls_config.clone(), quic: quic.clone(), lane };
            workers.push(worker::start(index, work, node.clone(), draining.clone())?);
        }
        Ok(Running {
            address,
            secure: https,
            certificates,
            node,
            shelf,
            drain,
            workers,
            _side: side,
            _folder: folder,
        })
    }

    /// Compiles a program and puts it where apps find it.
    pub fn stock(&self, program: &Program) -> anyhow::Result<Guest> {
        let wasm = wat::parse_str(&program.text).with_context(|| format!("the guest {}", program.name))?;
        let guest = Guest::of(program.name, &wasm).with_context(|| format!("compiling {}", program.name))?;
        self.shelve(&guest)?;
        Ok(guest)
    }

    /// Puts a compiled program where apps find it.
    pub fn shelve(&self, guest: &Guest) -> anyhow::Result<()> {
        let path = self.shelf.path(Digest::of(&guest.container));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, &guest.container).context("storing an artifact")
    }

    /// Serves `guest` as an app of its name for each of `tenants`, at [`host`].
    pub fn deploy(&self, guest: &Guest, tenants: &[String]) -> anyhow::Result<()> {
        self.deploy_with(guest, tenants, &AppConfig::default())
    }

    /// The same with this configuration, but for its hosts.
    pub fn deploy_with(&self, guest: &Guest, tenants: &[String], config: &AppConfig) -> anyhow::Result<()> {
        let mut generation = (**self.node.generation.load()).clone();
        for tenant in tenants {
            generation.insert(Arc::new(self.deployment(guest, tenant, config)?));
        }
        self.node.generation.store(Arc::new(generation));
        Ok(())
    }

    fn deployment(&self, guest: &Guest, tenant: &str, config: &AppConfig) -> anyhow::Result<Deployment> {
        let id = AppId { tenant: tenant.parse()?, app: guest.name.parse()? };
        let config = AppConfig { hosts: vec![host(tenant, &guest.name).parse()?], ..config.clone() };
        let version = Version {
            id: id.clone(),
            version: 1,
            wasm: guest.wasm,
            wasm_bytes: guest.wasm_bytes as u64,
            lane: guest.lane,
            config: config.clone(),
            secrets: vec![],
            assets: None,
        };
        let target = best_target()?;
        let artifacts = vec![ArtifactRef {
            target,
            profile: Profile::Serve,
            fingerprint: engine::fingerprint(target, Profile::Serve),
            blob: Digest::of(&guest.container),
            blob_bytes: guest.container.len() as u64,
        }];
        Ok(Deployment {
            metrics: self.node.metrics.version(&id, 1),
            id,
            version: 1,
            lane: guest.lane,
            wasm: guest.wasm,
            allow: edge_node::generation::allow(&config),
            config,
            artifact: artifacts.first().cloned(),
            state: Arc::new(VersionState { version, artifacts, rev: 1, time_ms: 0 }),
            code: Default::default(),
            site: None,
            secrets: Default::default(),
            standing: Default::default(),
        })
    }

    /// Drains and waits for the workers.
    pub fn stop(self) -> anyhow::Result<()> {
        self.drain.start(DRAIN);
        for worker in self.workers {
            worker.join().map_err(|_| anyhow::anyhow!("a serving thread panicked"))??;
        }
        Ok(())
    }
}

/// Where an app answers.
pub fn host(tenant: &str, app: &str) -> String {
    format!("{app}.{tenant}.test")
}
