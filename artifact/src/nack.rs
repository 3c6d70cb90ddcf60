//! Why a node refused a record. A failed record pins its own object to the last good version; the cursor moves on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A refusal as nodes report it and tools print it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// What kind of refusal.
    pub code: NackCode,
    /// What happened, for a person; no secrets.
    pub detail: String,
}

/// The closed set of refusal codes. A code from a newer node reads as [`NackCode::Internal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NackCode {
    /// A signature or its envelope does not check out.
    BadSig,
    /// Signed by a key this node does not trust.
    UnknownKey,
    /// From an older term of office than one already seen.
    EpochStale,
    /// A record does not follow the one before it.
    ChainBreak,
    /// Bytes are not those the record or statement names.
    DigestMismatch,
    /// No artifact for this processor and engine.
    Compat,
    /// Over a size limit.
    TooLarge,
    /// No room to keep it.
    NoSpace,
    /// Bytes could not be had in time.
    FetchTimeout,
    /// Verified, but the engine refused it.
    LoadFail,
    /// A record kind this node does not know and may not skip.
    UnknownKind,
    /// The node failed twice while activating it.
    CrashLoop,
    /// Anything else; a bug or a failing machine.
    #[serde(other)]
    Internal,
}

impl fmt::Display for NackCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Nack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_print_as_they_travel_and_unknown_ones_read_as_internal() {
        assert_eq!(NackCode::DigestMismatch.to_string(), "DIGEST_MISMATCH");
        assert_eq!(
            serde_json::from_str::<NackCode>("\"DIGEST_MISMATCH\"").unwrap(),
            NackCode::DigestMismatch
        );
        assert_eq!(serde_json::from_str::<NackCode>("\"FROM_TOMORROW\"").unwrap(), NackCode::Internal);
    }
}
