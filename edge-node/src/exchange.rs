//! One request's lifetime: who it is for, what it may use, what it has cost.
//!
//! Three lifetimes, three structs (DESIGN §2): [`crate::node::Node`] once per process, [`crate::generation::Generation`]
//! once per consistent picture of the fleet, [`Exchange`] once per request. An exchange is `Send`, because a guest
//! that outlives its first tick may be moved to another thread.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use artifact::manifest::Limits;
use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::oneshot;

use crate::{
    account::guest_log::LogSink,
    front::{Connection, InboundBody, OutboundBody},
    generation::Deployment,
    host::{Host, door::Door, kv, outbound::Fetches},
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
    /// What its memories and tables may grow to.
    pub memory: MemoryLimiter,
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
            memory: MemoryLimiter::new(deployment.limits(), bill.clone()),
            log: LogSink::new(&deployment, id),
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
}

/// What an execution has used. Counters only; read by the driver, the epoch callback and the account.
#[derive(Debug, Default)]
pub struct Bill {
    cpu_ns: AtomicU64,
    slice_start_ns: AtomicU64,
    instantiate_ns: AtomicU64,
    memory_peak_bytes: AtomicU64,
    memory_refused: AtomicBool,
    yielded: AtomicBool,
}

impl Bill {
    /// Marks the beginning of a slice of guest execution on this thread.
    pub fn begin_slice(&self) {
        self.yielded.store(false, Relaxed);
        self.slice_start_ns.store(meter::begin_slice_ns(), Relaxed);
    }

    /// Adds the slice that ends now.
    pub fn end_slice(&self) {
        let spent = meter::slice_ns(self.slice_start_ns.load(Relaxed));
        self.cpu_ns.fetch_add(spent, Relaxed);
    }

    /// CPU time so far, the running slice included, in nanoseconds.
    pub fn cpu_ns_running(&self) -> u64 {
        self.cpu_ns() + meter::slice_ns(self.slice_start_ns.load(Relaxed))
    }

    /// CPU time of the ended slices, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Relaxed)
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

    /// Was the guest refused memory? Then a trap that follows is its memory limit, not a bug of ours.
    pub fn memory_refused(&self) -> bool {
        self.memory_refused.load(Relaxed)
    }
}

/// Bounds a guest's linear memories together, and its tables.
pub struct MemoryLimiter {
    bytes: usize,
    bytes_max: usize,
    bill: Arc<Bill>,
}

impl MemoryLimiter {
    fn new(limits: &Limits, bill: Arc<Bill>) -> MemoryLimiter {
        MemoryLimiter { bytes: 0, bytes_max: (limits.memory_mib as usize) << 20, bill }
    }
}

impl wasmtime::ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes + desired.saturating_sub(current);
        if bytes > self.bytes_max {
            self.bill.memory_refused.store(true, Relaxed);
            return Ok(false);
        }
        self.bytes = bytes;
        self.bill.memory_peak_bytes.store(bytes as u64, Relaxed);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= engine::TABLE_ELEMENTS_MAX)
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
    use super::*;
    use wasmtime::ResourceLimiter as _;

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

    #[test]
    fn memories_are_limited_together() {
        let bill = Arc::new(Bill::default());
        let limits = Limits { memory_mib: 2, ..Limits::default() };
        let mut limiter = MemoryLimiter::new(&limits, bill.clone());
        assert!(limiter.memory_growing(0, 1 << 20, None).unwrap());
        assert!(limiter.memory_growing(0, 1 << 20, None).unwrap());
        assert!(!bill.memory_refused());
        assert!(!limiter.memory_growing(1 << 20, (1 << 20) + 65536, None).unwrap());
        assert!(bill.memory_refused());
        assert_eq!(bill.memory_peak_bytes(), 2 << 20);
    }
}
