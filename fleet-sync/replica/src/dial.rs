//! Opening an HTTP/2 connection to the origin: TCP → TLS 1.3 (the fleet CA, and nobody else's) → HTTP/2.

use std::{sync::Arc, time::Duration};

use artifact::Digest;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::identity::Identity;

/// Time for TCP, TLS and the preface together.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// A dead path is noticed within 25 s.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_ANSWER_MAX: Duration = Duration::from_secs(10);
/// Receive windows: one batch of records, or a few blobs, on the way.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const HEADER_BYTES_MAX: u32 = 16 * 1024;

pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The origin could not be reached, or is not our origin.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not of the form `host:port`.
    #[error("the control address {0:?} is not of the form host:port")]
    Address(String),
    /// No TCP connection.
    #[error("connecting to {0}")]
    Connect(String, #[source] std::io::Error),
    /// TLS said no: another CA, another name, an expired certificate, or a clock that is wrong.
    #[error("TLS with {0}: is it this fleet's origin, and is the clock right?")]
    Tls(String, #[source] std::io::Error),
    /// The identity does not make a TLS client.
    #[error("this node's identity is unusable: enrol it again")]
    Identity(#[source] Error),
    /// HTTP/2 did not start.
    #[error("opening HTTP/2 with {0}")]
    Http(String, #[source] hyper::Error),
    /// It took too long.
    #[error("{0} did not answer within 10 s")]
    Timeout(String),
}

/// An open connection; dropping it closes it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<Body>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects to `control` (`host:port`).
pub(crate) async fn dial(control: &str, tls: ClientConfig) -> Result<Connection, DialError> {
    let name = server_name(control)?;
    let opened = async {
        let socket =
            TcpStream::connect(control).await.map_err(|error| DialError::Connect(control.into(), error))?;
        socket.set_nodelay(true).map_err(|error| DialError::Connect(control.into(), error))?;
        let connector = TlsConnector::from(Arc::new(tls));
        let tls =
            connector.connect(name, socket).await.map_err(|error| DialError::Tls(control.into(), error))?;
        let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_ANSWER_MAX)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .handshake(TokioIo::new(tls))
            .await;
        handshake.map_err(|error| DialError::Http(control.into(), error))
    };
    let (sender, connection) =
        tokio::time::timeout(DIAL_MAX, opened).await.map_err(|_| DialError::Timeout(control.into()))??;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "a connection to the origin ended");
        }
    });
    Ok(Connection { sender, driver })
}

/// TLS as an enrolled node.
pub(crate) fn as_node(identity: &Identity) -> Result<ClientConfig, DialError> {
    let unreadable = |_| DialError::Identity(Error::General("its PEM does not read".into()));
    let ca = CertificateDer::from_pem_slice(identity.ca_pem.as_bytes()).map_err(unreadable)?;
    let certificate =
        CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).map_err(unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(unreadable)?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(DialError::Identity)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(DialError::Identity)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(DialError::Identity)?;
    Ok(with_h2(config))
}

/// TLS before enrolment: the server must show, and be certified by, the CA whose certificate has this digest.
pub(crate) fn as_stranger(ca: Digest) -> Result<ClientConfig, DialError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(DialError::Identity)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa { ca, provider }))
        .with_no_client_auth();
    Ok(with_h2(config))
}

fn with_h2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn server_name(control: &str) -> Result<ServerName<'static>, DialError> {
    let wrong = || DialError::Address(control.chars().take(120).collect());
    let (host, port) = control.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| wrong())
}

/// Finds the CA with the pinned digest among what the server sends, then lets webpki check name, dates and signature
/// against that CA alone.
#[derive(Debug)]
struct PinnedCa {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned = intermediates.iter().find(|shown| Digest::of(shown) == self.ca);
        let ca = pinned.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(certificate, &[], name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_addresses() {
        for good in ["localhost:7401", "127.0.0.1:1", "[::1]:7401", "origin.example.net:443"] {
            assert!(server_name(good).is_ok(), "{good}");
        }
        for bad in ["localhost", ":1", "localhost:", "localhost:99999", "a b:1", ""] {
            assert!(server_name(bad).is_err(), "{bad}");
        }
    }
}
