//! Key-value stores of a test's world. Pages have two keys, so that programs that read only the first one are found out.

use std::collections::BTreeMap;

use super::world;
use crate::kv::{Keys, KvError};

/// Keys of one page.
const PAGE_KEYS: usize = 2;

pub(crate) struct Store(String);

type Result<T> = std::result::Result<T, KvError>;

impl Store {
    pub(crate) fn open(name: &str) -> Result<Store> {
        match world(|world| world.stores.contains_key(name)) {
            true => Ok(Store(name.to_owned())),
            false => Err(KvError::NoSuchStore),
        }
    }

    /// It may be gone with the world it was opened in.
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> Result<T> {
        world(|world| world.stores.get_mut(&self.0).map(look)).ok_or(KvError::NoSuchStore)
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.with(|entries| entries.get(key).cloned())
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.with(|entries| drop(entries.insert(key.to_owned(), value.to_vec())))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<()> {
        self.with(|entries| drop(entries.remove(key)))
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        self.with(|entries| entries.contains_key(key))
    }

    /// The cursor is the last key of the page before.
    pub(crate) fn keys(&self, from: Option<&str>) -> Result<Keys> {
        self.with(|entries| {
            let behind = entries.keys().filter(|key| from.is_none_or(|from| key.as_str() > from));
            let mut keys: Vec<String> = behind.take(PAGE_KEYS + 1).cloned().collect();
            let more = keys.len() > PAGE_KEYS;
            keys.truncate(PAGE_KEYS);
            let next = keys.last().filter(|_| more).cloned();
            Keys { keys, next }
        })
    }

    pub(crate) fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn set_many(&self, new: Vec<(String, Vec<u8>)>) -> Result<()> {
        self.with(|entries| entries.extend(new))
    }

    pub(crate) fn delete_many(&self, keys: &[&str]) -> Result<()> {
        keys.iter().try_for_each(|key| self.delete(key))
    }

    pub(crate) fn increment(&self, key: &str, by: i64) -> Result<i64> {
        let wrong = |text: &str| KvError::Other(text.to_owned());
        let before = match self.get(key)? {
            None => 0,
            Some(text) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| wrong("the entry is no number"))?,
        };
        let sum = i64::checked_add(before, by).ok_or_else(|| wrong("the sum has more than 64 bits"))?;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    /// `false`: `change` itself has changed the entry.
    pub(crate) fn swap(&self, key: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<bool> {
        let before = self.get(key)?;
        let new = change(before.as_deref());
        if self.get(key)? != before {
            return Ok(false);
        }
        self.set(key, &new)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        kv::{KvError, Store, UPDATE_ATTEMPTS_MAX},
        testing::World,
    };

    #[test]
    fn all_pages_are_read() {
        let world = World::new();
        world.kv_store("s");
        let store = Store::open("s").unwrap();
        for count in 0..7_u8 {
            assert_eq!(store.all_keys().unwrap().len(), usize::from(count));
            store.set(&format!("k{count}"), &[count]).unwrap();
        }
        let first = store.keys(None).unwrap();
        assert_eq!((first.keys.len(), first.next.as_deref()), (2, Some("k1")));
        assert_eq!(store.keys(first.next.as_deref()).unwrap().keys, ["k2", "k3"]);
    }

    #[test]
    fn a_change_that_is_overtaken_is_made_again_and_not_for_ever() {
        let world = World::new();
        world.kv_store("s");
        let store = Store::open("s").unwrap();
        let mut calls = 0;
        let once = store.update("k", |before| {
            calls += 1;
            if calls == 1 {
                store.set("k", b"theirs").unwrap();
            }
            [before.unwrap_or_default(), b"+ours"].concat()
        });
        assert_eq!((once, calls, store.get("k").unwrap().unwrap()), (Ok(()), 2, b"theirs+ours".to_vec()));

        let mut calls = 0;
        let always = store.update("k", |_| {
            calls += 1;
            store.set("k", &[calls]).unwrap();
            Vec::new()
        });
        assert_eq!((always, u32::from(calls)), (Err(KvError::Contended), UPDATE_ATTEMPTS_MAX));
    }

    #[test]
    fn what_is_no_number_cannot_be_counted() {
        let world = World::new();
        world.kv_store("s");
        let store = Store::open("s").unwrap();
        store.set("k", b"x").unwrap();
        assert!(matches!(store.increment("k", 1), Err(KvError::Other(_))));
        store.set("k", i64::MAX.to_string().as_bytes()).unwrap();
        assert!(matches!(store.increment("k", 1), Err(KvError::Other(_))));
        drop(world);
        assert_eq!(store.get("k"), Err(KvError::NoSuchStore));
    }
}
