//! One at a time for each key: for writes that must not overtake each other. The table holds only keys in use, so it is
//! as long as there are requests.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// See the module.
pub struct Turns<K: Eq + Hash>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

/// The right to be the one for a key.
pub struct Turn<'t, K: Eq + Hash> {
    turns: &'t Turns<K>,
    key: K,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K: Eq + Hash> Default for Turns<K> {
    fn default() -> Turns<K> {
        Turns(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Waits until nobody else has the key.
    pub async fn turn(&self, key: K) -> Turn<'_, K> {
        let lock = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        // Made before the wait, so that whoever gives up waiting leaves nothing in the table.
        let mut turn = Turn { turns: self, key, guard: None };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl<K: Eq + Hash> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        let mut turns = self.turns.0.lock();
        drop(self.guard.take());
        // One reference is the table's: nobody waits.
        if turns.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_key_has_one_holder_and_the_table_forgets_those_that_are_done() {
        let turns = Turns::default();
        let first = turns.turn("a").await;
        let other = turns.turn("b").await;
        let short = Duration::from_millis(20);
        assert!(tokio::time::timeout(short, turns.turn("a")).await.is_err(), "it is taken");
        assert_eq!(turns.0.lock().len(), 2);
        drop((first, other));
        assert_eq!(turns.0.lock().len(), 0);
        drop(turns.turn("a").await);
        assert_eq!(turns.0.lock().len(), 0);
    }
}
