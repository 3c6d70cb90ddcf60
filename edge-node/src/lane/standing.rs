//! Whose executions may begin on a serving thread.
//!
//! Every version of an app has a [`Standing`]. Executions over their tick make it an offender that owes good ones; it
//! pays in the slow lane, so a hostile app costs a serving thread nothing meanwhile. One that has paid, and one that is
//! new, is a stranger: it begins on the serving thread as long as nobody strains that ([`Strain`]), and is trusted
//! after a while, for an offender eight times as long as before. So a crowd of new or returning offenders gets 1/512 of a
//! thread together, a trusted app costs one look at a number, and no app is judged by its neighbours.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{Start, TICK_NS};

/// Good executions until a new version is trusted.
const NEW: u32 = 16;
/// Good executions owed for each tick of an execution over its first.
const OWED_PER_TICK: u32 = 4;
/// Most that can be owed: some minutes of a busy app.
const OWED_MAX: u32 = 1 << 16;
/// Good executions until a first offender that paid is trusted, and how many doublings each further offence adds: 1,024,
/// 8,192, 65,536 and so on up to 16 million.
const RETURNING: u32 = 1 << 10;
const RETURNING_DOUBLINGS: u32 = 3;
const RETURNING_DOUBLINGS_MAX: u32 = 14;

/// Set: what is counted is owed. Not set: until trusted.
const OFFENDER: u32 = 1 << 31;

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its guest returned or failed.
    ByItself,
    /// By a limit, or because nobody waited for it, or it never began.
    Stopped,
}

/// How a version's executions behaved lately. Zero: trusted.
#[derive(Debug)]
pub struct Standing {
    state: AtomicU32,
    offences: AtomicU32,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing { state: AtomicU32::new(NEW), offences: AtomicU32::new(0) }
    }
}

impl Standing {
    /// Where its next execution begins, on a thread with this strain.
    pub fn start(&self, strain: &Strain, now_ns: impl FnOnce() -> u64) -> Start {
        match self.state.load(Relaxed) {
            0 => Start::Fast,
            state if state & OFFENDER == 0 && strain.is_calm(now_ns()) => Start::Fast,
            _ => Start::Slow,
        }
    }

    /// An execution ended, in either lane, and cost this much ([`crate::exchange::Bill::judged_ns`]). One that was stopped pays
    /// nothing off: a client that goes away at once, or a refusal, would make it cheap.
    pub fn ended(&self, cpu_ns: u64, end: End) {
        if cpu_ns > TICK_NS {
            return self.offend(cpu_ns);
        }
        if end == End::ByItself && self.state.load(Relaxed) != 0 {
            let _ = self.state.fetch_update(Relaxed, Relaxed, |state| Some(self.paid(state)));
        }
    }

    fn paid(&self, state: u32) -> u32 {
        match state {
            0 => 0,
            // Paid: a stranger again, on longer trial.
            state if state == OFFENDER | 1 => {
                let offences = self.offences.load(Relaxed).saturating_sub(1);
                RETURNING << (offences.saturating_mul(RETURNING_DOUBLINGS)).min(RETURNING_DOUBLINGS_MAX)
            }
            state => state - 1,
        }
    }

    fn offend(&self, cpu_ns: u64) {
        let ticks = u32::try_from(cpu_ns / TICK_NS).unwrap_or(u32::MAX);
        let more = ticks.saturating_mul(OWED_PER_TICK);
        let before = self.state.fetch_update(Relaxed, Relaxed, |state| {
            let owed = if state & OFFENDER == 0 { 0 } else { state & !OFFENDER };
            Some(OFFENDER | owed.saturating_add(more).min(OWED_MAX))
        });
        // Those that were under way together offend once.
        if before.is_ok_and(|before| before & OFFENDER == 0) {
            self.offences.fetch_add(1, Relaxed);
        }
    }
}

/// The part of a serving thread's time that guests may hold it over their ticks: 1/512, one tick in half a second.
const STRAIN_PART: u64 = 512;
/// So much at once is nothing yet: a few apps that are started for the first time.
const STRAIN_NS_MAX: u64 = 20 * TICK_NS;
/// More than this is not remembered: one long instruction of a stranger keeps others away for 2.5 s, not for 512 times as long
/// as it took.
const STRAIN_REMEMBERED_NS_MAX: u64 = STRAIN_NS_MAX + 5 * TICK_NS;
/// The same for offenders that found no place in the slow lane: half as much, and none of it is taken from the others.
const OFFENDERS_STRAIN_NS_MAX: u64 = STRAIN_NS_MAX / 2;

/// Whose guest held a serving thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody's who may begin there.
    Stranger,
    /// That of an app that may not, and for which the slow lane had no place.
    Offender,
}

/// How long guests have held one serving thread over their ticks lately.
#[derive(Debug, Default)]
pub struct Strain {
    strangers: Bucket,
    offenders: Bucket,
}

/// A bucket that leaks [`STRAIN_PART`] of the time.
#[derive(Debug, Default)]
struct Bucket {
    held_ns: AtomicU64,
    seen_ns: AtomicU64,
}

