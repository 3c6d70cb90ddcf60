//! A worker's slow lane: a thread of low weight (nice 19) on the worker's core, with a runtime of its own for what guests start
//! while they are polled there.
//!
//! The serving thread hands a [`Job`] over and keeps a [`Ticket`], which is ready when the run has ended and takes the
//! job out when it is dropped. Each turn is one poll of one job, billed by the exact clock; after it the runtime looks
//! at its timers and sockets. Everything a job leaves behind (account, budget, standing) is settled on this thread,
//! before the ticket is ready. Relies on the kernel to prefer the serving thread whenever that has something to do.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker, ready},
    thread,
};

use artifact::TenantName;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    runtime::{self, LocalOptions},
    sync::oneshot,
};

use super::{
    Start,
    standing::{End, Standing, Strain, Who},
    turns::Turns,
};
use crate::{
    account::Account,
    exchange::Bill,
    failure::Failure,
    generation::Deployment,
    guest::{
        Run,
        drive::{classify, is_over_cpu},
    },
    meter,
};

/// The part of a node's instances that slow lanes may hold together: the rest is for guests that answer at once.
const PART: usize = 2;
/// The part of a lane's places that one tenant may have. With [`PART`] that is half of what one app may have of a worker, so that
/// an app whose guests wait here has room for those that begin on the serving thread.
const TENANT_PART: usize = 4;
/// The lowest weight `setpriority(2)` gives: 15, where a serving thread has 1,024. Anything above it costs fresh requests
/// their quick start: woken beside a busy thread of nice 19 the serving thread ran after 50 µs (p99), beside one of nice
/// 15 after 0.9 ms, of nice 10 after 2.9 ms.
pub const NICE_DEFAULT: u8 = 19;
/// Tasks polled before the runtime looks at its sockets and timers: each turn may have been a whole tick.
const EVENT_INTERVAL: u32 = 1;

/// A run on its way through the slow lane.
pub struct Job {
    /// The execution.
    pub run: Run,
    /// Its bill.
    pub bill: Arc<Bill>,
    /// Its account.
    pub account: Arc<Account>,
    /// What it is an execution of.
    pub deployment: Arc<Deployment>,
}

/// What a slow lane is told at its start.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Workers of the node, each with such a lane.
    pub workers: usize,
    /// Guests the node takes at once.
    pub instances_max: usize,
    /// Niceness of its thread, 0 to 19. Lower than [`NICE_DEFAULT`] only where programs that are not the node's keep the
    /// machine busy: beside them the lane would get nearly nothing.
    pub nice: u8,
}

/// The lane has no place for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A worker's lanes, as its driver sees them. Clones are the same lanes.
#[derive(Clone)]
pub struct Lanes(Arc<Shared>);

/// A slow lane with its thread. Dropping it drops what is in the lane and ends the thread.
pub struct SlowLane {
    lanes: Lanes,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    /// Of the serving thread.
    strain: Strain,
    door: Mutex<Door>,
    /// The task that gives turns.
    turns: AtomicWaker,
    places: usize,
    tenant_places: usize,
}

/// What passes between the threads.
#[derive(Default)]
struct Door {
    arrived: VecDeque<(u64, Job, oneshot::Sender<Option<Failure>>)>,
    /// Jobs that are ready to go on, each at most once; or whose ticket was dropped.
    woken: VecDeque<u64>,
    dropped: Vec<u64>,
    /// Places taken, by each tenant and by all: a job has one while it is ready or has its turn, not while it waits.
    of_tenants: HashMap<TenantName, usize>,
    taken: usize,
    /// All jobs, those that wait too. Their bound is the node's, of all executions.
    jobs: usize,
    next: u64,
    closed: bool,
}

/// The serving thread's end of a job.
pub struct Ticket {
    number: u64,
    shared: Arc<Shared>,
    end: oneshot::Receiver<Option<Failure>>,
}

impl Lanes {
    /// Where the next execution of a version begins.
    pub fn start(&self, standing: &Standing) -> Start {
        standing.start(&self.0.strain, meter::now_ns)
    }

    /// Is there time to spare on the serving thread for executions that belong here and find no place?
    pub fn has_spare(&self) -> bool {
        self.0.strain.has_spare(meter::now_ns())
    }

    /// A guest held the serving thread this long.
    pub fn held(&self, who: Who, ns: u64) {
        self.0.strain.held(who, meter::now_ns(), ns);
    }

    /// Takes a job over. Without a place it comes back.
    pub fn enter(&self, job: Job) -> Result<Ticket, (Full, Job)> {
        let (send, end) = oneshot::channel();
        let mut door = self.0.door.lock();
        let tenant = &job.deployment.id.tenant;
        let of_tenant = door.of_tenants.get(tenant).copied().unwrap_or(0);
        if door.closed || door.taken >= self.0.places || of_tenant >= self.0.tenant_places {
            return Err((Full, job));
        }
        door.jobs += 1;
        door.take_place(tenant);
        let number = door.next;
        door.next += 1;
        door.arrived.push_back((number, job, send));
        drop(door);
        self.0.turns.wake();
        Ok(Ticket { number, shared: self.0.clone(), end })
    }

