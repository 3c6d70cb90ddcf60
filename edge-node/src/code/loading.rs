//! The threads that load and unload code: some for requests that wait, one of the lowest weight for releases. On a machine
//! that is busy beyond its cores that one hardly runs, so what has waited for long is taken by the others.
//!
//! Unmapping takes the address space's lock and up to a millisecond, so a serving thread that drops a program last leaves
//! that to these threads, too.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use artifact::TenantName;
use parking_lot::{Condvar, Mutex};

use super::loaded::Mapped;

/// Loads for requests that wait for a thread, all tenants together: half a second's work at 1 ms each and two threads.
pub const LOADS_WAITING_MAX: usize = 1_024;
/// … of one tenant, so that one with many apps cannot fill the queue.
pub const TENANT_LOADS_WAITING_MAX: usize = LOADS_WAITING_MAX / 4;
/// Loads for releases: an activation asks for a few at once.
const RELEASES_WAITING_MAX: usize = 64;
/// Threads for requests: as many as cores, at most these. Loading is a few per cent of a node's work.
const THREADS_MAX: usize = 4;
/// As that of the slow lane, and for its reasons ([`crate::lane`]): a serving thread that wakes beside it waits for 50 µs.
const RELEASE_NICE: i32 = 19;

/// A release that has waited this long is loaded like a request's: a busy node must get its releases, too.
const RELEASE_PATIENCE: Duration = Duration::from_millis(100);

pub(super) type Load = Box<dyn FnOnce() + Send>;

/// Which queue a load waits in.
pub(super) enum Queue {
    /// A request of this tenant waits for it.
    Requests(TenantName),
    /// A release does. By this name the load is found again when a request comes to wait for it, too.
    Releases(Name),
}

/// Of a load, unique while it waits: the address of its place.
pub(super) type Name = usize;

/// The queue is full.
pub(super) struct Full;

/// Running threads. They end when this is dropped, after what they do.
pub(super) struct LoadingThreads(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    for_requests: Condvar,
    for_releases: Condvar,
}

#[derive(Default)]
struct Queues {
    requests: Requests,
    releases: VecDeque<Release>,
    /// Bounded by what was loaded.
    unloads: Vec<Mapped>,
    /// Whose turn it is where requests and an overdue release wait.
    releases_next: bool,
    closed: bool,
}

/// Loads that requests wait for: of each tenant first come, first served; the tenants in turns.
#[derive(Default)]
struct Requests {
    of_tenants: HashMap<TenantName, VecDeque<Load>>,
    /// Tenants with loads, in the order of their turns.
    turns: VecDeque<TenantName>,
    waiting: usize,
}

struct Release {
    since: Instant,
    name: Name,
    load: Load,
}

thread_local! {
    /// Is this a thread that may unmap?
    static UNLOADS: Cell<bool> = const { Cell::new(false) };
}

impl LoadingThreads {
    pub fn start() -> io::Result<LoadingThreads> {
        let threads = LoadingThreads(Arc::default());
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        for number in 0..cores.min(THREADS_MAX) {
            let shared = threads.0.clone();
            thread::Builder::new().name(format!("load-{number}")).spawn(move || shared.serve_requests())?;
        }
        let shared = threads.0.clone();
        thread::Builder::new().name("load-release".into()).spawn(move || shared.serve_releases())?;
        Ok(threads)
    }

    /// Queues the load that `make` makes, which is not asked for one when there is no room.
    pub fn enqueue(&self, queue: Queue, make: impl FnOnce() -> Load) -> Result<(), Full> {
        let mut queues = self.0.queues.lock();
        match queue {
            Queue::Requests(tenant) => {
                if !queues.requests.has_room(&tenant) {
                    return Err(Full);
                }
                queues.requests.push(tenant, make());
                self.0.for_requests.notify_one();
            }
            Queue::Releases(name) => {
                if queues.releases.len() >= RELEASES_WAITING_MAX {
                    return Err(Full);
                }
                queues.releases.push_back(Release { since: Instant::now(), name, load: make() });
                self.0.for_releases.notify_one();
                self.0.for_requests.notify_one(); // one that looks after it while it waits
            }
        }
        Ok(())
    }

    /// A request of this tenant waits for a load, too: one that waits as a release's becomes a request's.
    pub fn promote(&self, name: Name, tenant: &TenantName) {
        let mut queues = self.0.queues.lock();
        let Some(at) = queues.releases.iter().position(|release| release.name == name) else { return };
        if queues.requests.has_room(tenant)
            && let Some(release) = queues.releases.remove(at)
        {
            queues.requests.push(tenant.clone(), release.load);
            self.0.for_requests.notify_one();
        }
    }

    /// Where programs go that nobody uses any more.
    pub fn unloading(&self) -> Unloading {
        Unloading(self.0.clone())
    }

    /// Loads that wait for a thread.
    pub fn waiting(&self) -> usize {
        let queues = self.0.queues.lock();
        queues.requests.waiting + queues.releases.len()
    }
}

