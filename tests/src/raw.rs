//! Bytes as a test wants them, over TLS or plain: for requests no well-behaved client sends.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Longest wait for bytes.
const READ_S_MAX: u64 = 10;

/// A connection on which bytes are sent as they are.
pub struct Raw(Box<dyn Stream>);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Raw {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Raw {
        Raw(Box::new(connect(address)))
    }

    /// With TLS, HTTP/1.1, and this name in the handshake.
    pub fn tls(address: SocketAddr, ca: &Path, name: &str) -> Raw {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).expect("the CA's file") {
            roots.add(certificate.expect("a certificate")).expect("a CA certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's own defaults")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a sound configuration");
        Raw(Box::new(StreamOwned::new(connection, connect(address))))
    }

    /// Sends bytes and returns what comes until the other side closes, or the first response is whole.
    pub fn exchange(&mut self, bytes: &str) -> String {
        // The other side may refuse and close before it has read everything.
        let _ = self.0.write_all(bytes.as_bytes()).and_then(|()| self.0.flush());
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        while !is_whole(&all) {
            match self.0.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(read) => all.extend_from_slice(&piece[..read]),
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    }

    /// The same; the status of the response, 0 if the connection was closed without one.
    pub fn status(&mut self, bytes: &str) -> u16 {
        let response = self.exchange(bytes);
        response.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or(0)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the node listens");
    let limit = Some(Duration::from_secs(READ_S_MAX));
    stream
        .set_read_timeout(limit)
        .and_then(|()| stream.set_write_timeout(limit))
        .expect("a limit above zero");
    stream
}

/// Is the response with a Content-Length all here?
fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}
