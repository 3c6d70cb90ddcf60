//! Compressed forms of what was read last time, so that `dev` compresses at a save only what the save changed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use artifact::{Digest, assets::Coding};

/// Bytes of compressed files that are kept: an app may have 256 MiB; a project under work that has more than this of text
/// compresses the rest of it at each save.
const BYTES_MAX: usize = 64 << 20;

/// The compressed forms of one file's bytes that save something.
pub type Variants = Vec<(Coding, Arc<Vec<u8>>)>;

/// What is kept from one reading of a folder to the next. Forms that one reading did not ask for are gone with the next.
#[derive(Debug, Default)]
pub struct Kept(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    before: HashMap<Digest, Variants>,
    now: HashMap<Digest, Variants>,
    /// Of `now`.
    bytes: usize,
}

impl Kept {
    /// Another reading begins.
    pub fn begin(&self) {
        let mut held = self.held();
        held.before = std::mem::take(&mut held.now);
        held.bytes = 0;
    }

    /// The forms of these bytes, by their digest: those of last time, or those that `make` makes.
    pub fn get<E>(&self, of: Digest, make: impl FnOnce() -> Result<Variants, E>) -> Result<Variants, E> {
        let known = {
            let held = self.held();
            held.now.get(&of).or_else(|| held.before.get(&of)).cloned()
        };
        let variants = match known {
            Some(variants) => variants,
            None => make()?,
        };
        let bytes: usize = variants.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut held = self.held();
        if !held.now.contains_key(&of) && held.bytes + bytes <= BYTES_MAX {
            held.bytes += bytes;
            held.now.insert(of, variants.clone());
        }
        Ok(variants)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(|held| held.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use super::*;

    #[test]
    fn what_is_there_still_is_not_made_again_and_what_is_not_is_forgotten() {
        let (kept, made) = (Kept::default(), Cell::new(0));
        let get = |name: &str| {
            let make = || {
                made.set(made.get() + 1);
                Ok::<_, Infallible>(vec![(Coding::Br, Arc::new(name.as_bytes().to_vec()))])
            };
            kept.get(Digest::of(name.as_bytes()), make).unwrap()
        };
        let rounds = [(vec!["a", "b", "a"], 2), (vec!["a", "b"], 2), (vec!["a", "c"], 3), (vec!["b"], 4)];
        for (names, all) in rounds {
            kept.begin();
            for name in names {
                assert_eq!(get(name)[0].1.as_slice(), name.as_bytes());
            }
            assert_eq!(made.get(), all);
        }
        assert_eq!(kept.held().now.len(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let kept = Kept::default();
        let large = || Ok::<_, Infallible>(vec![(Coding::Gzip, Arc::new(vec![0; BYTES_MAX / 4 + 1]))]);
        for n in 0..5_u32 {
            kept.get(Digest::of(&n.to_be_bytes()), large).unwrap();
        }
        let held = kept.held();
        assert!(held.now.len() == 3 && held.bytes <= BYTES_MAX);
    }
}
