//! One thread of the generator: a runtime of its own, and a task for each request that can be under way.

use std::{
    cell::{Cell, RefCell},
    num::NonZeroU64,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::{
    thread::set_current_timer_slack,
    time::{ClockId, clock_gettime},
};
use tokio::task::JoinSet;

use super::{
    arrivals::{Bursts, Clock, Pacer, Schedule},
    hosts::Popularity,
    link::{Link, Plan, Shared},
    random::Random,
    scenario::Scenario,
    tally::{Live, Outcome, Tally},
};

/// For answers under way at the end.
const GRACE: Duration = Duration::from_secs(5);
/// How often it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Tasks that run between two looks at the sockets, of those that are ready: tokio's own number, set because the looks of a client
/// that sleeps between them are judged by it ([`Outcome::looks_for_an_answer`]).
pub const TASKS_A_LOOK: u32 = 61;
/// After an error, so that a dead target does not make the client spin.
const PAUSE: Duration = Duration::from_millis(10);

/// What all threads share.
pub struct Run {
    pub scenario: Scenario,
    pub plan: Plan,
    pub hosts: Popularity,
    pub start: Instant,
}

impl Run {
    fn measure_from(&self) -> Instant {
        self.start + self.scenario.warm_up
    }

    fn end(&self) -> Instant {
        self.measure_from() + self.scenario.duration
    }
}

/// What the tasks of one thread share.
struct Worker {
    run: Arc<Run>,
    live: Arc<Live>,
    pacer: Option<Pacer>,
    bursts: Option<Bursts>,
    tally: RefCell<Tally>,
    /// At its sockets, within the measured time, after a sleep each.
    looks: Cell<u64>,
    stopped: Cell<bool>,
}

/// Runs thread `thread` to its end, and counts.
pub fn work(run: &Arc<Run>, thread: u32, live: &Arc<Live>, stop: &AtomicBool) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_A_LOOK)
        .build_local(Default::default())
        .context("starting a runtime")?;
    let scenario = &run.scenario;
    let pacer = Schedule::of(scenario, thread)
        .map(|schedule| Pacer::new(run.start, scenario.warm_up + scenario.duration, schedule));
    let worker = Rc::new(Worker {
        run: Arc::clone(run),
        live: Arc::clone(live),
        pacer,
        bursts: Bursts::of(scenario),
        tally: RefCell::new(Tally::new(run.measure_from(), run.end())),
        looks: Cell::new(0),
        stopped: Cell::new(false),
    });
    let client_cpu = runtime.block_on(worker.all(thread, stop))?;
    // Tasks that still wait for an answer go with it.
    drop(runtime);
    let worker = Rc::into_inner(worker).context("a task outlived its runtime")?;
    let missing = worker.pacer.as_ref().map_or(0, |pacer| pacer.missing(scenario.warm_up));
    let outcome = worker.tally.into_inner().finish(client_cpu, missing, worker.stopped.get());
    Ok(Outcome { looks: worker.looks.get(), ..outcome })
}

impl Worker {
    /// Gives the CPU spent while it counted.
    async fn all(self: &Rc<Worker>, thread: u32, stop: &AtomicBool) -> anyhow::Result<Duration> {
        let scenario = &self.run.scenario;
        let mine = (0..scenario.connections).filter(|number| number % scenario.threads == thread);
        let mut slots = JoinSet::new();
        for connection in mine {
            let shared = Rc::new(Shared::default());
            for stream in 0..scenario.streams {
                let slot = u64::from(connection) * u64::from(scenario.streams) + u64::from(stream);
                slots.spawn_local(Rc::clone(self).slot(slot, Rc::clone(&shared)));
            }
        }
        let clock = Ticking::start(self.pacer.as_ref().map(|pacer| pacer.clock(slots.len())))?;
        let cpu_before = Cell::new(cpu());
        let warm = async {
            tokio::time::sleep_until(self.run.measure_from().into()).await;
            cpu_before.set(cpu());
        };
        let answers = async {
            while let Some(done) = slots.join_next().await {
                done.context("a task of the client failed")?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            done = async { tokio::join!(answers, warm).0 } => done?,
            () = self.over(stop) => {}
            () = self.looking() => {}
        }
        drop(clock);
        Ok(cpu().saturating_sub(cpu_before.get()))
    }

    /// Returns when there is nothing to wait for any more.
    async fn over(&self, stop: &AtomicBool) {
        while Instant::now() < self.run.end() + GRACE {
            if stop.load(Relaxed) {
                self.stopped.set(true);
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps the runtime from waiting in the kernel: with a task that is always ready it only looks at its sockets, and this
    /// thread sleeps between two looks. So no answer has to wake it, which would cost a server on the same machine 2 µs
    /// that it pays for no client elsewhere.
    async fn looking(&self) {
        let every = self.run.scenario.look_every;
        if every.is_zero() {
            return std::future::pending().await;
        }
        // The kernel may else let it sleep twice as long.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let measured = self.run.measure_from()..self.run.end();
        loop {
            thread::sleep(every);
            if measured.contains(&Instant::now()) {
                self.looks.set(self.looks.get() + 1);
            }
            tokio::task::yield_now().await;
        }
    }

    /// One request after another, until the end.
    async fn slot(self: Rc<Worker>, number: u64, shared: Rc<Shared>) {
        let plan = &self.run.plan;
        let mut random = Random::new(self.run.scenario.seed, number);
        let mut link = Link::new(shared);
        while let Some(intended) = self.next_start().await {
            let host = self.run.hosts.pick(number, &mut random);
            self.tally.borrow_mut().begin(intended);
            let result = link.exchange(plan, host).await;
            self.tally.borrow_mut().end(intended, &result, &self.live);
            let pause = match result {
                Err(_) => PAUSE,
                Ok(answer) if answer.status == 503 => self.run.scenario.pause_after_503,
                Ok(_) => continue,
            };
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// When the next request is to start: a moment that has come.
    async fn next_start(&self) -> Option<Instant> {
        if let Some(pacer) = &self.pacer {
            return pacer.take().await;
        }
        if let Some(idle) = self.bursts.and_then(|bursts| bursts.idle(self.run.start.elapsed())) {
            tokio::time::sleep(idle).await;
        }
        let now = Instant::now();
        (now < self.run.end() && !self.stopped.get()).then_some(now)
    }
}

/// The clock's thread; it ends with this.
struct Ticking {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticking {
    /// A closed loop needs none.
    fn start(clock: Option<Clock>) -> anyhow::Result<Ticking> {
        let over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&over);
        let run =
            |clock: Clock| thread::Builder::new().name("load-clock".into()).spawn(move || clock.run(&theirs));
        let thread = clock.map(run).transpose().context("starting the clock's thread")?;
        Ok(Ticking { over, thread })
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and a panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// Of this thread, since it began.
fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec as u32)
}
