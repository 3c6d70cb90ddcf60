//! Key-value stores of tenants: the operations, their answers, and how both travel from a node to the origin.
//!
//! Data of tenants is not in the release log (docs/design/0007-stores.md). One operation is one `POST /v1/kv` on a
//! connection of its own; request and answer have one form: u32 big-endian length of the head, the head as JSON, then
//! metadata, then value. Keeping data, and deciding who may ask, is the callers' work.

use std::fmt;

use artifact::{
    TenantName,
    names::{KvKey, StoreName},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Path of the operations on the sync listener.
pub const KV_PATH: &str = "/v1/kv";

/// Bytes of one value. A node may hold 32 of them on their way (256 MiB), and so may the origin.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// Bytes of metadata beside a value, as on other edge platforms.
pub const METADATA_BYTES_MAX: usize = 2 * 1024;
/// Keys of one page of a list: 1 MiB at most with the longest keys.
pub const PAGE_KEYS_MAX: u32 = 1_000;
/// Longest and shortest life of a value, ms: ten years, one second.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=10 * 365 * 24 * 3_600_000;
/// Bytes of a head: 1,000 keys of 1,024 bytes, of which JSON may make six times as much.
const HEAD_BYTES_MAX: usize = 8 << 20;
/// Bytes of a whole request or answer.
pub const MESSAGE_BYTES_MAX: usize = 4 + HEAD_BYTES_MAX + METADATA_BYTES_MAX + VALUE_BYTES_MAX;

/// A store of a tenant. The tenant is part of the type, so that no operation can leave it out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Space {
    /// Whose.
    pub tenant: TenantName,
    /// Which.
    pub store: StoreName,
}

/// One entry's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct At {
    /// The store.
    #[serde(flatten)]
    pub space: Space,
    /// The key.
    pub key: KvKey,
}

/// Counts the writes to a store. Grows with each; an entry has that of its last write, and a key that is deleted and
/// written again never gets one it had before.
pub type Generation = u64;

/// How a put meets what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Takes its place, whatever it was.
    #[default]
    Overwrite,
    /// Only where there is nothing.
    Add,
    /// Goes behind the value that is there.
    Append,
    /// Goes before the value that is there.
    Prepend,
}

/// What is asked. Values and metadata travel beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Ask {
    /// The entry.
    Get(At),
    /// Write an entry.
    Put(PutAsk),
    /// Delete an entry.
    Delete {
        /// Which.
        #[serde(flatten)]
        at: At,
        /// Only if it has this generation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        if_generation: Option<Generation>,
    },
    /// One page of keys, in the order of their bytes.
    List(ListAsk),
}

/// See [`Ask::Put`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAsk {
    /// Where.
    #[serde(flatten)]
    pub at: At,
    /// How it meets what is there.
    #[serde(default)]
    pub mode: Mode,
    /// Only if the entry has this generation now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<Generation>,
    /// Its life, ms, within [`TTL_MS`]; absent: until deleted. Append and prepend then leave what was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Is there metadata? If not, append and prepend leave what was.
    #[serde(default)]
    pub has_metadata: bool,
}

/// See [`Ask::List`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListAsk {
    /// The store.
    #[serde(flatten)]
    pub space: Space,
    /// Only keys that begin with it.
    #[serde(default)]
    pub prefix: String,
    /// Keys of the page, 1 to [`PAGE_KEYS_MAX`].
    pub limit: u32,
    /// The [`Said::Page::next`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// The entry is there.
    Found {
        /// Its generation.
        generation: Generation,
        /// Its remaining life, ms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
        /// How old this answer is, ms. Not 0 only when a node answers from its memory.
        #[serde(default)]
        age_ms: u64,
    },
    /// There is no such entry.
    Missing {
        /// As for an entry.
        #[serde(default)]
        age_ms: u64,
    },
    /// The entry is written, durably.
    Stored {
        /// Its new generation.
        generation: Generation,
    },
    /// The entry is gone, durably.
    Deleted {
        /// Was there one?
        existed: bool,
    },
    /// Some keys. None of them, with a `next`, is a page that looked at expired entries only: there may be more.
    Page {
        /// In the order of their bytes.
        keys: Vec<String>,
        /// Opaque; asks for the page after. Absent: there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// It was not done.
    Refused {
        /// Why.
        #[serde(flatten)]
        refusal: Refusal,
    },
}

