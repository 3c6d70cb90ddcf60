//! The Dead Simple Signing Envelope (secure-systems-lab/dsse v1.0.2): payload, its type, and signatures over both.
//!
//! Signatures are over the exact payload bytes, so no canonical form of JSON is needed. Only Ed25519 (RFC 8032,
//! strict verification). Absent on purpose: thresholds and other algorithms.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::keys::KeyId;

/// The largest envelope accepted, in bytes of JSON: a statement is about 2 KiB, imports included.
pub const ENVELOPE_BYTES_MAX: usize = 256 * 1024;

/// A signed payload as it travels, in the JSON form of the DSSE specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Payload bytes, base64.
    payload: String,
    /// What the payload is; signed together with it.
    #[serde(rename = "payloadType")]
    payload_type: String,
    /// At least one signature.
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EnvelopeSignature {
    keyid: KeyId,
    sig: String,
}

/// An envelope did not check out. Whoever made it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope at all.
    #[error("the envelope is malformed: {0}")]
    Malformed(String),
    /// Signed, but as something else: a checkpoint is no statement.
    #[error("the envelope holds a {found:?}, expected a {expected:?}")]
    WrongType {
        /// The type in the envelope.
        found: String,
        /// The type asked for.
        expected: &'static str,
    },
    /// None of the signatures names a key we trust.
    #[error("no trusted key signed this; it names {0}")]
    UnknownKey(String),
    /// A trusted key is named, but the signature is not its own.
    #[error("the signature of key {0} does not match")]
    BadSignature(KeyId),
}

/// Pre-authentication encoding, DSSE "protocol" section.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs `payload` with one key.
    pub(crate) fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Envelope {
        let signature = key.sign(&pae(payload_type, payload));
        Envelope {
            payload: BASE64.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![EnvelopeSignature {
                keyid: KeyId::of(&key.verifying_key()),
                sig: BASE64.encode(signature.to_bytes()),
            }],
        }
    }

    /// The payload and who signed it, if that was one of `trusted`, as `expected` type.
    pub(crate) fn open(
        &self,
        expected: &'static str,
        trusted: &[VerifyingKey],
    ) -> Result<(Vec<u8>, VerifyingKey), EnvelopeError> {
        self.expect_type(expected)?;
        let decode = |text: &str| {
            BASE64.decode(text).map_err(|error| EnvelopeError::Malformed(format!("base64: {error}")))
        };
        let payload = decode(&self.payload)?;
        let message = pae(expected, &payload);
        for signature in &self.signatures {
            let Some(key) = trusted.iter().find(|key| KeyId::of(key) == signature.keyid) else { continue };
            let bytes = decode(&signature.sig)?;
            let parsed = Signature::from_slice(&bytes)
                .map_err(|_| EnvelopeError::Malformed("a signature is 64 bytes".into()))?;
            return match key.verify_strict(&message, &parsed) {
                Ok(()) => Ok((payload, *key)),
                Err(_) => Err(EnvelopeError::BadSignature(signature.keyid)),
            };
        }
        let named: Vec<String> = self.signatures.iter().take(4).map(|s| s.keyid.to_string()).collect();
        Err(EnvelopeError::UnknownKey(if named.is_empty() { "none".into() } else { named.join(", ") }))
    }

    /// Refuses an envelope of another type.
    pub(crate) fn expect_type(&self, expected: &'static str) -> Result<(), EnvelopeError> {
        if self.payload_type == expected {
            return Ok(());
        }
        let found = self.payload_type.chars().take(120).collect();
        Err(EnvelopeError::WrongType { found, expected })
    }

    /// The keys that its signatures name. Nothing is checked.
    pub fn key_ids(&self) -> Vec<KeyId> {
        self.signatures.iter().map(|signature| signature.keyid).collect()
    }

    /// The payload, whoever made it: for people to look at, never to act on.
    pub(crate) fn unchecked(&self) -> Result<Vec<u8>, EnvelopeError> {
        BASE64.decode(&self.payload).map_err(|error| EnvelopeError::Malformed(format!("base64: {error}")))
    }

    /// The envelope as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an envelope is strings only")
    }

    /// Reads the JSON form, refusing more than [`ENVELOPE_BYTES_MAX`].
    pub fn from_json(bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::Malformed(format!(
                "{} bytes, at most {ENVELOPE_BYTES_MAX}",
                bytes.len()
            )));
        }
        serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "application/vnd.skerry.test+json";

    #[test]
    fn pae_is_the_one_of_the_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn opens_only_what_a_trusted_key_signed_as_that_type() {
        let (ours, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let envelope = Envelope::sign(TYPE, b"payload", &ours);
        let envelope = Envelope::from_json(envelope.to_json().as_bytes()).unwrap();
        let ours = ours.verifying_key();
        assert_eq!(envelope.open(TYPE, &[other.verifying_key(), ours]).unwrap(), (b"payload".to_vec(), ours));
        assert!(matches!(envelope.open(TYPE, &[other.verifying_key()]), Err(EnvelopeError::UnknownKey(_))));
        assert!(matches!(envelope.open("application/other", &[ours]), Err(EnvelopeError::WrongType { .. })));

        let mut altered = envelope.clone();
        altered.payload = BASE64.encode("payloae");
        assert!(matches!(altered.open(TYPE, &[ours]), Err(EnvelopeError::BadSignature(_))));
        let mut unsigned = envelope;
        unsigned.signatures.clear();
        assert!(matches!(unsigned.open(TYPE, &[ours]), Err(EnvelopeError::UnknownKey(_))));
    }
}
