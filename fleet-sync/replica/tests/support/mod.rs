//! A control plane's origin and nodes in one process, over loopback.

// Each test binary uses its part of this.
#![allow(dead_code)]

use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use artifact::{
    AppId, Digest, Fingerprint, Lane, Profile, Target,
    assets::{AssetBlob, AssetFile, AssetIndex, IndexRef},
    keys::{Release, SecretKey},
    manifest::{AppConfig, Assets},
    nack::{Nack, NackCode},
    record::{ArtifactRef, ArtifactSet, Body, Rev, Version, VersionNumber},
    seal::SecretsKey,
};
use async_trait::async_trait;
use bytes::Bytes;
use fleet_sync_origin::{Origin, OriginConfig};
use fleet_sync_replica::{
    Activation, Activator, FleetView, Replica, ReplicaConfig, Report, inspect::Serving,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub const TARGET: Target = Target::X86_64V3;

pub fn id(app: &str) -> AppId {
    AppId { tenant: "default".parse().unwrap(), app: app.parse().unwrap() }
}

pub fn fingerprint() -> Fingerprint {
    Fingerprint(Digest::of(b"this engine"))
}

pub fn other_fingerprint() -> Fingerprint {
    Fingerprint(Digest::of(b"another engine"))
}

pub fn artifact_for(view: &FleetView, app: &str) -> ArtifactRef {
    view.active(&id(app)).unwrap().artifacts[0].clone()
}

pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 10 s: {what}");
}

/// An origin that serves.
pub struct Control {
    pub origin: Arc<Origin>,
    pub secrets_key: SecretsKey,
    pub directory: TempDir,
    pub address: SocketAddr,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Control {
    pub async fn start() -> Control {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let secrets_key = SecretsKey::from_bytes([5; 32]);
        let origin = open(directory.path(), 1).await;
        let serving = Some(serve(origin.clone(), listener));
        Control { origin, secrets_key, directory, address, serving }
    }

    pub async fn stop(&mut self) {
        if let Some((stop, serving)) = self.serving.take() {
            let _ = stop.send(());
            serving.await.unwrap();
        }
    }

    pub async fn restart(&mut self) {
        self.restart_with(1).await;
    }

    pub async fn restart_with_another_release_key(&mut self) {
        self.restart_with(2).await;
    }

    async fn restart_with(&mut self, seed: u8) {
        self.stop().await;
        self.origin = open(self.directory.path(), seed).await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = Some(serve(self.origin.clone(), listener));
    }

    /// A copy of the log as it is now.
    pub async fn copy_log(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        let from = rusqlite::Connection::open(self.directory.path().join("log.sqlite")).unwrap();
        from.execute("VACUUM INTO ?1", [copy.path().join("log.sqlite").to_str().unwrap()]).unwrap();
        copy
    }

    /// Stops, puts the copy in place of the log, starts.
    pub async fn restore_log(&mut self, copy: TempDir) {
        self.stop().await;
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.directory.path().join(format!("log.sqlite{suffix}")));
        }
        std::fs::copy(copy.path().join("log.sqlite"), self.directory.path().join("log.sqlite")).unwrap();
        self.restart_with(1).await;
    }

    pub async fn token(&self, pop: &str) -> String {
        let issued =
            self.origin.create_join_token(&pop.parse().unwrap(), Duration::from_secs(60)).await.unwrap();
        issued.token.to_text()
    }

    pub async fn publish(&self, bodies: Vec<Body>) -> Rev {
        self.origin.publish::<std::convert::Infallible, _>("test", None, |_| Ok(bodies)).await.unwrap().rev
    }

    pub async fn blob(&self, bytes: &[u8]) -> ArtifactRef {
        let blob = self.origin.blobs().put(Bytes::copy_from_slice(bytes)).await.unwrap();
        artifact(fingerprint(), blob, bytes.len())
    }

    pub async fn deploy(&self, app: &str, bytes: &[u8]) -> Rev {
        let artifact = self.blob(bytes).await;
        self.release(app, artifact).await
    }

    pub async fn deploy_for(&self, fingerprint: Fingerprint, app: &str, bytes: &[u8]) -> Rev {
        let artifact = ArtifactRef { fingerprint, ..self.blob(bytes).await };
        self.release(app, artifact).await
    }

    /// The origin's copy of the blob has one byte flipped.
    pub async fn deploy_damaged(&self, app: &str, bytes: &[u8]) -> Rev {
        let artifact = self.blob(bytes).await;
        let hex = artifact.blob.to_string();
        let path = self.directory.path().join("blobs/sha256").join(&hex[..2]).join(&hex);
        let mut damaged = bytes.to_vec();
        damaged[0] ^= 1;
        std::fs::write(path, damaged).unwrap();
        self.release(app, artifact).await
    }

    async fn release(&self, app: &str, artifact: ArtifactRef) -> Rev {
        let id = id(app);
        let decide = |view: &FleetView| {
            let number = view.next_version(&id);
            let config = AppConfig {
                hosts: vec![format!("{app}.localhost").parse().unwrap()],
                ..AppConfig::default()
            };
            view.check_claim(&id, &config)?;
            let version = Version {
                id: id.clone(),
                version: number,
                wasm: Digest::of(b"wasm"),
                wasm_bytes: 4,
                lane: Lane::Wasi,
                config,
                secrets: vec![],
                assets: None,
            };
            let set = ArtifactSet { id: id.clone(), version: number, artifacts: vec![artifact] };
            let release = Body::Release { id: id.clone(), version: number };
            Ok::<_, fleet_sync_proto::ClaimConflict>(vec![
                Body::Version(version),
                Body::ArtifactSet(set),
                release,
            ])
        };
        self.origin.publish("test", None, decide).await.unwrap().rev
    }

    /// A version of static files alone. The origin has those that are `put`.
    pub async fn deploy_files(&self, app: &str, files: &[(&str, &[u8])], put: bool) -> (Rev, IndexRef) {
        let named = files.iter().map(|(path, bytes)| {
            let plain = AssetBlob::of(bytes);
            ((*path).to_owned(), AssetFile { content_type: "text/plain".into(), plain, br: None, gzip: None })
        });
        let text = AssetIndex::new(named.collect()).unwrap().encode().unwrap();
        let at = IndexRef { index: Digest::of(&text), index_bytes: text.len() as u64 };
        self.origin.blobs().put(text.into()).await.unwrap();
        for (_, bytes) in files.iter().filter(|_| put) {
            self.origin.blobs().put(Bytes::copy_from_slice(bytes)).await.unwrap();
        }
        let id = id(app);
        let number = self.origin.view().next_version(&id);
        let version = Version {
            id: id.clone(),
            version: number,
            wasm: Digest::of(b""),
            wasm_bytes: 0,
            lane: Lane::Wasi,
            config: AppConfig { assets: Some(Assets::default()), ..AppConfig::default() },
            secrets: vec![],
            assets: Some(at),
        };
        (self.publish(vec![Body::Version(version), Body::Release { id, version: number }]).await, at)
    }

    pub async fn converged(&self, rev: Rev) {
        // Nodes that were away need a moment to come back.
        for _ in 0..100 {
            let now = self.origin.wait_convergence(rev, Duration::from_millis(100)).await;
            if now.active == now.nodes {
                return;
            }
            assert!(now.failed.is_empty(), "{now:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not within 10 s: {:?}", self.origin.convergence(rev));
    }
}

