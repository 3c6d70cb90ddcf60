//! What a job answers of functions, and the next pack made of it.
//!
//! Layout of an answer, numbers little-endian: bits of the functions of its pack that were used, in whole bytes · the others, each key, length
//! u32, value. The service does not believe it: it bounds it, and the pack made of it is only ever given to jobs that are asked for under
//! the same name.

use std::{collections::BTreeMap, io};

use bytes::{Buf as _, Bytes};

use super::{
    PackName,
    pack::{ENTRIES_MAX, Entry, Key, PACK_BYTES_MAX, Pack},
};

/// Most that a job answers of functions, in bytes: as much as a pack holds.
pub const LEARNED_BYTES_MAX: usize = PACK_BYTES_MAX;
/// For how many compiles a function is kept that none of them used: an app's branches are deployed in turns.
const UNUSED_COMPILES_MAX: u32 = 8;

/// What one compile learned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Of the pack it had, what it used.
    pub used: Vec<bool>,
    /// What it compiled. No key twice, if it is an honest job's.
    pub fresh: Vec<(Key, Bytes)>,
}

impl Learned {
    /// What one function takes in an answer.
    pub(super) fn bytes_of(value: &[u8]) -> usize {
        32 + 4 + value.len()
    }

    /// Writes the answer.
    pub fn write(&self, out: &mut impl io::Write) -> io::Result<()> {
        let bits = |used: &[bool]| used.iter().rev().fold(0, |byte, used| byte << 1 | u8::from(*used));
        out.write_all(&self.used.chunks(8).map(bits).collect::<Vec<u8>>())?;
        for (key, value) in &self.fresh {
            out.write_all(key)?;
            out.write_all(&(value.len() as u32).to_le_bytes())?;
            out.write_all(value)?;
        }
        Ok(())
    }

    /// Reads the answer of a job that had a pack of so many functions. `None` if it is not in that form.
    pub fn read(mut bytes: Bytes, pack_len: usize) -> Option<Learned> {
        let bits = pack_len.div_ceil(8);
        if bytes.len() < bits || bytes.len() - bits > LEARNED_BYTES_MAX {
            return None;
        }
        let bits = bytes.split_to(bits);
        let used = (0..pack_len).map(|index| bits[index / 8] >> (index % 8) & 1 == 1).collect();
        let mut fresh = Vec::new();
        while bytes.has_remaining() {
            let mut key = [0; 32];
            bytes.try_copy_to_slice(&mut key).ok()?;
            let length = bytes.try_get_u32_le().ok()? as usize;
            if length > bytes.len() || fresh.len() == ENTRIES_MAX {
                return None;
            }
            fresh.push((key, bytes.split_to(length)));
        }
        Some(Learned { used, fresh })
    }

    /// The pack that follows: what was used and compiled, and of the rest the latest, but no more bytes than those. `None` where nothing
    /// was compiled: the old one will do.
    pub fn next_pack(self, name: &PackName, old: Option<&Pack>, now_s: u64) -> Option<Vec<u8>> {
        if self.fresh.is_empty() {
            return None;
        }
        let mut next = Next::default();
        for (key, value) in self.fresh {
            next.add(Entry::new(key, value), PACK_BYTES_MAX);
        }
        let old_entries = old.map(|old| (0..old.len()).map(|index| old.entry(index))).into_iter().flatten();
        let (used, mut unused): (Vec<_>, Vec<_>) = old_entries.zip(&self.used).partition(|(_, used)| **used);
        for (entry, _) in used {
            next.add(Entry { age: 0, ..entry }, PACK_BYTES_MAX);
        }
        unused.retain(|(entry, _)| entry.age < UNUSED_COMPILES_MAX);
        unused.sort_by_key(|(entry, _)| entry.age);
        let bytes_max = (2 * next.bytes).min(PACK_BYTES_MAX);
        for (entry, _) in unused {
            next.add(Entry { age: entry.age + 1, ..entry }, bytes_max);
        }
        let entries: Vec<Entry> = next.entries.into_values().collect();
        Some(Pack::encode(name, old.map_or(now_s, Pack::begun_s), &entries))
    }
}

/// A pack that is made.
#[derive(Default)]
struct Next {
    entries: BTreeMap<Key, Entry>,
    bytes: usize,
}

