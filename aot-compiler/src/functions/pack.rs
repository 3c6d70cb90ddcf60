//! The file: functions by the code generator's key, each with its digest.
//!
//! Layout, numbers little-endian: magic · time it was begun, u64 seconds · entries, u32 · digest of all that and of the name and the index ·
//! index · values. An entry of the index is key, digest, length u32 and age u32; keys ascend, values have the order of keys.
//!
//! The digests are made by the service, of what a job answered. They find what a disk did; they do not make a value right.

use std::ops::Range;

use artifact::Digest;
use bytes::Bytes;

use super::PackName;

/// Largest pack, in bytes: a JS engine of 13 MB takes 42 MB, and as much again that was not used lately is kept.
pub const PACK_BYTES_MAX: usize = 128 << 20;
/// Most functions in a pack: twice as many as intake lets one program have, since lanes' adapters and stubs count too.
pub const ENTRIES_MAX: usize = 200_000;

/// Names a function: the code generator's digest of what it would compile and with which settings.
pub type Key = [u8; 32];

const MAGIC: [u8; 8] = *b"SKERRYF1";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 4 + 32;
const ENTRY_BYTES: usize = 32 + 32 + 4 + 4;

/// A pack whose index is whole. Its values are checked one by one when they are asked for.
#[derive(Debug, Clone)]
pub struct Pack {
    bytes: Bytes,
    begun_s: u64,
    /// Where each value is, in the order of the index.
    values: Vec<Range<usize>>,
}

/// One function for a pack that is made.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: Key,
    pub digest: [u8; 32],
    /// Compiles since it was used.
    pub age: u32,
    pub value: Bytes,
}

impl Entry {
    /// A function that was just compiled.
    pub fn new(key: Key, value: Bytes) -> Entry {
        Entry { key, digest: *Digest::of(&value).as_bytes(), age: 0, value }
    }

    /// Its part of a pack.
    pub fn bytes(&self) -> usize {
        ENTRY_BYTES + self.value.len()
    }
}

impl Pack {
    /// Reads a pack of this name. `None` for anything that was not made as one.
    pub fn read(bytes: Bytes, name: &PackName) -> Option<Pack> {
        let pack = Pack::parse(bytes)?;
        (pack.stated_digest() == pack.digest(name).as_bytes()).then_some(pack)
    }

    /// The same without a look at its name, for a job, which is not told it: the service looked.
    pub(crate) fn parse(bytes: Bytes) -> Option<Pack> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (begun, rest) = rest.split_first_chunk::<8>()?;
        let (count, _) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        let mut at = HEAD_BYTES.checked_add(count.checked_mul(ENTRY_BYTES)?)?;
        if count > ENTRIES_MAX || at > bytes.len() {
            return None;
        }
        let begun_s = u64::from_le_bytes(*begun);
        let mut pack = Pack { bytes, begun_s, values: Vec::with_capacity(count) };
        for index in 0..count {
            let end = at.checked_add(pack.length(index))?;
            pack.values.push(at..end);
            at = end;
        }
        let ascends = (1..count).all(|index| pack.key(index - 1) < pack.key(index));
        (at == pack.bytes.len() && ascends).then_some(pack)
    }

    /// Makes the file. Entries in the order of their keys, no key twice.
    pub(super) fn encode(name: &PackName, begun_s: u64, entries: &[Entry]) -> Vec<u8> {
        let values: usize = entries.iter().map(|entry| entry.value.len()).sum();
        let mut bytes = Vec::with_capacity(HEAD_BYTES + entries.len() * ENTRY_BYTES + values);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&begun_s.to_le_bytes());
        bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        for entry in entries {
            bytes.extend_from_slice(&entry.key);
            bytes.extend_from_slice(&entry.digest);
            bytes.extend_from_slice(&(entry.value.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&entry.age.to_le_bytes());
        }
        let digest = digest(name, &bytes);
        bytes[HEAD_BYTES - 32..HEAD_BYTES].copy_from_slice(digest.as_bytes());
        entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.value));
        bytes
    }

    /// When it was begun, in seconds since 1970. Packs that follow from it keep the time.
    pub fn begun_s(&self) -> u64 {
        self.begun_s
    }

    /// All of it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Functions in it.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Where a key stands, if it does.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// A value, if its bytes are those that were put in.
    pub(super) fn value(&self, index: usize) -> Option<&[u8]> {
        let value = &self.bytes[self.values[index].clone()];
        (Digest::of(value).as_bytes() == self.part(index, 32..64)).then_some(value)
    }

    /// An entry as it stands, its value unchecked: its digest goes with it.
    pub(super) fn entry(&self, index: usize) -> Entry {
        let array = |part: Range<usize>| self.part(index, part).try_into().expect("32 bytes of an entry");
        Entry {
            key: array(0..32),
            digest: array(32..64),
            age: self.number(index, 68),
            value: self.bytes.slice(self.values[index].clone()),
        }
    }

    fn key(&self, index: usize) -> &[u8] {
        self.part(index, 0..32)
    }

    fn length(&self, index: usize) -> usize {
        self.number(index, 64) as usize
    }

    fn number(&self, index: usize, at: usize) -> u32 {
        u32::from_le_bytes(self.part(index, at..at + 4).try_into().expect("four bytes of an entry"))
    }

    fn part(&self, index: usize, part: Range<usize>) -> &[u8] {
        &self.bytes[HEAD_BYTES + index * ENTRY_BYTES..][part]
    }

    fn stated_digest(&self) -> &[u8] {
        &self.bytes[HEAD_BYTES - 32..HEAD_BYTES]
    }

    fn digest(&self, name: &PackName) -> Digest {
        digest(name, &self.bytes[..HEAD_BYTES + self.len() * ENTRY_BYTES])
    }
}

