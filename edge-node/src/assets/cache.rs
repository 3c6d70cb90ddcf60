//! Small files and indexes in memory, all of the node's in one bounded place. What was asked for since its turn came last stays
//! (the clock algorithm): a hit sets a flag, and only what has to leave is moved.
//!
//! Kept by tenant: a tenant that deploys a neighbour's file cannot tell by the time of its first answer that it was there.

use std::collections::{HashMap, VecDeque};

use artifact::Digest;
use parking_lot::Mutex;

use crate::memory::Budget;

/// Whose, and which.
pub type Key = (u64, Digest);

/// What a place costs beside its bytes: keys, queue and the allocation.
const PLACE_BYTES: u64 = 256;

/// See the module.
pub struct Cache<V> {
    bytes_max: u64,
    /// The node's memory for guests, of which the bytes held here are a part.
    budget: Budget,
    held: Mutex<Held<V>>,
}

struct Held<V> {
    places: HashMap<Key, Place<V>>,
    /// Each key once, in the order their turns come.
    turns: VecDeque<Key>,
    bytes: u64,
}

struct Place<V> {
    value: V,
    bytes: u64,
    was_asked: bool,
}

impl<V: Clone> Cache<V> {
    /// An empty one of at most so many bytes.
    pub fn new(bytes_max: u64, budget: Budget) -> Cache<V> {
        let held = Held { places: HashMap::new(), turns: VecDeque::new(), bytes: 0 };
        Cache { bytes_max, budget, held: Mutex::new(held) }
    }

    /// What is held under the key.
    pub fn get(&self, key: &Key) -> Option<V> {
        let mut held = self.held.lock();
        let place = held.places.get_mut(key)?;
        place.was_asked = true;
        Some(place.value.clone())
    }

    /// Holds a value of so many bytes, in the place of others. One that finds no room, here or in the node's memory, is not held.
    pub fn put(&self, key: Key, value: V, bytes: u64) {
        let bytes = bytes.saturating_add(PLACE_BYTES);
        if bytes > self.bytes_max {
            return;
        }
        let mut held = self.held.lock();
        if held.places.contains_key(&key) {
            return;
        }
        while held.bytes + bytes > self.bytes_max {
            let Some(freed) = held.evict() else { return };
            self.budget.give(freed);
        }
        if self.budget.take(bytes) {
            held.bytes += bytes;
            held.places.insert(key, Place { value, bytes, was_asked: false });
            held.turns.push_back(key);
        }
    }

    /// Bytes held.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.held.lock().bytes
    }
}

impl<V> Held<V> {
    /// Takes out the first that was not asked for since its last turn; its bytes.
    fn evict(&mut self) -> Option<u64> {
        loop {
            let key = self.turns.pop_front()?;
            let Some(place) = self.places.get_mut(&key) else { continue };
            if std::mem::take(&mut place.was_asked) {
                self.turns.push_back(key);
                continue;
            }
            let gone = self.places.remove(&key)?;
            self.bytes -= gone.bytes;
            return Some(gone.bytes);
        }
    }
}

impl<V> Drop for Cache<V> {
    fn drop(&mut self) {
        self.budget.give(self.held.get_mut().bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        (1, Digest::of(&[n]))
    }

    #[test]
    fn what_is_not_asked_for_leaves_first_and_bytes_are_counted_in_the_node_and_come_back() {
        let budget = Budget::new(1 << 30, 0).unwrap();
        let cache = Cache::new(3 * (1000 + PLACE_BYTES), budget.clone());
        for n in 0..3 {
            cache.put(key(n), n, 1000);
        }
        assert_eq!((cache.get(&key(0)), cache.get(&(2, key(0).1))), (Some(0), None), "another tenant's");
        cache.put(key(3), 3, 1000);
        assert_eq!([0, 1, 2, 3].map(|n| cache.get(&key(n)).is_some()), [true, false, true, true]);
        cache.put(key(4), 4, 4 * 1000);
        assert_eq!(cache.get(&key(4)), None, "larger than all of it");
        assert_eq!((cache.bytes(), budget.bytes()), (3 * (1000 + PLACE_BYTES), 3 * (1000 + PLACE_BYTES)));
        drop(cache);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn a_node_whose_memory_is_in_use_holds_nothing() {
        let cache = Cache::new(1 << 20, Budget::new(100, 0).unwrap());
        cache.put(key(1), 1, 1000);
        assert_eq!((cache.get(&key(1)), cache.bytes()), (None, 0));
    }
}
