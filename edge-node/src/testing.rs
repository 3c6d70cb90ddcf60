//! What unit tests of this crate share.

use std::{
    collections::BTreeMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use artifact::{
    AppId, Digest, Lane, Profile, Target,
    assets::{AssetIndex, IndexRef},
    keys::{Compiler, SecretKey, Trusted},
    manifest::{AppConfig, Limits},
    nack::{Nack, NackCode},
    record::{ArtifactRef, ArtifactSet, Body, RawRecord, Record, Version, VersionNumber},
    seal::SecretsKey,
    secrets::{PinnedSecret, SecretAt, SecretValue},
    statement::Statement,
};
use engine::node::Pool;
use fleet_sync_replica::inspect::Serving;
use fleet_sync_replica::{
    Activation, Activator as _, BlobShelf, FleetView, Pin, Replica, ReplicaConfig, VersionState,
};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use wasmtime::{Engine, component::Component};

use crate::{
    account::{Account, access_log::AccessLog, metrics::Metrics},
    activate::Activating,
    assets::StaticFiles,
    code::{Bounds, CodeCache, CodeError, Holding, Loaded, TooMuchHeld, Urgency},
    exchange::{Bill, Exchange, GuestRequest, RequestId, Responder},
    failure::Failure,
    front::{BodyError, Connection, InboundBody, OutboundBody, Protocol},
    generation::{Deployment, Generation},
    guest::{Linker, Program, Run, drive::drive},
    host::{Host, Site, kv::memory::MemoryKv},
    lane::{self, Lanes, SlowLane},
    load::{self, Code, Loader},
    memory::Budget,
    node::{Executions, Node},
};

/// A node without sockets: a view of the fleet that tests write by hand, a shelf on disk, and what serves.
pub struct Shop {
    view: FleetView,
    shelf: BlobShelf,
    guests: BTreeMap<&'static str, Signed>,
    node: Arc<Node>,
    activating: Activating,
    trusted: Arc<ArcSwap<Trusted<Compiler>>>,
    _side: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
}

impl Shop {
    /// `None` when the guests were not built.
    pub fn open(code_bytes_max: u64) -> Option<Shop> {
        Shop::open_with(Bounds { bytes_max: code_bytes_max, ..Bounds::NONE })
    }

    /// The same, also with a bound for the number of programs.
    pub fn open_with(bounds: Bounds) -> Option<Shop> {
        let dir = tempfile::tempdir().unwrap();
        let names = ["wasi-hello", "fastly-hello"];
        let guests = names.into_iter().map(|name| Some((name, signed(name)?))).collect::<Option<_>>()?;
        let side =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let trusted = Arc::new(ArcSwap::from_pointee(Trusted::new([compiler_key().public()])));
        let loader = Loader::following(vec![best_target()], trusted.clone());
        let (cache, shelf) = code_cache(dir.path(), bounds, loader, &side, metrics.clone());
        let files = StaticFiles::new(shelf.clone(), side.handle().clone(), room_for_files(), 1).unwrap();
        let node = Arc::new(Node {
            host: host(),
            generation: Default::default(),
            code: Arc::new(cache),
            files: Arc::new(files),
            metrics,
            access_log: AccessLog::start(std::io::sink()).unwrap(),
            executions: Executions::new(1, 8),
        });
        let secrets = SecretsKey::from_bytes([1; 32]);
        let activating = Activating::new(node.clone(), Default::default(), secrets);
        let view = FleetView::default();
        let shop = Shop { view, shelf, guests, node, activating, trusted, _side: side, dir };
        shop.stock();
        Some(shop)
    }

    /// Puts every guest's blob on the shelf.
    fn stock(&self) {
        self.guests.values().for_each(|signed| put(&self.shelf, signed));
    }

    /// The shelf's copy of a guest rots, and nobody can be asked for another.
    pub fn spoil(&mut self, guest: &str) {
        let signed = self.guests.get_mut(guest).unwrap();
        let (stated, path) = (signed.container.clone(), self.shelf.path(Digest::of(&signed.container)));
        // The blob is what its digest says, but the artifact in it is not what was signed.
        let mut native = Vec::new();
        let container = artifact::container::Container::decode(&stated).unwrap();
        container.decompress(u64::MAX - 1, &mut native).unwrap();
        native[100] ^= 1;
        signed.container = artifact::container::encode(&container.envelope, &native).unwrap();
        std::fs::remove_file(path).unwrap();
        self.stock();
        let number = self.view.apps.keys().next().cloned().unwrap();
        self.artifacts(&number, guest);
    }

    fn apply(&mut self, body: Body) {
        let (rev, epoch) = (self.view.rev + 1, 1);
        let record =
            Record { rev, epoch, time_ms: 0, actor: "test".into(), request: None, critical: true, body };
        let raw = RawRecord::encode(&record).unwrap();
        self.view.apply(&raw).unwrap();
    }

    fn newest(&self, id: &AppId) -> VersionNumber {
        *self.view.app(id).unwrap().versions.last().unwrap().0
    }

    fn artifacts(&mut self, id: &AppId, guest: &str) {
        let artifacts = vec![artifact_of(&self.guests[guest])];
        let version = self.newest(id);
        self.apply(Body::ArtifactSet(ArtifactSet { id: id.clone(), version, artifacts }));
    }

    /// Writes version, artifacts and release of an app to the view.
    pub fn publish(&mut self, app: &str, number: VersionNumber, guest: &str) {
        self.publish_without_artifacts(app, number, guest);
        self.add_artifacts(app, guest);
    }

    /// Native code for an app's newest version.
    pub fn add_artifacts(&mut self, app: &str, guest: &str) {
        self.artifacts(&app_id(app), guest);
    }

    /// A version that was never compiled for this node.
    pub fn publish_without_artifacts(&mut self, app: &str, number: VersionNumber, guest: &str) {
        self.publish_version(app, number, guest, vec![]);
    }

    /// A version that pins one secret `KEY`, sealed under the key made of `seal`; the node's is made of 1.
    pub fn publish_with_secret(
        &mut self,
        app: &str,
        number: VersionNumber,
        guest: &str,
        value: &str,
        seal: u8,
    ) {
        let at = SecretAt { store: None, name: "KEY".parse().unwrap() };
        let (key, plain) = (SecretsKey::from_bytes([seal; 32]), SecretValue::new(value.as_bytes().to_vec()));
        let nonce = [number as u8; artifact::seal::NONCE_BYTES];
        let value = at.seal(&key, &app_id(app), nonce, &plain);
        self.publish_version(app, number, guest, vec![PinnedSecret { at, value }]);
        self.add_artifacts(app, guest);
    }

    /// Reads the secret `KEY` of what serves an app.
    pub fn secret(&self, app: &str) -> Option<String> {
        let deployment = self.deployment(app)?;
        let value = deployment.secrets.get(None, "KEY")?;
        Some(String::from_utf8(value.expose().to_vec()).unwrap())
    }

    fn publish_version(&mut self, app: &str, number: VersionNumber, guest: &str, secrets: Vec<PinnedSecret>) {
        let (id, signed) = (app_id(app), &self.guests[guest]);
        let config =
            AppConfig { hosts: vec![format!("{app}.localhost").parse().unwrap()], ..AppConfig::default() };
        let (wasm, lane) = (signed.wasm, signed.lane);
        let version = Version {
            id: id.clone(),
            version: number,
            wasm,
            wasm_bytes: 1,
            lane,
            config,
            secrets,
            assets: None,
        };
        self.apply(Body::Version(version));
        self.apply(Body::Release { id, version: number });
    }

    /// The fleet is recompiled, to the same code.
    pub fn publish_more_artifacts(&mut self, app: &str) {
        let other = ArtifactRef {
            target: Target::Aarch64,
            profile: Profile::Serve,
            fingerprint: engine::fingerprint(Target::Aarch64, Profile::Serve),
            blob: Digest::ZERO,
            blob_bytes: 1,
        };
        let id = app_id(app);
        let version = self.newest(&id);
        self.apply(Body::ArtifactSet(ArtifactSet { id, version, artifacts: vec![other] }));
    }

    /// Other code for the same machine and engine, as a compiler that was mended makes it.
    pub fn publish_other_code(&mut self, app: &str, guest: &str) {
        let signed = &self.guests[guest];
        let other = signed_anew(signed);
        put(&self.shelf, &other);
        self.publish_artifact(app, artifact_of(&other));
    }

    /// Code that is on no disk, and that nobody can be asked for.
    pub fn publish_code_nobody_has(&mut self, app: &str) {
        let known = self.guests.values().next().map(artifact_of).unwrap();
        self.publish_artifact(app, ArtifactRef { blob: Digest::of(b"nobody has it"), ..known });
    }

    fn publish_artifact(&mut self, app: &str, artifact: ArtifactRef) {
        let id = app_id(app);
        let version = self.newest(&id);
        self.apply(Body::ArtifactSet(ArtifactSet { id, version, artifacts: vec![artifact] }));
    }

    /// The latest code of an app's newest version.
    pub fn latest(&self, app: &str) -> ArtifactRef {
        let id = app_id(app);
        let state = self.view.version(&id, self.newest(&id)).unwrap();
        self.node.code.pick(state).unwrap()
    }

    /// What serves an app now.
    pub fn serving(&self, app: &str) -> Arc<Deployment> {
        self.deployment(app).unwrap()
    }

    /// Where code is loaded.
    pub fn node_code(&self) -> &Arc<crate::code::CodeCache> {
        &self.node.code
    }

    /// Releases a version that is there already.
    pub fn release(&mut self, app: &str, version: VersionNumber) {
        self.apply(Body::Release { id: app_id(app), version });
    }

    /// Deletes an app from the view.
    pub fn delete(&mut self, app: &str) {
        self.apply(Body::AppDeleted { id: app_id(app) });
    }

    /// Activates these apps as the replica would.
    pub async fn activate(&self, apps: &[&str]) -> Vec<(AppId, Nack)> {
        let changed = apps.iter().map(|app| app_id(app)).collect();
        self.activating
            .activate(Activation { view: self.view.clone(), changed, certificates_changed: true })
            .await
    }

    /// Starts with these pins.
    pub fn start(&self, pinned: &[(&str, VersionNumber)]) {
        let pins: Vec<_> = pinned.iter().map(|(app, number)| (*app, *number, None)).collect();
        self.start_with_code(&pins);
    }

    /// The same with the code that came up.
    pub fn start_with_code(&self, pins: &[(&str, VersionNumber, Option<&ArtifactRef>)]) {
        let pin = |(app, version, code): &(&str, VersionNumber, Option<&ArtifactRef>)| {
            (app_id(app), Pin { version: *version, version_rev: 0, artifact: code.cloned() })
        };
        self.activating.start(&self.view, &pins.iter().map(pin).collect());
    }

    fn deployment(&self, app: &str) -> Option<Arc<Deployment>> {
        self.node.generation.load().deployment(&app_id(app)).cloned()
    }

    /// Version and guest an app is answered by.
    pub fn serves(&self, app: &str) -> Option<(VersionNumber, &'static str)> {
        let deployment = self.deployment(app)?;
        let guest = self.guests.iter().find(|(_, signed)| signed.wasm == deployment.wasm);
        Some((deployment.version, guest.unwrap().0))
    }

    /// What the node says it serves of an app.
    pub fn inspect(&self, app: &str) -> Option<Serving> {
        self.activating.inspect(&app_id(app))
    }

    /// Digest of a guest's native code, as it was signed.
    pub fn native(&self, guest: &str) -> Digest {
        let container = artifact::container::Container::decode(&self.guests[guest].container).unwrap();
        Statement::unchecked(&container.envelope).unwrap().artifact
    }

    /// Is an app's code in memory?
    pub fn is_loaded(&self, app: &str) -> bool {
        self.deployment(app).unwrap().code.is_loaded()
    }

    /// Loads it as a request would.
    pub async fn load(&self, app: &str) {
        self.load_on(app, 0).await;
    }

    /// The same on a worker of this number.
    pub async fn load_on(&self, app: &str, worker: usize) {
        // The cache tells uses apart by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.get(app, worker).await.unwrap();
    }

    async fn get(&self, app: &str, worker: usize) -> Result<Arc<Loaded>, Arc<CodeError>> {
        self.node.code.get(&self.deployment(app).unwrap(), worker, Urgency::Request).await
    }

    /// The key that signed all there is is revoked.
    pub fn revoke_signer(&self) {
        self.trusted.store(Arc::new(Trusted::new([])));
    }

    /// The workers that have a program of an app.
    pub fn workers(&self, app: &str) -> Vec<usize> {
        self.deployment(app).unwrap().code.workers()
    }

    /// Has its code as an execution has it.
    pub async fn hold(&self, app: &str) -> Arc<Loaded> {
        self.get(app, 0).await.unwrap()
    }

    /// An execution of an app that does this.
    pub async fn held(
        &self,
        app: &str,
        run: impl Future<Output = wasmtime::Result<()>> + Send + 'static,
    ) -> Result<Holding, TooMuchHeld> {
        self.node.code.held(self.hold(app).await, Box::pin(run), false)
    }

    /// The same once what was evicted is unmapped, which nobody waits for: what one program takes, or more in the end.
    pub async fn code_bytes_at_rest(&self) -> u64 {
        for _ in 0..500 {
            self.node.code.show();
            if self.node.metrics.code.programs.get() <= 1 && self.node.code.files() <= 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.code_bytes()
    }

    /// Unpacked copies of artifacts on the disk.
    pub fn copies(&self) -> Vec<PathBuf> {
        let folder = self.dir.path().join("blobs/unpacked");
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Only the unpacked copies stay.
    pub fn lose_containers(&self) {
        std::fs::remove_dir_all(self.dir.path().join("blobs/sha256")).unwrap();
    }

    /// The same, for an app whose code may not be had.
    pub async fn try_load(&self, app: &str) -> Result<(), NackCode> {
        self.try_load_on(app, 0).await
    }

    /// The same on a worker of this number.
    pub async fn try_load_on(&self, app: &str, worker: usize) -> Result<(), NackCode> {
        self.get(app, worker).await.map(|_| ()).map_err(|error| error.nack().code)
    }

    /// See [`CodeCache::keep_loading_threads_busy`].
    pub fn keep_loading_threads_busy(&self) -> impl Sized + use<> {
        self.node.code.keep_loading_threads_busy()
    }

    /// Loads that no thread has begun.
    pub fn loads_waiting(&self) -> i64 {
        self.node.code.show();
        self.node.metrics.code.loads_waiting.get()
    }

    /// Takes an app out of the generation, as a release that deletes it does, whatever is under way.
    pub fn forget(&self, app: &str) {
        let mut generation = Generation::clone(&self.node.generation.load());
        generation.remove(&app_id(app));
        self.node.generation.store(Arc::new(generation));
    }

    /// Bytes of code in memory.
    pub fn code_bytes(&self) -> u64 {
        self.node.code.bytes()
    }

    /// The exposition text.
    pub fn metrics(&self) -> String {
        String::from_utf8(self.node.metrics.render()).unwrap()
    }
}

/// Workers of a [`Shop`].
const WORKERS: usize = 2;

/// What keeps code in memory, and the shelf it is taken from.
fn code_cache(
    dir: &Path,
    bounds: Bounds,
    loader: Loader,
    side: &tokio::runtime::Runtime,
    metrics: Arc<Metrics>,
) -> (CodeCache, BlobShelf) {
    let offers = vec![(best_target(), engine::fingerprint(best_target(), Profile::Serve))];
    let replica = Replica::open(ReplicaConfig {
        control: "127.0.0.1:1".into(),
        data_dir: dir.into(),
        join_token: None,
        targets: offers.clone(),
        serving: None,
        software: "test".into(),
    });
    let (shelf, handle) = (replica.unwrap().blobs(), side.handle().clone());
    let linkers = (0..WORKERS).map(|_| Linker::new(&ENGINE).unwrap()).collect();
    let cache = CodeCache::new(linkers, loader, shelf.clone(), offers, handle, bounds, metrics);
    (cache.unwrap(), shelf)
}

fn put(shelf: &BlobShelf, signed: &Signed) {
    put_blob(shelf, &signed.container);
}

/// Puts a blob where a fetch would.
pub fn put_blob(shelf: &BlobShelf, bytes: &[u8]) {
    let path = shelf.path(Digest::of(bytes));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn room_for_files() -> Budget {
    Budget::new(64 << 20, 0).unwrap()
}

fn artifact_of(signed: &Signed) -> ArtifactRef {
    ArtifactRef {
        target: best_target(),
        profile: Profile::Serve,
        fingerprint: engine::fingerprint(best_target(), Profile::Serve),
        blob: Digest::of(&signed.container),
        blob_bytes: signed.container.len() as u64,
    }
}

/// A node that serves one app, for tests that put a front before it.
pub struct ServingNode {
    /// What a [`crate::serve::Server`] needs.
    pub node: Arc<Node>,
    /// Its disk.
    pub shelf: BlobShelf,
    side: Option<tokio::runtime::Runtime>,
    _dir: tempfile::TempDir,
}

impl ServingNode {
    /// The app is this module, with this configuration, and runs on this host.
    pub fn new(host: Host, config: AppConfig, text: &str) -> ServingNode {
        ServingNode::with_files(host, config, Some(text), None)
    }

    /// The same with static files, and perhaps without a program.
    pub fn with_files(
        host: Host,
        config: AppConfig,
        text: Option<&str>,
        files: Option<&AssetIndex>,
    ) -> ServingNode {
        let dir = tempfile::tempdir().unwrap();
        let mut side = tokio::runtime::Builder::new_multi_thread();
        // A test that takes its one thread for disks sees who waits for it.
        let side = side.worker_threads(1).max_blocking_threads(1).enable_all().build().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let (cache, shelf) = code_cache(dir.path(), Bounds::NONE, loader(), &side, metrics.clone());
        let static_files =
            StaticFiles::new(shelf.clone(), side.handle().clone(), room_for_files(), 1).unwrap();
        let signed = text.map(|text| sign(&wat::parse_str(text).unwrap()));
        let mut deployment = deployment("test", 1, config);
        let mut version = deployment.state.version.clone();
        version.wasm_bytes = u64::from(signed.is_some());
        version.assets = files.map(|index| {
            let text = index.encode().unwrap();
            put_blob(&shelf, &text);
            IndexRef { index: Digest::of(&text), index_bytes: text.len() as u64 }
        });
        let artifacts: Vec<ArtifactRef> = signed.iter().map(artifact_of).collect();
        deployment.artifact = artifacts.first().cloned();
        deployment.site = static_files.site(&version).unwrap();
        deployment.metrics = metrics.version(&deployment.id, 1);
        if let Some(signed) = &signed {
            put(&shelf, signed);
            (deployment.wasm, deployment.lane) = (signed.wasm, signed.lane);
        }
        deployment.state = Arc::new(VersionState { version, artifacts, rev: 1, time_ms: 0 });
        let mut generation = Generation::default();
        generation.insert(Arc::new(deployment));
        let node = Arc::new(Node {
            host: Arc::new(host),
            generation: ArcSwap::from_pointee(generation),
            code: Arc::new(cache),
            files: Arc::new(static_files),
            metrics,
            access_log: AccessLog::start(std::io::sink()).unwrap(),
            executions: Executions::new(1, 8),
        });
        ServingNode { node, shelf, side: Some(side), _dir: dir }
    }
}

impl Drop for ServingNode {
    fn drop(&mut self) {
        // Tests drop it in the middle of a runtime of their own.
        self.side.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

fn app_id(app: &str) -> AppId {
    AppId { tenant: "default".parse().unwrap(), app: app.parse().unwrap() }
}

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new().unwrap());

/// A deployment of the default tenant without code.
pub fn deployment(app: &str, number: VersionNumber, config: AppConfig) -> Deployment {
    let id = app_id(app);
    let version = Version {
        id: id.clone(),
        version: number,
        wasm: Digest::ZERO,
        wasm_bytes: 1,
        lane: Lane::Wasi,
        config: config.clone(),
        secrets: vec![],
        assets: None,
    };
    Deployment {
        metrics: METRICS.version(&id, number),
        id,
        version: number,
        lane: Lane::Wasi,
        wasm: Digest::ZERO,
        allow: crate::generation::allow(&config),
        config,
        state: Arc::new(VersionState { version, artifacts: vec![], rev: 1, time_ms: 0 }),
        artifact: None,
        code: Default::default(),
        site: None,
        secrets: Default::default(),
        standing: Default::default(),
    }
}

/// A fixture guest, compiled and signed as the compiler service would.
pub struct Signed {
    /// Statement and code in one blob.
    pub container: Vec<u8>,
    /// The program's digest.
    pub wasm: Digest,
    /// Its lane.
    pub lane: Lane,
}

/// `None`, said loudly, when the guests were not built: `fixtures/build` makes them. Panics where nothing may be
/// skipped (`SKERRY_TESTS_MUST_NOT_SKIP=1`).
pub fn signed(name: &str) -> Option<Signed> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/guests/{name}.wasm"));
    let Ok(wasm) = std::fs::read(&path) else {
        let missing = format!("{} is missing; run fixtures/build --all", path.display());
        assert!(!std::env::var("SKERRY_TESTS_MUST_NOT_SKIP").is_ok_and(|value| value == "1"), "{missing}");
        eprintln!("SKIPPED: {missing}");
        return None;
    };
    Some(sign(&wasm))
}

fn sign(wasm: &[u8]) -> Signed {
    let target = best_target();
    let lane = if wasm[4..8] == [1, 0, 0, 0] { Lane::Fastly } else { Lane::Wasi };
    let native = native(wasm, lane, target);
    let container =
        artifact::container::encode(&statement(&native, wasm, lane, target).sign(&compiler_key()), &native)
            .unwrap();
    Signed { container, wasm: Digest::of(wasm), lane }
}

/// The same code under a statement that says something else: another blob.
fn signed_anew(signed: &Signed) -> Signed {
    let container = artifact::container::Container::decode(&signed.container).unwrap();
    let trusted = Trusted::new([compiler_key().public()]);
    let stated = artifact::statement::TrustedStatement::open(&container.envelope, &trusted).unwrap();
    let mut native = Vec::new();
    container.decompress(stated.statement().size, &mut native).unwrap();
    let anew = Statement { compiler: "mended".into(), ..stated.statement().clone() };
    let container = artifact::container::encode(&anew.sign(&compiler_key()), &native).unwrap();
    Signed { container, wasm: signed.wasm, lane: signed.lane }
}

fn statement(native: &[u8], wasm: &[u8], lane: Lane, target: Target) -> Statement {
    Statement {
        artifact: Digest::of(native),
        size: native.len() as u64,
        wasm: Digest::of(wasm),
        lane,
        target,
        profile: Profile::Serve,
        fingerprint: engine::fingerprint(target, Profile::Serve),
        imports: vec![],
        compiler: "test".into(),
        flags: vec![],
    }
}

/// Compiles, or takes what an earlier run compiled of the same bytes with the same engine: a JavaScript engine takes
/// most of a minute.
fn native(wasm: &[u8], lane: Lane, target: Target) -> Vec<u8> {
    let fingerprint = engine::fingerprint(target, Profile::Serve);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/guests-native");
    let path = folder.join(format!("{}-{fingerprint}", Digest::of(wasm)));
    if let Ok(native) = std::fs::read(&path) {
        return native;
    }
    let compiler = engine::compiler::engine(target, Profile::Serve).unwrap();
    let native = match lane {
        Lane::Fastly => compiler.precompile_module(wasm).unwrap(),
        Lane::Wasi => compiler.precompile_component(wasm).unwrap(),
    };
    std::fs::create_dir_all(&folder).unwrap();
    let temporary = tempfile::NamedTempFile::new_in(&folder).unwrap();
    std::fs::write(temporary.path(), &native).unwrap();
    temporary.persist(&path).unwrap();
    native
}

fn best_target() -> Target {
    *engine::levels::of_this_machine().last().unwrap()
}

fn compiler_key() -> SecretKey<Compiler> {
    SecretKey::from_seed([1; 32])
}

fn loader() -> Loader {
    Loader::new(vec![best_target()], Trusted::new([compiler_key().public()]))
}

/// A module in text form, linked as on a node.
pub fn module(text: &str) -> Program {
    link(sign(&wat::parse_str(text).unwrap()))
}

/// A fixture guest, verified, loaded and linked as on a node.
pub fn program(name: &str) -> Option<Program> {
    signed(name).map(link)
}

/// The same before it is linked.
pub fn code(name: &str) -> Option<Code> {
    signed(name).map(load)
}

/// A component that a test wrote, for [`engine`].
pub fn component(wasm: &[u8]) -> Component {
    match load(sign(wasm)) {
        Code::Component(component) => component,
        Code::Module(_) => panic!("no component"),
    }
}

/// The engine that all of them are for.
pub fn engine() -> &'static Engine {
    &ENGINE
}

fn link(signed: Signed) -> Program {
    Linker::new(&ENGINE).unwrap().link(load(signed)).unwrap()
}

fn load(signed: Signed) -> Code {
    load::map(&ENGINE, &loader().verify(&signed.container, signed.wasm).unwrap()).unwrap()
}

/// The engine of all tests, its epoch ticking.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let pool = Pool { instances_max: 64, reset: crate::machine::reset() };
    let engine = engine::node::engine(Profile::Serve, pool).unwrap();
    crate::run::tick_epochs(std::slice::from_ref(&engine)).unwrap();
    engine
});

/// A plaintext HTTP/1.1 connection.
pub fn connection() -> Arc<Connection> {
    let address = ([127, 0, 0, 1], 80).into();
    Arc::new(Connection { peer: address, local: address, protocol: Protocol::H1, tls: None })
}

/// A node of its own.
pub fn host() -> Arc<Host> {
    Arc::new(bare_host())
}

/// What a node of its own offers.
pub fn bare_host() -> Host {
    Host {
        site: Site { node: "fra1-1".parse().unwrap(), pop: "fra1".parse().unwrap() },
        outbound: Default::default(),
        geo: None,
        kv: Arc::new(MemoryKv::default()),
        memory: Budget::new(1 << 40, 64).unwrap(),
    }
}

/// An exchange of an app with this configuration.
pub fn exchange(config: AppConfig) -> Exchange {
    Exchange::begin(Arc::new(deployment("test", 1, config)), connection(), host())
}

/// What a client sees of a guest's answer.
#[derive(Debug)]
pub struct Seen {
    /// Head.
    pub head: http::response::Parts,
    /// Bytes up to the end or the error.
    pub body: Vec<u8>,
    /// What came after it.
    pub trailers: HeaderMap,
    /// How the body ended.
    pub error: Option<BodyError>,
}

/// Runs a program once, with limits, and reads its whole answer.
pub async fn ask(program: &Program, limits: Limits, request: Request<InboundBody>) -> Result<Seen, Failure> {
    let config = AppConfig { limits, ..AppConfig::default() };
    execute(program, Arc::new(deployment("test", 1, config)), host(), None, request).await.0
}

/// The same in an exchange of the test's own.
pub async fn ask_in(
    program: &Program,
    exchange: Exchange,
    request: Request<InboundBody>,
) -> Result<Seen, Failure> {
    ask_run(|exchange, request, responder| program.run(exchange, request, responder), exchange, request).await
}

/// The same for whatever runs, with an exchange that the test made.
pub async fn ask_run(
    run: impl FnOnce(Exchange, GuestRequest, Responder) -> Run,
    exchange: Exchange,
    request: GuestRequest,
) -> Result<Seen, Failure> {
    let (bill, deployment) = (exchange.bill.clone(), exchange.deployment.clone());
    let wall = Duration::from_millis(u64::from(deployment.limits().wall_ms));
    let (responder, response) = Responder::new();
    let run = run(exchange, request, responder);
    let driven = drive(run, response, bill.clone(), wall, account(&deployment, &bill), None).await;
    Ok(read(driven?).await)
}

/// Runs a program once, as this deployment, on this node and in these lanes. Reads its whole answer; what it cost may
/// still be settled then by whoever holds the bill.
pub async fn execute(
    program: &Program,
    deployment: Arc<Deployment>,
    host: Arc<Host>,
    lanes: Option<&Lanes>,
    request: Request<InboundBody>,
) -> (Result<Seen, Failure>, Arc<Bill>) {
    let wall = Duration::from_millis(u64::from(deployment.limits().wall_ms));
    let exchange = Exchange::begin(deployment.clone(), connection(), host);
    let bill = exchange.bill.clone();
    let (responder, response) = Responder::new();
    let run = program.run(exchange, request, responder);
    let driven = drive(run, response, bill.clone(), wall, account(&deployment, &bill), lanes).await;
    (async { Ok(read(driven?).await) }.await, bill)
}

async fn read(response: Response<OutboundBody>) -> Seen {
    let (head, mut body) = response.into_parts();
    let mut seen = Seen { head, body: Vec::new(), trailers: HeaderMap::new(), error: None };
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => seen.body.extend_from_slice(&data),
            Ok(Err(frame)) => seen.trailers = frame.into_trailers().unwrap_or_default(),
            Err(error) => {
                seen.error = Some(error);
                break;
            }
        }
    }
    seen
}

/// Instances of the node that [`slow_lane`] is of.
pub const SLOW_LANE_INSTANCES: usize = 32;

/// A slow lane of the least size, and of full weight: the machine that runs tests is busy with others.
pub fn slow_lane() -> SlowLane {
    SlowLane::start(0, lane::Settings { workers: 1, instances_max: SLOW_LANE_INSTANCES, nice: 0 }).unwrap()
}

/// The account of an execution, whose line nobody reads.
pub fn account(deployment: &Arc<Deployment>, bill: &Arc<Bill>) -> Arc<Account> {
    static LOG: LazyLock<AccessLog> = LazyLock::new(|| AccessLog::start(std::io::sink()).unwrap());
    let (head, ()) = Request::get("/").body(()).unwrap().into_parts();
    let run = Some((deployment.clone(), bill.clone()));
    Account::open(&head, None, &connection(), RequestId::new(), run, &LOG)
}

/// Runs a test on a runtime like a worker's.
pub fn local<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).unwrap().block_on(test)
}