impl Strain {
    /// A guest held the thread this long. Only the thread itself says so.
    pub fn held(&self, who: Who, now_ns: u64, ns: u64) {
        match who {
            Who::Stranger => self.strangers.add(now_ns, ns, STRAIN_REMEMBERED_NS_MAX),
            Who::Offender => self.offenders.add(now_ns, ns, u64::MAX),
        }
    }

    /// May strangers begin on the thread?
    pub fn is_calm(&self, now_ns: u64) -> bool {
        self.strangers.left(now_ns) < STRAIN_NS_MAX
    }

    /// May offenders, where the slow lane has no place for them?
    pub fn has_spare(&self, now_ns: u64) -> bool {
        self.offenders.left(now_ns) < OFFENDERS_STRAIN_NS_MAX
    }
}

impl Bucket {
    fn add(&self, now_ns: u64, ns: u64, max_ns: u64) {
        self.held_ns.store(self.left(now_ns).saturating_add(ns).min(max_ns), Relaxed);
        self.seen_ns.store(now_ns, Relaxed);
    }

    fn left(&self, now_ns: u64) -> u64 {
        let leaked = now_ns.saturating_sub(self.seen_ns.load(Relaxed)) / STRAIN_PART;
        self.held_ns.load(Relaxed).saturating_sub(leaked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: u64 = TICK_NS / 100;

    fn start(standing: &Standing, strain: &Strain) -> Start {
        standing.start(strain, || 0)
    }

    fn strained() -> Strain {
        let strain = Strain::default();
        strain.held(Who::Stranger, 0, STRAIN_NS_MAX);
        strain
    }

    fn repeat(standing: &Standing, times: u32) {
        (0..times).for_each(|_| standing.ended(GOOD, End::ByItself));
    }

    #[test]
    fn a_new_app_is_trusted_after_a_while_and_before_that_only_in_calm() {
        let (standing, calm, strained) = (Standing::default(), Strain::default(), strained());
        assert_eq!((start(&standing, &calm), start(&standing, &strained)), (Start::Fast, Start::Slow));
        repeat(&standing, NEW);
        assert_eq!(start(&standing, &strained), Start::Fast);
    }

    #[test]
    fn an_offender_pays_and_then_is_a_stranger_for_longer_each_time() {
        let (standing, calm, strained) = (Standing::default(), Strain::default(), strained());
        repeat(&standing, NEW);
        for trial in [RETURNING, RETURNING << 3, RETURNING << 6] {
            standing.ended(10 * TICK_NS, End::ByItself);
            standing.ended(10 * TICK_NS, End::ByItself); // one that was under way, too
            repeat(&standing, 2 * 10 * OWED_PER_TICK - 1);
            assert_eq!(start(&standing, &calm), Start::Slow);
            repeat(&standing, 1);
            assert_eq!((start(&standing, &calm), start(&standing, &strained)), (Start::Fast, Start::Slow));
            repeat(&standing, trial - 1);
            assert_eq!(start(&standing, &strained), Start::Slow);
            repeat(&standing, 1);
            assert_eq!(start(&standing, &strained), Start::Fast, "after {trial}");
        }
    }

    #[test]
    fn what_is_owed_has_an_end() {
        let standing = Standing::default();
        (0..100).for_each(|_| standing.ended(u64::MAX, End::Stopped));
        repeat(&standing, OWED_MAX);
        assert_eq!(start(&standing, &Strain::default()), Start::Fast);
    }

    #[test]
    fn strain_passes() {
        let strain = strained();
        assert!(!strain.is_calm(0));
        assert!(strain.is_calm(STRAIN_PART * TICK_NS));
        strain.held(Who::Stranger, STRAIN_PART * TICK_NS, 2 * TICK_NS);
        assert!(!strain.is_calm(STRAIN_PART * TICK_NS));
    }

    #[test]
    fn one_long_fill_keeps_strangers_away_for_seconds_and_not_for_minutes() {
        let strain = Strain::default();
        strain.held(Who::Stranger, 0, 500 * TICK_NS);
        assert!(!strain.is_calm(4 * STRAIN_PART * TICK_NS));
        assert!(strain.is_calm(6 * STRAIN_PART * TICK_NS));
    }

    #[test]
    fn offenders_have_a_strain_of_their_own() {
        let strain = Strain::default();
        strain.held(Who::Offender, 0, OFFENDERS_STRAIN_NS_MAX - 1);
        assert!(strain.has_spare(0));
        strain.held(Who::Offender, 0, 50 * TICK_NS);
        assert!(
            !strain.has_spare(0) && strain.is_calm(0),
            "one long fill of theirs takes nothing from strangers"
        );
        assert!(strained().has_spare(0), "nor strangers from them");
    }

    #[test]
    fn what_was_stopped_pays_nothing_off() {
        let (standing, calm) = (Standing::default(), Strain::default());
        standing.ended(10 * TICK_NS, End::Stopped);
        (0..1_000).for_each(|_| standing.ended(GOOD, End::Stopped));
        assert_eq!(start(&standing, &calm), Start::Slow);
        repeat(&standing, 10 * OWED_PER_TICK);
        assert_eq!(start(&standing, &calm), Start::Fast);
    }
}
