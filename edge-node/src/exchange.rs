//! One request's lifetime: who it is for, what it may use, what it has cost.
//!
//! Three lifetimes, three structs (DESIGN §2): [`crate::node::Node`] once per process, [`crate::generation::Generation`]
//! once per consistent picture of the fleet, [`Exchange`] once per request. An exchange is `Send`, because a guest
//! that outlives its first tick may be moved to another thread.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use artifact::manifest::Limits;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use tokio::sync::oneshot;

use crate::{
    account::guest_log::LogSink,
    front::{Connection, InboundBody, OutboundBody},
    generation::Deployment,
    host::{
        Host,
        door::{Door, Source},
        held::{Granted, Held},
        kv,
        outbound::Fetches,
    },
    limits::{EXECUTION, Limit, LimitReached, LimitSet, bit},
    memory::{self, Budget},
    meter,
};

/// Names one request in the access log, in error bodies and towards the guest. 128 bits: a per-thread random
/// prefix and a counter, so that it costs no system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// A fresh id.
    pub fn new() -> RequestId {
        thread_local! {
            static NEXT: std::cell::Cell<u128> = std::cell::Cell::new({
                let mut seed = [0; 16];
                // Without kernel randomness ids start at zero: still unique within the thread's process.
                let _ = getrandom::fill(&mut seed);
                u128::from_ne_bytes(seed) << 40
            });
        }
        NEXT.with(|next| {
            let id = next.get();
            next.set(id.wrapping_add(1));
            RequestId(id)
        })
    }
}

impl RequestId {
    /// As a number; shown it has 32 hexadecimal digits.
    pub(crate) fn number(self) -> u128 {
        self.0
    }
}

impl Default for RequestId {
    fn default() -> RequestId {
        RequestId::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Everything a guest's host functions need to know about the request they serve.
pub struct Exchange {
    /// Its name.
    pub id: RequestId,
    /// The version that answers, from the one generation this request sees.
    pub deployment: Arc<Deployment>,
    /// The connection it came over.
    pub connection: Arc<Connection>,
    /// What this node offers to guests.
    pub host: Arc<Host>,
    /// What it learns and causes passes here.
    pub door: Door,
    /// When its head was complete.
    pub started: Instant,
    /// What it has used; shared with the driver that polls the guest.
    pub bill: Arc<Bill>,
    /// Linear memory it has, in bytes.
    memory_bytes: usize,
    /// What the host holds for it.
    pub held: Held,
    /// Where its output lines go.
    pub log: LogSink,
    /// What it may still fetch, and until when.
    pub fetches: Fetches,
    /// What it has used of key-value stores.
    pub kv: kv::Usage,
}

impl Exchange {
    /// An exchange that begins now.
    pub fn begin(deployment: Arc<Deployment>, connection: Arc<Connection>, host: Arc<Host>) -> Exchange {
        let id = RequestId::new();
        let bill = Arc::new(Bill::default());
        let started = Instant::now();
        let wall = Duration::from_millis(u64::from(deployment.limits().wall_ms));
        Exchange {
            id,
            memory_bytes: 0,
            held: Held::default(),
            log: LogSink::default(),
            deployment,
            connection,
            host,
            door: Door::default(),
            started,
            fetches: Fetches::new(started + wall),
            bill,
            kv: kv::Usage::default(),
        }
    }

    /// The limits of this execution.
    pub fn limits(&self) -> &Limits {
        self.deployment.limits()
    }

    /// The guest went over a limit that ends it: what a host function returns as its error.
    pub fn over(&self, limit: Limit) -> LimitReached {
        self.bill.meet(limit);
        LimitReached(limit)
    }

    /// Takes from the node's budget bytes that an execution newly has. They go back when its instance is gone.
    ///
    /// A guest can tell whether there were some, so the answer is learned. A replay asks the budget all the same: the
    /// memory it then has is real.
    pub(crate) fn take_from_node(&self, bytes: u64) -> bool {
        if bytes == 0 {
            return true;
        }
        let taken = self.bill.take_memory(&self.host.memory, bytes);
        self.door.learn(Source::Memory, || Granted(taken)).0
    }

    /// The same for what grows beyond its slot.
    fn take_growth(&self, before: u64, after: u64) -> bool {
        let taken = self.take_from_node(after.saturating_sub(before));
        if !taken {
            self.bill.meet(Limit::NodeMemory);
        }
        taken
    }
}

/// Bounds a guest's linear memories together, and its tables; and what all guests of the node have.
impl wasmtime::ResourceLimiter for Exchange {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if bytes > (self.limits().memory_mib as usize) << 20 {
            self.bill.meet(Limit::Memory);
            return Ok(false);
        }
        // Beyond its own maximum a memory does not grow, whatever is said here.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if !self.take_growth(memory::beyond_slot(current), memory::beyond_slot(desired)) {
            return Ok(false);
        }
        self.memory_bytes = bytes;
        self.bill.memory_peak_bytes.store(bytes as u64, Relaxed);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > EXECUTION.table_elements {
            self.bill.meet(Limit::Table);
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.take_growth(memory::table_beyond_slot(current), memory::table_beyond_slot(desired)))
    }
}

