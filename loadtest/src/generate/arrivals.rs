//! When requests are to start.
//!
//! Arrivals of an open loop are a list made from the seed, walked twice in the same order: by a clock, which lets one
//! request go for each moment that has come, and by the slots, which take the moment itself. So nothing is queued,
//! however far a target falls behind, and no moment is lost.

use std::{
    cell::{Cell, RefCell},
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::set_current_timer_slack;
use tokio::sync::Semaphore;

use super::{
    random::Random,
    scenario::{Arrivals, Pace, Scenario},
};

/// How long a clock sleeps before it looks whether the run is over.
const LOOK: Duration = Duration::from_millis(50);

/// Moments since the start of a run, one thread's share of them, without end.
#[derive(Debug, Clone)]
pub struct Schedule {
    random: Option<Random>,
    /// Mean distance, in ns.
    between_ns: f64,
    /// Of the next, in ns.
    next_ns: f64,
    bursts: Option<Bursts>,
}

impl Schedule {
    /// Of thread `thread`; a closed loop has none.
    pub fn of(scenario: &Scenario, thread: u32) -> Option<Schedule> {
        let (per_second, random) = match scenario.arrivals {
            Arrivals::Closed => return None,
            Arrivals::Constant { per_second } => (per_second, None),
            Arrivals::Poisson { per_second } => {
                (per_second, Some(Random::new(scenario.seed, u64::from(thread) | 1 << 63)))
            }
        };
        let between_ns = 1e9 / per_second * f64::from(scenario.threads);
        // Threads take turns.
        let next_ns = between_ns * f64::from(thread) / f64::from(scenario.threads);
        Some(Schedule { random, between_ns, next_ns, bursts: Bursts::of(scenario) })
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = self.next_ns;
        self.next_ns += self.between_ns
            * match &mut self.random {
                // The distance of independent arrivals is exponential.
                Some(random) => -(1.0 - random.unit()).ln(),
                None => 1.0,
            };
        let at = Duration::from_nanos(at as u64);
        Some(self.bursts.map_or(at, |bursts| bursts.squeeze(at)))
    }
}

/// Busy and idle times in turn, beginning with a busy one.
#[derive(Debug, Clone, Copy)]
pub struct Bursts {
    busy: Duration,
    cycle: Duration,
}

impl Bursts {
    pub fn of(scenario: &Scenario) -> Option<Bursts> {
        let Pace::Bursty { busy_ms, idle_ms } = scenario.pace else { return None };
        let busy = Duration::from_millis(busy_ms);
        Some(Bursts { busy, cycle: busy + Duration::from_millis(idle_ms) })
    }

    /// How long is it idle at this moment?
    pub fn idle(self, since_start: Duration) -> Option<Duration> {
        let phase = Duration::from_nanos((since_start.as_nanos() % self.cycle.as_nanos()) as u64);
        (phase >= self.busy).then(|| self.cycle - phase)
    }

    /// What comes evenly in a cycle comes in its busy part.
    fn squeeze(self, at: Duration) -> Duration {
        let cycle = self.cycle.as_nanos();
        let (begun, phase) = (at.as_nanos() / cycle * cycle, at.as_nanos() % cycle);
        Duration::from_nanos((begun + phase * self.busy.as_nanos() / cycle) as u64)
    }
}

/// Lets the requests of one thread start.
pub struct Pacer {
    start: Instant,
    /// Since the start, warm-up and all.
    end: Duration,
    due: Arc<Semaphore>,
    to_take: RefCell<Schedule>,
    ended: Cell<bool>,
}

impl Pacer {
    pub fn new(start: Instant, end: Duration, schedule: Schedule) -> Pacer {
        let (due, ended) = (Arc::new(Semaphore::new(0)), Cell::new(false));
        Pacer { start, end, due, to_take: RefCell::new(schedule), ended }
    }

    /// The clock that lets them start, for a thread of its own.
    pub fn clock(&self, slots: usize) -> Clock {
        let schedule = self.to_take.borrow().clone();
        Clock { start: self.start, end: self.end, due: Arc::clone(&self.due), schedule, slots }
    }

    /// The intended start of the next request, once it has come; `None` after the last.
    pub async fn take(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        if self.ended.get() {
            return None;
        }
        let at = self.to_take.borrow_mut().next().filter(|at| *at < self.end);
        self.ended.set(at.is_none());
        at.map(|at| self.start + at)
    }

    /// How many at or after `from` were not taken.
    pub fn missing(&self, from: Duration) -> u64 {
        if self.ended.get() {
            return 0;
        }
        let rest = self.to_take.borrow().clone();
        rest.take_while(|at| *at < self.end).filter(|at| *at >= from).count() as u64
    }
}

/// Sleeps from moment to moment. Not a task: tokio's timer rounds up to a whole millisecond, which would be told as
/// the target's latency.
pub struct Clock {
    start: Instant,
    end: Duration,
    due: Arc<Semaphore>,
    schedule: Schedule,
    slots: usize,
}

impl Clock {
    /// Runs until the last moment has come, or until it is `over`.
    pub fn run(self, over: &AtomicBool) {
        // The kernel may else wake it 50 µs late.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        for at in self.schedule.take_while(|at| *at < self.end) {
            let at = self.start + at;
            while let Some(left) = at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if over.load(Relaxed) {
                    return;
                }
                thread::sleep(left.min(LOOK));
            }
            self.due.add_permits(1);
        }
        // Each slot learns that there are no more.
        self.due.add_permits(self.slots);
    }
}
