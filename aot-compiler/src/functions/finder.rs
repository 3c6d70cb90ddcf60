//! What the code generator asks before it compiles a function, and what it learned.
//!
//! Bounded: what is beyond the bound is compiled and not learned. Safe to ask from all threads of a job.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use engine::compiler::CacheStore;

use super::{
    Counts, Learned, Pack,
    learned::LEARNED_BYTES_MAX,
    pack::{ENTRIES_MAX, Key},
};

/// One compile's view of its pack.
#[derive(Debug, Default)]
pub struct Finder {
    pack: Option<Pack>,
    /// Which of the pack's functions were asked for, in the order of its index.
    used: Vec<AtomicBool>,
    fresh: Mutex<Fresh>,
    found: AtomicU64,
    compiled: AtomicU64,
}

#[derive(Debug, Default)]
struct Fresh {
    functions: BTreeMap<Key, Vec<u8>>,
    bytes: usize,
}

impl Finder {
    /// One that finds what is in this pack.
    pub fn new(pack: Option<Pack>) -> Finder {
        let used = std::iter::repeat_with(AtomicBool::default);
        let used = used.take(pack.as_ref().map_or(0, Pack::len)).collect();
        Finder { pack, used, ..Finder::default() }
    }

    /// How many were found and compiled so far.
    pub fn counts(&self) -> Counts {
        Counts { found: self.found.load(Relaxed), compiled: self.compiled.load(Relaxed) }
    }

    /// What it learned, which is then forgotten here.
    pub fn learned(&self) -> Learned {
        let fresh = std::mem::take(&mut *self.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        Learned {
            used: self.used.iter().map(|used| used.load(Relaxed)).collect(),
            fresh: fresh.functions.into_iter().map(|(key, value)| (key, value.into())).collect(),
        }
    }
}

impl CacheStore for Finder {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let pack = self.pack.as_ref()?;
        let index = pack.find(key)?;
        // Damaged on the disk: compiled like one that was never there, and written anew.
        let value = pack.value(index)?;
        self.used[index].store(true, Relaxed);
        self.found.fetch_add(1, Relaxed);
        Some(Cow::Borrowed(value))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.compiled.fetch_add(1, Relaxed);
        let Ok(key) = Key::try_from(key) else { return false };
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = fresh.bytes + Learned::bytes_of(&value);
        if bytes > LEARNED_BYTES_MAX || fresh.functions.len() >= ENTRIES_MAX {
            return false;
        }
        if fresh.functions.insert(key, value).is_none() {
            fresh.bytes = bytes;
        }
        true
    }
}
