//! The local CA: mints a certificate for one exact host name, so that a fleet serves TLS with no outside help.
//!
//! Exact names, because some TLS stacks refuse `*.localhost`. ECDSA P-256, which every client knows. Relies on the data
//! directory for `local-ca.pem` (to be trusted by whoever runs this fleet) and `local-ca.key` (0600). Deliberately
//! absent: revocation; a leaf is replaced, and the CA is trusted only by people who chose to.

use std::{path::Path, time::Duration};

use artifact::{Digest, HostName, record::Certificate, seal::SecretsKey};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    files::{self, FileError, Mode},
    random,
};

/// Life of a leaf: 397 days is the most that Apple's and older browsers' verifiers take (Ballot SC-31).
const LEAF_DAYS: u64 = 397;
/// A leaf is valid from a day before it is made: nodes' and clients' clocks may be behind.
const BACKDATE_DAYS: u64 = 1;
/// Life of the CA. It is made anew by removing its two files.
const CA_DAYS: u64 = 3650;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// The CA failed. We or the machine are at fault.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// One of its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what it should be.
    #[error("reading the local CA from {0}: remove local-ca.pem and local-ca.key to make a new CA")]
    Unreadable(&'static str, #[source] rcgen::Error),
    /// Signing.
    #[error("making {0}")]
    Mint(String, #[source] rcgen::Error),
}

/// The CA with its key.
pub struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    /// What clients trust, PEM.
    pem: String,
    /// The subject as it stands in each leaf's issuer field.
    subject: Vec<u8>,
}

/// How long a certificate is good for, as read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First millisecond since the Unix epoch.
    pub from_ms: u64,
    /// Last.
    pub until_ms: u64,
}

impl LocalCa {
    /// Reads the CA from the data directory, or makes it. Blocks.
    pub fn open(data_dir: &Path, now_ms: u64) -> Result<LocalCa, LocalCaError> {
        let (cert_path, key_path) = (data_dir.join("local-ca.pem"), data_dir.join("local-ca.key"));
        // The certificate is written last: if it is there, so is its key.
        if !cert_path.exists() {
            let (cert, key) =
                make_ca(now_ms).map_err(|error| LocalCaError::Mint("the local CA".into(), error))?;
            files::replace(&key_path, &key, Mode::Secret)?;
            files::replace(&cert_path, &cert, Mode::Public)?;
        }
        let pem = files::read(&cert_path)?;
        let key = KeyPair::from_pem(&files::read(&key_path)?)
            .map_err(|error| LocalCaError::Unreadable("local-ca.key", error))?;
        let unreadable = |error| LocalCaError::Unreadable("local-ca.pem", error);
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(unreadable)?;
        let subject = with_leaf(&pem, |ca| ca.subject().as_raw().to_vec())
            .ok_or_else(|| unreadable(rcgen::Error::CouldNotParseCertificate))?;
        Ok(LocalCa { issuer, pem, subject })
    }

    /// What clients trust, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Mints a certificate for exactly this name, its key sealed to the fleet. About 0.2 ms.
    pub fn mint(
        &self,
        host: &HostName,
        secrets: &SecretsKey,
        now_ms: u64,
    ) -> Result<Certificate, LocalCaError> {
        let fail = |error| LocalCaError::Mint(format!("a certificate for {host}"), error);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(fail)?;
        let leaf = leaf_params(host, now_ms)
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .map_err(fail)?;
        let sealed = secrets.seal(&seal_purpose(host), random::bytes(), key.serialize_pem().as_bytes());
        Ok(Certificate { hosts: [host.clone()].into(), chain_pem: leaf.pem(), key: sealed })
    }

    /// Is it time to replace this certificate? When less than a third of its life is left, when another CA (an earlier
    /// one of ours) made it, or when it cannot be read.
    pub fn is_due(&self, certificate: &Certificate, now_ms: u64) -> bool {
        let ours = with_leaf(&certificate.chain_pem, |leaf| leaf.issuer().as_raw() == self.subject);
        match (ours, validity(&certificate.chain_pem)) {
            (Some(true), Some(Validity { from_ms, until_ms })) => {
                let life_ms = until_ms.saturating_sub(from_ms);
                until_ms.saturating_sub(now_ms) < life_ms / 3
            }
            _ => true,
        }
    }
}

/// What a sealed TLS key is bound to: a node opens the key of a certificate by its first host name.
pub fn seal_purpose(host: &HostName) -> String {
    format!("tls:{host}")
}

/// When the first certificate of a PEM chain is valid.
pub fn validity(chain_pem: &str) -> Option<Validity> {
    with_leaf(chain_pem, |leaf| {
        let ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0) * 1000;
        let validity = leaf.validity();
        Validity {
            from_ms: ms(validity.not_before.timestamp()),
            until_ms: ms(validity.not_after.timestamp()),
        }
    })
}

fn with_leaf<T>(chain_pem: &str, read: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(chain_pem.as_bytes()).ok()?;
    let (_, leaf) = X509Certificate::from_der(&pem.contents).ok()?;
    Some(read(&leaf))
}