/// What an execution has used. Counters only; read by the driver, the epoch callback and the account.
#[derive(Default)]
pub struct Bill {
    slices_ns: AtomicU64,
    /// What the node did for it beside its slices: TLS and HTTP towards backends.
    beside_ns: AtomicU64,
    /// Of it, what it did for several executions at once.
    shared_ns: AtomicU64,
    /// Who polls the run, while that waits.
    over: AtomicWaker,
    slice_start_ns: AtomicU64,
    instantiate_ns: AtomicU64,
    memory_peak_bytes: AtomicU64,
    limits_met: AtomicU32,
    yielded: AtomicBool,
    first: AtomicBool,
    in_slice: AtomicBool,
    /// Who waits for the end of a slice on another thread.
    slice_ended: AtomicWaker,
    /// Bytes of the node's budget it holds.
    memory_held: AtomicU64,
    /// Where they go back to.
    budget: OnceLock<Budget>,
}

/// Of the first instance of a program on a worker: an engine's very first takes 5 ms (measured), others a tenth of one.
const FIRST_INSTANCE_NS_MAX: u64 = 10_000_000;

impl Bill {
    /// Marks the beginning of a slice of guest execution on this thread.
    pub fn begin_slice(&self) {
        self.yielded.store(false, Relaxed);
        self.in_slice.store(true, Relaxed);
        self.slice_start_ns.store(meter::begin_slice_ns(), Relaxed);
    }

    /// Adds the slice that ends now.
    pub fn end_slice(&self) {
        self.slices_ns.fetch_add(self.slice_ns_running(), Relaxed);
        self.in_slice.store(false, Release);
    }

