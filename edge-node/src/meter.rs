//! The cheap clock CPU is billed by.
//!
//! A slice of guest execution is measured with the monotonic clock, which costs no system call. When the kernel ran
//! something else in the middle of a slice, that would bill a guest for its neighbours; so a slice longer than
//! [`TRUSTED_SLICE_NS`] is checked against the thread's own CPU time, which is also read at most once a millisecond
//! between slices. The error is then at most one such interval.
//!
//! A thread that the kernel is meant to interrupt, as the slow lane's, is exact instead ([`be_exact_here`]): it reads its
//! own CPU time at both ends of a slice, two system calls of about 0.2 µs each.

use std::{cell::Cell, sync::LazyLock, time::Instant};

use rustix::time::{ClockId, clock_gettime};

/// A slice shorter than this is billed as measured: one epoch tick.
pub const TRUSTED_SLICE_NS: u64 = 1_000_000;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

thread_local! {
    /// See [`be_exact_here`].
    static EXACT: Cell<bool> = const { Cell::new(false) };
    /// (monotonic, thread CPU) when the thread's CPU time was last read.
    static LAST: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Monotonic nanoseconds since the process began to measure.
pub fn now_ns() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// From now on this thread bills the CPU time it had, not the time that passed.
pub fn be_exact_here() {
    EXACT.set(true);
}

/// The beginning of a slice on this thread.
pub fn begin_slice_ns() -> u64 {
    if EXACT.get() {
        return thread_cpu_ns();
    }
    let now = now_ns();
    if LAST.get().is_none_or(|(last_mono, _)| now.saturating_sub(last_mono) > TRUSTED_SLICE_NS) {
        LAST.set(Some((now, thread_cpu_ns())));
    }
    now
}

/// CPU nanoseconds of the slice that began at `start_ns` on this thread.
pub fn slice_ns(start_ns: u64) -> u64 {
    if EXACT.get() {
        return thread_cpu_ns().saturating_sub(start_ns);
    }
    let elapsed = now_ns().saturating_sub(start_ns);
    if elapsed <= TRUSTED_SLICE_NS {
        return elapsed;
    }
    let Some((last_mono, last_cpu)) = LAST.get() else { return elapsed };
    // What the thread did between its last reading and this slice is not the slice's.
    let before = start_ns.saturating_sub(last_mono);
    thread_cpu_ns().saturating_sub(last_cpu).saturating_sub(before.min(TRUSTED_SLICE_NS)).min(elapsed)
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_that_slept_is_not_billed_for_it() {
        let start = begin_slice_ns();
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(slice_ns(start) < 15_000_000, "billed {} ns", slice_ns(start));
    }

    #[test]
    fn an_exact_thread_bills_short_pauses_to_nobody() {
        let billed = std::thread::spawn(|| {
            be_exact_here();
            (0..20).fold(0, |billed, _| {
                let start = begin_slice_ns();
                std::thread::sleep(std::time::Duration::from_micros(900));
                billed + slice_ns(start)
            })
        });
        assert!(billed.join().unwrap() < 10_000_000, "18 ms passed, and next to nothing was done");
    }

    #[test]
    fn a_slice_that_worked_is_billed_for_it() {
        let start = begin_slice_ns();
        let cpu = thread_cpu_ns();
        while thread_cpu_ns() - cpu < 20_000_000 {}
        assert!(slice_ns(start) >= 18_000_000, "billed {} ns", slice_ns(start));
    }
}
