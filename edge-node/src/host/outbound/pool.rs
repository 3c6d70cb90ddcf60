//! Connections to origins, kept alive for the tenant they were made for.
//!
//! A connection is a task of the runtime it was made on, and is used by requests of that thread: the thread is part of
//! the key. HTTP/1.1 connections are taken out while they are used; HTTP/2 connections stay, and are shared up to a
//! number of streams. A connection whose peer closes it, or that is idle for too long, ends its task and is forgotten.
//!
//! All tenants share the node's connections ([`Share`]). One that may have no more gets the place of the connection that has
//! been idle for longest among its own, or else among those of the tenant that has most, if that has more than itself.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread::{self, ThreadId},
    time::Duration,
};

use artifact::{
    TenantName,
    manifest::origin::{Origin, OriginHost},
};
use futures_util::task::AtomicWaker;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    FetchError,
    body::Sending,
    connect::Connected,
    limits,
    made::Keeping,
    payer::{PaidExecutor, Payer, Payers},
    share::Share,
    tls::Identity,
};
use crate::front::watched::{Reads, Watched};

/// Locks the pool is spread over, so that serving threads seldom meet at one.
const SHARDS: usize = 16;

/// Who may use a connection: requests of this tenant, on this thread, to this origin with this TLS definition, that
/// want it kept alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    thread: ThreadId,
    tenant: TenantName,
    origin: Origin,
    cert_host: Option<OriginHost>,
    identity: Identity,
    /// Absent: as is usual.
    keeping: Option<Keeping>,
}

impl Key {
    /// For requests of the current thread.
    pub fn new(tenant: TenantName, origin: Origin, cert_host: Option<OriginHost>, identity: Identity) -> Key {
        Key { thread: thread::current().id(), tenant, origin, cert_host, identity, keeping: None }
    }

    /// The same for those who want it kept like this.
    pub fn kept(self, keeping: Option<Keeping>) -> Key {
        Key { keeping, ..self }
    }

    /// How its connections are made and kept.
    pub fn keeping(&self) -> Keeping {
        self.keeping.unwrap_or_default()
    }
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    shards: [Mutex<HashMap<Arc<Key>, Vec<Member>>>; SHARDS],
    hasher: RandomState,
    share: Share,
}

struct Member {
    sender: Sender,
    live: Arc<Live>,
}

/// Where requests are given to a connection.
pub enum Sender {
    /// One at a time.
    H1(http1::SendRequest<Sending>),
    /// Many at once.
    H2(http2::SendRequest<Sending>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }
}

/// What pool, task and requests know of one connection.
pub struct Live {
    /// The address it goes to.
    pub peer: SocketAddr,
    began: Instant,
    /// Who uses it now.
    pub payers: Payers,
    /// Requests it was lent to.
    uses: AtomicU32,
    /// When it was given back last, in ms since it began.
    used_ms: AtomicU64,
    /// Bytes that came over it.
    received: AtomicU64,
    streams_max: AtomicU32,
    /// Until its socket is closed, or another connection gets it.
    room: Mutex<Option<Room>>,
    /// Is it to end? Each of the tasks that it consists of asks.
    is_over: watch::Sender<bool>,
    /// Told when somebody leaves it.
    left: AtomicWaker,
}

impl Live {
    fn new(peer: SocketAddr, room: Room) -> Live {
        Live {
            peer,
            began: Instant::now(),
            payers: Payers::default(),
            uses: AtomicU32::new(0),
            used_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            streams_max: AtomicU32::new(limits::H2_STREAMS_MAX),
            room: Mutex::new(Some(room)),
            is_over: watch::Sender::new(false),
            left: AtomicWaker::new(),
        }
    }

    /// Ends all its tasks. An upload that the peer never takes would keep an HTTP/2 connection open for ever.
    fn end(&self) {
        self.is_over.send_replace(true);
    }

    /// Runs a task of the connection until that ends.
    pub async fn while_it_lasts(&self, task: impl Future<Output = ()>) {
        let mut is_over = self.is_over.subscribe();
        tokio::select! {
            biased;
            () = task => {}
            _ = is_over.wait_for(|is_over| *is_over) => {}
        }
    }

