//! Where a version's code is, and who waits for it.
//!
//! Each worker has an engine of its own, and so a program of its own of every version that it was asked for; the native
//! code behind them is one memory file.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use artifact::Digest;
use fleet_sync_replica::VersionState;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{CodeError, Urgency, file::FilePlace, loaded::Loaded};
use crate::meter;

/// Requests of one worker that may wait for one program at once; more are answered 503 at once.
pub const WAITERS_MAX: usize = 1_024;
/// Requests that are refused between two looks for waiters who gave up.
const REFUSALS_PER_LOOK: usize = 64;
/// A failed load is not tried again for this long: whoever comes meanwhile gets its error.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// How a load ended.
pub(super) type Outcome = Result<Arc<Loaded>, Arc<CodeError>>;

/// Where a version's code is.
#[derive(Default)]
pub struct CodeSlot {
    /// Its memory file, which its programs hold.
    pub(super) file: FilePlace,
    /// One for each worker, made when the first is asked for: most versions of most nodes never are.
    places: OnceLock<Box<[Arc<Place>]>>,
}

impl CodeSlot {
    /// Is a program of any worker in memory?
    pub fn is_loaded(&self) -> bool {
        !self.workers().is_empty()
    }

    /// The workers that have a program.
    pub fn workers(&self) -> Vec<usize> {
        let places = self.places.get().into_iter().flatten().enumerate();
        places.filter(|(_, place)| place.is_loaded()).map(|(worker, _)| worker).collect()
    }

    /// sha-256 of the native code that its programs map: all of them map one file, whose pages were checked against it.
    pub fn mapped(&self) -> Option<Digest> {
        let program = self.places.get().into_iter().flatten().find_map(|place| place.look())?;
        Some(program.file().code.statement().artifact)
    }

    /// The place of one of this many workers.
    pub(super) fn place(&self, worker: usize, workers: usize) -> &Arc<Place> {
        let places = self.places.get_or_init(|| (0..workers).map(|_| Arc::default()).collect());
        &places[worker]
    }
}

/// A place for one version's program on one worker's engine.
#[derive(Default)]
pub(super) struct Place {
    program: ArcSwapOption<Loaded>,
    last_used_ns: AtomicU64,
    flight: Mutex<Waiting>,
}

/// See [`Place`].
#[derive(Default)]
struct Waiting {
    /// The load under way.
    flight: Option<Flight>,
    failed: Option<Failed>,
}

/// A load under way: for which picture of the version, and who waits.
struct Flight {
    state: Arc<VersionState>,
    /// Does a request, and not only a release?
    is_requested: bool,
    landings: Vec<oneshot::Sender<Outcome>>,
    /// Since who gave up was looked for.
    refused: usize,
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
    /// A load is under way, for another picture of the version: that it fails says nothing for this one.
    WaitingForAnother(oneshot::Receiver<Outcome>),
    /// Nobody loads it yet: whoever gets this does.
    First(oneshot::Receiver<Outcome>),
}

impl Place {
    /// Is the program in memory?
    pub fn is_loaded(&self) -> bool {
        self.program.load().is_some()
    }

    /// The program, for use now.
    pub fn take(&self) -> Option<Arc<Loaded>> {
        self.last_used_ns.store(meter::now_ns(), Relaxed);
        self.program.load_full()
    }

    /// When it was asked for last, by [`meter::now_ns`].
    pub fn last_used_ns(&self) -> u64 {
        self.last_used_ns.load(Relaxed)
    }

    /// Waits for the load under way, or begins one.
    pub fn join(&self, state: &Arc<VersionState>, urgency: Urgency) -> Joined {
        let mut waiting = self.flight.lock();
        if let Some(loaded) = self.program.load_full() {
            return Joined::Landed(Ok(loaded));
        }
        if let Some(failed) = waiting.failed.as_ref().filter(|failed| failed.still_counts(state)) {
            return Joined::Landed(Err(failed.error.clone()));
        }
        let (tell, landing) = oneshot::channel();
        let is_requested = urgency == Urgency::Request;
        let Some(flight) = &mut waiting.flight else {
            let landings = vec![tell];
            waiting.flight = Some(Flight { state: state.clone(), is_requested, landings, refused: 0 });
            return Joined::First(landing);
        };
        flight.is_requested |= is_requested;
        if !flight.has_room() {
            return Joined::Landed(Err(CodeError::Crowded.into()));
        }
        flight.landings.push(tell);
        match Arc::ptr_eq(&flight.state, state) {
            true => Joined::Waiting(landing),
            false => Joined::WaitingForAnother(landing),
        }
    }

    /// Does a request wait for the load under way?
    pub fn is_requested(&self) -> bool {
        self.flight.lock().flight.as_ref().is_some_and(|flight| flight.is_requested)
    }

    /// Ends the load under way if all who waited for it have gone.
    pub fn is_abandoned(&self) -> bool {
        let mut waiting = self.flight.lock();
        let is_waited_for = |flight: &Flight| flight.landings.iter().any(|tell| !tell.is_closed());
        let is_abandoned = !waiting.flight.as_ref().is_some_and(is_waited_for);
        if is_abandoned {
            waiting.flight = None;
        }
        is_abandoned
    }

    /// Ends the load under way, and tells those who wait for it.
    pub fn land(&self, state: &Arc<VersionState>, outcome: Outcome) {
        let mut waiting = self.flight.lock();
        waiting.failed = match &outcome {
            Ok(_) => None,
            Err(error) => Some(Failed { when: Instant::now(), state: state.clone(), error: error.clone() }),
        };
        let flight = waiting.flight.take();
        drop(waiting);
        let mut landings = flight.map(|flight| flight.landings).unwrap_or_default();
        let last = landings.pop();
        for tell in landings {
            let _ = tell.send(outcome.clone()); // an error: it gave up
        }
        // Moved: whoever has the program is taken for an execution, so nothing of it stays here once all were told.
        let _ = last.map(|tell| tell.send(outcome));
    }

    /// Puts the program in its place.
    pub fn fill(&self, loaded: Arc<Loaded>) {
        self.program.store(Some(loaded));
    }

    /// The program, without that it counts as used.
    pub fn look(&self) -> Option<Arc<Loaded>> {
        self.program.load_full()
    }

    /// Takes the program out, unless an execution has it. Only one thread fills and empties.
    pub fn empty(&self) -> Option<Arc<Loaded>> {
        let loaded = self.program.swap(None)?;
        if Arc::strong_count(&loaded) == 1 {
            return Some(loaded);
        }
        // Who came in between finds it away, and joins a load that finds it back.
        self.program.store(Some(loaded));
        None
    }
}

impl Flight {
    /// Those who gave up make room: they are looked for when it is spent, and once in so many refusals.
    fn has_room(&mut self) -> bool {
        if self.landings.len() < WAITERS_MAX {
            return true;
        }
        let looks = self.refused.is_multiple_of(REFUSALS_PER_LOOK);
        self.refused += 1;
        if looks {
            self.landings.retain(|tell| !tell.is_closed());
        }
        self.landings.len() < WAITERS_MAX
    }
}

impl Failed {
    fn still_counts(&self, state: &Arc<VersionState>) -> bool {
        self.when.elapsed() < FAILURE_KEPT && Arc::ptr_eq(&self.state, state)
    }
}
