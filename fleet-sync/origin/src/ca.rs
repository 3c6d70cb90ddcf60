//! The fleet CA: identities of nodes and of the sync listener. Its key never leaves the data directory.
//!
//! A node's name stands in its certificate as the URI name `skerry:node/<name>`. Certificates live 24 hours; renewal is
//! the nodes' work. Absent on purpose: revocation lists; the log's `NodeRevoked` is asked at every request.

use std::{path::Path, time::Duration};

use artifact::{Digest, NodeName, record::UnixMs};
use fleet_sync_proto::enrol::NODE_URI_PREFIX;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::files;

/// Life of a node's certificate, ms.
pub(crate) const NODE_LIFE_MS: u64 = 24 * 3600 * 1000;
/// For how long an expired certificate may still renew itself, ms.
pub(crate) const RENEWABLE_MS: u64 = 30 * 24 * 3600 * 1000;
/// Life of the CA and of the listener's certificate (a new one at each start), ms: 20 and 5 years.
const CA_LIFE_MS: u64 = 20 * 365 * 24 * 3600 * 1000;
const LISTENER_LIFE_MS: u64 = 5 * 365 * 24 * 3600 * 1000;
/// Clocks differ: certificates start this much earlier, ms.
const EARLIER_MS: u64 = 3600 * 1000;

/// A certificate could not be made, or the CA's files not used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file.
    #[error("{0} {1}")]
    File(&'static str, String, #[source] std::io::Error),
    /// Making or reading a certificate or request.
    #[error("{0}")]
    Certificate(&'static str, #[source] rcgen::Error),
    /// The CA's PEM is damaged.
    #[error("{0} is not a certificate in PEM: restore it from a copy; nodes trust no other")]
    Damaged(String),
}

/// Who presented a certificate. Its chain was verified by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub node: NodeName,
    pub not_after_ms: UnixMs,
}

pub(crate) struct FleetCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

/// A key and its certificate chain.
pub(crate) struct Credentials {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl FleetCa {
    /// Reads `fleet-ca.key` and `fleet-ca.pem`, or makes them.
    pub(crate) fn open(directory: &Path, now_ms: UnixMs) -> Result<FleetCa, CaError> {
        let (key_path, pem_path) = (directory.join("fleet-ca.key"), directory.join("fleet-ca.pem"));
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CaError::File("reading", path.display().to_string(), error)),
        };
        let write = |path: &Path, mode, text: &str| {
            files::write_atomically(path, "new", mode, text.as_bytes())
                .map_err(|error| CaError::File("writing", path.display().to_string(), error))
        };
        let (key, pem) = match (read(&key_path)?, read(&pem_path)?) {
            (Some(key), Some(pem)) => (parse_key(&key)?, pem),
            // A key without its certificate is what a crash between the two writes leaves.
            (key, _) => {
                let key = match key {
                    Some(key) => parse_key(&key)?,
                    None => KeyPair::generate()
                        .map_err(|error| CaError::Certificate("making the CA's key", error))?,
                };
                write(&key_path, files::SECRET, &key.serialize_pem())?;
                let pem = self_signed(&key, now_ms)?;
                write(&pem_path, files::PUBLIC, &pem)?;
                (key, pem)
            }
        };
        let damaged = || CaError::Damaged(pem_path.display().to_string());
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|error| CaError::Certificate("reading the CA's certificate", error))?;
        Ok(FleetCa { issuer, certificate, pem })
    }

    /// sha-256 of the certificate's DER: what a join token pins.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A certificate for a node over the public key of its request; everything else in the request is ignored.
    /// Also gives the sha-256 of that key.
    pub(crate) fn certify_node(
        &self,
        node: &NodeName,
        csr_pem: &str,
        now_ms: UnixMs,
    ) -> Result<(String, Digest), CaError> {
        let failed = |error| CaError::Certificate("reading the certificate request", error);
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(failed)?;
        let mut params = leaf(&format!("node {node}"), now_ms, NODE_LIFE_MS);
        let uri = format!("{NODE_URI_PREFIX}{node}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(failed)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(|error| CaError::Certificate("signing a node's certificate", error))?;
        Ok((certificate.pem(), Digest::of(request.public_key.der_bytes())))
    }

    /// A fresh key and certificate for the sync listener.
    pub(crate) fn certify_listener(&self, names: &[String], now_ms: UnixMs) -> Result<Credentials, CaError> {
        let failed = |error| CaError::Certificate("making the sync listener's certificate", error);
        let key = KeyPair::generate().map_err(failed)?;
        let named = CertificateParams::new(names).map_err(failed)?;
        let mut params = leaf("sync listener", now_ms, LISTENER_LIFE_MS);
        params.subject_alt_names = named.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        // The CA goes along, so that a node that holds only its digest can find it.
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(Credentials { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }
}

/// The node named in a certificate, if it names exactly one.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else { return None };
    let node = uri.strip_prefix(NODE_URI_PREFIX)?.parse().ok()?;
    let not_after_s = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(Identity { node, not_after_ms: not_after_s.saturating_mul(1000) })
}

fn parse_key(pem: &str) -> Result<KeyPair, CaError> {
    KeyPair::from_pem(pem).map_err(|error| CaError::Certificate("reading the CA's key", error))
}

fn self_signed(key: &KeyPair, now_ms: UnixMs) -> Result<String, CaError> {
    let mut params = leaf("Skerry fleet CA", now_ms, CA_LIFE_MS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = false;
    let certificate = params
        .self_signed(key)
        .map_err(|error| CaError::Certificate("making the CA's certificate", error))?;
    Ok(certificate.pem())
}

fn leaf(name: &str, now_ms: UnixMs, life_ms: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |ms: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(ms);
    params.not_before = at(now_ms.saturating_sub(EARLIER_MS));
    params.not_after = at(now_ms.saturating_add(life_ms));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_carries_the_given_name_whatever_the_request_says() {
        let directory = tempfile::tempdir().unwrap();
        let ca = FleetCa::open(directory.path(), 1_800_000_000_000).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::default();
        wish.subject_alt_names = vec![SanType::URI("skerry:node/fra1-1".try_into().unwrap())];
        let csr = wish.serialize_request(&key).unwrap().pem().unwrap();
        let (pem, _) = ca.certify_node(&"fra1-2".parse().unwrap(), &csr, 1_800_000_000_000).unwrap();
        let found = identity(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        assert_eq!(found.node.as_str(), "fra1-2");
        assert_eq!(found.not_after_ms, 1_800_000_000_000 + NODE_LIFE_MS);
        assert!(identity(ca.certificate()).is_none());
    }

    #[test]
    fn the_ca_is_the_same_after_a_restart_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let first = FleetCa::open(directory.path(), 1_800_000_000_000).unwrap().digest();
        assert_eq!(FleetCa::open(directory.path(), 1_900_000_000_000).unwrap().digest(), first);
        let mode = std::fs::metadata(directory.path().join("fleet-ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