/// Why an operation was not done. The asker or the tenant is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Refusal {
    /// `if_generation`, or [`Mode::Add`].
    #[error("the entry is not as the write expected it: read it again")]
    Precondition,
    /// Over [`VALUE_BYTES_MAX`], also after append or prepend.
    #[error("a value is at most {VALUE_BYTES_MAX} bytes")]
    ValueTooLarge,
    /// Over [`METADATA_BYTES_MAX`].
    #[error("metadata is at most {METADATA_BYTES_MAX} bytes")]
    MetadataTooLarge,
    /// A number out of its range, or a cursor that is none.
    #[error("{what}")]
    Invalid {
        /// What, and what would be right.
        what: String,
    },
    /// The tenant has all it may have.
    #[error("the tenant has its {max} {of}: delete some")]
    Quota {
        /// Of what.
        of: String,
        /// How many.
        max: u64,
    },
}

/// An answer with what travels beside it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message<T> {
    /// The operation or its answer.
    pub head: T,
    /// Beside a value.
    pub metadata: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no key-value message: {0}")]
pub struct MessageError(String);

#[derive(Serialize)]
struct Envelope<'a, T> {
    metadata_bytes: usize,
    #[serde(flatten)]
    head: &'a T,
}

#[derive(Deserialize)]
struct Opened<T> {
    metadata_bytes: usize,
    #[serde(flatten)]
    head: T,
}

impl<T> Message<T> {
    /// A message with nothing beside its head.
    pub fn bare(head: T) -> Message<T> {
        Message { head, metadata: Vec::new(), value: Vec::new() }
    }
}

impl<T: Serialize> Message<T> {
    /// As it travels.
    pub fn encode(&self) -> Vec<u8> {
        let envelope = Envelope { metadata_bytes: self.metadata.len(), head: &self.head };
        let head = serde_json::to_vec(&envelope).expect("heads have only string keys");
        let mut bytes = Vec::with_capacity(4 + head.len() + self.metadata.len() + self.value.len());
        let length = u32::try_from(head.len()).expect("names, keys and numbers are far below 4 GiB");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&self.metadata);
        bytes.extend_from_slice(&self.value);
        bytes
    }
}

impl<T: DeserializeOwned> Message<T> {
    /// Reads what travelled.
    pub fn decode(bytes: &[u8]) -> Result<Message<T>, MessageError> {
        let cut = || MessageError("cut off".to_owned());
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        if length > HEAD_BYTES_MAX {
            return Err(MessageError(format!("a head of {length} bytes")));
        }
        let (head, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let opened: Opened<T> =
            serde_json::from_slice(head).map_err(|error| MessageError(error.to_string()))?;
        let (metadata, value) = rest.split_at_checked(opened.metadata_bytes).ok_or_else(cut)?;
        if metadata.len() > METADATA_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(MessageError("a value or metadata over its limit".to_owned()));
        }
        Ok(Message { head: opened.head, metadata: metadata.to_vec(), value: value.to_vec() })
    }
}

impl<T: fmt::Debug> fmt::Debug for Message<T> {
    /// Without the tenant's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} + {} + {} bytes", self.head, self.metadata.len(), self.value.len())
    }
}

impl Ask {
    /// The store it is about.
    pub fn space(&self) -> &Space {
        match self {
            Ask::Get(at) | Ask::Delete { at, .. } => &at.space,
            Ask::Put(put) => &put.at.space,
            Ask::List(list) => &list.space,
        }
    }

    /// Does it change nothing, so that it may be asked again?
    pub fn only_reads(&self) -> bool {
        matches!(self, Ask::Get(_) | Ask::List(_))
    }
}

