//! The node: what lives as long as the process.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use artifact::AppId;
use parking_lot::Mutex;

use crate::{
    account::{access_log::AccessLog, metrics::Metrics},
    assets::StaticFiles,
    code::CodeCache,
    failure::Failure,
    generation::Generation,
    host::Host,
};

/// See the module.
pub struct Node {
    /// What it offers to guests.
    pub host: Arc<Host>,
    /// The picture requests are routed by; swapped by the activator.
    pub generation: ArcSwap<Generation>,
    /// Native code.
    pub code: Arc<CodeCache>,
    /// Static files.
    pub files: Arc<StaticFiles>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line per request.
    pub access_log: AccessLog,
    /// Admission: guests running now, and how many may, of all apps and of one.
    pub executions: Executions,
}

/// Executions one app may always have on a worker, however small it is.
const APP_EXECUTIONS_MIN: usize = 16;
/// One app may have this part of a worker: the rest is for its neighbours.
const APP_PART: usize = 4;

/// Counts executions and bounds them, for each worker: all together by the size of its pool, so that a full pool is an
/// answer and not an error, and those of one app by a part of it, so that one app cannot take the whole worker. Each takes
/// as many shares of the pool as its program has weight ([`crate::guest::weight`]). Clones count together.
#[derive(Clone)]
pub struct Executions(Arc<[Arc<Counts>]>);

/// Of one worker.
struct Counts {
    running: AtomicUsize,
    /// Shares of those that run.
    shares: AtomicUsize,
    max: usize,
    app_max: usize,
    /// Shares of each app that has any, by its hash: two apps that shared one would share a bound, no more.
    of_apps: Mutex<HashMap<u64, usize, BuildHasherDefault<IsHash>>>,
    hasher: RandomState,
}

/// One running execution.
pub struct Permit {
    counts: Arc<Counts>,
    app: u64,
    weight: usize,
}

impl Executions {
    /// On each of so many workers at most `max` shares at once, a quarter of them for one app, but at least 16 where there
    /// are as many.
    pub fn new(workers: usize, max: usize) -> Executions {
        let counts = || Counts {
            running: AtomicUsize::new(0),
            shares: AtomicUsize::new(0),
            max,
            app_max: (max / APP_PART).max(APP_EXECUTIONS_MIN).min(max),
            of_apps: Default::default(),
            hasher: RandomState::new(),
        };
        Executions((0..workers).map(|_| Arc::new(counts())).collect())
    }

    /// Shares that one app may have on a worker.
    pub fn app_max(&self) -> usize {
        self.0.first().map_or(0, |counts| counts.app_max)
    }

    /// Executions running now, on all workers.
    pub fn running(&self) -> usize {
        self.0.iter().map(|counts| counts.running.load(Relaxed)).sum()
    }

    /// Room on a worker for one more execution of `app`, whose program takes `weight` shares, at least 1; or
    /// [`Failure::NoRoom`] or [`Failure::AppBusy`].
    pub fn admit(&self, worker: usize, app: &AppId, weight: usize) -> Result<Permit, Failure> {
        let counts = &self.0[worker];
        let app = counts.hasher.hash_one(app);
        {
            let mut of_apps = counts.of_apps.lock();
            let of_app = of_apps.entry(app);
            let shares = match &of_app {
                Entry::Occupied(has) => has.get().saturating_add(weight),
                Entry::Vacant(_) => weight,
            };
            if shares > counts.app_max {
                return Err(Failure::AppBusy);
            }
            of_app.insert_entry(shares);
        }
        // Gives back all counts when it is dropped.
        let permit = Permit { counts: counts.clone(), app, weight };
        counts.running.fetch_add(1, Relaxed);
        let shares = counts.shares.fetch_add(weight, Relaxed);
        if shares.saturating_add(weight) <= counts.max { Ok(permit) } else { Err(Failure::NoRoom) }
    }
}

/// Hashes what is a hash already, by a key nobody knows.
#[derive(Default)]
struct IsHash(u64);

impl Hasher for IsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.running.fetch_sub(1, Relaxed);
        self.counts.shares.fetch_sub(self.weight, Relaxed);
        let mut of_apps = self.counts.of_apps.lock();
        if let Entry::Occupied(mut of_app) = of_apps.entry(self.app) {
            *of_app.get_mut() -= self.weight;
            if *of_app.get() == 0 {
                of_app.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppId {
        AppId { tenant: "default".parse().unwrap(), app: name.parse().unwrap() }
    }

    /// Takes all an app can get.
    fn take_all(executions: &Executions, name: &str) -> (Vec<Permit>, Failure) {
        take_all_of(executions, name, 1)
    }

    fn take_all_of(executions: &Executions, name: &str, weight: usize) -> (Vec<Permit>, Failure) {
        let mut permits = Vec::new();
        loop {
            match executions.admit(0, &app(name), weight) {
                Ok(permit) => permits.push(permit),
                Err(failure) => return (permits, failure),
            }
        }
    }

    #[test]
    fn one_app_gets_a_quarter_and_its_neighbours_the_rest() {
        let executions = Executions::new(1, 100);
        let (greedy, failure) = take_all(&executions, "greedy");
        assert_eq!((greedy.len(), failure), (25, Failure::AppBusy));
        let others: Vec<_> = ["a", "b", "c"].map(|name| take_all(&executions, name).0).into();
        assert_eq!(executions.running(), 100);
        assert_eq!(executions.admit(0, &app("late"), 1).err(), Some(Failure::NoRoom));
        assert_eq!(executions.running(), 100, "a refused one gives back what it took");

        drop((greedy, others));
        assert_eq!(executions.running(), 0);
        assert!(executions.0[0].of_apps.lock().is_empty(), "idle apps take no memory");
        assert_eq!(take_all(&executions, "greedy").0.len(), 25);
    }

    #[test]
    fn a_program_that_takes_more_of_the_pool_gets_fewer_executions() {
        let executions = Executions::new(1, 100);
        let (heavy, failure) = take_all_of(&executions, "heavy", 4);
        assert_eq!((heavy.len(), failure), (6, Failure::AppBusy));
        assert_eq!(take_all(&executions, "heavy").0.len(), 1, "its last share");
        let others: Vec<_> = ["a", "b", "c"].map(|name| take_all(&executions, name).0).into();
        assert_eq!(executions.admit(0, &app("late"), 2).err(), Some(Failure::NoRoom));
        assert_eq!(executions.running(), 6 + 75);
        drop((heavy, others));
        assert_eq!((executions.running(), executions.0[0].shares.load(Relaxed)), (0, 0));
    }

    #[test]
    fn workers_have_room_of_their_own() {
        let executions = Executions::new(2, 20);
        let (greedy, _) = take_all(&executions, "greedy");
        assert_eq!(executions.admit(0, &app("greedy"), 1).err(), Some(Failure::AppBusy));
        let elsewhere = executions.admit(1, &app("greedy"), 1);
        assert!(elsewhere.is_ok());
        assert_eq!(executions.running(), greedy.len() + 1);
    }

    #[test]
    fn on_a_small_node_an_app_gets_sixteen_or_all_there_are() {
        assert_eq!(take_all(&Executions::new(1, 20), "a").0.len(), 16);
        let (permits, failure) = take_all(&Executions::new(1, 3), "a");
        assert_eq!((permits.len(), failure), (3, Failure::AppBusy));
    }
}
