//! The origin of one node's fleet, within this process: a real release log and a real blob store, served over mTLS.
//! Without the control plane's API and compiler, which would be all that is measured.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use artifact::{
    AppId, Digest, Fingerprint, HostName, Profile, Target,
    keys::{Release, SecretKey},
    manifest::AppConfig,
    record::{ArtifactRef, ArtifactSet, BATCH_RECORDS_MAX, Body, Rev, Version, VersionNumber},
    seal::SecretsKey,
};
use bytes::Bytes;
use fleet_sync_origin::{KvQuotas, Origin, OriginConfig};
use tokio::{net::TcpListener, runtime::Runtime};

use super::apps::{Bases, Signed};
use crate::{
    deploy::patch::mark,
    micro::guest::{best_target, compiler_key},
    stop,
};

/// Apps of one tenant.
const TENANT_APPS: u32 = 100;
/// Blobs put at once: each waits for the disk.
const PUTS_AT_ONCE: usize = 16;
/// Records of one app: its version, its artifact, its release.
const APP_RECORDS: usize = 3;
/// What a node takes for a batch at most, and some.
const CONVERGE_TIME_MAX: Duration = Duration::from_secs(300);
/// How often it looks meanwhile whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// See the module.
pub struct Fleet {
    runtime: Runtime,
    origin: Arc<Origin>,
    pub address: SocketAddr,
    target: Target,
    fingerprint: Fingerprint,
}

/// An app, and the program it was made with.
pub struct App {
    pub id: AppId,
    pub host: String,
    pub mark: String,
    program: Program,
}

/// A program in the blob store.
#[derive(Clone)]
struct Program {
    mark: String,
    wasm: Digest,
    wasm_bytes: u64,
    lane: artifact::Lane,
    artifact: ArtifactRef,
    native_bytes: u64,
}

impl App {
    pub fn native_bytes(&self) -> u64 {
        self.program.native_bytes
    }

    pub fn container_bytes(&self) -> u64 {
        self.program.artifact.blob_bytes
    }
}

impl Fleet {
    /// Opens an origin in `folder` and serves it.
    pub fn start(folder: &Path) -> anyhow::Result<Fleet> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (origin, address) = runtime.block_on(async {
            let origin = Origin::open(OriginConfig {
                data_dir: folder.to_owned(),
                release_key: SecretKey::<Release>::from_seed([2; 32]),
                compiler_keys: vec![compiler_key().public()],
                secrets_key: SecretsKey::from_bytes([3; 32]),
                sync_names: vec!["127.0.0.1".into()],
                kv_quotas: KvQuotas::default(),
                who: "loadtest".into(),
            })
            .await
            .context("opening an origin")?;
            let listener = TcpListener::bind("127.0.0.1:0").await.context("listening for the node")?;
            let address = listener.local_addr()?;
            let serving = origin.clone();
            tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
            anyhow::Ok((origin, address))
        })?;
        let target = best_target()?;
        let fingerprint = engine::fingerprint(target, Profile::Serve);
        Ok(Fleet { runtime, origin, address, target, fingerprint })
    }

    /// A right for one node to join.
    pub fn join_token(&self) -> anyhow::Result<String> {
        let pop = "bench".parse()?;
        let token = self.origin.create_join_token(&pop, Duration::from_secs(3600));
        Ok(self.runtime.block_on(token)?.token.to_text())
    }

    /// Signs a program for each of `count` apps and puts it into the blob store. Nothing is released.
    pub fn stock(&self, bases: &Arc<Bases>, count: u32, stop: &AtomicBool) -> anyhow::Result<Vec<App>> {
        use futures_util::{StreamExt as _, TryStreamExt as _, stream};
        let put = |number: u32| async move {
            stop::check(stop)?;
            let bases = bases.clone();
            let signed = tokio::task::spawn_blocking(move || bases.program(number)).await??;
            let Signed { wasm, wasm_bytes, lane, native_bytes, container } = signed;
            let blob_bytes = container.len() as u64;
            let blob =
                self.origin.blobs().put(Bytes::from(container)).await.context("keeping an artifact")?;
            let (target, fingerprint) = (self.target, self.fingerprint);
            let artifact = ArtifactRef { target, profile: Profile::Serve, fingerprint, blob, blob_bytes };
            let mark = mark(number);
            let program = Program { mark: mark.clone(), wasm, wasm_bytes, lane, artifact, native_bytes };
            let id = AppId {
                tenant: format!("tenant-{}", number / TENANT_APPS).parse()?,
                app: format!("app-{number}").parse()?,
            };
            anyhow::Ok(App { id, host: format!("app-{number}.density.test"), mark, program })
        };
        let apps = stream::iter(0..count).map(put).buffered(PUTS_AT_ONCE).try_collect();
        self.runtime.block_on(apps)
    }

    /// Publishes and releases a version of each app. Each is made with the program of the app `shift` places behind it, so
    /// that a second version is another program without another artifact.
    pub fn release(&self, apps: &mut [App], version: VersionNumber, shift: usize) -> anyhow::Result<Rev> {
        let programs: Vec<Program> = apps.iter().map(|app| app.program.clone()).collect();
        let mut bodies = Vec::with_capacity(apps.len() * APP_RECORDS);
        for (at, app) in apps.iter_mut().enumerate() {
            let program = &programs[(at + shift) % programs.len()];
            app.mark.clone_from(&program.mark);
            bodies.extend(records(app, version, program)?);
        }
        let mut rev = 0;
        for some in bodies.chunks(BATCH_RECORDS_MAX / APP_RECORDS * APP_RECORDS) {
            let publish = self.origin.publish::<Infallible, _>("loadtest", None, |_| Ok(some.to_vec()));
            rev = self.runtime.block_on(publish).context("publishing releases")?.rev;
        }
        Ok(rev)
    }

    /// Waits until the node serves a rev. One that refuses it voids the run.
    pub fn converged(&self, rev: Rev, stop: &AtomicBool) -> anyhow::Result<()> {
        let deadline = Instant::now() + CONVERGE_TIME_MAX;
        let now = loop {
            let now = self.runtime.block_on(self.origin.wait_convergence(rev, LOOK));
            stop::check(stop)?;
            if now.is_settled() || Instant::now() >= deadline {
                break now;
            }
        };
        anyhow::ensure!(now.failed.is_empty(), "the node refused a release: {:?}", now.failed);
        anyhow::ensure!(now.active == 1, "the node does not serve rev {rev} after {CONVERGE_TIME_MAX:?}");
        Ok(())
    }
}

fn records(app: &App, version: VersionNumber, program: &Program) -> anyhow::Result<[Body; APP_RECORDS]> {
    let (id, host): (AppId, HostName) = (app.id.clone(), app.host.parse()?);
    let Program { wasm, wasm_bytes, lane, artifact, .. } = program;
    let config = AppConfig { hosts: vec![host], ..AppConfig::default() };
    Ok([
        Body::Version(Version {
            id: id.clone(),
            version,
            wasm: *wasm,
            wasm_bytes: *wasm_bytes,
            lane: *lane,
            config,
            secrets: vec![],
            assets: None,
        }),
        Body::ArtifactSet(ArtifactSet { id: id.clone(), version, artifacts: vec![artifact.clone()] }),
        Body::Release { id, version },
    ])
}
