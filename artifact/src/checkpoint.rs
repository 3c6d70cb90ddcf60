//! A signed head of the release log. One signature binds every record up to it through the hash chain.

use serde::{Deserialize, Serialize};

use crate::{
    Digest,
    dsse::{Envelope, EnvelopeError},
    keys::{Release, SecretKey, Trusted},
    record::{Epoch, Rev, UnixMs},
};

/// DSSE payload type of a checkpoint.
pub const CHECKPOINT_TYPE: &str = "application/vnd.skerry.checkpoint.v1+json";

/// The state of the log at one rev.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Term of the last record.
    pub epoch: Epoch,
    /// Position of the last record.
    pub rev: Rev,
    /// Chain value after it.
    pub chain: Digest,
    /// When it was signed: re-signed while idle, so that a node notices when it is cut off.
    pub time_ms: UnixMs,
}

/// A checkpoint that is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The signature or its envelope.
    #[error("checking a checkpoint's signature")]
    Envelope(#[from] EnvelopeError),
    /// Signed, but not readable.
    #[error("a malformed checkpoint: {0}")]
    Malformed(String),
}

impl Checkpoint {
    /// Signs it with the release key.
    pub fn sign(&self, key: &SecretKey<Release>) -> Envelope {
        let payload = serde_json::to_vec(self).expect("a checkpoint has only string keys");
        key.sign(CHECKPOINT_TYPE, &payload)
    }

    /// The checkpoint, if a trusted release key signed it.
    pub fn open(envelope: &Envelope, trusted: &Trusted<Release>) -> Result<Checkpoint, CheckpointError> {
        let (payload, _) = trusted.open(envelope, CHECKPOINT_TYPE)?;
        serde_json::from_slice(&payload).map_err(|error| CheckpointError::Malformed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_under_its_key_only() {
        let key = SecretKey::from_seed([3; 32]);
        let checkpoint = Checkpoint { epoch: 2, rev: 9, chain: Digest::of(b"x"), time_ms: 5 };
        let envelope = checkpoint.sign(&key);
        assert_eq!(Checkpoint::open(&envelope, &Trusted::new([key.public()])), Ok(checkpoint));
        let other = SecretKey::from_seed([4; 32]);
        assert!(Checkpoint::open(&envelope, &Trusted::new([other.public()])).is_err());
    }
}
