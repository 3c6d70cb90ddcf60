//! What is held in memory, and what leaves first.
//!
//! Slots lie in a heap by when they were used as far as it knows, which is never later than they really were. So the
//! first one either is the least recently used of all, or goes back with its true time: exact, without a lock on the way
//! of requests and without looking at every slot.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{
    CodeError,
    slot::{CodeSlot, Loaded},
};

/// A page of memory.
const PAGE_BYTES: u64 = 4096;
/// Entries of slots that are gone are swept when they may be as many as the others, and these.
const SWEEP_MIN: usize = 1024;

/// How much may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory.
    pub bytes_max: u64,
    /// Programs: each takes descriptors and mappings, which a process has only so many of
    /// ([`crate::machine::programs_max`]).
    pub programs_max: u64,
}

/// Memory that a loaded program of this much native code takes: its memory file in whole pages, and what wasmtime keeps
/// of it beside.
pub(super) fn footprint(native_bytes: u64) -> u64 {
    native_bytes.next_multiple_of(PAGE_BYTES) + STRUCTURES_BYTES + native_bytes / STRUCTURES_PART
}

/// wasmtime's own structures of a program: a fixed part and one that grows with it. Measured (`loadtest density`): 53 KB of
/// 223 KB of native code, 91 of 796, 45 of 1,083; and some for what the allocator and the kernel add.
const STRUCTURES_BYTES: u64 = 96 << 10;
const STRUCTURES_PART: u64 = 32;

/// See the module.
pub(super) struct Resident {
    bounds: Bounds,
    held: Arc<Held>,
    slots: Mutex<Slots>,
}

/// What is in memory, in use or not, evicted or not.
#[derive(Default)]
struct Held {
    bytes: AtomicU64,
    programs: AtomicU64,
}

/// A program's part of the count; given back when dropped.
pub(super) struct Counted {
    held: Arc<Held>,
    bytes: u64,
}

#[derive(Default)]
struct Slots {
    by_use: BinaryHeap<Reverse<Entry>>,
    /// Loads so far: tells entries of one moment apart.
    loads: u64,
    /// On their way out: unmapped by [`Resident::let_go`], and not while slots are locked.
    leaving: Vec<Arc<Loaded>>,
    evicted: u64,
}

/// A slot, and when it was used as far as is known here.
struct Entry {
    used_ns: u64,
    number: u64,
    slot: Weak<CodeSlot>,
}

impl Resident {
    pub fn new(bounds: Bounds) -> Resident {
        Resident { bounds, held: Arc::default(), slots: Mutex::default() }
    }

    /// Puts a program into its `slot` and counts it, and empties others until the bounds hold; one alone may be over them.
    /// Refused when all that is held is in use.
    pub fn admit(&self, slot: &Arc<CodeSlot>, mut loaded: Loaded) -> Result<Arc<Loaded>, CodeError> {
        let mut slots = self.slots.lock();
        loaded.counted = Some(Counted::new(&self.held, loaded.bytes));
        let (is_over, evicted) = self.evict(&mut slots);
        let is_alone = self.programs() <= (slots.leaving.len() + evicted.len()) as u64 + 1;
        if is_over && !is_alone {
            // Nobody loses a program to one that is refused.
            slots.by_use.extend(evicted.into_iter().map(Evicted::restored));
            drop(slots);
            return Err(CodeError::NoRoom);
        }
        slots.evicted += evicted.len() as u64;
        slots.leaving.extend(evicted.into_iter().map(|evicted| evicted.loaded));
        let number = slots.loads;
        slots.loads += 1;
        let entry = Entry { used_ns: slot.last_used_ns(), number, slot: Arc::downgrade(slot) };
        slots.by_use.push(Reverse(entry));
        self.sweep(&mut slots);
        let loaded = Arc::new(loaded);
        // Here, and not by the caller: an entry whose slot is empty is taken for one that was emptied before.
        slot.fill(loaded.clone());
        Ok(loaded)
    }

    /// Takes programs out of their slots until the rest fits. True: it does not, and nothing more can leave.
    fn evict(&self, slots: &mut Slots) -> (bool, Vec<Evicted>) {
        let (mut in_use, mut evicted) = (Vec::new(), Vec::new());
        let (mut bytes, mut programs) = (self.bytes(), self.programs());
        for leaving in &slots.leaving {
            (bytes, programs) = (bytes.saturating_sub(leaving.bytes), programs.saturating_sub(1));
        }
        let is_over = |bytes, programs| bytes > self.bounds.bytes_max || programs > self.bounds.programs_max;
        while is_over(bytes, programs) {
            let Some(Reverse(mut entry)) = slots.by_use.pop() else { break };
            let Some(slot) = entry.slot.upgrade() else { continue };
            let used_ns = slot.last_used_ns();
            if used_ns > entry.used_ns {
                entry.used_ns = used_ns;
                slots.by_use.push(Reverse(entry));
                continue;
            }
            match slot.empty() {
                Some(loaded) => {
                    (bytes, programs) = (bytes.saturating_sub(loaded.bytes), programs.saturating_sub(1));
                    evicted.push(Evicted { slot, loaded, entry });
                }
                None if slot.is_loaded() => in_use.push(Reverse(entry)),
                None => {} // emptied before
            }
        }
        slots.by_use.extend(in_use);
        (is_over(bytes, programs), evicted)
    }

    /// Forgets slots that went away with their versions, once they may be half of all.
    fn sweep(&self, slots: &mut Slots) {
        if slots.by_use.len() as u64 > 2 * self.programs() + SWEEP_MIN as u64 {
            slots.by_use.retain(|Reverse(entry)| entry.slot.strong_count() > 0);
        }
    }

    /// Unmaps what left. How many programs were evicted since the last call.
    pub fn let_go(&self) -> u64 {
        let mut slots = self.slots.lock();
        let (leaving, evicted) = (std::mem::take(&mut slots.leaving), std::mem::take(&mut slots.evicted));
        drop(slots);
        drop(leaving);
        evicted
    }

    pub fn bytes(&self) -> u64 {
        self.held.bytes.load(Relaxed)
    }

    pub fn programs(&self) -> u64 {
        self.held.programs.load(Relaxed)
    }
}

/// A program that was taken out of its slot, and may be put back.
struct Evicted {
    slot: Arc<CodeSlot>,
    loaded: Arc<Loaded>,
    entry: Entry,
}

impl Evicted {
    /// Puts it back. A load that began meanwhile replaces it.
    fn restored(self) -> Reverse<Entry> {
        self.slot.fill(self.loaded);
        Reverse(self.entry)
    }
}

impl Counted {
    fn new(held: &Arc<Held>, bytes: u64) -> Counted {
        held.bytes.fetch_add(bytes, Relaxed);
        held.programs.fetch_add(1, Relaxed);
        Counted { held: held.clone(), bytes }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Relaxed);
        self.held.programs.fetch_sub(1, Relaxed);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.used_ns, self.number)
    }
}
