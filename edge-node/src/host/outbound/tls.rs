//! TLS towards backends: whom to trust, what to show.
//!
//! The platform's roots are loaded once per node; a backend's own authorities stand in their place. Settings are kept
//! per tenant and identity, so that sessions are resumed and no tenant resumes another's.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use artifact::{
    Digest, TenantName,
    manifest::{Backend, origin::OriginHost},
};
use parking_lot::Mutex;
use rustls::{
    CipherSuite, ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use super::{FetchError, limits, made::Narrowing};
use crate::front::tls::{ALPN_H1, ALPN_H2};

/// What tells one TLS definition from another: its authorities, certificate, key and narrowing. `None`: the
/// platform's, nothing.
pub type Identity = Option<Digest>;

/// How to speak TLS to a backend.
#[derive(Clone)]
pub struct Tls {
    /// Settings, with the sessions to resume.
    pub config: Arc<ClientConfig>,
    /// Whose they are.
    pub identity: Identity,
}

/// See the module.
#[derive(Default)]
pub struct TlsStore {
    platform: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
    kept: Mutex<HashMap<(TenantName, Identity), Arc<ClientConfig>>>,
}

impl TlsStore {
    /// Reads the platform's roots: tens of ms, so better done before the first request needs them.
    pub fn load_platform_roots(&self) -> Option<&Arc<WebPkiServerVerifier>> {
        let verifier = self.platform.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            verifier(roots)
        });
        if verifier.is_none() {
            tracing::warn!(
                "no trust roots were found, so that no https backend without `ca_pem` can be reached; \
                 install the system's CA certificates or set SSL_CERT_FILE"
            );
        }
        verifier.as_ref()
    }

    /// The settings for a backend.
    pub fn settings(&self, tenant: &TenantName, definition: &Definition<'_>) -> Result<Tls, FetchError> {
        let identity = definition.identity();
        let name = (tenant.clone(), identity);
        if let Some(config) = self.kept.lock().get(&name) {
            return Ok(Tls { config: config.clone(), identity });
        }
        let config = Arc::new(self.make(definition)?);
        let mut kept = self.kept.lock();
        if kept.len() >= limits::TLS_SETTINGS_KEPT_MAX
            && let Some(any) = kept.keys().next().cloned()
        {
            kept.remove(&any); // costs its owner a few full handshakes
        }
        kept.insert(name, config.clone());
        Ok(Tls { config, identity })
    }

    fn make(&self, definition: &Definition<'_>) -> Result<ClientConfig, FetchError> {
        let Definition { backend, key, narrowing } = *definition;
        let Narrowing { version, suites, certificate_of } = narrowing.cloned().unwrap_or_default();
        let verifier = match &backend.ca_pem {
            Some(pem) => own_roots(pem),
            None => self.load_platform_roots().cloned(),
        };
        let verifier = verifier.ok_or(FetchError::TlsConfiguration)?;
        let builder = ClientConfig::builder_with_provider(suites.map_or_else(provider, only))
            .with_protocol_versions(&versions(version))
            .map_err(|_| FetchError::TlsConfiguration)?;
        let builder = match certificate_of {
            Some(host) => {
                let named = Arc::new(Named { verifier, name: server_name(&host)? });
                builder.dangerous().with_custom_certificate_verifier(named)
            }
            None => builder.with_webpki_verifier(verifier),
        };
        let mut config = match &backend.client_cert_pem {
            Some(pem) => {
                let chain = certificates(pem).ok_or(FetchError::TlsConfiguration)?;
                let key = key.and_then(|key| PrivateKeyDer::from_pem_slice(key).ok());
                let key = key.ok_or(FetchError::TlsConfiguration)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| FetchError::TlsConfiguration)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()];
        config.resumption = Resumption::in_memory_sessions(limits::TLS_SESSIONS_MAX);
        Ok(config)
    }
}

/// What a backend's settings are made of.
#[derive(Clone, Copy)]
pub struct Definition<'a> {
    /// Its authorities and its client certificate.
    pub backend: &'a Backend,
    /// PEM of the key of its client certificate.
    pub key: Option<&'a [u8]>,
    /// What a guest wants less.
    pub narrowing: Option<&'a Narrowing>,
}

impl Definition<'_> {
    fn identity(&self) -> Identity {
        let Definition { backend, key, narrowing } = *self;
        let narrowing = narrowing.filter(|narrowing| **narrowing != Narrowing::default());
        if backend.ca_pem.is_none() && backend.client_cert_pem.is_none() && narrowing.is_none() {
            return None;
        }
        let ca = backend.ca_pem.as_deref().map(str::as_bytes);
        let certificate = backend.client_cert_pem.as_deref().map(str::as_bytes);
        let narrowing = narrowing.map(|narrowing| format!("{narrowing:?}"));
        let mut told = Vec::new();
        for part in [ca, certificate, key, narrowing.as_deref().map(str::as_bytes)] {
            // With their lengths, so that no two definitions read the same.
            told.extend_from_slice(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            told.extend_from_slice(part.unwrap_or_default());
        }
        Some(Digest::of(&told))
    }
}

/// Checks certificates for this name, whichever was asked for.
#[derive(Debug)]
struct Named {
    verifier: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _asked: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(certificate, chain, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// A host as TLS asks for it.
pub fn server_name(host: &OriginHost) -> Result<ServerName<'static>, FetchError> {
    match host {
        OriginHost::Name(name) => {
            ServerName::try_from(name.as_str().to_owned()).map_err(|_| FetchError::TlsConfiguration)
        }
        OriginHost::Address(address) => Ok(ServerName::from(*address)),
    }
}

fn versions(only: Option<ProtocolVersion>) -> Vec<&'static SupportedProtocolVersion> {
    let wanted = |offered: &&SupportedProtocolVersion| only.is_none_or(|only| offered.version == only);
    DEFAULT_VERSIONS.iter().copied().filter(wanted).collect()
}

/// Of TLS 1.2 no other suites than these.
fn only(suites: Vec<CipherSuite>) -> Arc<CryptoProvider> {
    let mut narrowed = (*provider()).clone();
    narrowed.cipher_suites.retain(|suite| suite.tls13().is_some() || suites.contains(&suite.suite()));
    Arc::new(narrowed)
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()
}

fn own_roots(pem: &str) -> Option<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).ok()?;
    }
    verifier(roots)
}

/// `None` when there are no roots.
fn verifier(roots: RootCertStore) -> Option<Arc<WebPkiServerVerifier>> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
}