/// What everybody who takes an operation checks first: the node, to refuse early, and the store, to be sure.
pub fn check(ask: &Message<Ask>) -> Result<(), Refusal> {
    if ask.value.len() > VALUE_BYTES_MAX {
        return Err(Refusal::ValueTooLarge);
    }
    if ask.metadata.len() > METADATA_BYTES_MAX {
        return Err(Refusal::MetadataTooLarge);
    }
    match &ask.head {
        Ask::Put(put) if put.ttl_ms.is_some_and(|ttl_ms| !TTL_MS.contains(&ttl_ms)) => {
            Err(Refusal::Invalid { what: "a life is one second to ten years".to_owned() })
        }
        Ask::List(list) if !(1..=PAGE_KEYS_MAX).contains(&list.limit) => {
            Err(Refusal::Invalid { what: format!("a page has 1 to {PAGE_KEYS_MAX} keys") })
        }
        Ask::Get(_) | Ask::Put(_) | Ask::Delete { .. } | Ask::List(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space() -> Space {
        Space { tenant: "a".parse().unwrap(), store: "carts".parse().unwrap() }
    }

    fn put(ttl_ms: Option<u64>) -> Ask {
        let at = At { space: space(), key: "k".parse().unwrap() };
        Ask::Put(PutAsk { at, mode: Mode::Append, if_generation: Some(7), ttl_ms, has_metadata: true })
    }

    #[test]
    fn the_written_form_is_fixed() {
        let message = Message { head: put(Some(1_000)), metadata: b"m".to_vec(), value: b"v".to_vec() };
        let bytes = message.encode();
        let head = r#"{"metadata_bytes":1,"op":"put","tenant":"a","store":"carts","key":"k","mode":"append","if_generation":7,"ttl_ms":1000,"has_metadata":true}"#;
        assert_eq!(&bytes[4..], format!("{head}mv").as_bytes());
        assert_eq!(Message::<Ask>::decode(&bytes).unwrap(), message);
    }

    #[test]
    fn every_answer_reads_back() {
        for head in [
            Said::Found { generation: 1, ttl_ms: Some(5), age_ms: 2 },
            Said::Missing { age_ms: 0 },
            Said::Stored { generation: u64::MAX },
            Said::Deleted { existed: true },
            Said::Page { keys: vec!["a".into()], next: Some("b".into()) },
            Said::Refused { refusal: Refusal::Precondition },
            Said::Refused { refusal: Refusal::Quota { of: "stores".into(), max: 3 } },
            Said::Refused { refusal: Refusal::Invalid { what: "x".into() } },
        ] {
            let message = Message { head, metadata: vec![1], value: vec![2, 3] };
            assert_eq!(Message::<Said>::decode(&message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn what_is_cut_or_too_large_is_refused() {
        let whole = Message { head: put(None), metadata: b"mm".to_vec(), value: vec![] }.encode();
        for end in 0..whole.len() {
            assert!(Message::<Ask>::decode(&whole[..end]).is_err(), "cut at {end}");
        }
        let large = Message { head: put(None), metadata: vec![], value: vec![0; VALUE_BYTES_MAX + 1] };
        assert!(Message::<Ask>::decode(&large.encode()).is_err());
        assert_eq!(check(&large), Err(Refusal::ValueTooLarge));
        assert!(Message::<Ask>::decode(&[0xff; 64]).is_err());
        assert!(matches!(check(&Message::bare(put(Some(999)))), Err(Refusal::Invalid { .. })));
        let list = |limit| {
            Message::bare(Ask::List(ListAsk { space: space(), prefix: String::new(), limit, cursor: None }))
        };
        assert_eq!(check(&list(1)), Ok(()));
        assert!(check(&list(0)).is_err() && check(&list(PAGE_KEYS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::<Ask>::decode(&bytes);
            let _ = Message::<Said>::decode(&bytes);
        }
    }
}
