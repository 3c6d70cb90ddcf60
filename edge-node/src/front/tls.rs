//! TLS for TCP and QUIC: a certificate by exact name, TLS 1.2 and 1.3, ALPN.
//!
//! Relies on rustls with aws-lc-rs, named explicitly so that no process-wide default decides. Deliberately
//! absent: 0-RTT (a replayed request is a second execution), client certificates, wildcards, ticket keys shared
//! by the fleet, and any answer for a name that has no certificate: the handshake ends with an alert, and no
//! tenant's name is shown to who does not know it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use artifact::HostName;
use quinn::{
    IdleTimeout, TransportConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicServerConfig},
};
use rpds::HashTrieMapSync;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::limits;

/// ALPN name of HTTP/2.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN name of HTTP/1.1.
pub const ALPN_H1: &[u8] = b"http/1.1";
/// ALPN name of HTTP/3.
pub const ALPN_H3: &[u8] = b"h3";

/// The certificate of every name served. A persistent map: a changed copy shares all but one path.
#[derive(Debug, Clone, Default)]
pub struct CertificateTable {
    by_name: HashTrieMapSync<HostName, Arc<CertifiedKey>>,
}

impl CertificateTable {
    /// Adds or replaces a name's certificate.
    pub fn insert(&mut self, name: HostName, key: Arc<CertifiedKey>) {
        self.by_name.insert_mut(name, key);
    }

    /// Forgets a name.
    pub fn remove(&mut self, name: &HostName) {
        self.by_name.remove_mut(name);
    }

    /// A name's certificate.
    pub fn get(&self, name: &HostName) -> Option<&Arc<CertifiedKey>> {
        self.by_name.get(name)
    }

    /// How many names have one.
    pub fn len(&self) -> usize {
        self.by_name.size()
    }

    /// True when no name has one.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// The table as all listeners see it; swapped as a whole.
pub type SharedCertificates = Arc<ArcSwap<CertificateTable>>;

/// A certificate or key that cannot be used, or settings rustls refuses.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or without the section it must have.
    #[error("reading the {what} as PEM")]
    Pem {
        /// Chain or key.
        what: &'static str,
        /// What is wrong.
        #[source]
        cause: rustls_pki_types::pem::Error,
    },
    /// No certificate in the chain.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// Not a usable key, or not the key of the certificate.
    #[error("pairing the certificate with its key")]
    Key(#[source] rustls::Error),
    /// Settings.
    #[error("setting up TLS")]
    Settings(#[source] rustls::Error),
    /// The provider lacks the cipher of QUIC's first packets.
    #[error("setting up QUIC")]
    Quic(#[from] NoInitialCipherSuite),
}

/// Pairs a PEM chain (leaf first) with its PKCS#8 PEM key and checks that they belong together.
pub fn certified_key(chain_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| TlsError::Pem { what: "certificate chain", cause })?;
    if chain.is_empty() {
        return Err(TlsError::EmptyChain);
    }
    let key = PrivatePkcs8KeyDer::from_pem_slice(key_pem)
        .map_err(|cause| TlsError::Pem { what: "private key", cause })?;
    let key = CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(key), &provider()).map_err(TlsError::Key)?;
    Ok(Arc::new(key))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Settings for TCP: h2 and HTTP/1.1 by ALPN. One for the whole process.
pub fn tcp_config(certificates: SharedCertificates) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = config(certificates, &[&TLS13, &TLS12])?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()];
    Ok(Arc::new(config))
}

/// Settings for QUIC. One for the whole process: its workers then accept each other's address tokens.
pub fn quic_config(certificates: SharedCertificates) -> Result<quinn::ServerConfig, TlsError> {
    let mut tls = config(certificates, &[&TLS13])?;
    tls.alpn_protocols = vec![ALPN_H3.to_vec()];
    let mut quic = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    quic.transport_config(Arc::new(transport()))
        // The kernel hashes packets by four-tuple: a client that changes its address reaches another worker.
        .migration(false)
        .max_incoming(limits::QUIC_INCOMING_MAX)
        .incoming_buffer_size(limits::QUIC_INCOMING_BYTES)
        .incoming_buffer_size_total(limits::QUIC_INCOMING_TOTAL_BYTES);
    Ok(quic)
}

fn config(
    certificates: SharedCertificates,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::Settings)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Resolver(certificates)));
    // Keys rotate every 6 hours inside rustls and are this process's own.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Settings)?;
    config.send_tls13_tickets = 1;
    config.max_early_data_size = 0;
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits::STREAMS_PER_CONNECTION_MAX.into())
        .max_concurrent_uni_streams(limits::QUIC_UNI_STREAMS_MAX.into())
        .stream_receive_window(limits::QUIC_STREAM_WINDOW_BYTES.into())
        .receive_window(limits::QUIC_CONNECTION_WINDOW_BYTES.into())
        .send_window(limits::QUIC_SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(idle_timeout()))
        .datagram_receive_buffer_size(None);
    transport
}

fn idle_timeout() -> IdleTimeout {
    let ms = u32::try_from(limits::IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    IdleTimeout::from(VarInt::from_u32(ms))
}

#[derive(Debug)]
struct Resolver(SharedCertificates);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = HostName::from_authority_host(hello.server_name()?).ok()?;
        self.0.load().get(&name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let one = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let (chain, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        assert!(certified_key(chain.as_bytes(), key.as_bytes()).is_ok());
        let other = two.signing_key.serialize_pem();
        assert!(matches!(certified_key(chain.as_bytes(), other.as_bytes()), Err(TlsError::Key(_))));
        assert!(matches!(certified_key(b"", key.as_bytes()), Err(TlsError::EmptyChain)));
        assert!(matches!(certified_key(chain.as_bytes(), b"x"), Err(TlsError::Pem { .. })));
    }
}
