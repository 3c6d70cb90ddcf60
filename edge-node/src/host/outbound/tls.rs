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

use super::{FetchError, limits, made::Narrowing, share::Share};
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
pub struct TlsStore {
    platform: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
    kept: Mutex<Settings>,
}

impl Default for TlsStore {
    fn default() -> TlsStore {
        TlsStore { platform: OnceLock::new(), kept: Mutex::new(Settings::of(limits::TLS_SETTINGS_KEPT_MAX)) }
    }
}

/// Settings kept for reuse. Their places are shared: a guest makes new ones for nothing, and must drive out its own.
struct Settings {
    share: Share,
    of_tenants: HashMap<TenantName, HashMap<Identity, Kept>>,
    /// Counts uses, to tell what was used last.
    clock: u64,
}

struct Kept {
    config: Arc<ClientConfig>,
    used: u64,
}

impl Settings {
    fn of(max: usize) -> Settings {
        Settings { share: Share::new(max), of_tenants: HashMap::new(), clock: 0 }
    }

    fn find(&mut self, tenant: &TenantName, identity: &Identity) -> Option<Arc<ClientConfig>> {
        self.clock += 1;
        let kept = self.of_tenants.get_mut(tenant)?.get_mut(identity)?;
        kept.used = self.clock;
        Some(kept.config.clone())
    }

    /// Keeps settings, in the place of those of the same tenant that were not used for longest if it may have no more.
    fn keep(&mut self, tenant: &TenantName, identity: Identity, config: Arc<ClientConfig>) {
        self.clock += 1;
        let is_new = self.of_tenants.get(tenant).is_none_or(|own| !own.contains_key(&identity));
        if is_new && !self.share.take(tenant) {
            let has_any = self.of_tenants.contains_key(tenant);
            let most = self.of_tenants.iter().max_by_key(|(_, own)| own.len()).map(|(most, _)| most.clone());
            let giver = if has_any { Some(tenant.clone()) } else { most };
            let Some(giver) = giver else { return };
            self.drop_oldest(&giver); // costs it a few full handshakes
            self.share.pass(&giver, tenant);
        }
        let kept = Kept { config, used: self.clock };
        self.of_tenants.entry(tenant.clone()).or_default().insert(identity, kept);
    }

    fn drop_oldest(&mut self, tenant: &TenantName) {
        let Some(own) = self.of_tenants.get_mut(tenant) else { return };
        let oldest = own.iter().min_by_key(|(_, kept)| kept.used).map(|(identity, _)| *identity);
        oldest.map(|oldest| own.remove(&oldest));
        if own.is_empty() {
            self.of_tenants.remove(tenant);
        }
    }
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
        if let Some(config) = self.kept.lock().find(tenant, &identity) {
            return Ok(Tls { config, identity });
        }
        let config = Arc::new(self.make(definition)?);
        self.kept.lock().keep(tenant, identity, config.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_of_many_settings_drives_out_its_own() {
        let config = TlsStore::default().make(&Definition {
            backend: &Backend { ca_pem: Some(ca()), ..Backend::default() },
            key: None,
            narrowing: None,
        });
        let config = Arc::new(config.unwrap());
        let tenant = |name: &str| name.parse::<TenantName>().unwrap();
        let identity = |n: u32| Some(Digest::of(&n.to_le_bytes()));
        let mut settings = Settings::of(40);
        settings.keep(&tenant("small"), None, config.clone());
        for n in 0..1_000 {
            settings.keep(&tenant("greedy"), identity(n), config.clone());
            assert!(settings.find(&tenant("greedy"), &identity(0)).is_some(), "{n}: used again and again");
            settings.keep(&tenant("greedy"), identity(n), config.clone()); // made by two at once
        }
        assert!(settings.find(&tenant("small"), &None).is_some());
        let greedy = settings.of_tenants[&tenant("greedy")].len();
        assert!((9..=10).contains(&greedy), "{greedy}: a quarter");
        assert!(settings.find(&tenant("greedy"), &identity(999)).is_some());
        assert!(settings.find(&tenant("greedy"), &identity(1)).is_none());
        for n in 0..200 {
            let late = tenant(&format!("t{n}"));
            settings.keep(&late, None, config.clone());
            assert!(settings.find(&late, &None).is_some());
        }
        assert_eq!(settings.share.taken(), settings.of_tenants.values().map(HashMap::len).sum::<usize>());
        assert_eq!(settings.share.taken(), 40);
        assert!(settings.of_tenants[&tenant("t199")].len() == 1, "who has one place has it");
    }

    fn ca() -> String {
        crate::host::outbound::tests::servers::Authority::new().pem()
    }
}