/// Of head and index, without the place where it stands itself.
fn digest(name: &PackName, head_and_index: &[u8]) -> Digest {
    let (head, rest) = head_and_index.split_at(HEAD_BYTES - 32);
    Digest::of_parts(&[name.name.as_bytes(), head, &rest[32..]])
}

#[cfg(test)]
pub(super) mod tests {
    use artifact::{Fingerprint, Target};

    use super::*;

    pub fn name(label: &str) -> PackName {
        PackName::new("acme", label, Target::X86_64V3, Fingerprint(Digest::of(b"engine")))
    }

    pub fn entry(first: u8, value: &'static [u8]) -> Entry {
        Entry::new([first; 32], Bytes::from_static(value))
    }

    fn bytes() -> Vec<u8> {
        Pack::encode(&name("shop"), 7, &[entry(1, b"one"), entry(2, b""), entry(9, b"nine")])
    }

    #[test]
    fn what_was_put_in_is_found_and_nothing_else() {
        let pack = Pack::read(bytes().into(), &name("shop")).unwrap();
        assert_eq!((pack.len(), pack.begun_s()), (3, 7));
        let value = |first: u8| pack.find(&[first; 32]).and_then(|at| pack.value(at));
        assert_eq!([1, 2, 9].map(value), [Some(b"one".as_slice()), Some(b""), Some(b"nine")]);
        assert_eq!([0, 3, 10].map(value), [None; 3]);
        assert_eq!(pack.find(b"one"), None, "a key of another length");
    }

    #[test]
    fn a_pack_of_another_name_is_none() {
        assert!(Pack::read(bytes().into(), &name("blog")).is_none());
        let of = |tenant, label| PackName::new(tenant, label, Target::X86_64V3, Fingerprint(Digest::ZERO));
        assert_ne!(of("a", "b 1 c"), of("a 5 b", "1 c"), "labels are not to be moved into each other");
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }

    #[test]
    fn a_flip_of_any_bit_loses_the_pack_or_one_value_and_never_changes_one() {
        let whole = bytes();
        let before = Pack::read(whole.clone().into(), &name("shop")).unwrap();
        let values = before.values.clone();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let Some(pack) = Pack::read(flipped.into(), &name("shop")) else {
                assert!(bit / 8 < values[0].start, "a value is no reason to lose the others");
                continue;
            };
            for (index, place) in values.iter().enumerate() {
                let is_hit = place.contains(&(bit / 8));
                assert_eq!(pack.value(index), if is_hit { None } else { before.value(index) });
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let whole = bytes();
        for cut in 0..whole.len() {
            assert!(Pack::parse(whole[..cut].to_vec().into()).is_none());
        }
        let mut many = whole.clone();
        many[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Pack::parse(many.into()).is_none());
        let twice = Pack::encode(&name("shop"), 7, &[entry(1, b"a"), entry(1, b"b")]);
        assert!(Pack::read(twice.into(), &name("shop")).is_none());
    }
}
