//! Secrets and TLS keys as they lie in the log and on disks: sealed with XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03)
//! under the fleet's secrets key, which nodes receive over mTLS when they enrol. The purpose of a secret is bound
//! in as associated data, so a sealed certificate key cannot be passed off as something else.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use serde::{Deserialize, Serialize};

/// The nonce's length in bytes.
pub const NONCE_BYTES: usize = 24;

/// A sealed secret: nonce and ciphertext, base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// From its text, whatever that is: what was not sealed does not open.
    pub fn from_text(text: impl Into<String>) -> Sealed {
        Sealed(text.into())
    }

    /// Its text: base64, for a record or a header field.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// It was not sealed by this key for this purpose, or it was altered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sealed secret does not open with the fleet's secrets key: this node may have to enrol again")]
pub struct SealError;

/// The fleet's secrets key.
#[derive(Clone)]
pub struct SecretsKey([u8; 32]);

impl SecretsKey {
    /// A key from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> SecretsKey {
        SecretsKey(bytes)
    }

    /// Base64 form, for a 0600 file or an mTLS answer. Secret.
    pub fn to_text(&self) -> String {
        BASE64.encode(self.0)
    }

    /// Reads the base64 form.
    pub fn from_text(text: &str) -> Option<SecretsKey> {
        let bytes = BASE64.decode(text.trim()).ok()?;
        Some(SecretsKey(bytes.try_into().ok()?))
    }

    /// Seals `secret` for `purpose`. `nonce` must be random and never used again with this key.
    pub fn seal(&self, purpose: &str, nonce: [u8; NONCE_BYTES], secret: &[u8]) -> Sealed {
        let payload = Payload { msg: secret, aad: purpose.as_bytes() };
        let sealed =
            self.cipher().encrypt(&XNonce::from(nonce), payload).expect("a secret is far below 256 GiB");
        Sealed(BASE64.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens what was sealed for `purpose`.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let bytes = BASE64.decode(&sealed.0).map_err(|_| SealError)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or(SealError)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

impl std::fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretsKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_with_the_same_key_and_purpose_only() {
        let key = SecretsKey::from_bytes([1; 32]);
        let sealed = key.seal("tls", [2; NONCE_BYTES], b"secret");
        assert_eq!(key.open("tls", &sealed).unwrap(), b"secret");
        assert!(key.open("config", &sealed).is_err());
        assert!(SecretsKey::from_bytes([3; 32]).open("tls", &sealed).is_err());
        for text in ["", "AAAA", "no base64", &sealed.text()[1..]] {
            assert!(key.open("tls", &Sealed::from_text(text)).is_err(), "{text}");
        }
        assert_eq!(key.open("tls", &Sealed::from_text(sealed.text())).unwrap(), b"secret");
        let again = SecretsKey::from_text(&key.to_text()).unwrap();
        assert_eq!(again.open("tls", &sealed).unwrap(), b"secret");
    }
}
