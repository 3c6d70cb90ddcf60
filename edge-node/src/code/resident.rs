//! What is held in memory, and what leaves first.
//!
//! Places lie in a heap by when they were used as far as it knows, which is never later than they really were. So the
//! first one either is the least recently used of all, or goes back with its true time: exact, without a lock on the way
//! of requests and without looking at every place.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::{CodeError, file::CodeFile, loaded::Loaded, slot::Place};

/// A page of memory.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Entries of places that are gone are swept when they may be as many as the others, and these.
const SWEEP_MIN: usize = 1024;

/// How much may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory.
    pub bytes_max: u64,
    /// Programs: each takes descriptors and mappings, which a process has only so many of
    /// ([`crate::machine::programs_max`]).
    pub programs_max: u64,
    /// Shares of a worker's pool that one app may have: a program that takes more is refused, since no request could run it.
    pub shares_max: usize,
}

impl Bounds {
    /// None at all.
    pub const NONE: Bounds = Bounds { bytes_max: u64::MAX, programs_max: u64::MAX, shares_max: usize::MAX };
}

/// Memory that a program of this much native code takes beside its memory file: what wasmtime keeps of it, for each engine.
pub(super) fn structures_bytes(native_bytes: u64) -> u64 {
    STRUCTURES_BYTES + native_bytes / STRUCTURES_PART
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

/// What is in memory, in use or not, and what of it is on its way out.
#[derive(Default)]
pub(super) struct Held {
    all: Amounts,
    leaving: Amounts,
}

#[derive(Default)]
struct Amounts {
    bytes: AtomicU64,
    programs: AtomicU64,
    files: AtomicU64,
}

/// A program's or a file's part of what is held; given back when dropped.
pub(super) struct Counted {
    held: Arc<Held>,
    is_leaving: AtomicBool,
    bytes: u64,
    programs: u64,
    files: u64,
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

/// A place, and when it was used as far as is known here.
struct Entry {
    used_ns: u64,
    number: u64,
    place: Weak<Place>,
}

impl Resident {
    pub fn new(bounds: Bounds) -> Resident {
        Resident { bounds, held: Arc::default(), slots: Mutex::default() }
    }

    /// Puts a program into its `place` and counts it, and empties others until the bounds hold; one file alone may be over
    /// them. Refused when all that is held is in use; nobody loses a program to one that is refused.
    pub fn admit(&self, place: &Arc<Place>, loaded: Loaded) -> Result<Arc<Loaded>, CodeError> {
        let mut slots = self.slots.lock();
        loaded.count(&self.held);
        while self.is_over() && !self.is_alone() {
            let chosen = self.choose(&mut slots, loaded.file());
            if !chosen.suffices {
                slots.by_use.extend(chosen.entries.into_iter().map(|(_, entry)| Reverse(entry)));
                drop(slots);
                return Err(CodeError::NoRoom); // drops `loaded`, no longer under the lock
            }
            slots.take_out(chosen.entries);
        }
        let number = slots.loads;
        slots.loads += 1;
        let entry = Entry { used_ns: place.last_used_ns(), number, place: Arc::downgrade(place) };
        slots.by_use.push(Reverse(entry));
        self.sweep(&mut slots);
        let loaded = Arc::new(loaded);
        // Here, and not by the caller: an entry whose place is empty is taken for one that was emptied before.
        place.fill(loaded.clone());
        Ok(loaded)
    }

    /// The least recently used programs that are not in use and together make the rest fit; or all of them, where they do not.
    /// Programs of `file` are not among them: most of what they take would stay with it.
    fn choose(&self, slots: &mut Slots, file: &Arc<CodeFile>) -> Chosen {
        let (mut kept, mut chosen) = (Vec::new(), Chosen::default());
        let mut room = Room::default();
        while !self.fits(&room) {
            let Some(Reverse(mut entry)) = slots.by_use.pop() else { break };
            let Some(place) = entry.place.upgrade() else { continue };
            let used_ns = place.last_used_ns();
            if used_ns > entry.used_ns {
                entry.used_ns = used_ns;
                slots.by_use.push(Reverse(entry));
                continue;
            }
            let Some(loaded) = place.look() else { continue }; // emptied before
            // Two: the place's, and this one.
            if Arc::ptr_eq(loaded.file(), file) || Arc::strong_count(&loaded) > 2 {
                kept.push(Reverse(entry));
                continue;
            }
            room.add(&loaded);
            chosen.entries.push((place, entry));
        }
        slots.by_use.extend(kept);
        chosen.suffices = self.fits(&room);
        chosen
    }

    /// With this room made: does what stays fit, or is it all of one file?
    fn fits(&self, room: &Room) -> bool {
        let Bounds { bytes_max, programs_max, .. } = self.bounds;
        let stays = |of: fn(&Amounts) -> &AtomicU64, room: u64| self.held.staying(of).saturating_sub(room);
        let is_alone = stays(|amounts| &amounts.files, room.files) <= 1;
        let fits = stays(|amounts| &amounts.bytes, room.bytes) <= bytes_max
            && stays(|amounts| &amounts.programs, room.programs) <= programs_max;
        is_alone || fits
    }

    /// Is what stays more than may be held?
    fn is_over(&self) -> bool {
        let staying = |of: fn(&Amounts) -> &AtomicU64| self.held.staying(of);
        staying(|amounts| &amounts.bytes) > self.bounds.bytes_max
            || staying(|amounts| &amounts.programs) > self.bounds.programs_max
    }

    /// Is all that stays of one file?
    fn is_alone(&self) -> bool {
        self.held.staying(|amounts| &amounts.files) <= 1
    }

    /// Forgets places that went away with their versions, once they may be half of all.
    fn sweep(&self, slots: &mut Slots) {
        if slots.by_use.len() as u64 > 2 * self.programs() + SWEEP_MIN as u64 {
            slots.by_use.retain(|Reverse(entry)| entry.place.strong_count() > 0);
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
        self.held.all.bytes.load(Relaxed)
    }

    /// Memory files.
    #[cfg(test)]
    pub fn files(&self) -> u64 {
        self.held.all.files.load(Relaxed)
    }

    pub fn programs(&self) -> u64 {
        self.held.all.programs.load(Relaxed)
    }
}

/// What is to leave.
#[derive(Default)]
struct Chosen {
    entries: Vec<(Arc<Place>, Entry)>,
    suffices: bool,
}

/// What would be free without some programs.
#[derive(Default)]
struct Room {
    bytes: u64,
    programs: u64,
    files: u64,
    /// Of each file, by its address: programs among them.
    of_files: HashMap<usize, usize>,
}

impl Room {
    fn add(&mut self, loaded: &Loaded) {
        let file = loaded.file();
        self.programs += 1;
        self.bytes += loaded.structures_bytes();
        let of_file = self.of_files.entry(Arc::as_ptr(file).addr()).or_default();
        *of_file += 1;
        if *of_file == file.staying() {
            self.bytes += file.bytes();
            self.files += 1;
        }
    }
}

impl Slots {
    /// Empties these places. One whose program is in use by now keeps it.
    fn take_out(&mut self, entries: Vec<(Arc<Place>, Entry)>) {
        for (place, entry) in entries {
            match place.empty() {
                Some(loaded) => {
                    loaded.leaves();
                    self.evicted += 1;
                    self.leaving.push(loaded);
                }
                None => self.by_use.push(Reverse(entry)),
            }
        }
    }
}

impl Held {
    fn staying(&self, of: impl Fn(&Amounts) -> &AtomicU64) -> u64 {
        of(&self.all).load(Relaxed).saturating_sub(of(&self.leaving).load(Relaxed))
    }
}

impl Amounts {
    fn add(&self, counted: &Counted) {
        self.bytes.fetch_add(counted.bytes, Relaxed);
        self.programs.fetch_add(counted.programs, Relaxed);
        self.files.fetch_add(counted.files, Relaxed);
    }

    fn subtract(&self, counted: &Counted) {
        self.bytes.fetch_sub(counted.bytes, Relaxed);
        self.programs.fetch_sub(counted.programs, Relaxed);
        self.files.fetch_sub(counted.files, Relaxed);
    }
}

impl Counted {
    /// A memory file of this many bytes.
    pub fn file(held: &Arc<Held>, bytes: u64) -> Counted {
        Counted::new(held, bytes, 0, 1)
    }

    /// A program, and this much memory beside its file.
    pub fn program(held: &Arc<Held>, bytes: u64) -> Counted {
        Counted::new(held, bytes, 1, 0)
    }

    fn new(held: &Arc<Held>, bytes: u64, programs: u64, files: u64) -> Counted {
        let counted =
            Counted { held: held.clone(), is_leaving: AtomicBool::new(false), bytes, programs, files };
        held.all.add(&counted);
        counted
    }

    /// It is on its way out. False: it was already.
    pub fn leaves(&self) -> bool {
        let left = !self.is_leaving.swap(true, Relaxed);
        if left {
            self.held.leaving.add(self);
        }
        left
    }

    /// It stays after all. False: it did anyway.
    pub fn stays(&self) -> bool {
        let stayed = self.is_leaving.swap(false, Relaxed);
        if stayed {
            self.held.leaving.subtract(self);
        }
        stayed
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // In this order: for a moment it counts as staying, never as room that is not there.
        self.stays();
        self.held.all.subtract(self);
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