    /// Waits until nobody uses it.
    fn poll_unused(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.left.register(cx.waker());
        if self.payers.count() == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Bytes that came over it so far: how a request tells whether its answer had begun.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// May it not be used once more?
    fn is_spent(&self, keeping: &Keeping) -> bool {
        keeping.reuses_max.is_some_and(|most| self.uses.load(Relaxed) > most)
            || keeping.age_max.is_some_and(|most| self.began.elapsed() >= most)
            || self.idle().is_some_and(|idle| idle >= keeping.idle_max)
    }

    /// How long nobody has used it; `None` while somebody does.
    fn idle(&self) -> Option<Duration> {
        if self.payers.count() > 0 {
            return None;
        }
        Some(self.began.elapsed().saturating_sub(Duration::from_millis(self.used_ms.load(Relaxed))))
    }
}

/// A connection lent to one request.
pub struct Lease {
    pool: Pool,
    key: Arc<Key>,
    sender: Option<Sender>,
    /// The connection.
    pub live: Arc<Live>,
    /// Has it served a request before? Then its peer may have closed it in the meantime.
    pub is_reused: bool,
    payer: Payer,
}

impl Lease {
    fn new(
        pool: Pool,
        key: Arc<Key>,
        sender: Sender,
        live: Arc<Live>,
        is_reused: bool,
        payer: Payer,
    ) -> Lease {
        live.payers.join(payer.clone());
        live.uses.fetch_add(1, Relaxed);
        Lease { pool, key, sender: Some(sender), live, is_reused, payer }
    }

    /// Who pays for it.
    pub fn payer(&self) -> &Payer {
        &self.payer
    }

    /// Where the request is given to the connection.
    pub fn sender(&mut self) -> Option<&mut Sender> {
        self.sender.as_mut()
    }

    /// The response was read to its end: the connection is good for another.
    pub fn give_back(mut self) {
        if let Some(sender @ Sender::H1(_)) = self.sender.take() {
            self.pool.keep(&self.key, Member { sender, live: self.live.clone() });
        }
    }
}

/// Dropped without being given back, an HTTP/1.1 connection closes: hyper does that when its sender is gone.
impl Drop for Lease {
    fn drop(&mut self) {
        self.live.used_ms.store(self.live.began.elapsed().as_millis() as u64, Relaxed);
        self.live.payers.leave(&self.payer);
        self.live.left.wake();
    }
}

impl Default for Pool {
    fn default() -> Pool {
        Pool::of(limits::CONNECTIONS_MAX)
    }
}

impl Pool {
    /// A pool of so many connections.
    pub fn of(connections_max: usize) -> Pool {
        let share = Share::new(connections_max);
        Pool(Arc::new(Inner { shards: Default::default(), hasher: RandomState::new(), share }))
    }

    /// A connection that is open and free, on this payer's bill until the lease ends.
    pub fn take(&self, key: &Arc<Key>, payer: &Payer) -> Option<Lease> {
        let keeping = key.keeping();
        let mut shard = self.shard(key).lock();
        let members = shard.get_mut(key)?;
        members.retain(|member| !member.sender.is_closed() && !member.live.is_spent(&keeping));
        let free = members.iter().rposition(|member| match &member.sender {
            // Not ready while its peer still reads the request before.
            Sender::H1(sender) => sender.is_ready(),
            Sender::H2(_) => member.live.payers.count() < member.live.streams_max.load(Relaxed),
        });
        let lent = free.map(|at| match &members[at].sender {
            Sender::H2(sender) => (Sender::H2(sender.clone()), members[at].live.clone()),
            Sender::H1(_) => {
                let member = members.remove(at);
                (member.sender, member.live)
            }
        });
        if members.is_empty() {
            shard.remove(key);
        }
        // Under the lock: who looks for idle ones must not find it.
        lent.map(|(sender, live)| Lease::new(self.clone(), key.clone(), sender, live, true, payer.clone()))
    }

    /// Room for one more connection of the tenant, to be taken before connecting.
    pub fn room(&self, tenant: &TenantName) -> Result<Room, FetchError> {
        if self.0.share.take(tenant) {
            return Ok(Room { pool: self.clone(), tenant: tenant.clone() });
        }
        let of_tenants = self.0.share.of_tenants();
        let own = of_tenants.get(tenant).copied().unwrap_or(0);
        // Who has more gives, so that nobody is driven out by who has the most.
        let rank = |other: &TenantName| match of_tenants.get(other).copied().unwrap_or(0) {
            _ if other == tenant => Some(usize::MAX),
            others => (others > own).then_some(others),
        };
        while let Some((key, live)) = self.idlest(rank) {
            // Somebody may have used it meanwhile, or closed it for another.
            if let Some(mut room) = self.close_idle(&key, &live) {
                self.0.share.pass(&room.tenant, tenant);
                room.tenant = tenant.clone();
                return Ok(room);
            }
        }
        Err(FetchError::ConnectionLimit)
    }