pub async fn open(directory: &Path, seed: u8) -> Arc<Origin> {
    let config = OriginConfig {
        data_dir: directory.to_owned(),
        release_key: SecretKey::<Release>::from_seed([seed; 32]),
        compiler_keys: vec![SecretKey::from_seed([3; 32]).public()],
        secrets_key: SecretsKey::from_bytes([5; 32]),
        sync_names: vec!["localhost".into(), "127.0.0.1".into()],
        kv_quotas: fleet_sync_origin::KvQuotas::default(),
        who: "control-plane".into(),
    };
    Origin::open(config).await.unwrap()
}

fn serve(origin: Arc<Origin>, listener: TcpListener) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move { drop(stopped.await) };
    let serving = tokio::spawn(async move { origin.serve(listener, shutdown).await.unwrap() });
    (stop, serving)
}

fn artifact(fingerprint: Fingerprint, blob: Digest, bytes: usize) -> ArtifactRef {
    ArtifactRef { target: TARGET, profile: Profile::Serve, fingerprint, blob, blob_bytes: bytes as u64 }
}

/// A node's replica, not running.
pub struct Node {
    pub replica: Replica,
    pub directory: TempDir,
    pub config: ReplicaConfig,
}

impl Node {
    pub fn open(control: &Control, join_token: Option<String>) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let config = ReplicaConfig {
            control: control.address.to_string(),
            data_dir: directory.path().to_owned(),
            join_token,
            targets: vec![(TARGET, fingerprint())],
            serving: Some("127.0.0.1:1".into()),
            software: "test".into(),
        };
        Node { replica: Replica::open(config.clone()).unwrap(), directory, config }
    }

    pub async fn enrol(control: &Control, pop: &str) -> Node {
        let node = Node::open(control, Some(control.token(pop).await));
        node.replica.enrol().await.unwrap();
        node
    }

    /// As after a restart of the process: everything from disk.
    pub fn reopen(self) -> Node {
        let Node { replica, directory, config } = self;
        drop(replica);
        Node { replica: Replica::open(config.clone()).unwrap(), directory, config }
    }

    /// Replaces the node's certificate by one of the fleet CA for `name` that expired `ago`.
    pub fn put_certificate(&self, control: &Control, name: &str, ago: Duration) {
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let ca_key = rcgen::KeyPair::from_pem(&read(&control.directory.path().join("fleet-ca.key"))).unwrap();
        let ca_pem = read(&control.directory.path().join("fleet-ca.pem"));
        let issuer = rcgen::Issuer::from_ca_cert_pem(&ca_pem, ca_key).unwrap();
        let path = self.directory.path().join("identity.json");
        let mut identity: serde_json::Value = serde_json::from_str(&read(&path)).unwrap();
        let key = rcgen::KeyPair::from_pem(identity["key_pem"].as_str().unwrap()).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names =
            vec![rcgen::SanType::URI(format!("skerry:node/{name}").try_into().unwrap())];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now - ago);
        params.not_before = params.not_after - Duration::from_secs(24 * 3600);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        identity["certificate_pem"] = certificate.pem().into();
        std::fs::write(path, identity.to_string()).unwrap();
    }

    /// The same node, told another address.
    pub fn redirected(mut self, control: &Control) -> Node {
        self.config.control = control.address.to_string();
        self.reopen()
    }

    /// The version of an app that came up last.
    pub fn pinned(&self, app: &str) -> Option<VersionNumber> {
        self.replica.pinned().get(&id(app)).map(|pin| pin.version)
    }

    pub fn run(&self) -> Running {
        let activator = Recorder::new(&self.replica);
        let (stop, stopped) = oneshot::channel();
        let (replica, server) = (self.replica.clone(), activator.clone());
        let task =
            tokio::spawn(async move { replica.run(server, async { drop(stopped.await) }).await.unwrap() });
        Running { activator, stop, task }
    }
}