    /// A slice that ends when it is dropped, by a panic too.
    pub fn slice(&self) -> Slice<'_> {
        self.begin_slice();
        Slice(self)
    }

    /// Tells whoever waits in [`Bill::poll_between_slices`] that a slice has ended.
    pub fn tell_slice_ended(&self) {
        self.slice_ended.wake();
    }

    /// Waits until no thread is within a slice: what the slice did to the account is then visible here.
    pub fn poll_between_slices(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_in_slice() {
            return Poll::Ready(());
        }
        self.slice_ended.register(cx.waker());
        if self.is_in_slice() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Is a thread running the guest now?
    pub fn is_in_slice(&self) -> bool {
        self.in_slice.load(Acquire)
    }

    /// CPU time of the running slice, in nanoseconds. On the thread that runs it.
    pub fn slice_ns_running(&self) -> u64 {
        meter::slice_ns(self.slice_start_ns.load(Relaxed))
    }

    /// CPU time of the ended slices and of what was done beside them, in nanoseconds: what it has cost.
    pub fn cpu_ns(&self) -> u64 {
        self.slices_ns().saturating_add(self.beside_ns.load(Relaxed))
    }

    /// The part of [`Bill::cpu_ns`] that its limit is held against. What was done for several executions at once is not:
    /// how much that is, each decides for the others.
    pub fn limited_ns(&self) -> u64 {
        self.cpu_ns().saturating_sub(self.shared_ns.load(Relaxed))
    }

    /// CPU time of the ended slices alone, in nanoseconds: what a lane judges a guest by, since nothing else would move
    /// with it to another.
    pub fn slices_ns(&self) -> u64 {
        self.slices_ns.load(Relaxed)
    }

    /// Notes that this is the first execution of its program on its worker.
    pub fn is_first(&self) {
        self.first.store(true, Relaxed);
    }

    /// The part of [`Bill::slices_ns`] that an app is judged by: not the first milliseconds that it took to make a program's
    /// first instance on a worker, which are nobody's fault. Later instances are the program's own: it may have a start
    /// function, and segments to copy.
    pub fn judged_ns(&self) -> u64 {
        let forgiven = if self.first.load(Relaxed) { FIRST_INSTANCE_NS_MAX } else { 0 };
        self.slices_ns().saturating_sub(self.instantiate_ns().min(forgiven))
    }

    /// Adds what the node did for it beside its slices, in nanoseconds. On any thread.
    pub fn add_beside(&self, ns: u64) {
        self.beside_ns.fetch_add(ns, Relaxed);
    }

    /// The same for its part of what the node did for several executions at once.
    pub fn add_shared(&self, ns: u64) {
        self.shared_ns.fetch_add(ns, Relaxed);
        self.add_beside(ns);
    }

    /// A run that waits is to be polled when work beside its slices has used up its CPU time.
    pub fn wake_when_over(&self, waker: &Waker) {
        self.over.register(waker);
    }

    /// The CPU time is used up: tells who polls the run.
    pub fn tell_over(&self) {
        self.over.wake();
    }

    /// Notes that this slice ends because its time is over, not because the guest waits.
    pub fn yielding(&self) {
        self.yielded.store(true, Relaxed);
    }

    /// Did the last slice end because its time was over? Then others run before the guest does.
    pub fn yielded(&self) -> bool {
        self.yielded.load(Relaxed)
    }

    /// Notes how long store and instance took to make.
    pub fn instantiated(&self, ns: u64) {
        self.instantiate_ns.store(ns, Relaxed);
    }

    /// Time to make store and instance, in nanoseconds.
    pub fn instantiate_ns(&self) -> u64 {
        self.instantiate_ns.load(Relaxed)
    }

    /// Largest linear memory, in bytes.
    pub fn memory_peak_bytes(&self) -> u64 {
        self.memory_peak_bytes.load(Relaxed)
    }

    /// Notes that the execution met a limit.
    pub fn meet(&self, limit: Limit) {
        self.limits_met.fetch_or(bit(limit), Relaxed);
    }

    /// The limits it met so far.
    pub fn limits_met(&self) -> LimitSet {
        LimitSet(self.limits_met.load(Relaxed))
    }

    fn take_memory(&self, budget: &Budget, bytes: u64) -> bool {
        let taken = budget.take(bytes);
        if taken {
            self.budget.get_or_init(|| budget.clone());
            self.memory_held.fetch_add(bytes, Relaxed);
        }
        taken
    }

    /// Gives back the node's memory. When the instance is gone, never earlier; a bill that is dropped does it too.
    pub fn give_back_memory(&self) {
        if let Some(budget) = self.budget.get() {
            budget.give(self.memory_held.swap(0, Relaxed));
        }
    }
}

/// See [`Bill::slice`].
pub struct Slice<'a>(&'a Bill);

impl Drop for Slice<'_> {
    fn drop(&mut self) {
        self.0.end_slice();
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.give_back_memory();
    }
}

/// The request as a guest gets it.
pub type GuestRequest = Request<InboundBody>;

/// Sends a guest's response head, once. Dropping it unsent means that the guest gave no response.
pub struct Responder(oneshot::Sender<Response<OutboundBody>>);

impl Responder {
    /// A responder and where its response arrives.
    pub fn new() -> (Responder, oneshot::Receiver<Response<OutboundBody>>) {
        let (send, receive) = oneshot::channel();
        (Responder(send), receive)
    }

    /// Sends the response. Nobody may be left to read it; the guest need not know.
    pub fn send(self, response: Response<OutboundBody>) {
        let _ = self.0.send(response);
    }

