//! What the machine counts for us: CPU time and page faults of this thread, allocations of this process.
//!
//! System calls are counted from outside ([`crate::micro::syscalls`]): there is no safe way to do it from within.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    fs::File,
    io::Read as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// CPU nanoseconds of this thread. A system call: read it once a batch, not once a cycle.
pub fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Page faults of this thread since it began that needed no disk.
pub fn thread_minor_faults() -> anyhow::Result<u64> {
    // On the stack: what reads the counter must not move it.
    let mut text = [0; 1024];
    let length = File::open("/proc/thread-self/stat")
        .and_then(|mut file| file.read(&mut text))
        .context("reading the page faults of this thread from /proc/thread-self/stat")?;
    minor_faults(&String::from_utf8_lossy(&text[..length]))
        .context("finding the page faults in /proc/thread-self/stat")
}

/// Of a line of `/proc/PID/stat`: the tenth field. The second is a name in parentheses that may hold anything.
pub fn minor_faults(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(7)?.parse().ok()
}

/// Allocations and the bytes asked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Allocations {
    pub count: f64,
    pub bytes: f64,
}

/// Counts the allocations of `work`, of every thread but those left out, and says how many there were for each of its `cycles`.
pub fn allocations<T>(cycles: u64, work: impl FnOnce() -> T) -> (T, Allocations) {
    let read = || (ALLOCATED.load(Relaxed), ALLOCATED_BYTES.load(Relaxed));
    let before = read();
    COUNTING.fetch_add(1, Relaxed);
    let result = work();
    COUNTING.fetch_sub(1, Relaxed);
    let after = read();
    let per_cycle = |before: u64, after: u64| (after - before) as f64 / cycles.max(1) as f64;
    (result, Allocations { count: per_cycle(before.0, after.0), bytes: per_cycle(before.1, after.1) })
}

/// Bytes that `work` allocated and did not give back, of every thread.
pub fn kept<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let read = || ALLOCATED_BYTES.load(Relaxed) as f64 - FREED_BYTES.load(Relaxed) as f64;
    let before = read();
    let (result, _) = allocations(1, work);
    (result, read() - before)
}

/// How many are counting now: tests run beside each other.
static COUNTING: AtomicU64 = AtomicU64::new(0);
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);
static FREED_BYTES: AtomicU64 = AtomicU64::new(0);

/// A node's allocator, counting while it is told to. Otherwise it costs one load and a branch.
struct CountingAllocator;

/// What is measured is what a node runs on.
static NODES: edge_node::Allocator = edge_node::Allocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    /// Without a destructor, so that an allocation may look at it whenever it comes.
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// What this thread allocates is not counted: it belongs to a client.
pub fn leave_this_thread_out() {
    LEFT_OUT.set(true);
}

fn count(bytes: usize) {
    if COUNTING.load(Relaxed) > 0 && !LEFT_OUT.get() {
        ALLOCATED.fetch_add(1, Relaxed);
        ALLOCATED_BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

fn count_freed(bytes: usize) {
    if COUNTING.load(Relaxed) > 0 {
        FREED_BYTES.fetch_add(bytes as u64, Relaxed);
    }
}

// SAFETY: every call is passed on to a node's allocator with the very arguments it came with, so its contract is
// kept if the caller keeps it; counting only touches atomics and cannot allocate or unwind.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises about `layout` are the ones [`NODES`] asks for.
        unsafe { NODES.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { NODES.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        count_freed(layout.size());
        // SAFETY: as above; `pointer` came from it, because every allocation does.
        unsafe { NODES.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_freed(layout.size());
        // SAFETY: as above.
        unsafe { NODES.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_a_stat_line_may_hold_anything() {
        let line = "7 (a) b) c) S 1 2 3 4 5 6 4321 8 9";
        assert_eq!(minor_faults(line), Some(4321));
        assert_eq!(minor_faults("nonsense"), None);
    }

    #[test]
    fn touching_fresh_pages_faults_and_working_takes_cpu_time() {
        /// In a frame of its own: a large one's pages are touched as it is entered.
        #[inline(never)]
        fn pages() -> u8 {
            std::hint::black_box([1u8; 1 << 20])[4096]
        }
        // On a stack of its own, too large to be another thread's kept one: what the allocator gives may have been touched.
        let touch = || {
            let (faults, cpu) = (thread_minor_faults().unwrap(), thread_cpu_ns());
            assert_eq!(pages(), 1);
            (thread_minor_faults().unwrap() - faults, thread_cpu_ns() - cpu)
        };
        let thread = std::thread::Builder::new().stack_size(128 << 20).spawn(touch).unwrap();
        let (faults, cpu) = thread.join().unwrap();
        assert!(faults > 0 && cpu > 0, "{faults} {cpu}");
    }

    #[test]
    fn allocations_are_counted_for_each_cycle() {
        // Other tests allocate meanwhile: a lower bound is what can be said.
        let (_, counted) = allocations(10, || {
            for _ in 0..10 {
                std::hint::black_box(Box::new([0u8; 4096]));
            }
        });
        assert!(counted.count >= 1.0 && counted.bytes >= 4096.0, "{counted:?}");
    }

    #[test]
    fn what_is_given_back_is_not_kept() {
        const BYTES: usize = 64 << 20;
        let once = || {
            let (held, kept_bytes) = kept(|| {
                drop(std::hint::black_box(vec![1u8; 4 * BYTES]));
                vec![1u8; BYTES]
            });
            let (most, least) = (1.5 * held.len() as f64, 0.5 * held.len() as f64);
            (least..most).contains(&kept_bytes)
        };
        // Other tests move as much now and then, but not each time.
        assert!((0..20).any(|_| once()));
    }
}
