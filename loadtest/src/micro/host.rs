//! One cycle on the node's own path.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use artifact::{AppId, HostName, manifest::AppConfig, record::Version};
use edge_node::{
    account::{Account, access_log::AccessLog, metrics::Metrics},
    exchange::{Bill, Exchange, RequestId, Responder},
    front::{Connection, InboundBody, OutboundBody, Protocol},
    generation::Deployment,
    guest::{Linker, Program, Run, drive::drive},
    host::door::Door,
    lane::{self, SlowLane},
};
use fleet_sync_replica::VersionState;
use http::{Request, Response, header, request};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use super::{
    guest::{Bench, Guest},
    measure::{Cycle, Spent},
};

/// What the serving threads of a node share, and a program on the engine of one.
#[derive(Clone)]
pub struct Shared {
    program: Arc<Program>,
    deployment: Arc<Deployment>,
    offers: Arc<edge_node::host::Host>,
}

/// A linked program and what its exchanges belong to, on one thread.
pub struct Host {
    shared: Shared,
    connection: Arc<Connection>,
    account: Arc<Account>,
    log: AccessLog,
    host: HostName,
    /// Where guests go that take longer; none is meant to.
    slow: SlowLane,
}

/// An exchange that has begun, up to what the driver needs.
pub struct Begun {
    pub run: Run,
    pub response: oneshot::Receiver<Response<OutboundBody>>,
    pub bill: Arc<Bill>,
}

impl Shared {
    /// Links the guest.
    pub fn new(bench: &Bench, guest: &Guest) -> anyhow::Result<Shared> {
        let program = program(bench, guest)?;
        let site = edge_node::host::Site { node: "bench-1".parse()?, pop: "bench".parse()? };
        let kv = Arc::new(edge_node::host::kv::Away);
        let memory = edge_node::memory::Budget::new(1 << 40, 64)?;
        let offers =
            Arc::new(edge_node::host::Host { site, outbound: Default::default(), geo: None, kv, memory });
        Ok(Shared { program: Arc::new(program), deployment: Arc::new(deployment(guest)?), offers })
    }

    /// What another worker shares with this one: all but its engine and program.
    pub fn on_another_engine(&self, bench: &Bench, guest: &Guest) -> anyhow::Result<Shared> {
        Ok(Shared { program: Arc::new(program(bench, guest)?), ..self.clone() })
    }
}

fn program(bench: &Bench, guest: &Guest) -> anyhow::Result<Program> {
    let linked = Linker::new(&bench.engine)?.link(bench.load(guest)?);
    linked.map_err(anyhow::Error::from).context("linking the guest")
}

impl Host {
    /// Links the guest.
    pub fn new(bench: &Bench, guest: &Guest) -> anyhow::Result<Host> {
        Host::of(Shared::new(bench, guest)?)
    }

    /// A serving thread of its own.
    pub fn of(shared: Shared) -> anyhow::Result<Host> {
        let log = AccessLog::start(std::io::sink()).context("starting the access log")?;
        let address = ([127, 0, 0, 1], 80).into();
        let connection =
            Arc::new(Connection { peer: address, local: address, protocol: Protocol::H1, tls: None });
        // One account for all cycles: counters and log are not what is measured.
        let (head, _) = request().into_parts();
        let host: HostName = HOST.parse()?;
        let run = Some((shared.deployment.clone(), Arc::default()));
        let account = Account::open(&head, Some(host.clone()), &connection, RequestId::new(), run, &log);
        let lane = lane::Settings { workers: 1, instances_max: 0, nice: lane::NICE_DEFAULT };
        let slow = SlowLane::start(0, lane).context("starting the slow lane")?;
        Ok(Host { shared, connection, account, log, host, slow })
    }

    /// What happens before the guest is polled.
    pub fn begin(&self) -> Begun {
        self.begin_watched(Door::default())
    }

    /// The same with this door.
    pub fn begin_watched(&self, door: Door) -> Begun {
        let mut exchange = self.exchange();
        exchange.door = door;
        let bill = exchange.bill.clone();
        let (responder, response) = Responder::new();
        Begun { run: self.shared.program.run(exchange, request(), responder), response, bill }
    }

    /// An exchange of its own.
    pub fn exchange(&self) -> Exchange {
        Exchange::begin(self.shared.deployment.clone(), self.connection.clone(), self.shared.offers.clone())
    }

    /// Runs the guest up to its response.
    pub async fn drive(&self, begun: Begun) -> anyhow::Result<Response<OutboundBody>> {
        let wall = Duration::from_millis(u64::from(self.shared.deployment.limits().wall_ms));
        let Begun { run, response, bill } = begun;
        drive(run, response, bill, wall, self.account.clone(), Some(self.slow.lanes()))
            .await
            .map_err(|failure| anyhow::anyhow!("the guest failed: {failure:?}"))
    }

    /// Counts and logs one request, as the request path does.
    pub fn account(&self, head: &request::Parts, bill: &Arc<Bill>) {
        let run = Some((self.shared.deployment.clone(), bill.clone()));
        let account =
            Account::open(head, Some(self.host.clone()), &self.connection, RequestId::new(), run, &self.log);
        account.responded(http::StatusCode::OK);
        account.ended(None);
    }
}

impl Cycle for Host {
    async fn cycle(&self) -> anyhow::Result<Spent> {
        let begun = self.begin();
        let bill = begun.bill.clone();
        let response = self.drive(begun).await?;
        read(response).await?;
        Ok(Spent { instantiate_ns: bill.instantiate_ns(), guest_ns: bill.cpu_ns() })
    }
}

/// Reads an answer to its end and drops it. Anything but a whole 200 voids the figure.
pub async fn read(response: Response<OutboundBody>) -> anyhow::Result<()> {
    anyhow::ensure!(response.status() == http::StatusCode::OK, "the guest answered {}", response.status());
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.context("reading the answer")?;
    }
    Ok(())
}

const HOST: &str = "hello.localhost";

/// The head `curl http://hello.localhost/` sends.
pub fn request() -> Request<InboundBody> {
    let mut request = Request::new(InboundBody::Empty);
    let headers = request.headers_mut();
    headers.insert(header::HOST, header::HeaderValue::from_static(HOST));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static("curl/8.14.1"));
    headers.insert(header::ACCEPT, header::HeaderValue::from_static("*/*"));
    request
}

fn deployment(guest: &Guest) -> anyhow::Result<Deployment> {
    let id = AppId { tenant: "default".parse()?, app: guest.name.parse()? };
    let config = AppConfig::default();
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
    Ok(Deployment {
        metrics: Metrics::new()?.version(&id, 1),
        id,
        version: 1,
        lane: guest.lane,
        wasm: guest.wasm,
        allow: edge_node::generation::allow(&config),
        config,
        state: Arc::new(VersionState { version, artifacts: vec![], rev: 1, time_ms: 0 }),
        artifact: None,
        code: Default::default(),
        site: None,
        secrets: Default::default(),
        standing: Default::default(),
    })
}
