//! The node's memory for guests: one budget over all executions, so that they are refused before the kernel kills.
//!
//! A slot of the pool keeps some memory whether it is used or not; that is set aside at start, for every slot. An
//! execution is counted only for what its memories and tables have beyond it, when it is instantiated and when it
//! grows, so most executions never come here. The count is what a guest may touch, not what it has touched.
//!
//! Free bytes lie in the middle and, as spare ones, at the threads: threads seldom meet. What is spare anywhere is
//! gathered before anybody is refused.

use std::{
    cell::Cell,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use engine::node::{SLOT_BYTES, TABLE_KEEP_RESIDENT_BYTES};

/// Bytes a thread takes from the middle at once, and keeps when it gives back.
const SPARE_BYTES: u64 = 16 << 20;
/// Places for spare bytes. More threads than that share some.
const PLACES: usize = 16;
/// The part of the machine's memory, in eighths, that guests get unless the operator says otherwise: the rest is for native code,
/// which gets one, connections, TLS and the kernel's buffers.
const DEFAULT_EIGHTHS: u64 = 5;
/// The part of the machine's memory that native code gets: 1,000 programs of a megabyte in 8 GiB.
const DEFAULT_CODE_PART: u64 = 8;
/// … and where that is little, no more than this part.
const DEFAULT_CODE_PART_MAX: u64 = 4;
/// A few of the largest programs.
const DEFAULT_CODE_BYTES_MIN: u64 = 128 << 20;
/// The part of the budget that slots may take: the rest is for growth.
const SLOTS_PART: u64 = 2;

/// See the module. Clones count together.
#[derive(Clone)]
pub struct Budget(Arc<Counts>);

struct Counts {
    /// All of it, and what of it is set aside for slots.
    bytes_max: u64,
    slots_bytes: u64,
    free: AtomicU64,
    spare: [Place; PLACES],
}

/// On a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Place(AtomicU64);

/// The budget does not even hold the pool's slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "guest_memory_bytes_max is {bytes_max} bytes, but {instances} instances keep {needed} bytes in their slots; lower instances_max or threads, or raise guest_memory_bytes_max"
)]
pub struct TooSmall {
    bytes_max: u64,
    instances: u32,
    needed: u64,
}

impl Budget {
    /// `bytes_max` for the guests of a pool of `instances`.
    pub fn new(bytes_max: u64, instances: u32) -> Result<Budget, TooSmall> {
        let needed = u64::from(instances) * SLOT_BYTES as u64;
        let free = bytes_max.checked_sub(needed).ok_or(TooSmall { bytes_max, instances, needed })?;
        let (free, spare) = (AtomicU64::new(free), Default::default());
        Ok(Budget(Arc::new(Counts { bytes_max, slots_bytes: needed, free, spare })))
    }

    /// Takes bytes, or none of them.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let Counts { free, spare, .. } = &*self.0;
        let own = &spare[place()].0;
        if subtract(own, bytes) {
            return true;
        }
        if subtract(free, bytes.saturating_add(SPARE_BYTES)) {
            own.fetch_add(SPARE_BYTES, Relaxed);
            return true;
        }
        if subtract(free, bytes) {
            return true;
        }
        for place in spare {
            free.fetch_add(place.0.swap(0, Relaxed), Relaxed);
        }
        subtract(free, bytes)
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        let own = &self.0.spare[place()].0;
        let spare = own.fetch_add(bytes, Relaxed) + bytes;
        if spare > 2 * SPARE_BYTES && subtract(own, spare - SPARE_BYTES) {
            self.0.free.fetch_add(spare - SPARE_BYTES, Relaxed);
        }
    }

    /// All of it, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.0.bytes_max
    }

    /// What slots and executions have, in bytes. A moment's view: threads are not stopped for it.
    pub fn bytes(&self) -> u64 {
        let Counts { bytes_max, free, spare, .. } = &*self.0;
        let spare: u64 = spare.iter().map(|place| place.0.load(Relaxed)).sum();
        bytes_max.saturating_sub(free.load(Relaxed) + spare).max(self.0.slots_bytes)
    }
}

/// Bytes of a memory that its slot does not already hold.
pub fn beyond_slot(memory_bytes: usize) -> u64 {
    memory_bytes.saturating_sub(engine::node::MEMORY_KEEP_RESIDENT_BYTES) as u64
}

/// The same for a table. An element is a pointer.
pub fn table_beyond_slot(elements: usize) -> u64 {
    (elements.saturating_mul(size_of::<usize>())).saturating_sub(TABLE_KEEP_RESIDENT_BYTES) as u64
}

