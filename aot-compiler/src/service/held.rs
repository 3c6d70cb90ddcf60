//! How many bytes of programs are in memory: a counter with a bound, for all and for each label.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The part of it that one label may hold.
const LABEL_PART: u64 = 4;

/// The counter. Clones share it.
#[derive(Debug, Clone)]
pub struct Held {
    /// By label, no zeros.
    labels: Arc<Mutex<HashMap<String, u64>>>,
    bytes_max: u64,
}

/// Room for some bytes, given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    held: Held,
    label: String,
    bytes: u64,
}

impl Held {
    /// Nothing held, at most `bytes_max`, a quarter of it by one label.
    pub fn new(bytes_max: u64) -> Held {
        Held { labels: Arc::default(), bytes_max }
    }

    /// Room for `bytes`, if there is.
    pub fn reserve(&self, label: &str, bytes: u64) -> Option<Reserved> {
        self.change(|labels| {
            let all = labels.values().sum::<u64>().checked_add(bytes)?;
            let own = labels.get(label).copied().unwrap_or(0).checked_add(bytes)?;
            let fits = all <= self.bytes_max && own <= self.bytes_max / LABEL_PART;
            fits.then(|| labels.insert(label.to_owned(), own))?;
            Some(Reserved { held: self.clone(), label: label.to_owned(), bytes })
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, u64>) -> T) -> T {
        // Nothing panics while it is held.
        change(&mut self.labels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.held.change(|labels| {
            if let Some(bytes) = labels.get_mut(&self.label) {
                *bytes -= self.bytes;
                if *bytes == 0 {
                    labels.remove(&self.label);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_for_all_and_for_one_and_comes_back() {
        let held = Held::new(40);
        let first = held.reserve("a", 7).unwrap();
        assert!(held.reserve("a", 4).is_none(), "a quarter is ten");
        assert!(held.reserve("a", u64::MAX).is_none());
        let second = held.reserve("a", 3).unwrap();
        let others: Vec<_> = ["b", "c", "d"].map(|label| held.reserve(label, 10).unwrap()).into();
        assert!(held.reserve("e", 1).is_none(), "all is held");
        drop((first, second, others));
        assert!(held.reserve("e", 10).is_some());
        assert!(held.change(|labels| labels.is_empty()));
    }
}
