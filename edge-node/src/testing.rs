//! What unit tests of this crate share.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use artifact::{
    AppId, Digest, Lane, Profile,
    keys::{Compiler, SecretKey, Trusted},
    manifest::{AppConfig, Limits},
    record::{Version, VersionNumber},
    statement::Statement,
};
use engine::node::Pool;
use fleet_sync_replica::VersionState;
use http::Request;
use http_body_util::BodyExt as _;
use wasmtime::Engine;

use crate::{
    account::{Account, metrics::Metrics},
    exchange::{Exchange, Responder, Site},
    failure::Failure,
    front::{BodyError, Connection, InboundBody, Protocol},
    generation::Deployment,
    guest::{Program, drive::drive},
    load::Loader,
};

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new().unwrap());

/// A deployment of the default tenant without code.
pub fn deployment(app: &str, number: VersionNumber, config: AppConfig) -> Deployment {
    let id = AppId { tenant: "default".parse().unwrap(), app: app.parse().unwrap() };
    let version = Version {
        id: id.clone(),
        version: number,
        wasm: Digest::ZERO,
        wasm_bytes: 0,
        lane: Lane::Wasi,
        config: config.clone(),
    };
    Deployment {
        metrics: METRICS.version(&id, number),
        id,
        version: number,
        lane: Lane::Wasi,
        wasm: Digest::ZERO,
        config,
        state: Arc::new(VersionState { version, artifacts: vec![], rev: 1, time_ms: 0 }),
        code: Default::default(),
    }
}

/// A fixture guest, compiled, signed, verified and linked as on a node. `None`, said loudly, when the guests were not
/// built: `fixtures/build` makes them.
pub fn program(name: &str) -> Option<Program> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/guests/{name}.wasm"));
    let Ok(wasm) = std::fs::read(&path) else {
        eprintln!("SKIPPED: {} is missing; run fixtures/build", path.display());
        return None;
    };
    let target = *engine::levels::of_this_machine().last().unwrap();
    let compiler = engine::compiler::engine(target, Profile::Serve).unwrap();
    let (lane, native) = match wasm[4..8] == [1, 0, 0, 0] {
        true => (Lane::Fastly, compiler.precompile_module(&wasm).unwrap()),
        false => (Lane::Wasi, compiler.precompile_component(&wasm).unwrap()),
    };
    let statement = Statement {
        artifact: Digest::of(&native),
        size: native.len() as u64,
        wasm: Digest::of(&wasm),
        lane,
        target,
        profile: Profile::Serve,
        fingerprint: engine::fingerprint(target, Profile::Serve),
        imports: vec![],
        compiler: "test".into(),
        flags: vec![],
    };
    let key = SecretKey::<Compiler>::from_seed([1; 32]);
    let container = artifact::container::encode(&statement.sign(&key), &native).unwrap();
    let loader = Loader::new(ENGINE.clone(), vec![target], Trusted::new([key.public()]));
    let mapped = loader.load(&container, Digest::of(&wasm)).unwrap();
    Some(Program::link(&ENGINE, mapped.code).unwrap())
}

/// The engine of all tests, its epoch ticking.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let pool = Pool { instances_max: 64, reset: crate::machine::reset() };
    let engine = engine::node::engine(Profile::Serve, pool).unwrap();
    crate::run::tick_epochs(&engine).unwrap();
    engine
});

/// A plaintext HTTP/1.1 connection.
pub fn connection() -> Arc<Connection> {
    let address = ([127, 0, 0, 1], 80).into();
    Arc::new(Connection { peer: address, local: address, protocol: Protocol::H1, tls: None })
}

/// A node of its own.
pub fn site() -> Arc<Site> {
    Arc::new(Site { node: "fra1-1".parse().unwrap(), pop: "fra1".parse().unwrap() })
}

/// What a client sees of a guest's answer.
#[derive(Debug)]
pub struct Seen {
    /// Head.
    pub head: http::response::Parts,
    /// Bytes up to the end or the error.
    pub body: Vec<u8>,
    /// How the body ended.
    pub error: Option<BodyError>,
}

/// Runs a program once, with limits, and reads its whole answer.
pub async fn ask(program: &Program, limits: Limits, request: Request<InboundBody>) -> Result<Seen, Failure> {
    let config = AppConfig { limits, ..AppConfig::default() };
    let exchange = Exchange::begin(Arc::new(deployment("test", 1, config)), connection(), site());
    let bill = exchange.bill.clone();
    let (responder, response) = Responder::new();
    let run = program.run(exchange, request, responder);
    let wall = Duration::from_millis(u64::from(limits.wall_ms));
    let (head, mut body) = drive(run, response, bill, wall, Account::none()).await?.into_parts();
    let mut seen = Seen { head, body: Vec::new(), error: None };
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => seen.body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(error) => {
                seen.error = Some(error);
                break;
            }
        }
    }
    Ok(seen)
}

/// Runs a test on a runtime like a worker's.
pub fn local<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).unwrap().block_on(test)
}
