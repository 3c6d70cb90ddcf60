//! The smallest HTTP/1.1 client that can tell what a host answers: for the questions that are not the load. One kept
//! connection, a new one after any error. Not a general client: it asks by GET and knows an answer's end by its length or
//! its last chunk.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};

/// Bytes of an answer: a hello, or metrics of thousands of apps.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Asks one server.
pub struct Client {
    address: SocketAddr,
    /// An answer that takes longer is none.
    time_max: Duration,
    /// Whom to trust, and the name in the certificate; none in the clear.
    tls: Option<(Arc<ClientConfig>, String)>,
    connection: Option<Box<dyn Stream>>,
}

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Trusts the certificate authorities in `ca`, a PEM file, and nobody else.
pub fn trusting(ca: &Path) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca).with_context(|| format!("reading {}", ca.display()))?;
    for certificate in certificates {
        roots.add(certificate.with_context(|| format!("reading {}", ca.display()))?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Client {
    /// In the clear.
    pub fn plain(address: SocketAddr, time_max: Duration) -> Client {
        Client { address, time_max, tls: None, connection: None }
    }

    /// Over TLS, for one host.
    pub fn secure(address: SocketAddr, time_max: Duration, tls: Arc<ClientConfig>, host: &str) -> Client {
        Client { tls: Some((tls, host.to_owned())), ..Client::plain(address, time_max) }
    }

    /// Asks once. An error is normal as long as the host is not deployed: it has no certificate then.
    pub fn get(&mut self, authority: &str, path: &str) -> io::Result<Answer> {
        self.open()?;
        let mut connection = self.connection.take().ok_or(io::ErrorKind::NotConnected)?;
        // In one piece: each is a packet.
        connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes())?;
        connection.flush()?;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 16 << 10]);
        let begun = Instant::now();
        loop {
            match connection.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if bytes.len() > ANSWER_BYTES_MAX => return Err(io::ErrorKind::FileTooLarge.into()),
                // One that comes in drops has no end by the timeout of a read.
                _ if begun.elapsed() > self.time_max => return Err(io::ErrorKind::TimedOut.into()),
                read => bytes.extend_from_slice(&chunk[..read]),
            }
            if let Some(answer) = parse(&bytes)? {
                self.connection = Some(connection);
                return Ok(answer);
            }
        }
    }

    /// Opens the connection, so that the first answer's time has no connecting in it.
    pub fn open(&mut self) -> io::Result<()> {
        if self.connection.is_none() {
            self.connection = Some(self.connect()?);
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.time_max)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.time_max))?;
        stream.set_write_timeout(Some(self.time_max))?;
        let Some((tls, host)) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(tls.clone(), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

/// A whole answer, or nothing yet.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase(), &bytes[end + 4..]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let header = |name: &str| {
        let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    let body = match (header("content-length"), header("transfer-encoding")) {
        (Some(length), _) => {
            let length = length.parse::<usize>().map_err(|_| broken())?;
            body.get(..length).map(<[u8]>::to_vec)
        }
        (None, Some(_)) => unchunked(body)?,
        (None, None) => return Err(broken()),
    };
    Ok(body.map(|body| Answer { status, body }))
}

/// What the chunks of a body hold, up to the last one (RFC 9112 §7.1, without extensions and trailers); or nothing yet.
fn unchunked(mut chunks: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut body = Vec::new();
    loop {
        let Some(line) = chunks.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&chunks[..line]).map_err(|_| broken())?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| broken())?;
        let (begin, end) = (line + 2, size.checked_add(line + 2).ok_or_else(broken)?);
        let Some(rest) = chunks.get(end..).filter(|rest| rest.len() >= 2) else { return Ok(None) };
        if !rest.starts_with(b"\r\n") {
            return Err(broken());
        }
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&chunks[begin..end]);
        chunks = &rest[2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_length_or_its_last_chunk() {
        let hello = Answer { status: 200, body: b"hello".to_vec() };
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap(), Some(hello));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").unwrap(), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        let chunked = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap(), Some(Answer { status: 404, body: b"hi".to_vec() }));
        for end in 0..chunked.len() {
            assert_eq!(parse(&chunked[..end]).unwrap(), None, "{end} bytes of it");
        }
        // What looks like the last chunk within another one is not.
        let tricky = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n";
        assert_eq!(parse(tricky).unwrap().unwrap().body, b"\r\n0\r\n\r\n");
        for broken in ["zz\r\n", "2\r\nhiXX", "ffffffffffffffff\r\n"] {
            let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{broken}");
            assert!(parse(answer.as_bytes()).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\nhello").is_err());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