/// A node's replica, following.
pub struct Running {
    pub activator: Arc<Recorder>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }
}

/// Stands in for a server: "loads" each artifact by reading it from the shelf, and remembers what it serves.
pub struct Recorder {
    shelf: fleet_sync_replica::BlobShelf,
    state: Mutex<State>,
}

impl Recorder {
    pub fn new(replica: &Replica) -> Arc<Recorder> {
        Arc::new(Recorder { shelf: replica.blobs(), state: Mutex::default() })
    }
}

#[derive(Default)]
struct State {
    serving: BTreeMap<AppId, VersionNumber>,
    refused: BTreeMap<AppId, NackCode>,
}

impl Recorder {
    pub fn serving(&self, app: &str) -> Option<VersionNumber> {
        self.state.lock().serving.get(&id(app)).copied()
    }

    /// From now on the app does not load.
    pub fn refuse(&self, id: &AppId, code: NackCode) {
        self.state.lock().refused.insert(id.clone(), code);
    }
}

#[async_trait]
impl Activator for Recorder {
    async fn activate(&self, activation: Activation) -> Vec<(AppId, Nack)> {
        let mut failed = Vec::new();
        for id in activation.changed {
            let Some(version) = activation.view.active(&id).cloned() else {
                self.state.lock().serving.remove(&id);
                continue;
            };
            if let Some(code) = self.state.lock().refused.get(&id) {
                failed.push((id, Nack { code: *code, detail: "refused by the test".into() }));
                continue;
            }
            if let Some(at) = &version.version.assets {
                let whole = self.shelf.read_index(at).unwrap().is_some_and(|index| {
                    index.blobs().all(|(_, _, blob)| {
                        self.shelf.read_part(blob.digest, 0..blob.bytes).is_ok_and(|bytes| blob.is_of(&bytes))
                    })
                });
                assert!(whole, "offered before its files are here");
                self.state.lock().serving.insert(id, version.version.version);
                continue;
            }
            let offers = [(TARGET, fingerprint())];
            let artifact = fleet_sync_replica::pick_artifact(&version, &offers).unwrap();
            match self.shelf.get(artifact).await {
                Ok(_) => drop(self.state.lock().serving.insert(id, version.version.version)),
                Err(error) => failed.push((id, error.nack())),
            }
        }
        failed
    }

    fn report(&self) -> Report {
        Report::default()
    }

    fn inspect(&self, id: &AppId) -> Option<Serving> {
        let version = *self.state.lock().serving.get(id)?;
        Some(Serving { version, version_rev: 1, code: Some(Digest::of(b"mapped")) })
    }
}
