//! Signing keys. Two purposes, two types: a compiler key signs artifacts, a release key signs the log. They live
//! in two processes, so a stolen control plane cannot run new native code and a stolen compiler cannot deploy.
//!
//! A key file is one line: `<purpose>-secret:<64 hex>` or `<purpose>-public:<64 hex>`, so that a file in the wrong
//! place is noticed by name. Reading and writing files is the callers' work.

use std::{fmt, marker::PhantomData, str::FromStr};

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{
    Digest,
    dsse::{Envelope, EnvelopeError},
};

/// Names a public key: the first 16 bytes of its sha-256, as 32 hex characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId([u8; 16]);

impl KeyId {
    pub(crate) fn of(key: &VerifyingKey) -> KeyId {
        let digest = Digest::of(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        KeyId(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyError;

    fn try_from(text: String) -> Result<KeyId, KeyError> {
        unhex(&text).map(KeyId).ok_or(KeyError::Malformed("key id", 32))
    }
}

/// What a key may sign.
pub trait Purpose: Clone + Copy + fmt::Debug + Send + Sync + 'static {
    /// The word in key files and messages.
    const NAME: &'static str;
}

/// Signs statements over artifacts; held by the compiler service alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {}
/// Signs checkpoints of the release log; held by the control plane alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {}

impl Purpose for Compiler {
    const NAME: &'static str = "compiler";
}
impl Purpose for Release {
    const NAME: &'static str = "release";
}

/// A key text did not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another purpose, or a public key where a secret one belongs.
    #[error("expected a {expected} key, which starts with \"{expected}:\"")]
    WrongKind {
        /// The prefix looked for, without its colon.
        expected: String,
    },
    /// Right prefix, wrong rest.
    #[error("a {0} is {1} lower-case hex characters")]
    Malformed(&'static str, usize),
    /// 32 bytes that are no point of the curve.
    #[error("the public key is not a valid Ed25519 point")]
    NotAPoint,
}

/// A secret key of one purpose. `Debug` prints its id only.
#[derive(Clone)]
pub struct SecretKey<P> {
    key: SigningKey,
    purpose: PhantomData<P>,
}

/// A public key of one purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey<P> {
    key: VerifyingKey,
    purpose: PhantomData<P>,
}

/// The public keys of one purpose that are trusted now; more than one during a rotation.
#[derive(Debug, Clone)]
pub struct Trusted<P> {
    keys: Vec<VerifyingKey>,
    purpose: PhantomData<P>,
}

impl<P: Purpose> SecretKey<P> {
    /// Makes a key from 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> SecretKey<P> {
        SecretKey { key: SigningKey::from_bytes(&seed), purpose: PhantomData }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey<P> {
        PublicKey { key: self.key.verifying_key(), purpose: PhantomData }
    }

    /// The one-line form of a key file. Secret.
    pub fn to_text(&self) -> String {
        format!("{}-secret:{}\n", P::NAME, hex(self.key.as_bytes()))
    }

    pub(crate) fn sign(&self, payload_type: &str, payload: &[u8]) -> Envelope {
        Envelope::sign(payload_type, payload, &self.key)
    }
}

impl<P: Purpose> FromStr for SecretKey<P> {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<SecretKey<P>, KeyError> {
        parse(text, P::NAME, "secret").map(SecretKey::from_seed)
    }
}

impl<P: Purpose> fmt::Debug for SecretKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({} {})", P::NAME, self.public().id())
    }
}

impl<P: Purpose> PublicKey<P> {
    /// The name of this key in envelopes.
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.key)
    }

    /// The one-line form of a key file.
    pub fn to_text(&self) -> String {
        format!("{}-public:{}\n", P::NAME, hex(self.key.as_bytes()))
    }
}

impl<P: Purpose> FromStr for PublicKey<P> {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey<P>, KeyError> {
        let key =
            VerifyingKey::from_bytes(&parse(text, P::NAME, "public")?).map_err(|_| KeyError::NotAPoint)?;
        Ok(PublicKey { key, purpose: PhantomData })
    }
}

impl<P: Purpose> fmt::Debug for PublicKey<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", P::NAME, self.id())
    }
}

impl<P: Purpose> Serialize for PublicKey<P> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_text().trim_end())
    }
}

impl<'de, P: Purpose> Deserialize<'de> for PublicKey<P> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PublicKey<P>, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<P: Purpose> Trusted<P> {
    /// Trusts these keys and no others.
    pub fn new(keys: impl IntoIterator<Item = PublicKey<P>>) -> Trusted<P> {
        Trusted { keys: keys.into_iter().map(|key| key.key).collect(), purpose: PhantomData }
    }

    /// Is this key one of them?
    pub fn contains(&self, key: &PublicKey<P>) -> bool {
        self.keys.contains(&key.key)
    }

    /// The payload, and the key of ours that signed it.
    pub(crate) fn open(
        &self,
        envelope: &Envelope,
        payload_type: &'static str,
    ) -> Result<(Vec<u8>, PublicKey<P>), EnvelopeError> {
        let (payload, key) = envelope.open(payload_type, &self.keys)?;
        Ok((payload, PublicKey { key, purpose: PhantomData }))
    }
}

fn parse(text: &str, purpose: &str, half: &str) -> Result<[u8; 32], KeyError> {
    let expected = format!("{purpose}-{half}");
    let rest = text.trim_end().strip_prefix(&expected).and_then(|rest| rest.strip_prefix(':'));
    unhex(rest.ok_or(KeyError::WrongKind { expected })?).ok_or(KeyError::Malformed("key", 64))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read_back_and_only_for_their_purpose() {
        let secret = SecretKey::<Compiler>::from_seed([7; 32]);
        let again: SecretKey<Compiler> = secret.to_text().parse().unwrap();
        assert_eq!(again.public(), secret.public());
        assert_eq!(secret.public().to_text().parse::<PublicKey<Compiler>>().unwrap(), secret.public());

        let wrong = secret.to_text().parse::<SecretKey<Release>>().unwrap_err();
        assert_eq!(wrong.to_string(), "expected a release-secret key, which starts with \"release-secret:\"");
        assert!(secret.public().to_text().parse::<SecretKey<Compiler>>().is_err());
        assert!("compiler-secret:abc".parse::<SecretKey<Compiler>>().is_err());
    }

    #[test]
    fn debug_output_never_shows_a_secret() {
        let secret = SecretKey::<Release>::from_seed([9; 32]);
        assert!(!format!("{secret:?}").contains(&"09".repeat(8)));
    }
}
