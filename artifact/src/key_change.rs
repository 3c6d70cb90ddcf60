//! What one compiler key says of another: it endorses it, or revokes it. So a fleet's signing key is changed by whoever
//! holds a key that is trusted already, and never by the control plane alone (docs/design/0025-key-rotation.md).
//!
//! A change is a signed envelope of a type of its own: no statement can be taken for one. Its payload has exactly one
//! written form. It names its signer in full, so that a [`KeyChange`] is always one that its own signer signed; whether that
//! signer is to be believed is the [keyring](crate::keyring)'s to say. Absent on purpose: a clock. The serial is an argument.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    dsse::{Envelope, EnvelopeError},
    keys::{Compiler, PublicKey, SecretKey, Trusted},
};

/// DSSE payload type of a change.
pub const KEY_CHANGE_TYPE: &str = "application/vnd.skerry.compiler-key-change.v1+json";
/// Largest change as text, in bytes. The one form there is has 600, whatever the serial.
pub const KEY_CHANGE_BYTES_MAX: usize = 1024;

/// What a key does with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// What the other signs is to be believed as what the signer signs.
    Endorses,
    /// What the other signs is not to be believed any more, ever.
    Revokes,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Endorses => "endorses",
            Verb::Revokes => "revokes",
        })
    }
}

/// What is signed. The order of the fields is the written form's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    signer: PublicKey<Compiler>,
    verb: Verb,
    key: PublicKey<Compiler>,
    serial: u64,
}

/// See the module. Its only makers are [`KeyChange::sign`] and [`KeyChange::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    said: Payload,
    envelope: Envelope,
}

/// A document is no change. Whoever made it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyChangeError {
    /// Over [`KEY_CHANGE_BYTES_MAX`].
    #[error("a change of compiler keys has at most {KEY_CHANGE_BYTES_MAX} bytes, this has {0}")]
    TooLarge(usize),
    /// Not read, or not in the one written form.
    #[error("this is no change of compiler keys: {0}")]
    Malformed(String),
    /// Of another type or version, or not signed by the key it names.
    #[error("checking the signature of a change of compiler keys")]
    Envelope(#[from] EnvelopeError),
    /// A key that endorses itself says nothing; one that revokes itself could leave none.
    #[error("a compiler key neither endorses nor revokes itself: sign with another that is trusted")]
    OfItself,
}

impl KeyChange {
    /// `by` says this of `key`. `serial` must be higher than that of every change before: the milliseconds since 1970 will do.
    pub fn sign(
        by: &SecretKey<Compiler>,
        verb: Verb,
        key: PublicKey<Compiler>,
        serial: u64,
    ) -> Result<KeyChange, KeyChangeError> {
        let said = Payload { signer: by.public(), verb, key, serial };
        if said.signer == said.key {
            return Err(KeyChangeError::OfItself);
        }
        Ok(KeyChange { said, envelope: by.sign(KEY_CHANGE_TYPE, &written(&said)) })
    }

    /// The change in an envelope, if the key it names as its signer signed it.
    pub fn open(envelope: Envelope) -> Result<KeyChange, KeyChangeError> {
        let size = envelope.to_json().len();
        if size > KEY_CHANGE_BYTES_MAX {
            return Err(KeyChangeError::TooLarge(size));
        }
        envelope.expect_type(KEY_CHANGE_TYPE)?;
        let malformed = |why: String| KeyChangeError::Malformed(why);
        let payload = envelope.unchecked()?;
        let said: Payload = serde_json::from_slice(&payload).map_err(|error| malformed(error.to_string()))?;
        if written(&said) != payload {
            return Err(malformed("it is written in another form than the one there is".into()));
        }
        if envelope.key_ids() != [said.signer.id()] {
            return Err(malformed("it needs one signature, of the signer it names".into()));
        }
        Trusted::new([said.signer]).open(&envelope, KEY_CHANGE_TYPE)?;
        if said.signer == said.key {
            return Err(KeyChangeError::OfItself);
        }
        Ok(KeyChange { said, envelope })
    }

    /// Reads a file's text: the envelope's one form, perhaps with white space around it.
    pub fn from_text(text: &str) -> Result<KeyChange, KeyChangeError> {
        let text = text.trim();
        if text.len() > KEY_CHANGE_BYTES_MAX {
            return Err(KeyChangeError::TooLarge(text.len()));
        }
        let envelope = Envelope::from_json(text.as_bytes())
            .map_err(|error| KeyChangeError::Malformed(error.to_string()))?;
        if envelope.to_json() != text {
            return Err(KeyChangeError::Malformed(
                "its envelope has another form than the one there is".into(),
            ));
        }
        KeyChange::open(envelope)
    }

    /// The text of a file.
    pub fn to_text(&self) -> String {
        self.envelope.to_json() + "\n"
    }

    /// Who says it.
    pub fn signer(&self) -> PublicKey<Compiler> {
        self.said.signer
    }

    /// What it does with [`KeyChange::key`].
    pub fn verb(&self) -> Verb {
        self.said.verb
    }

    /// Of which key.
    pub fn key(&self) -> PublicKey<Compiler> {
        self.said.key
    }

    /// Higher than those of the changes before it.
    pub fn serial(&self) -> u64 {
        self.said.serial
    }

    /// As it was signed.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Payload { signer, verb, key, serial } = &self.said;
        write!(f, "compiler key {} {verb} {}, serial {serial}", signer.id(), key.id())
    }
}