fn subtract(from: &AtomicU64, bytes: u64) -> bool {
    from.fetch_update(Relaxed, Relaxed, |there| there.checked_sub(bytes)).is_ok()
}

/// This thread's place.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % PLACES);
    }
    PLACE.get()
}

/// What guests get where the operator does not say: five eighths of what this process may use.
pub fn default_bytes_max() -> u64 {
    available_bytes() / 8 * DEFAULT_EIGHTHS
}

/// What native code gets where the operator does not say: an eighth of what this process may use, at least 128 MiB.
pub fn default_code_bytes_max() -> u64 {
    let available = available_bytes();
    (available / DEFAULT_CODE_PART).max(DEFAULT_CODE_BYTES_MIN.min(available / DEFAULT_CODE_PART_MAX))
}

/// The instances that fit: slots take at most half of the budget.
pub fn instances_that_fit(bytes_max: u64, instances: u32) -> u32 {
    let fit = bytes_max / SLOTS_PART / SLOT_BYTES as u64;
    instances.min(u32::try_from(fit).unwrap_or(u32::MAX)).max(1)
}

/// The machine's memory, or the least that a cgroup of this process leaves of it.
fn available_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter();
    let limits = limits.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(machine).min().unwrap_or(1 << 30)
}

/// `MemTotal` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Where the limits of a process in these groups stand: its own groups' and all above them, and the root as a container
/// sees it. A file that says `max`, or is not there, is no limit.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            other if other.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{path}/{name}"));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn all_can_be_taken_once_wherever_it_lies() {
        let slots = u64::from(4u32) * SLOT_BYTES as u64;
        let budget = Budget::new(slots + 200 * MIB, 4).unwrap();
        assert_eq!(budget.bytes(), slots);
        assert!(budget.take(100 * MIB));
        budget.give(100 * MIB);
        // Spare bytes of other threads are found too.
        for _ in 0..3 {
            let budget = budget.clone();
            std::thread::spawn(move || {
                assert!(budget.take(MIB));
                budget.give(MIB);
            })
            .join()
            .unwrap();
        }
        assert!(!budget.take(200 * MIB + 1));
        assert!(budget.take(200 * MIB));
        assert_eq!(budget.bytes(), budget.bytes_max());
        assert!(!budget.take(1));
        budget.give(200 * MIB);
        assert_eq!(budget.bytes(), slots);
    }

    #[test]
    fn threads_together_never_take_more_than_there_is() {
        let budget = Budget::new(64 * MIB, 0).unwrap();
        let threads: Vec<_> = (0..4u64)
            .map(|at| {
                let budget = budget.clone();
                std::thread::spawn(move || {
                    let mut held = Vec::new();
                    for round in 0..5_000 {
                        let bytes = (at + round % 7 + 1) * MIB;
                        match budget.take(bytes) {
                            true => held.push(bytes),
                            false => held.drain(..).for_each(|bytes| budget.give(bytes)),
                        }
                        assert!(held.iter().sum::<u64>() <= 64 * MIB);
                    }
                    held.iter().sum::<u64>()
                })
            })
            .collect();
        let held: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(budget.bytes(), held, "nothing is lost or made");
    }

    #[test]
    fn a_budget_below_its_slots_says_what_to_change() {
        let error = Budget::new(MIB, 1_000).err().unwrap().to_string();
        assert!(error.contains("lower instances_max"), "{error}");
        assert_eq!(instances_that_fit(MIB, 1_000), 1);
        assert_eq!(instances_that_fit(1 << 40, 1_000), 1_000);
        assert!(Budget::new(MIB << 10, instances_that_fit(MIB << 10, 1_000)).is_ok());
    }

    #[test]
    fn the_machines_limits_are_found() {
        assert_eq!(total_bytes("MemTotal:       24683728 kB\nMemFree: 1 kB\n"), Some(24_683_728 * 1024));
        assert_eq!(
            limit_files("0::/system.slice/skerry.service\n"),
            [
                "/sys/fs/cgroup/system.slice/skerry.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        let v1 = limit_files("9:cpu,cpuacct:/a\n4:memory:/a\n");
        assert_eq!(v1[0], "/sys/fs/cgroup/memory/a/memory.limit_in_bytes");
        assert!(default_bytes_max() > 64 * MIB);
        assert!(
            default_code_bytes_max() >= DEFAULT_CODE_BYTES_MIN
                && default_code_bytes_max() < default_bytes_max()
        );
    }
}
