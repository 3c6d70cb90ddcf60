//! TLS towards backends: whom to trust, what to show.
//!
//! The platform's roots are loaded once per node; a backend's own authorities stand in their place. Settings are kept
//! per tenant and identity, so that sessions are resumed and no tenant resumes another's.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use artifact::{Digest, TenantName, manifest::Backend};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{FetchError, limits};
use crate::front::tls::{ALPN_H1, ALPN_H2};

/// What tells one TLS definition from another: its authorities, certificate and key. `None`: the platform's, nothing.
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

    /// The settings for a backend; `key` is the PEM of its client certificate's key.
    pub fn settings(
        &self,
        tenant: &TenantName,
        backend: &Backend,
        key: Option<&[u8]>,
    ) -> Result<Tls, FetchError> {
        let identity = identity(backend, key);
        let name = (tenant.clone(), identity);
        if let Some(config) = self.kept.lock().get(&name) {
            return Ok(Tls { config: config.clone(), identity });
        }
        let config = Arc::new(self.make(backend, key)?);
        let mut kept = self.kept.lock();
        if kept.len() >= limits::TLS_SETTINGS_KEPT_MAX
            && let Some(any) = kept.keys().next().cloned()
        {
            kept.remove(&any); // costs its owner a few full handshakes
        }
        kept.insert(name, config.clone());
        Ok(Tls { config, identity })
    }

    fn make(&self, backend: &Backend, key: Option<&[u8]>) -> Result<ClientConfig, FetchError> {
        let verifier = match &backend.ca_pem {
            Some(pem) => own_roots(pem),
            None => self.load_platform_roots().cloned(),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| FetchError::TlsConfiguration)?
            .with_webpki_verifier(verifier.ok_or(FetchError::TlsConfiguration)?);
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

fn identity(backend: &Backend, key: Option<&[u8]>) -> Identity {
    if backend.ca_pem.is_none() && backend.client_cert_pem.is_none() {
        return None;
    }
    let ca = backend.ca_pem.as_deref().map(str::as_bytes);
    let certificate = backend.client_cert_pem.as_deref().map(str::as_bytes);
    let mut told = Vec::new();
    for part in [ca, certificate, key] {
        // With their lengths, so that no two definitions read the same.
        told.extend_from_slice(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        told.extend_from_slice(part.unwrap_or_default());
    }
    Some(Digest::of(&told))
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