    /// Sends a response whose whole body is at hand.
    pub fn send_full(self, head: http::response::Parts, body: Bytes) {
        self.send(Response::from_parts(head, OutboundBody::Full(body)));
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;
    use wasmtime::ResourceLimiter as _;

    use super::*;
    use crate::{
        host::{held, tape::Tape},
        testing::{connection, deployment},
    };

    #[test]
    fn an_exchange_may_change_threads() {
        fn is_send<T: Send>() {}
        is_send::<Exchange>();
        is_send::<Responder>();
    }

    #[test]
    fn request_ids_differ_within_and_across_threads() {
        let here: Vec<_> = (0..3).map(|_| RequestId::new().to_string()).collect();
        let there = std::thread::spawn(|| RequestId::new().to_string()).join().unwrap();
        assert_ne!(here[0], here[1]);
        assert!(!here.contains(&there));
        assert_eq!(there.len(), 32);
    }

    /// An exchange with this memory, on a node with this much beyond its slots.
    fn exchange(memory_mib: u32, budget: &Budget) -> Exchange {
        let config = AppConfig { limits: Limits { memory_mib, ..Limits::default() }, ..AppConfig::default() };
        let host = Arc::new(Host { memory: budget.clone(), ..crate::testing::bare_host() });
        Exchange::begin(Arc::new(deployment("test", 1, config)), connection(), host)
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn memories_are_limited_together() {
        let mut exchange = exchange(2, &Budget::new(0, 0).unwrap());
        assert!(exchange.memory_growing(0, MIB, None).unwrap());
        assert!(exchange.memory_growing(0, MIB, None).unwrap());
        assert!(!exchange.bill.limits_met().has(Limit::Memory));
        assert!(!exchange.memory_growing(MIB, MIB + 65536, None).unwrap());
        assert!(exchange.bill.limits_met().has(Limit::Memory));
        assert_eq!(exchange.bill.memory_peak_bytes(), 2 << 20);
    }

    #[test]
    fn what_a_slot_does_not_hold_is_the_nodes_and_comes_back() {
        let budget = Budget::new(100 << 20, 0).unwrap();
        let (mut first, mut second) = (exchange(128, &budget), exchange(128, &budget));
        assert!(first.memory_growing(0, 2 * MIB, None).unwrap());
        assert_eq!(budget.bytes(), 0, "in the slot");
        assert!(first.memory_growing(2 * MIB, 62 * MIB, None).unwrap());
        assert!(!first.memory_growing(62 * MIB, 63 * MIB, Some(62 * MIB)).unwrap(), "its own maximum");
        assert!(second.memory_growing(0, 42 * MIB, None).unwrap());
        assert_eq!(budget.bytes(), 100 << 20);
        assert!(!second.memory_growing(42 * MIB, 43 * MIB, None).unwrap());
        assert!(!second.table_growing(0, 65_536, None).unwrap());
        assert!(second.bill.limits_met().has(Limit::NodeMemory));
        assert!(!second.bill.limits_met().has(Limit::Memory));
        let bill = first.bill.clone();
        drop(first);
        assert_eq!(budget.bytes(), 100 << 20, "not before its instance is gone");
        bill.give_back_memory();
        assert!(second.table_growing(0, 65_536, None).unwrap());
        drop(second);
        assert_eq!(budget.bytes(), 0, "at the latest with the bill");
    }

    #[test]
    fn what_a_node_refuses_is_refused_again_where_there_is_enough() {
        let grown = |door: Door, node_mib: u64| {
            let mut exchange = exchange(128, &Budget::new(node_mib << 20, 0).unwrap());
            exchange.door = door;
            let memory = [30, 60].map(|mib| exchange.memory_growing(0, mib * MIB, None).unwrap());
            let table = exchange.table_growing(0, 65_536, None).unwrap();
            let held = held::hold(&mut exchange, MIB).map_err(|LimitReached(limit)| limit);
            (memory, table, held, exchange.bill.limits_met())
        };
        let tape = Tape::record();
        let full = grown(tape.door(), 28);
        let refused = Err(Limit::NodeMemory);
        assert_eq!(full, ([true, false], false, refused, LimitSet(bit(Limit::NodeMemory))));
        let again = Tape::play(tape.recording());
        assert_eq!(grown(again.door(), 1_000), full);
        assert_eq!(again.recording(), tape.recording());
        assert_eq!(grown(Door::default(), 1_000), ([true, true], true, Ok(()), LimitSet::default()));
    }

    #[test]
    fn tables_are_limited_one_by_one() {
        let mut exchange = exchange(1, &Budget::new(1 << 30, 0).unwrap());
        assert!(exchange.table_growing(0, EXECUTION.table_elements, None).unwrap());
        assert!(exchange.table_growing(0, EXECUTION.table_elements, None).unwrap());
        assert!(!exchange.table_growing(0, EXECUTION.table_elements + 1, None).unwrap());
        assert!(exchange.bill.limits_met().has(Limit::Table));
    }
}
