//! How a slot reaches its target: what every request has in common, and connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::{
    body, h1,
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
    /// The body is in [`Plan::questions`].
    pub body_with_head: bool,
    /// What h1 writes, for each host.
    pub questions: Vec<Vec<u8>>,
}

impl Plan {
    pub fn new(scenario: &Scenario, target: &Target, hosts: &Popularity) -> anyhow::Result<Plan> {
        let tls = match scenario.tls {
            true => Some((target.tls(scenario.protocol)?, target.server_name()?)),
            false => None,
        };
        Ok(Plan {
            address: target.address,
            protocol: scenario.protocol,
            tls,
            new_connection_each: scenario.new_connection_each,
            asks_head: scenario.request.method == "HEAD",
            body_bytes: scenario.request.body_bytes,
            piece_bytes: body::piece_bytes(scenario),
            pause: body::pause(scenario),
            body_with_head: h1::body_with_head(scenario),
            questions: hosts.names().iter().map(|name| h1::question(scenario, name)).collect(),
        })
    }
}

/// A slot's way to send: a connection of its own.
pub enum Sender {
    H1(Box<h1::Connection>),
}

impl Sender {
    pub async fn connect(plan: &Plan) -> Result<Sender, String> {
        Ok(Sender::H1(Box::new(h1::Connection::new(Socket::connect(plan).await?))))
    }

    pub async fn exchange(&mut self, plan: &Plan, host: usize) -> Result<Answer, String> {
        match self {
            Sender::H1(connection) => connection.exchange(plan, host).await,
        }
    }

    /// Can another request follow?
    pub fn kept(&self) -> bool {
        match self {
            Sender::H1(connection) => connection.kept(),
        }
    }
}
