//! The questions before it counts: a server is ready when it has answered 200.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;

use crate::deploy::client::{Client, trusting};

/// For one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// An address that nobody has at the moment: for servers that do not say which port the kernel chose.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("finding a free port")?;
    listener.local_addr().context("finding a free port")
}

/// The status of one question over a connection of its own.
pub fn status(address: SocketAddr, host: &str, ca: Option<&Path>) -> anyhow::Result<u16> {
    match ca {
        None => plain(address, host).with_context(|| format!("asking {address}")),
        Some(ca) => Ok(Client::new(trusting(ca)?, address, host).get()?.status),
    }
}

fn plain(address: SocketAddr, host: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIME_MAX)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: {host}:{}\r\n\r\n", address.port())?;
    let mut head = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut head)?;
    let status = std::str::from_utf8(&head[9..]).ok().and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