impl Drop for LoadingThreads {
    fn drop(&mut self) {
        let mut queues = self.0.queues.lock();
        queues.closed = true;
        let left = (std::mem::take(&mut queues.requests), std::mem::take(&mut queues.releases));
        drop(queues);
        drop(left);
        self.0.for_requests.notify_all();
        self.0.for_releases.notify_all();
    }
}

/// See [`LoadingThreads::unloading`].
#[derive(Clone)]
pub(super) struct Unloading(Arc<Shared>);

impl Unloading {
    /// Unmaps it: here if this is a loading thread, else on one.
    pub fn unload(&self, mapped: Mapped) {
        if UNLOADS.try_with(Cell::get).unwrap_or(true) {
            return drop(mapped);
        }
        let mut queues = self.0.queues.lock();
        if queues.closed {
            drop(queues);
            return drop(mapped);
        }
        queues.unloads.push(mapped);
        self.0.for_requests.notify_one();
    }
}

impl Shared {
    fn serve_requests(&self) {
        UNLOADS.set(true);
        let mut queues = self.queues.lock();
        loop {
            // First: memory comes back before more is taken.
            if let Some(mapped) = queues.unloads.pop() {
                drop(queues);
                run(Box::new(move || drop(mapped)));
            } else if let Some(load) = queues.next() {
                drop(queues);
                run(load);
            } else if queues.closed {
                return;
            } else {
                match queues.releases.front().map(|release| release.since + RELEASE_PATIENCE) {
                    Some(due) => drop(self.for_requests.wait_until(&mut queues, due)),
                    None => self.for_requests.wait(&mut queues),
                }
                continue;
            }
            queues = self.queues.lock();
        }
    }

    fn serve_releases(&self) {
        UNLOADS.set(true);
        // Of the calling thread alone: on Linux priorities are a thread's.
        if let Err(error) = rustix::process::setpriority_process(None, RELEASE_NICE) {
            tracing::warn!("the thread that loads releases could not be given low priority: {error}");
        }
        let mut queues = self.queues.lock();
        loop {
            if let Some(release) = queues.releases.pop_front() {
                drop(queues);
                run(release.load);
                queues = self.queues.lock();
            } else if queues.closed {
                return;
            } else {
                self.for_releases.wait(&mut queues);
            }
        }
    }
}

impl Queues {
    /// A request's load, or a release's that waited for long; in turns where there are both.
    fn next(&mut self) -> Option<Load> {
        let releases_first = std::mem::take(&mut self.releases_next);
        if releases_first && let Some(load) = self.overdue() {
            return Some(load);
        }
        self.releases_next = true;
        self.requests.pop().or_else(|| self.overdue())
    }

    /// A release that waited for long.
    fn overdue(&mut self) -> Option<Load> {
        let is_overdue = |release: &mut Release| release.since.elapsed() >= RELEASE_PATIENCE;
        self.releases.pop_front_if(is_overdue).map(|release| release.load)
    }
}

impl Requests {
    fn has_room(&self, tenant: &TenantName) -> bool {
        let of_tenant = self.of_tenants.get(tenant).map_or(0, VecDeque::len);
        self.waiting < LOADS_WAITING_MAX && of_tenant < TENANT_LOADS_WAITING_MAX
    }

    fn push(&mut self, tenant: TenantName, load: Load) {
        self.waiting += 1;
        let of_tenant = self.of_tenants.entry(tenant.clone()).or_default();
        of_tenant.push_back(load);
        if of_tenant.len() == 1 {
            self.turns.push_back(tenant);
        }
    }

    /// The next tenant's first.
    fn pop(&mut self) -> Option<Load> {
        let tenant = self.turns.pop_front()?;
        let of_tenant = self.of_tenants.get_mut(&tenant)?;
        let load = of_tenant.pop_front()?;
        self.waiting -= 1;
        match of_tenant.is_empty() {
            true => drop(self.of_tenants.remove(&tenant)),
            false => self.turns.push_back(tenant),
        }
        Some(load)
    }
}

/// A panic is the load's alone, which tells those who wait for it as it is dropped.
fn run(load: Load) {
    if catch_unwind(AssertUnwindSafe(load)).is_err() {
        tracing::error!("loading native code panicked");
    }
}

