//! TLS of the sync listener: our certificate from the fleet CA, client certificates from the same CA or none.

use std::{sync::Arc, time::Duration};

use fleet_sync_proto::enrol::RENEW_PATH;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::TLS13,
};

use crate::{
    ca::{self, RENEWABLE_MS},
    clock::now_ms,
    origin::{Origin, OriginError},
};

pub(crate) fn server_config(origin: &Origin) -> Result<ServerConfig, OriginError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let listener = origin.ca.certify_listener(&origin.sync_names, now_ms())?;
    let verifier = ForgivingVerifier::new(origin.ca.certificate().clone(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(OriginError::Tls)?
        .with_client_cert_verifier(Arc::new(verifier.map_err(OriginError::Tls)?))
        .with_single_cert(listener.chain, listener.key)
        .map_err(OriginError::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Webpki's verifier, except that a certificate that expired less than 30 days ago passes the handshake: a fleet whose
/// control plane was down for days must be able to renew. The paths refuse it everywhere but at [`RENEW_PATH`].
#[derive(Debug)]
struct ForgivingVerifier {
    strict: Arc<dyn ClientCertVerifier>,
}

impl ForgivingVerifier {
    fn new(
        ca: CertificateDer<'static>,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca)?;
        let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(ForgivingVerifier { strict })
    }
}

impl ClientCertVerifier for ForgivingVerifier {
    fn offer_client_auth(&self) -> bool {
        self.strict.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = match self.strict.verify_client_cert(certificate, intermediates, now) {
            Err(refused) if is_expired(&refused) => refused,
            decided => return decided,
        };
        let Some(identity) = ca::identity(certificate) else { return Err(refused) };
        let now_ms = now.as_secs().saturating_mul(1000);
        if now_ms.saturating_sub(identity.not_after_ms) > RENEWABLE_MS {
            return Err(refused);
        }
        tracing::info!(node = %identity.node, "an expired certificate; it may only call {RENEW_PATH}");
        let back_then = UnixTime::since_unix_epoch(Duration::from_millis(identity.not_after_ms - 1000));
        self.strict.verify_client_cert(certificate, intermediates, back_then)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

fn is_expired(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })
    )
}