fn make_ca(now_ms: u64) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // The key's digest is in the name, so that two fleets' CAs in one trust store are not taken for each other.
    let name = format!("Skerry local CA {}", Digest::of(key.public_key_raw()).short());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, now_ms.saturating_sub(BACKDATE_DAYS * DAY_MS), CA_DAYS);
    params.serial_number = Some(serial());
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn leaf_params(host: &HostName, now_ms: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // The names are in the SAN alone: a common name holds at most 64 characters.
    params.subject_alt_names = vec![SanType::DnsName(host.as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now_ms.saturating_sub(BACKDATE_DAYS * DAY_MS), LEAF_DAYS);
    params.serial_number = Some(serial());
    Ok(params)
}

/// 127 random bits: positive, and unique without a counter (RFC 5280 §4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes = random::bytes::<16>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn set_life(params: &mut CertificateParams, from_ms: u64, days: u64) {
    let start = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(from_ms);
    params.not_before = start;
    params.not_after = start + Duration::from_millis(days * DAY_MS);
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

    use super::*;

    const NOW_MS: u64 = 1_750_000_000_000;

    fn ca() -> (tempfile::TempDir, LocalCa, SecretsKey) {
        let folder = tempfile::tempdir().unwrap();
        let ca = LocalCa::open(folder.path(), NOW_MS).unwrap();
        (folder, ca, SecretsKey::from_bytes([9; 32]))
    }

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    /// The same check a browser does, by webpki.
    fn verified(ca: &LocalCa, certificate: &Certificate, name: &str, at_ms: u64) -> bool {
        use rustls::client::danger::ServerCertVerifier as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .unwrap();
        let leaf = CertificateDer::from_pem_slice(certificate.chain_pem.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at_ms));
        verifier.verify_server_cert(&leaf, &[], &name, &[], at).is_ok()
    }

    #[test]
    fn a_leaf_is_good_for_its_exact_name_and_at_most_397_days() {
        let (_folder, ca, secrets) = ca();
        let leaf = ca.mint(&host("hello.localhost"), &secrets, NOW_MS).unwrap();
        assert!(verified(&ca, &leaf, "hello.localhost", NOW_MS));
        assert!(verified(&ca, &leaf, "hello.localhost", NOW_MS - DAY_MS / 2), "a clock that is behind");
        assert!(!verified(&ca, &leaf, "other.localhost", NOW_MS));
        assert!(!verified(&ca, &leaf, "hello.localhost", NOW_MS + 397 * DAY_MS));
        let Validity { from_ms, until_ms } = validity(&leaf.chain_pem).unwrap();
        assert!(until_ms - from_ms <= 397 * DAY_MS);
    }

    #[test]
    fn a_long_host_name_gets_a_certificate_too() {
        let (_folder, ca, secrets) = ca();
        let long = format!("{}.{}.example", "a".repeat(63), "b".repeat(63));
        let leaf = ca.mint(&host(&long), &secrets, NOW_MS).unwrap();
        assert!(verified(&ca, &leaf, &long, NOW_MS));
    }

    #[test]
    fn the_key_opens_for_its_host_only_and_belongs_to_the_leaf() {
        let (_folder, ca, secrets) = ca();
        let leaf = ca.mint(&host("hello.localhost"), &secrets, NOW_MS).unwrap();
        assert!(secrets.open(&seal_purpose(&host("other.localhost")), &leaf.key).is_err());
        let pem = secrets.open("tls:hello.localhost", &leaf.key).unwrap();
        let chain = CertificateDer::from_pem_slice(leaf.chain_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        rustls::sign::CertifiedKey::from_der(vec![chain], key, &provider).unwrap().keys_match().unwrap();
    }

    #[test]
    fn the_ca_is_kept_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, ca, secrets) = ca();
        let again = LocalCa::open(folder.path(), NOW_MS + DAY_MS).unwrap();
        assert_eq!(again.pem(), ca.pem());
        let leaf = again.mint(&host("a.localhost"), &secrets, NOW_MS).unwrap();
        assert!(verified(&ca, &leaf, "a.localhost", NOW_MS));
        let mode = folder.path().join("local-ca.key").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_leaf_is_due_in_the_last_third_of_its_life_or_when_the_ca_is_new() {
        let (_folder, ca, secrets) = ca();
        let leaf = ca.mint(&host("a.localhost"), &secrets, NOW_MS).unwrap();
        assert!(!ca.is_due(&leaf, NOW_MS));
        assert!(!ca.is_due(&leaf, NOW_MS + 260 * DAY_MS));
        assert!(ca.is_due(&leaf, NOW_MS + 270 * DAY_MS));
        assert!(ca.is_due(&leaf, NOW_MS + 1000 * DAY_MS));
        let (_other_folder, other, _) = self::ca();
        assert!(other.is_due(&leaf, NOW_MS));
        assert!(ca.is_due(&Certificate { chain_pem: "garbage".into(), ..leaf }, NOW_MS));
    }
}