/// The one form.
fn written(said: &Payload) -> Vec<u8> {
    serde_json::to_vec(said).expect("a change has only string keys")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::STATEMENT_TYPE;

    fn key(seed: u8) -> SecretKey<Compiler> {
        SecretKey::from_seed([seed; 32])
    }

    fn change() -> KeyChange {
        KeyChange::sign(&key(1), Verb::Endorses, key(2).public(), 7).unwrap()
    }

    fn signed(payload: &str) -> Result<KeyChange, KeyChangeError> {
        KeyChange::open(key(1).sign(KEY_CHANGE_TYPE, payload.as_bytes()))
    }

    fn payload() -> String {
        String::from_utf8(written(&change().said)).unwrap()
    }

    #[test]
    fn a_change_reads_back_and_its_written_form_is_fixed() {
        let made = change();
        assert_eq!(KeyChange::from_text(&made.to_text()).unwrap(), made);
        let (one, two) = (key(1).public().to_text(), key(2).public().to_text());
        assert_eq!(
            payload(),
            format!(
                r#"{{"signer":"{}","verb":"endorses","key":"{}","serial":7}}"#,
                one.trim_end(),
                two.trim_end()
            )
        );
        assert_eq!(signed(&payload()).unwrap(), made);
        let largest = KeyChange::sign(&key(1), Verb::Endorses, key(2).public(), u64::MAX).unwrap();
        assert!(largest.to_text().len() < 700, "{}", largest.to_text().len());
        assert_eq!(
            made.to_string(),
            format!("compiler key {} endorses {}, serial 7", key(1).public().id(), key(2).public().id())
        );
    }

    #[test]
    fn no_flipped_bit_of_a_change_reads() {
        let text = change().to_text();
        let bytes = text.trim_end().as_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                let Ok(flipped) = String::from_utf8(flipped) else { continue };
                assert!(KeyChange::from_text(&flipped).is_err(), "byte {at}, bit {bit}: {flipped}");
            }
        }
    }

    #[test]
    fn a_change_that_another_key_signed_than_it_names_is_refused() {
        let thief = key(9).sign(KEY_CHANGE_TYPE, payload().as_bytes());
        assert!(matches!(KeyChange::open(thief.clone()), Err(KeyChangeError::Malformed(_))));
        // Under the signer's name, with the thief's signature.
        let (ours, theirs) = (key(1).public().id().to_string(), key(9).public().id().to_string());
        let renamed = Envelope::from_json(thief.to_json().replace(&theirs, &ours).as_bytes()).unwrap();
        assert_eq!(
            KeyChange::open(renamed),
            Err(KeyChangeError::Envelope(EnvelopeError::BadSignature(key(1).public().id())))
        );
    }

    #[test]
    fn a_key_neither_endorses_nor_revokes_itself() {
        for verb in [Verb::Endorses, Verb::Revokes] {
            assert_eq!(KeyChange::sign(&key(1), verb, key(1).public(), 7), Err(KeyChangeError::OfItself));
        }
        let (one, two) = (key(1).public().to_text(), key(2).public().to_text());
        assert_eq!(signed(&payload().replace(two.trim_end(), one.trim_end())), Err(KeyChangeError::OfItself));
    }

    #[test]
    fn a_statement_is_no_change_and_a_change_of_tomorrow_is_not_read_as_one_of_today() {
        for other in [STATEMENT_TYPE, "application/vnd.skerry.compiler-key-change.v2+json"] {
            let refused = KeyChange::open(key(1).sign(other, b"{}")).unwrap_err();
            assert!(
                matches!(refused, KeyChangeError::Envelope(EnvelopeError::WrongType { .. })),
                "{refused}"
            );
        }
        let trusted = Trusted::new([key(1).public()]);
        let refused = crate::statement::TrustedStatement::open(change().envelope(), &trusted).unwrap_err();
        assert_eq!(refused.nack_code(), crate::nack::NackCode::BadSig);
    }

    #[test]
    fn any_other_form_of_the_same_is_refused_though_it_is_signed() {
        let good = payload();
        for bad in [
            good.replace(",\"verb\"", ", \"verb\""),
            good.replace("\"serial\":7", "\"serial\":7.0"),
            good.replace("\"serial\":7", "\"serial\":-7"),
            good.replace("\"serial\":7", "\"serial\":7,\"until\":9"),
            good.replace("\"serial\":7", "\"serial\":7,\"serial\":7"),
            good.replace(",\"serial\":7", ""),
            good.replace("endorses", "adores"),
            good.replace("compiler-public:", "release-public:"),
            good.replace("\",\"serial", "\\n\",\"serial"),
            format!("{good}\n"),
            "[]".into(),
            String::new(),
        ] {
            assert_ne!(bad, good);
            assert!(matches!(signed(&bad), Err(KeyChangeError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn oversize_more_signatures_and_another_envelope_are_refused() {
        assert_eq!(
            KeyChange::from_text(&"x".repeat(KEY_CHANGE_BYTES_MAX + 1)),
            Err(KeyChangeError::TooLarge(KEY_CHANGE_BYTES_MAX + 1))
        );
        let huge = key(1).sign(KEY_CHANGE_TYPE, &[b' '; KEY_CHANGE_BYTES_MAX]);
        assert!(matches!(KeyChange::open(huge), Err(KeyChangeError::TooLarge(_))));
        let text = change().to_text();
        let mut twice: serde_json::Value = serde_json::from_str(&text).unwrap();
        let first = twice["signatures"][0].clone();
        twice["signatures"].as_array_mut().unwrap().push(first);
        let twice: Envelope = serde_json::from_value(twice).unwrap();
        assert!(matches!(KeyChange::open(twice), Err(KeyChangeError::Malformed(_))));
        for bad in [text.replacen('{', "{\"note\":1,", 1), text.replacen(':', ": ", 1), "null".into()] {
            assert!(matches!(KeyChange::from_text(&bad), Err(KeyChangeError::Malformed(_))), "{bad}");
        }
    }
}
