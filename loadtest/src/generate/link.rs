//! How a slot reaches its target: what every request has in common, and connections.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, header::CONTENT_LENGTH};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::Mutex;

use super::{
    body::{self, Reading},
    h1, h2, h3,
    hosts::Popularity,
    scenario::{Protocol, Scenario},
    socket::Socket,
    tally::Answer,
    target::Target,
};

/// Made once for a run, so that a request costs the client little.
pub struct Plan {
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub new_connection_each: bool,
    /// A HEAD, whose answer has no body whatever its head says.
    pub asks_head: bool,
    pub body_bytes: u64,
    pub piece_bytes: u64,
    /// Between pieces.
    pub pause: Option<Duration>,
    /// Answers are taken slowly.
    pub reading: Option<Reading>,
    /// Of these, that have begun to come and are not whole. What is dropped at a run's end stays counted.
    under_way: AtomicU64,
    /// The body is in [`Plan::questions`].
    pub body_with_head: bool,
    /// What h1 writes, for each host.
    pub questions: Vec<Vec<u8>>,
    /// What h2 and h3 send, for each host.
    pub requests: Vec<Request<()>>,
}

impl Plan {
    pub fn new(scenario: &Scenario, target: &Target, hosts: &Popularity) -> anyhow::Result<Plan> {
        let tls = match scenario.tls {
            true => Some((target.tls(scenario.protocol)?, target.server_name()?)),
            false => None,
        };
        let requests = match scenario.protocol {
            Protocol::H1 => Vec::new(),
            Protocol::H2 | Protocol::H3 => {
                hosts.names().iter().map(|name| request(scenario, name)).collect::<Result<_, _>>()?
            }
        };
        Ok(Plan {
            requests,
            address: target.address,
            protocol: scenario.protocol,
            tls,
            new_connection_each: scenario.new_connection_each,
            asks_head: scenario.request.method == "HEAD",
            body_bytes: scenario.request.body_bytes,
            piece_bytes: body::piece_bytes(scenario),
            pause: body::pause(scenario),
            reading: Reading::of(scenario),
            under_way: AtomicU64::new(0),
            body_with_head: h1::body_with_head(scenario),
            questions: hosts.names().iter().map(|name| h1::question(scenario, name)).collect(),
        })
    }
}

impl Plan {
    /// Takes the rest of an answer that has begun to come.
    pub async fn take<T>(&self, rest: impl Future<Output = T>) -> T {
        if self.reading.is_none() {
            return rest.await;
        }
        self.under_way.fetch_add(1, Relaxed);
        let taken = rest.await;
        self.under_way.fetch_sub(1, Relaxed);
        taken
    }

    /// After a run: answers to slow readers that its end cut off.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Relaxed)
    }
}

fn request(scenario: &Scenario, authority: &str) -> anyhow::Result<Request<()>> {
    let shape = &scenario.request;
    let scheme = if scenario.tls { "https" } else { "http" };
    let mut builder =
        Request::builder().method(shape.method.as_str()).uri(format!("{scheme}://{authority}{}", shape.path));
    for (name, value) in &shape.headers {
        builder = builder.header(name, value);
    }
    if shape.body_bytes > 0 {
        builder = builder.header(CONTENT_LENGTH, shape.body_bytes);
    }
    builder.body(()).with_context(|| format!("the request to {authority}"))
}

/// A slot's way to send: a connection of its own, or a handle of one it shares.
pub enum Sender {
    H1(Box<h1::Connection>),
    H2(::h2::client::SendRequest<Bytes>),
    H3(Box<h3::Sender>),
}

impl Sender {
    pub async fn connect(plan: &Plan) -> Result<Sender, String> {
        Ok(match plan.protocol {
            Protocol::H1 => {
                Sender::H1(Box::new(h1::Connection::new(Socket::connect(plan).await?, plan.reading)))
            }
            Protocol::H2 => Sender::H2(h2::connect(plan).await?),
            Protocol::H3 => Sender::H3(Box::new(h3::connect(plan).await?)),
        })
    }

    pub async fn exchange(&mut self, plan: &Plan, host: usize) -> Result<Answer, String> {
        match self {
            Sender::H1(connection) => connection.exchange(plan, host).await,
            Sender::H2(sender) => h2::exchange(sender, plan, host).await,
            Sender::H3(sender) => sender.exchange(plan, host).await,
        }
    }

    /// Can another request follow?
    fn kept(&self) -> bool {
        match self {
            Sender::H1(connection) => connection.kept(),
            Sender::H2(_) | Sender::H3(_) => true,
        }
    }

    /// Another handle of the same connection; h1 has but one.
    fn handle(&self) -> Option<Sender> {
        match self {
            Sender::H1(_) => None,
            Sender::H2(sender) => Some(Sender::H2(sender.clone())),
            Sender::H3(sender) => Some(Sender::H3(sender.clone())),
        }
    }
}

/// A connection that several slots share, made by the first that needs it.
#[derive(Default)]
pub struct Shared {
    now: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    /// How many there were.
    number: u64,
    sender: Option<Sender>,
}

/// One slot's hold on a connection.
pub struct Link {
    shared: Rc<Shared>,
    number: u64,
    kept: Option<Sender>,
}

impl Link {
    pub fn new(shared: Rc<Shared>) -> Link {
        Link { shared, number: 0, kept: None }
    }

    /// One request, on the connection that was kept or on a new one.
    pub async fn exchange(&mut self, plan: &Plan, host: usize) -> Result<Answer, String> {
        if plan.new_connection_each {
            let mut sender = Sender::connect(plan).await?;
            let answer = sender.exchange(plan, host).await;
            if let Sender::H3(sender) = &sender {
                sender.close();
            }
            return answer;
        }
        let mut sender = match self.kept.take() {
            Some(sender) => sender,
            None => self.connect(plan).await?,
        };
        let answer = sender.exchange(plan, host).await;
        match &answer {
            Ok(_) => self.kept = Some(sender).filter(Sender::kept),
            Err(_) => self.broken().await,
        }
        answer
    }

    async fn connect(&mut self, plan: &Plan) -> Result<Sender, String> {
        if plan.protocol == Protocol::H1 {
            return Sender::connect(plan).await;
        }
        let mut now = self.shared.now.lock().await;
        if now.sender.is_none() {
            now.sender = Some(Sender::connect(plan).await?);
            now.number += 1;
        }
        self.number = now.number;
        now.sender.as_ref().and_then(Sender::handle).ok_or_else(|| "no connection".to_owned())
    }

    /// Others that share it learn it from their own requests; the next connects anew.
    async fn broken(&self) {
        let mut now = self.shared.now.lock().await;
        if now.number == self.number {
            now.sender = None;
        }
    }
}
