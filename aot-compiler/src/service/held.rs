//! How many bytes of programs are in memory: a counter with a bound.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// The counter. Clones share it.
#[derive(Debug, Clone)]
pub struct Held {
    bytes: Arc<AtomicU64>,
    bytes_max: u64,
}

/// Room for some bytes, given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    held: Held,
    bytes: u64,
}

impl Held {
    /// Nothing held, at most `bytes_max`.
    pub fn new(bytes_max: u64) -> Held {
        Held { bytes: Arc::default(), bytes_max }
    }

    /// Room for `bytes`, if there is.
    pub fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let fits = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).ok()?;
        Some(Reserved { held: self.clone(), bytes })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let held = Held::new(10);
        let first = held.reserve(7).unwrap();
        assert!(held.reserve(4).is_none());
        assert!(held.reserve(u64::MAX).is_none());
        let second = held.reserve(3).unwrap();
        drop((first, second));
        assert!(held.reserve(10).is_some());
    }
}
