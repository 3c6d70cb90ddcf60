//! Who this node is: `identity.json` (0600), written whole or not at all. Its private key never leaves the node.

use std::path::{Path, PathBuf};

use artifact::{
    NodeName,
    keyring::{Keyring, KeyringPast},
    keys::{Compiler, PublicKey, Release, Trusted},
    names::PopName,
    record::UnixMs,
    seal::SecretsKey,
};
use fleet_sync_proto::enrol::EnrolAnswer;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::files;

/// Everything enrolment gave, and the key it was given for.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub node: NodeName,
    pub pop: PopName,
    pub key_pem: String,
    pub certificate_pem: String,
    pub ca_pem: String,
    pub release_keys: Vec<PublicKey<Release>>,
    /// Those of then. See `trust`.
    pub compiler_keys: Vec<PublicKey<Compiler>>,
    /// What came before. Empty when origin or node were of an earlier release then.
    #[serde(default)]
    pub compiler_keys_past: KeyringPast,
    pub secrets_key: String,
}

/// `identity.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error("{doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not what we wrote.
    #[error("{path} is damaged ({why}): remove it and enrol this node again with a new join token")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A certificate's life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub not_before_ms: UnixMs,
    pub not_after_ms: UnixMs,
}

impl Life {
    /// Past its half: time to renew.
    pub(crate) fn is_due(&self, now_ms: UnixMs) -> bool {
        now_ms >= self.not_before_ms + (self.not_after_ms.saturating_sub(self.not_before_ms)) / 2
    }

    pub(crate) fn is_over(&self, now_ms: UnixMs) -> bool {
        now_ms >= self.not_after_ms
    }
}

impl Identity {
    /// Puts together what enrolment answered, checking every part before it is kept.
    pub(crate) fn new(answer: EnrolAnswer, key_pem: String) -> Result<Identity, String> {
        let EnrolAnswer {
            node,
            pop,
            certificate_pem,
            ca_pem,
            release_keys,
            compiler_keys,
            compiler_keys_past,
            secrets_key,
        } = answer;
        let identity = Identity {
            node,
            pop,
            key_pem,
            certificate_pem,
            ca_pem,
            release_keys,
            compiler_keys,
            compiler_keys_past,
            secrets_key,
        };
        identity.check()?;
        Ok(identity)
    }

    fn check(&self) -> Result<(), String> {
        SecretsKey::from_text(&self.secrets_key).ok_or("the secrets key does not read")?;
        self.life().ok_or("the certificate does not read")?;
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(|_| "the fleet CA does not read")?;
        if self.release_keys.is_empty() {
            return Err("there is no release key".into());
        }
        Ok(())
    }

    /// The identity in `directory`, or `None` when the node has not enrolled.
    pub(crate) fn load(directory: &Path) -> Result<Option<Identity>, IdentityError> {
        let path = file(directory);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { doing: "reading", path, source }),
        };
        let identity: Identity = match serde_json::from_slice(&bytes) {
            Ok(identity) => identity,
            Err(error) => return Err(IdentityError::Damaged { path, why: error.to_string() }),
        };
        match identity.check() {
            Ok(()) => Ok(Some(identity)),
            Err(why) => Err(IdentityError::Damaged { path, why }),
        }
    }

    pub(crate) fn save(&self, directory: &Path) -> Result<(), IdentityError> {
        let path = file(directory);
        let json = serde_json::to_vec_pretty(self).expect("an identity has only string keys");
        files::write_atomically(&path, "new", files::SECRET, &json).map_err(|source| IdentityError::File {
            doing: "writing",
            path,
            source,
        })
    }

    /// `None` cannot happen after [`Identity::check`].
    pub(crate) fn secrets_key(&self) -> Option<SecretsKey> {
        SecretsKey::from_text(&self.secrets_key)
    }

    pub(crate) fn release_trust(&self) -> Trusted<Release> {
        Trusted::new(self.release_keys.iter().copied())
    }

    /// What the log's changes of compiler keys are taken with.
    pub(crate) fn keyring(&self) -> Keyring {
        Keyring::after(self.compiler_keys_past.clone(), self.compiler_keys.iter().copied())
    }

    /// `None` when the certificate does not read.
    pub(crate) fn life(&self) -> Option<Life> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        let ms = |s: i64| u64::try_from(s).ok().map(|s| s.saturating_mul(1000));
        let validity = parsed.validity();
        Some(Life {
            not_before_ms: ms(validity.not_before.timestamp())?,
            not_after_ms: ms(validity.not_after.timestamp())?,
        })
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("identity.json")
}