    /// The connection that has been idle for longest, of the tenants that rank highest; those without rank are passed
    /// over. Looks at all: only where there is no room, and on the bill of who wants some.
    fn idlest(&self, rank: impl Fn(&TenantName) -> Option<usize>) -> Option<(Arc<Key>, Arc<Live>)> {
        let (mut best, mut found) = (None, None);
        for shard in &self.0.shards {
            for (key, members) in shard.lock().iter() {
                let Some(rank) = rank(&key.tenant) else { continue };
                for Member { live, .. } in members {
                    let Some(idle) = live.idle() else { continue };
                    if Some((rank, idle)) > best {
                        (best, found) = (Some((rank, idle)), Some((key.clone(), live.clone())));
                    }
                }
            }
        }
        found
    }

    /// Closes a connection if it is idle still. Its room; the connection ends when its tasks have their next turn.
    fn close_idle(&self, key: &Arc<Key>, live: &Arc<Live>) -> Option<Room> {
        let mut shard = self.shard(key).lock();
        let members = shard.get_mut(key)?;
        let at = members.iter().position(|member| Arc::ptr_eq(&member.live, live))?;
        live.idle()?;
        let closed = members.swap_remove(at); // hyper ends a connection that nobody can send on
        if members.is_empty() {
            shard.remove(key);
        }
        drop(shard);
        closed.live.end();
        closed.live.room.lock().take()
    }

    /// Starts HTTP on a new connection and lends it.
    pub async fn start(
        &self,
        key: Arc<Key>,
        connected: Connected,
        room: Room,
        payer: Payer,
    ) -> Result<Lease, FetchError> {
        let Connected { stream, peer, is_h2 } = connected;
        let live = Arc::new(Live::new(peer, room));
        let io = TokioIo::new(Watched::new(stream, Socket::new(live.clone())));
        let task = Task { pool: self.clone(), key: key.clone(), live: live.clone() };
        let sender = if is_h2 {
            let (sender, mut connection) =
                h2_builder(live.clone()).handshake(io).await.map_err(|_| FetchError::Protocol)?;
            let (streams, mut takes_requests) = (live.clone(), true);
            tokio::spawn(task.run(move |cx| {
                if takes_requests {
                    takes_requests = Pin::new(&mut connection).poll(cx).is_pending();
                    let offered = u32::try_from(connection.current_max_send_streams()).unwrap_or(u32::MAX);
                    streams.streams_max.store(offered.min(limits::H2_STREAMS_MAX), Relaxed);
                }
                // After a GOAWAY the requests under way go on.
                if takes_requests { Poll::Pending } else { streams.poll_unused(cx) }
            }));
            Sender::H2(sender)
        } else {
            let (sender, mut connection) =
                h1_builder().handshake(io).await.map_err(|_| FetchError::Protocol)?;
            tokio::spawn(task.run(move |cx| Pin::new(&mut connection).poll(cx).map(drop)));
            Sender::H1(sender)
        };
        let lease = Lease::new(self.clone(), key.clone(), sender, live.clone(), false, payer);
        // Not before it is lent: whoever looks for an idle one would find it.
        if let Some(Sender::H2(sender)) = &lease.sender {
            self.keep(&key, Member { sender: Sender::H2(sender.clone()), live });
        }
        Ok(lease)
    }

    fn keep(&self, key: &Arc<Key>, member: Member) {
        let keeping = key.keeping();
        if !keeping.is_pooled || member.sender.is_closed() {
            return;
        }
        let mut shard = self.shard(key).lock();
        let members = shard.entry(key.clone()).or_default();
        if members.len() < keeping.idle_connections_max {
            members.push(member);
        }
    }