    /// Jobs in the slow lane now, those that wait too.
    pub fn jobs(&self) -> usize {
        self.0.door.lock().jobs
    }
}

impl Door {
    fn take_place(&mut self, tenant: &TenantName) {
        self.taken += 1;
        *self.of_tenants.entry(tenant.clone()).or_default() += 1;
    }

    fn give_place(&mut self, tenant: &TenantName) {
        self.taken -= 1;
        if let Entry::Occupied(mut of_tenant) = self.of_tenants.entry(tenant.clone()) {
            *of_tenant.get_mut() -= 1;
            if *of_tenant.get() == 0 {
                of_tenant.remove();
            }
        }
    }
}

impl Ticket {
    /// Waits until the run has ended; how.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Failure>> {
        // A lane that is gone says nothing any more: it is taken for our fault.
        Poll::Ready(ready!(Pin::new(&mut self.end).poll(cx)).unwrap_or(Some(Failure::Internal)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.end.is_terminated() {
            return;
        }
        let mut door = self.shared.door.lock();
        if !door.closed {
            door.dropped.push(self.number);
            drop(door);
            self.shared.turns.wake();
        }
    }
}

impl SlowLane {
    /// The slow lane of worker number `index`. Its thread may use the cores that the caller's may.
    pub fn start(index: usize, settings: Settings) -> io::Result<SlowLane> {
        let Settings { workers, instances_max, nice } = settings;
        let places = (instances_max / PART / workers.max(1)).max(1);
        let lanes = Lanes(Arc::new(Shared {
            strain: Strain::default(),
            door: Mutex::default(),
            turns: AtomicWaker::new(),
            places,
            tenant_places: (places / TENANT_PART).max(1),
        }));
        let runtime = runtime::Builder::new_current_thread();
        let shared = lanes.0.clone();
        let run = move || serve(runtime, shared, nice);
        let thread = thread::Builder::new().name(format!("slow-{index}")).spawn(run)?;
        Ok(SlowLane { lanes, thread: Some(thread) })
    }

    /// What a driver needs of it.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }
}

impl Drop for SlowLane {
    fn drop(&mut self) {
        self.lanes.0.door.lock().closed = true;
        self.lanes.0.turns.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a slow lane's thread panicked");
        }
    }
}

/// Closes the door when the thread ends, however it does, so that nobody waits for it.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut door = self.0.door.lock();
        door.closed = true;
        let arrived = std::mem::take(&mut door.arrived);
        drop(door);
        drop(arrived);
    }
}

/// The thread's life.
fn serve(mut runtime: runtime::Builder, shared: Arc<Shared>, nice: u8) {
    let closing = Closing(shared.clone());
    // Of the calling thread alone: on Linux priorities are a thread's.
    if let Err(error) = rustix::process::setpriority_process(None, nice.into()) {
        tracing::warn!("the slow lane's thread could not be given low priority: {error}");
    }
    meter::be_exact_here();
    // As on a serving thread: nothing of this is to be a guest's bill.
    wasmtime::Engine::tls_eager_initialize();
    let _ = rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut [0; 32]);
    let built = runtime.enable_all().event_interval(EVENT_INTERVAL).build_local(LocalOptions::default());
    match built {
        Ok(runtime) => {
            // A task, because waking a runtime's main future is a system call.
            let turns = runtime.spawn_local(turns(shared));
            if runtime.block_on(turns).is_err() {
                tracing::error!("giving turns in a slow lane panicked");
            }
        }
        Err(error) => {
            tracing::error!("the slow lane has no runtime: {error}; guests over their tick get 503")
        }
    }
    drop(closing);
}

