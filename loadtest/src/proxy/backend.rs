//! A backend that answers every request alike, a thread for each connection. It costs the node nothing.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::Context as _;

/// Connections it takes in all: the node keeps and uses them again.
const CONNECTIONS_MAX: usize = 1_024;
/// A request's head is far smaller.
const HEAD_BYTES_MAX: usize = 64 << 10;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nfrom backend\n";

/// See the module. Its threads end when the node closes its connections, or with the process.
pub struct Backend {
    pub address: SocketAddr,
}

impl Backend {
    /// Listens on a port of loopback.
    pub fn start() -> anyhow::Result<Backend> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listening as a backend")?;
        let address = listener.local_addr()?;
        thread::Builder::new().name("backend".into()).spawn(move || {
            for stream in listener.incoming().take(CONNECTIONS_MAX).flatten() {
                thread::spawn(move || answer(stream));
            }
        })?;
        Ok(Backend { address })
    }
}

/// Answers until the connection ends. Requests have no body.
fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (mut head, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        head.extend_from_slice(&chunk[..read]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
        if head.len() > HEAD_BYTES_MAX {
            return;
        }
    }
}