    fn forget(&self, key: &Arc<Key>, live: &Arc<Live>) {
        let mut shard = self.shard(key).lock();
        if let Entry::Occupied(mut entry) = shard.entry(key.clone()) {
            entry.get_mut().retain(|member| !Arc::ptr_eq(&member.live, live));
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    fn shard(&self, key: &Key) -> &Mutex<HashMap<Arc<Key>, Vec<Member>>> {
        &self.0.shards[self.0.hasher.hash_one(key) as usize % SHARDS]
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.0.share.taken()
    }
}

/// The right to have one connection open.
pub struct Room {
    pool: Pool,
    tenant: TenantName,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.pool.0.share.give(&self.tenant);
    }
}

/// What keeps a connection going.
struct Task {
    pool: Pool,
    key: Arc<Key>,
    live: Arc<Live>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.pool.forget(&self.key, &self.live);
        self.live.end();
    }
}

impl Task {
    /// Polls the connection until it ends or has been idle for too long.
    async fn run(self, mut connection: impl FnMut(&mut Context<'_>) -> Poll<()>) {
        // While it is used the timer goes on at this pace, and nobody pays for it.
        let idle_max = self.key.keeping().idle_max.max(limits::IDLE_LOOK_INTERVAL_MIN);
        let mut timer = pin!(sleep(idle_max));
        std::future::poll_fn(|cx| {
            if self.live.payers.pay(|| connection(cx)).is_ready() {
                return Poll::Ready(());
            }
            while timer.as_mut().poll(cx).is_ready() {
                let idle = self.live.idle().unwrap_or_default();
                if idle >= idle_max {
                    return Poll::Ready(());
                }
                timer.as_mut().reset(Instant::now() + (idle_max - idle));
            }
            Poll::Pending
        })
        .await;
    }
}

fn h1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // hyper's own bound of 100 fields is ours; naming it would move them to the heap.
    builder.max_header_size(limits::HEADER_BYTES_MAX).max_buf_size(limits::HEAD_BYTES_HELD_MAX);
    builder
}

fn h2_builder(live: Arc<Live>) -> http2::Builder<PaidExecutor> {
    let mut builder = http2::Builder::new(PaidExecutor(live));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits::H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::H2_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits::HEAD_BYTES_HELD_MAX as u32)
        .max_send_buf_size(limits::H2_SEND_BUFFER_BYTES)
        .max_concurrent_streams(0) // the peer may open none
        .keep_alive_interval(limits::H2_PING_INTERVAL)
        .keep_alive_timeout(limits::H2_PING_TIMEOUT);
    builder
}

/// Stands beside a connection's socket: counts what comes in, and gives the room back when the socket is closed.
struct Socket {
    live: Arc<Live>,
    /// What came, and how often it was looked for, since somebody used it.
    unused_bytes: usize,
}

impl Socket {
    fn new(live: Arc<Live>) -> Socket {
        Socket { live, unused_bytes: 0 }
    }

    /// Counts what nobody pays for. Is it too much?
    fn is_flooded(&mut self, bytes: usize) -> bool {
        let all = self.unused_bytes.saturating_add(bytes).saturating_add(limits::UNUSED_READ_BYTES);
        self.unused_bytes = if self.live.payers.count() == 0 { all } else { 0 };
        self.unused_bytes > limits::UNUSED_BYTES_MAX
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let room = self.live.room.lock().take();
        drop(room);
    }
}

impl Reads for Socket {
    fn polled(
        &mut self,
        _: &mut Context<'_>,
        bytes: usize,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        self.live.received.fetch_add(bytes as u64, Relaxed);
        if self.is_flooded(bytes) {
            return Poll::Ready(Err(io::Error::other("the backend speaks and nobody listens")));
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;

    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_use_is_not_looked_at_all_the_time_however_short_it_may_be_idle() {
        let (pool, tenant): (_, TenantName) = (Pool::default(), "default".parse().unwrap());
        let keeping = Keeping { idle_max: Duration::from_millis(1), ..Keeping::default() };
        let key = Key::new(tenant.clone(), Origin::parse("http://a.example").unwrap(), None, None);
        let key = Arc::new(key.kept(Some(keeping)));
        let live = Arc::new(Live::new(([127, 0, 0, 1], 80).into(), pool.room(&tenant).unwrap()));
        let payer = Payer::of(&testing::exchange(AppConfig::default()));
        live.payers.join(payer.clone());
        let looks = Arc::new(AtomicU32::new(0));
        let counted = looks.clone();
        let task = Task { pool: pool.clone(), key, live: live.clone() };
        let task = tokio::spawn(task.run(move |_| {
            counted.fetch_add(1, Relaxed);
            Poll::Pending
        }));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!((2..=11).contains(&looks.load(Relaxed)), "{looks:?}");
        assert!(!live.is_spent(&keeping) && !task.is_finished());
        live.used_ms.store(live.began.elapsed().as_millis() as u64, Relaxed);
        live.payers.leave(&payer);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(live.is_spent(&keeping), "nobody gets it any more");
        tokio::time::sleep(limits::IDLE_LOOK_INTERVAL_MIN * 2).await;
        assert!(task.is_finished());
    }
}
