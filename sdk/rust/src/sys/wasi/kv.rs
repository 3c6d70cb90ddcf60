//! `wasi:keyvalue`, the draft whose cursors last and that can swap.

use super::drafts::wasi::keyvalue::{
    atomics::{self, Cas, CasError},
    batch,
    store::{self, Bucket, Error, KeyResponse},
};
use crate::kv::{Keys, KvError};

pub(crate) struct Store(Bucket);

type Result<T> = std::result::Result<T, KvError>;

impl Store {
    pub(crate) fn open(name: &str) -> Result<Store> {
        Ok(Store(store::open(name)?))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key)?)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        Ok(self.0.set(key, value)?)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        Ok(self.0.delete(key)?)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        Ok(self.0.exists(key)?)
    }

    pub(crate) fn keys(&self, from: Option<&str>) -> Result<Keys> {
        let KeyResponse { keys, cursor } = self.0.list_keys(from)?;
        Ok(Keys { keys, next: cursor })
    }

    /// The host answers with names, and may leave out and reorder.
    pub(crate) fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut found = batch::get_many(&self.0, &owned(keys))?;
        let mut value =
            |key: &&str| found.iter_mut().find(|(name, _)| name == key).and_then(|(_, value)| value.clone());
        Ok(keys.iter().map(&mut value).collect())
    }

    pub(crate) fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<()> {
        Ok(batch::set_many(&self.0, &entries)?)
    }

    pub(crate) fn delete_many(&self, keys: &[&str]) -> Result<()> {
        Ok(batch::delete_many(&self.0, &owned(keys))?)
    }

    pub(crate) fn increment(&self, key: &str, by: i64) -> Result<i64> {
        Ok(atomics::increment(&self.0, key, by)?)
    }

    /// `false`: somebody was faster.
    pub(crate) fn swap(&self, key: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<bool> {
        let cas = Cas::new(&self.0, key)?;
        let new = change(cas.current()?.as_deref());
        match atomics::swap(cas, &new) {
            Ok(()) => Ok(true),
            Err(CasError::CasFailed(_)) => Ok(false),
            Err(CasError::StoreError(error)) => Err(error.into()),
        }
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

impl From<Error> for KvError {
    fn from(error: Error) -> KvError {
        match error {
            Error::NoSuchStore => KvError::NoSuchStore,
            Error::AccessDenied => KvError::Denied,
            Error::Other(text) => KvError::Other(text),
        }
    }
}
