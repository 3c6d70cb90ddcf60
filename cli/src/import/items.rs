//! What has to be put into stores beside a deploy: values never stand in a version.

use std::fmt;

/// Everything that has to be put.
#[derive(Debug, Default)]
pub struct Items {
    /// Values of secrets.
    pub secrets: Vec<SecretItem>,
    /// Items of key-value stores.
    pub kv: Vec<KvItem>,
}

/// What happens to a value that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is replaced.
    Always,
    /// It stays: it may be newer than the file.
    IfAbsent,
}

/// A secret's value. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretItem {
    /// The store; `None` is the app's own secrets.
    pub store: Option<String>,
    /// Its name in the store.
    pub key: String,
    /// Its value, at most [`super::stores::SECRET_BYTES_MAX`].
    pub value: Vec<u8>,
    /// What happens to one that is there.
    pub put: Put,
}

impl fmt::Debug for SecretItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SecretItem { store, key, value, put } = self;
        write!(f, "SecretItem({store:?}, {key:?}, {} bytes, {put:?})", value.len())
    }
}

/// An item of a key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvItem {
    /// The store.
    pub store: String,
    /// Its key in the store.
    pub key: String,
    /// Its value, at most [`super::stores::KV_VALUE_BYTES_MAX`].
    pub value: Vec<u8>,
    /// Text kept beside it.
    pub metadata: Option<String>,
    /// What happens to one that is there.
    pub put: Put,
}
