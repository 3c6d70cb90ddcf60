//! A place for one version's program, and those who wait for it to be filled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use fleet_sync_replica::VersionState;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{CodeError, loading::Unloading};
use crate::{guest::Program, meter};

/// Requests that may wait for one program at once; more are answered 503 at once.
pub const WAITERS_MAX: usize = 64;
/// A failed load is not tried again for this long: whoever comes meanwhile gets its error.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// How a load ended.
pub(super) type Outcome = Result<Arc<Loaded>, Arc<CodeError>>;

/// A place for one version's program.
#[derive(Default)]
pub struct CodeSlot {
    program: ArcSwapOption<Loaded>,
    last_used_ns: AtomicU64,
    flight: Mutex<Waiting>,
}

/// See [`CodeSlot`].
#[derive(Default)]
struct Waiting {
    /// Of the load under way; `None` while there is none.
    landings: Option<Vec<oneshot::Sender<Outcome>>>,
    failed: Option<Failed>,
}

/// A load that failed: when, and of which picture of the version. Another picture may have the artifact it lacked.
struct Failed {
    when: Instant,
    state: Arc<VersionState>,
    error: Arc<CodeError>,
}

/// What came of asking for a program that was not there a moment ago.
pub(super) enum Joined {
    /// It is there now, or a load failed just now, or too many wait.
    Landed(Outcome),
    /// A load is under way.
    Waiting(oneshot::Receiver<Outcome>),
    /// Nobody loads it yet: whoever gets this does.
    First(oneshot::Receiver<Outcome>),
}

impl CodeSlot {
    /// Is the program in memory?
    pub fn is_loaded(&self) -> bool {
        self.program.load().is_some()
    }

    /// The program, for use now.
    pub(super) fn take(&self) -> Option<Arc<Loaded>> {
        self.last_used_ns.store(meter::now_ns(), Relaxed);
        self.program.load_full()
    }

    /// When it was asked for last, by [`meter::now_ns`].
    pub(super) fn last_used_ns(&self) -> u64 {
        self.last_used_ns.load(Relaxed)
    }

    /// Waits for the load under way, or begins one.
    pub(super) fn join(&self, state: &Arc<VersionState>) -> Joined {
        let mut waiting = self.flight.lock();
        if let Some(loaded) = self.program.load_full() {
            return Joined::Landed(Ok(loaded));
        }
        if let Some(failed) = waiting.failed.as_ref().filter(|failed| failed.still_counts(state)) {
            return Joined::Landed(Err(failed.error.clone()));
        }
        let (tell, landing) = oneshot::channel();
        let Some(landings) = &mut waiting.landings else {
            waiting.landings = Some(vec![tell]);
            return Joined::First(landing);
        };
        landings.retain(|tell| !tell.is_closed()); // those who gave up
        if landings.len() >= WAITERS_MAX {
            return Joined::Landed(Err(CodeError::Crowded.into()));
        }
        landings.push(tell);
        Joined::Waiting(landing)
    }

    /// Ends the load under way, and tells those who wait for it.
    pub(super) fn land(&self, state: &Arc<VersionState>, outcome: &Outcome) {
        let mut waiting = self.flight.lock();
        waiting.failed = match outcome {
            Ok(_) => None,
            Err(error) => Some(Failed { when: Instant::now(), state: state.clone(), error: error.clone() }),
        };
        let landings = waiting.landings.take();
        drop(waiting);
        for tell in landings.into_iter().flatten() {
            let _ = tell.send(outcome.clone()); // an error: it gave up
        }
    }

    /// Puts the program in its place.
    pub(super) fn fill(&self, loaded: Arc<Loaded>) {
        self.program.store(Some(loaded));
    }

    /// Takes the program out, unless an execution has it.
    pub(super) fn empty(&self) -> Option<Arc<Loaded>> {
        let is_in_use = self.program.load().as_ref().is_some_and(|loaded| Arc::strong_count(loaded) > 1);
        // One that is taken between the two is unmapped when that execution has ended.
        if is_in_use { None } else { self.program.swap(None) }
    }
}

impl Failed {
    fn still_counts(&self, state: &Arc<VersionState>) -> bool {
        self.when.elapsed() < FAILURE_KEPT && Arc::ptr_eq(&self.state, state)
    }
}

/// A program and the memory its code takes. Executions hold it while they run.
pub struct Loaded {
    /// Taken when this is dropped, and only then.
    program: Option<Program>,
    /// Shares of the pool that one execution takes: [`crate::guest::weight`].
    pub weight: usize,
    /// Memory it takes, as it is counted.
    pub bytes: u64,
    /// Set once it is counted: gives the count back when dropped.
    pub(super) counted: Option<super::resident::Counted>,
    unloading: Unloading,
}

impl Loaded {
    pub(super) fn new(program: Program, weight: usize, bytes: u64, unloading: Unloading) -> Loaded {
        Loaded { program: Some(program), weight, bytes, counted: None, unloading }
    }

    /// The program.
    pub fn program(&self) -> &Program {
        self.program.as_ref().expect("there until this is dropped")
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let program = self.program.take();
        program.into_iter().for_each(|program| self.unloading.unload(program));
    }
}
