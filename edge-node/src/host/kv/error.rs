//! Why a key-value operation was not done, in words that both lanes can tell apart.

use fleet_sync_replica::{
    KvAskError,
    kv::wire::{METADATA_BYTES_MAX, Refusal, Said, VALUE_BYTES_MAX},
};
use serde::{Deserialize, Serialize};

use super::{OPEN_MAX, OPERATIONS_MAX};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum KvError {
    /// The guest's: a key, life, limit or cursor that is none.
    #[error("{0}")]
    Invalid(String),
    /// The guest's: over 8 MiB, also after append or prepend.
    #[error("a value is at most {VALUE_BYTES_MAX} bytes")]
    ValueTooLarge,
    /// The guest's: over 2 KiB.
    #[error("metadata is at most {METADATA_BYTES_MAX} bytes")]
    MetadataTooLarge,
    /// The entry is not as the write expected it.
    #[error("the entry is not as the write expected it")]
    Precondition,
    /// The guest's: this execution has done, or has open, as many as it may.
    #[error("one execution does {OPERATIONS_MAX} key-value operations, {OPEN_MAX} of them at once")]
    TooMany,
    /// The tenant's: it has all the stores, keys or bytes it may have.
    #[error("{0}")]
    Quota(String),
    /// The node's: it has as many operations under way as it takes. Nothing was done.
    #[error("the node has too many key-value operations under way")]
    Busy,
    /// The guest's, or the node's: what came does not fit beside what the host holds for the execution already.
    #[error("the host holds too much for this execution, or the node for all of them, to take the answer")]
    NoRoom,
    /// The control plane cannot be reached. Nothing was done.
    #[error("{0}")]
    Away(String),
    /// No answer came. A write may have been done.
    #[error("{0}")]
    NoAnswer(String),
}

impl KvError {
    /// An answer to another question: the origin is of another release.
    pub(super) fn unexpected(said: Said) -> KvError {
        match said {
            Said::Refused { refusal } => refusal.into(),
            _ => KvError::NoAnswer("the control plane answered something else than was asked".to_owned()),
        }
    }
}

impl From<Refusal> for KvError {
    fn from(refusal: Refusal) -> KvError {
        match refusal {
            Refusal::Precondition => KvError::Precondition,
            Refusal::ValueTooLarge => KvError::ValueTooLarge,
            Refusal::MetadataTooLarge => KvError::MetadataTooLarge,
            Refusal::Invalid { what } => KvError::Invalid(what),
            Refusal::Quota { .. } => KvError::Quota(refusal.to_string()),
        }
    }
}

impl From<KvAskError> for KvError {
    fn from(error: KvAskError) -> KvError {
        let message = error.to_string();
        match error {
            KvAskError::Away(_) => KvError::Away(message),
            KvAskError::Busy => KvError::Busy,
            KvAskError::NoAnswer(_) => KvError::NoAnswer(message),
            KvAskError::Refused(_) => KvError::Away(message),
        }
    }
}
