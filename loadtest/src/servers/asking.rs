//! The questions before it counts: a server is ready when it has answered 200.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;

use crate::questions::{Client, trusting};

/// For one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// An address that nobody has at the moment: for servers that do not say which port the kernel chose.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    listener.local_addr().context("finding a free port")
}

/// The status of one question over a connection of its own.
pub fn status(address: SocketAddr, host: &str, ca: Option<&Path>) -> anyhow::Result<u16> {
    let mut client = match ca {
        None => Client::plain(address, ANSWER_TIME_MAX),
        Some(ca) => Client::secure(address, ANSWER_TIME_MAX, trusting(ca)?, host),
    };
    let answer = client.get(&format!("{host}:{}", address.port()), "/");
    Ok(answer.with_context(|| format!("asking {address}"))?.status)
}