#[cfg(test)]
impl LoadingThreads {
    /// Keeps every thread for requests busy until what is returned is dropped.
    pub fn keep_busy(&self) -> Vec<std::sync::mpsc::Sender<()>> {
        use std::sync::mpsc;
        let cores = thread::available_parallelism().unwrap().get().min(THREADS_MAX);
        let begin = || {
            let ((hold, held), (begun, has_begun)) = (mpsc::channel::<()>(), mpsc::channel());
            let load = Box::new(move || {
                begun.send(()).unwrap();
                let _ = held.recv();
            });
            assert!(self.enqueue(Queue::Requests("first".parse().unwrap()), || load).is_ok());
            has_begun.recv_timeout(Duration::from_secs(20)).unwrap();
            hold
        };
        (0..cores).map(|_| begin()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    #[test]
    fn one_tenant_fills_a_quarter_of_the_queue_and_all_together_all_of_it() {
        let threads = LoadingThreads::start().unwrap();
        let held = threads.keep_busy();
        let enqueue = |name: &str| threads.enqueue(Queue::Requests(tenant(name)), || Box::new(|| ())).is_ok();
        let fill = |name: &str| std::iter::repeat_with(|| enqueue(name)).take_while(|queued| *queued).count();
        assert_eq!(["a", "b", "c", "d", "e"].map(fill), [256, 256, 256, 256, 0]);
        assert_eq!(threads.waiting(), LOADS_WAITING_MAX);
        drop(held);
        let (done, is_done) = mpsc::channel();
        while threads.waiting() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let last = || -> Load { Box::new(move || done.send(()).unwrap()) };
        assert!(threads.enqueue(Queue::Requests(tenant("a")), last).is_ok(), "room comes back");
        is_done.recv_timeout(SOON).unwrap();
        assert!(threads.0.queues.lock().requests.of_tenants.is_empty());
    }

    #[test]
    fn releases_are_loaded_while_requests_keep_the_other_threads_and_a_panic_is_one_loads_alone() {
        let threads = LoadingThreads::start().unwrap();
        let _held = threads.keep_busy();
        let (done, is_done) = mpsc::channel();
        assert!(threads.enqueue(Queue::Releases(0), || Box::new(|| panic!("a test's own"))).is_ok());
        let load = Box::new(move || done.send(rustix::process::getpriority_process(None).unwrap()).unwrap());
        assert!(threads.enqueue(Queue::Releases(0), || load).is_ok());
        assert_eq!(is_done.recv_timeout(SOON).unwrap(), RELEASE_NICE);
    }

    /// What ran, in order, once the threads that were kept busy are free: but for which came first of two.
    fn order(
        threads: &LoadingThreads,
        held: Vec<mpsc::Sender<()>>,
        said: &mpsc::Receiver<&'static str>,
    ) -> Vec<&'static str> {
        let waiting = threads.waiting();
        drop(held);
        (0..waiting).map(|_| said.recv_timeout(SOON).unwrap()).collect()
    }

    #[test]
    fn tenants_are_served_in_turns() {
        let threads = LoadingThreads::start().unwrap();
        let held = threads.keep_busy();
        let (say, said) = mpsc::channel();
        for name in ["many", "many", "many", "many", "many", "many", "few"] {
            let say = say.clone();
            let load = || -> Load { Box::new(move || say.send(name).unwrap()) };
            assert!(threads.enqueue(Queue::Requests(tenant(name)), load).is_ok());
        }
        let order = order(&threads, held, &said);
        let at = order.iter().position(|name| *name == "few").unwrap();
        // Second in turn; each thread may have taken one before it says so.
        assert!(at <= 1 + THREADS_MAX, "{order:?}");
        assert!(at < order.len() - 1, "{order:?}");
    }

    #[test]
    fn a_releases_load_that_a_request_waits_for_goes_to_the_requests() {
        let threads = LoadingThreads::start().unwrap();
        let _held = threads.keep_busy();
        let (hold, held) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let stuck = Box::new(move || {
            begun.send(()).unwrap();
            let _ = held.recv();
        });
        assert!(threads.enqueue(Queue::Releases(1), || stuck).is_ok());
        has_begun.recv_timeout(SOON).unwrap();
        assert!(threads.enqueue(Queue::Releases(2), || Box::new(|| ())).is_ok());
        let queued = || {
            let queues = threads.0.queues.lock();
            (queues.requests.waiting, queues.releases.len())
        };
        threads.promote(3, &tenant("a"));
        assert_eq!(queued(), (0, 1), "of another place");
        threads.promote(2, &tenant("a"));
        assert_eq!(queued(), (1, 0));
        drop(hold);
    }

    #[test]
    fn a_release_that_waits_for_long_is_loaded_like_a_requests() {
        let threads = LoadingThreads::start().unwrap();
        let (hold, held) = mpsc::channel::<()>();
        let (say, said) = mpsc::channel();
        let priority = |say: mpsc::Sender<i32>| say.send(rustix::process::getpriority_process(None).unwrap());
        let first = say.clone();
        let stuck = Box::new(move || {
            priority(first).unwrap();
            let _ = held.recv();
        });
        assert!(threads.enqueue(Queue::Releases(0), || stuck).is_ok());
        let first = said.recv_timeout(SOON).unwrap();
        assert!(threads.enqueue(Queue::Releases(0), || Box::new(move || priority(say).unwrap())).is_ok());
        let second = said.recv_timeout(SOON).unwrap();
        // On a busy machine the first may itself have waited for long.
        assert!(first < RELEASE_NICE || second < RELEASE_NICE, "{first} {second}");
        drop(hold);
    }
}