impl Next {
    /// Adds what is not there already, if it fits.
    fn add(&mut self, entry: Entry, bytes_max: usize) {
        let bytes = self.bytes + entry.bytes();
        let fits = bytes <= bytes_max && self.entries.len() < ENTRIES_MAX;
        if fits && !self.entries.contains_key(&entry.key) {
            self.bytes = bytes;
            self.entries.insert(entry.key, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::pack::tests::name;

    fn fresh(first: u8, value: &'static [u8]) -> (Key, Bytes) {
        ([first; 32], Bytes::from_static(value))
    }

    fn read(bytes: Vec<u8>) -> Pack {
        Pack::read(bytes.into(), &name("shop")).unwrap()
    }

    fn ages(pack: &Pack) -> Vec<(u8, u32)> {
        (0..pack.len()).map(|index| pack.entry(index)).map(|entry| (entry.key[0], entry.age)).collect()
    }

    #[test]
    fn an_answer_reads_back_and_any_other_bytes_do_no_harm() {
        let learned = Learned {
            used: [true, false, true, true, false, false, false, false, false, true].to_vec(),
            fresh: vec![fresh(1, b"one"), fresh(2, b"")],
        };
        let mut bytes = Vec::new();
        learned.write(&mut bytes).unwrap();
        assert_eq!(Learned::read(bytes.clone().into(), 10), Some(learned));
        for cut in 0..bytes.len() {
            let _ = Learned::read(bytes[..cut].to_vec().into(), 10);
        }
        assert_eq!(Learned::read(bytes[..bytes.len() - 1].to_vec().into(), 10), None);
        bytes[2 + 32..2 + 36].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Learned::read(bytes.into(), 10), None);
        assert_eq!(Learned::read(Bytes::from(vec![0; LEARNED_BYTES_MAX + 1]), 0), None);
        assert_eq!(Learned::read(Bytes::new(), 0), Some(Learned::default()));
    }

    #[test]
    fn the_next_pack_has_what_was_compiled_and_used_and_some_of_the_rest() {
        let first = Learned { used: vec![], fresh: vec![fresh(3, b"3"), fresh(1, b"one"), fresh(2, b"two")] };
        let first = read(first.next_pack(&name("shop"), None, 50).unwrap());
        assert_eq!(ages(&first), [(1, 0), (2, 0), (3, 0)]);
        let second = Learned { used: vec![true, false, false], fresh: vec![fresh(0, b"zero")] };
        let second = read(second.next_pack(&name("shop"), Some(&first), 60).unwrap());
        // Half of it may be unused: of two that are, both.
        assert_eq!(ages(&second), [(0, 0), (1, 0), (2, 1), (3, 1)]);
        assert_eq!(second.begun_s(), 50, "so that its age is that of the oldest function in it");
        let third = Learned { used: vec![false, false, true, false], fresh: vec![] };
        assert_eq!(third.next_pack(&name("shop"), Some(&second), 70), None, "nothing new");
        let third = Learned { used: vec![false; 4], fresh: vec![fresh(9, b"nine"), fresh(9, b"again")] };
        let third = read(third.next_pack(&name("shop"), Some(&second), 70).unwrap());
        assert_eq!(ages(&third), [(0, 1), (9, 0)], "no more unused than used, the latest first");
        assert_eq!(third.value(1), Some(b"nine".as_slice()));
    }

    #[test]
    fn what_nobody_uses_goes() {
        let mut pack = {
            let learned = Learned { used: vec![], fresh: vec![fresh(1, b"old")] };
            read(learned.next_pack(&name("shop"), None, 0).unwrap())
        };
        let mut compiles = 0;
        while pack.find(&[1; 32]).is_some() {
            compiles += 1;
            assert!(compiles < 20, "it stays");
            let used = vec![false; pack.len()];
            let fresh = vec![
                fresh(2, b"a function that is compiled each time"),
                fresh(3, b"another, as if none were found"),
            ];
            pack = read(Learned { used, fresh }.next_pack(&name("shop"), Some(&pack), 0).unwrap());
        }
        assert_eq!(compiles, UNUSED_COMPILES_MAX + 1);
    }
}
