//! Whom to ask, and whom to believe.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use super::scenario::Protocol;

/// Whom to ask.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// `host[:port]`, sent as `Host` or `:authority`; the name in TLS is its host.
    pub authority: String,
    pub roots: Roots,
}

/// Whose certificates are believed.
#[derive(Debug, Clone)]
pub enum Roots {
    /// Those of the machine.
    Platform,
    /// Those in a PEM text.
    Pem(Vec<u8>),
    /// Whatever is shown. Signatures are still checked: they are part of what a handshake costs.
    Any,
}

impl Target {
    /// The name in TLS.
    pub fn server_name(&self) -> anyhow::Result<ServerName<'static>> {
        let wrong = || format!("{:?} is not a host with or without a port", self.authority);
        let authority: http::uri::Authority = self.authority.parse().with_context(wrong)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        ServerName::try_from(host).with_context(wrong)
    }

    /// Every handshake is a whole one: tickets would make the second cheaper than a new client's.
    pub fn tls(&self, protocol: Protocol) -> anyhow::Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = match protocol {
            Protocol::H3 => builder.with_protocol_versions(&[&rustls::version::TLS13])?,
            Protocol::H1 | Protocol::H2 => builder.with_safe_default_protocol_versions()?,
        };
        let mut config = match &self.roots {
            Roots::Platform => builder.with_root_certificates(platform()?),
            Roots::Pem(text) => builder.with_root_certificates(pem(text)?),
            Roots::Any => builder.dangerous().with_custom_certificate_verifier(Arc::new(Believes(provider))),
        }
        .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![alpn(protocol).to_vec()];
        Ok(Arc::new(config))
    }
}

/// The name of a protocol in TLS.
pub fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::H1 => b"http/1.1",
        Protocol::H2 => b"h2",
        Protocol::H3 => b"h3",
    }
}

fn platform() -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    anyhow::ensure!(added > 0, "this machine has no trusted certificates; name a CA file");
    Ok(roots)
}

fn pem(text: &[u8]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        roots
            .add(certificate.context("reading the CA certificates")?)
            .context("reading the CA certificates")?;
    }
    anyhow::ensure!(!roots.is_empty(), "there is no certificate among the CA certificates");
    Ok(roots)
}

/// Believes whoever holds the key of the certificate shown.
#[derive(Debug)]
struct Believes(Arc<CryptoProvider>);

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