/// Gives turns until the door is closed.
async fn turns(shared: Arc<Shared>) {
    let mut lane = Lane { shared, jobs: HashMap::new(), turns: Turns::new(), dropped: VecDeque::new() };
    std::future::poll_fn(|cx| {
        lane.shared.turns.register(cx.waker());
        if lane.come_in().is_closed() {
            lane.clear();
            return Poll::Ready(());
        }
        // What nobody waits for goes first, whoever's turn it is: it holds memory and room that others want.
        if let Some(number) = lane.dropped.pop_front() {
            lane.end(number);
            cx.waker().wake_by_ref();
        } else if let Some(number) = lane.turns.next() {
            lane.turn(number);
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// What the lane's thread knows.
struct Lane {
    shared: Arc<Shared>,
    jobs: HashMap<u64, InLane>,
    turns: Turns<TenantName, u64>,
    /// Jobs that nobody waits for any more: to be torn down.
    dropped: VecDeque<u64>,
}

struct InLane {
    job: Job,
    end: oneshot::Sender<Option<Failure>>,
    waker: Arc<JobWaker>,
    has_place: bool,
}

/// Puts its job among those that are ready.
struct JobWaker {
    number: u64,
    shared: Arc<Shared>,
    /// It is among them, or is about to be polled: once is enough.
    awake: AtomicBool,
}

impl Wake for JobWaker {
    fn wake(self: Arc<JobWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<JobWaker>) {
        if !self.awake.swap(true, AcqRel) {
            self.shared.door.lock().woken.push_back(self.number);
            self.shared.turns.wake();
        }
    }
}

#[derive(PartialEq, Eq)]
enum DoorState {
    Open,
    Closed,
}

impl DoorState {
    fn is_closed(&self) -> bool {
        *self == DoorState::Closed
    }
}

impl Lane {
    /// Takes in what came through the door.
    fn come_in(&mut self) -> DoorState {
        let mut door = self.shared.door.lock();
        let (arrived, woken) = (std::mem::take(&mut door.arrived), std::mem::take(&mut door.woken));
        let (dropped, closed) = (std::mem::take(&mut door.dropped), door.closed);
        // A job that was let in once always comes back; only new ones are refused.
        for number in &woken {
            if let Some(job) = self.jobs.get_mut(number)
                && !std::mem::replace(&mut job.has_place, true)
            {
                door.take_place(&job.job.deployment.id.tenant);
            }
        }
        drop(door);
        for (number, job, end) in arrived {
            let waker = JobWaker { number, shared: self.shared.clone(), awake: AtomicBool::new(true) };
            self.turns.ready(&job.deployment.id.tenant, number);
            self.jobs.insert(number, InLane { job, end, waker: Arc::new(waker), has_place: true });
        }
        self.dropped.extend(dropped);
        for number in woken {
            if let Some(job) = self.jobs.get(&number) {
                self.turns.ready(&job.job.deployment.id.tenant, number);
            }
        }
        if closed { DoorState::Closed } else { DoorState::Open }
    }

    /// One turn of one job.
    fn turn(&mut self, number: u64) {
        let Some(in_lane) = self.jobs.get_mut(&number) else { return };
        let Job { run, bill, account, deployment } = &mut in_lane.job;
        in_lane.waker.awake.store(false, Release);
        let waker = Waker::from(in_lane.waker.clone());
        let before_ns = bill.slices_ns();
        bill.begin_slice();
        let polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut Context::from_waker(&waker))));
        // Before the look below: what is billed from here on wakes it.
        bill.wake_when_over(&waker);
        let by = if matches!(polled, Ok(Poll::Pending)) { End::Stopped } else { End::ByItself };
        let ended = match polled {
            Ok(Poll::Pending) => is_over_cpu(deployment, bill, bill.limited_ns() + bill.slice_ns_running())
                .then_some(Some(Failure::CpuLimit)),
            Ok(Poll::Ready(Ok(()))) => Some(None),
            Ok(Poll::Ready(Err(error))) => Some(Some(classify(&error, bill))),
            Err(_) => {
                tracing::error!(app = %deployment.id, "a host function panicked");
                Some(Some(Failure::Internal))
            }
        };
        if let Some(failure) = ended {
            // Before the slice is over: whoever sees the end of its body then sees why.
            account.ended(failure);
        }
        bill.end_slice();
        bill.tell_slice_ended();
        let tenant = deployment.id.tenant.clone();
        self.turns.had(&tenant, bill.slices_ns().saturating_sub(before_ns));
        match ended {
            Some(failure) => self.end_with(number, failure, by),
            // Its own wish to be woken comes by way of the runtime; this one is its turn being over.
            None if bill.yielded() && !in_lane.waker.awake.swap(true, AcqRel) => {
                self.turns.ready(&tenant, number);
            }
            None => self.wait(number),
        }
    }

    /// A job whose turn is over before its time: unless it was woken meanwhile it waits, and others may have its place.
    fn wait(&mut self, number: u64) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if !job.waker.awake.load(Acquire) {
            job.has_place = false;
            self.shared.door.lock().give_place(&job.job.deployment.id.tenant);
        }
    }

    /// A job that nobody waits for.
    fn end(&mut self, number: u64) {
        self.end_with(number, None, End::Stopped);
    }

    /// Tears a job down and settles what it leaves.
    fn end_with(&mut self, number: u64, failure: Option<Failure>, by: End) {
        let Some(InLane { job: Job { run, bill, account, deployment }, end, has_place, .. }) =
            self.jobs.remove(&number)
        else {
            return;
        };
        let before_ns = bill.slices_ns();
        bill.begin_slice();
        if catch_unwind(AssertUnwindSafe(|| drop(run))).is_err() {
            tracing::error!(app = %deployment.id, "ending a guest panicked");
        }
        bill.end_slice();
        bill.tell_slice_ended();
        bill.give_back_memory();
        deployment.standing.ended(bill.judged_ns(), by);
        self.turns.had(&deployment.id.tenant, bill.slices_ns().saturating_sub(before_ns));
        drop(account);
        self.leave(&deployment.id.tenant, has_place);
        let _ = end.send(failure);
    }

    fn leave(&self, tenant: &TenantName, has_place: bool) {
        let mut door = self.shared.door.lock();
        door.jobs -= 1;
        if has_place {
            door.give_place(tenant);
        }
    }

    fn clear(&mut self) {
        let numbers: Vec<u64> = self.jobs.keys().copied().collect();
        for number in numbers {
            self.end(number);
        }
    }
}

#[cfg(test)]
mod tests;
