//! Who listens to which app: the set that nodes are told, and the way of their lines to each listener.
//!
//! Relies on [`fleet_sync_proto::logs::listener`] for what a listener has heard. Nobody waits for a listener: a slow one
//! loses lines and is told so. Deliberately absent: who may listen to what, which is the API's work, and other origins:
//! each knows the lines of its own nodes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifact::{AppId, NodeName, names::PopName, record::UnixMs};
use fleet_sync_proto::logs::{
    FOLLOWED_MAX, Follow, Followed, LogLine, Logs,
    listener::{Heard, Lines, Listener},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::origin::Origin;

/// Listeners of all tenants: each may follow another app, and hold 1 MiB of lines that wait.
pub const LISTENERS_MAX: usize = FOLLOWED_MAX;
/// Listeners of one tenant: one cannot take the places of all.
pub const LISTENERS_OF_TENANT_MAX: usize = 8;

/// Bytes of lines that are taken of all nodes together in a second: a tenth of a core or so goes into reading them, and
/// acks and records have the rest. Thirteen nodes tell as much; more wait longer until their lines are taken.
pub const LOGS_BYTES_S_MAX: u32 = 8 << 20;
/// What was not used of it may be used later, for so long.
const BURST: Duration = Duration::from_millis(250);
/// A listener that reads nothing for this long gives its place back: a healthy one looks every few seconds.
const STUCK: Duration = Duration::from_secs(60);

/// There is no place for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Of this tenant.
    #[error("{LISTENERS_OF_TENANT_MAX} listeners of this tenant are at work: end one first")]
    Tenant,
    /// Of anybody.
    #[error("{LISTENERS_MAX} listeners are at work: try again in a moment")]
    All,
    /// The process stops.
    #[error("the control plane is stopping: try again in a moment")]
    Stopping,
}

/// All of them.
pub(crate) struct Listeners {
    inner: Mutex<Inner>,
    pace: Mutex<Pace>,
    followed: watch::Sender<Follow>,
}

/// How far ahead of its pace taking is.
#[derive(Default)]
struct Pace(Option<Instant>);

impl Pace {
    /// So many bytes were taken now. When may their sender go on?
    fn taken(&mut self, now: Instant, bytes: usize) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = self.0.unwrap_or(earliest).max(earliest);
        let due = from + Duration::from_secs(bytes as u64) / LOGS_BYTES_S_MAX;
        self.0 = Some(due);
        due.max(now)
    }
}

struct Inner {
    /// By the number under which it asked.
    listeners: BTreeMap<u64, Arc<One>>,
    /// Numbers never come twice, also over restarts: they begin with the time.
    last: u64,
    closed: bool,
}

/// A listener. Its lock is never waited for under that of all: who tells and who reads meet at the one listener.
struct One {
    app: AppId,
    wake: Notify,
    listener: Mutex<Listener>,
    came: Instant,
    /// When it read last, ms after it came.
    read_ms: AtomicU64,
    /// It takes what waits for it, and nothing new.
    is_done: AtomicBool,
    /// Its place was taken from it.
    is_gone: AtomicBool,
}

impl One {
    fn end(&self) {
        self.is_gone.store(true, Relaxed);
        self.wake.notify_one();
    }

    fn reads(&self) {
        self.read_ms.store(self.came.elapsed().as_millis() as u64, Relaxed);
    }

    fn is_stuck(&self) -> bool {
        self.came.elapsed() >= STUCK + Duration::from_millis(self.read_ms.load(Relaxed))
    }
}

/// A place among the listeners; given back when dropped.
pub struct Listening {
    origin: Arc<Origin>,
    number: u64,
    /// `None`: it was gone before it was there.
    one: Option<Arc<One>>,
}

impl Listeners {
    pub(crate) fn new(now_ms: UnixMs) -> Listeners {
        // A thousand numbers a millisecond: more listeners than may ever have come before a restart.
        let inner = Inner { listeners: BTreeMap::new(), last: now_ms.saturating_mul(1_000), closed: false };
        Listeners {
            inner: Mutex::new(inner),
            pace: Mutex::default(),
            followed: watch::Sender::new(Follow::default()),
        }
    }

    /// What nodes are to be told, and when it changes.
    pub(crate) fn followed(&self) -> watch::Receiver<Follow> {
        self.followed.subscribe()
    }

    pub(crate) fn join(&self, app: &AppId, since_ms: UnixMs) -> Result<u64, ListenError> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(ListenError::Stopping);
        }
        self.forget_stuck(&mut inner);
        if inner.listeners.len() >= LISTENERS_MAX {
            return Err(ListenError::All);
        }
        let of_tenant = inner.listeners.values().filter(|one| one.app.tenant == app.tenant);
        if of_tenant.count() >= LISTENERS_OF_TENANT_MAX {
            return Err(ListenError::Tenant);
        }
        inner.last += 1;
        let number = inner.last;
        let listener = Listener::new(number, since_ms.saturating_mul(1_000));
        let one = One {
            app: app.clone(),
            wake: Notify::new(),
            listener: Mutex::new(listener),
            came: Instant::now(),
            read_ms: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        };
        inner.listeners.insert(number, Arc::new(one));
        self.tell(&inner);
        Ok(number)
    }

    /// A node told lines. Never waits; says when the node may be told that they were taken. The lines are put in order once, and
    /// handed to each listener without the lock that all sessions meet at.
    pub(crate) fn told(&self, node: &NodeName, pop: &PopName, logs: Logs) -> Instant {
        let bytes = logs.apps.iter().flat_map(|app| &app.lines).map(LogLine::bytes).sum();
        for app in logs.apps {
            let listening = self.listening_to(&app.id);
            if listening.is_empty() {
                continue;
            }
            let lines = Lines::from(app);
            for one in listening {
                one.listener.lock().hear(node, pop, &lines);
                one.wake.notify_one();
            }
        }
        self.pace.lock().taken(Instant::now(), bytes)
    }

    fn listening_to(&self, app: &AppId) -> Vec<Arc<One>> {
        let mut inner = self.inner.lock();
        self.forget_stuck(&mut inner);
        let hears = |one: &&Arc<One>| one.app == *app && !one.is_done.load(Relaxed);
        inner.listeners.values().filter(hears).cloned().collect()
    }

    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for (_, one) in std::mem::take(&mut inner.listeners) {
            one.end();
        }
        self.tell(&inner);
    }

    fn leave(&self, number: u64) {
        let mut inner = self.inner.lock();
        if inner.listeners.remove(&number).is_some() {
            self.tell(&inner);
        }
    }

    fn hear_no_more(&self, number: u64) {
        let inner = self.inner.lock();
        if let Some(one) = inner.listeners.get(&number)
            && !one.is_done.swap(true, Relaxed)
        {
            self.tell(&inner);
        }
    }

    fn forget_stuck(&self, inner: &mut Inner) {
        let before = inner.listeners.len();
        inner.listeners.values().filter(|one| one.is_stuck()).for_each(|one| one.end());
        inner.listeners.retain(|_, one| !one.is_gone.load(Relaxed));
        if inner.listeners.len() < before {
            self.tell(inner);
        }
    }

    /// The set, from those who are there: each app once, under its newest number.
    fn tell(&self, inner: &Inner) {
        let listeners = inner.listeners.iter().filter(|(_, one)| !one.is_done.load(Relaxed));
        let newest: BTreeMap<&AppId, u64> = listeners.map(|(number, one)| (&one.app, *number)).collect();
        let apps = newest.into_iter().map(|(id, asked)| Followed { id: id.clone(), asked }).collect();
        self.followed.send_if_modified(|followed| {
            let now = Follow { apps };
            let differs = *followed != now;
            *followed = now;
            differs
        });
    }
}

impl Listening {
    pub(crate) fn new(origin: Arc<Origin>, number: u64) -> Listening {
        let one = origin.listeners.inner.lock().listeners.get(&number).cloned();
        Listening { origin, number, one }
    }

    /// What was heard, as soon as there is something; `None` when listening has ended. May be dropped at any moment without
    /// losing anything.
    pub async fn next(&self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.now()? {
                return Some(heard);
            }
            self.one.as_ref()?.wake.notified().await;
        }
    }

    /// What was heard already, if anything. The outer `None`: listening has ended.
    pub fn now(&self) -> Option<Option<Heard>> {
        let one = self.one.as_ref().filter(|one| !one.is_gone.load(Relaxed))?;
        one.reads();
        Some(one.listener.lock().take())
    }

    /// From now on only what waits already is given, and nodes need not tell more. The place is kept until this is dropped.
    pub fn hear_no_more(&self) {
        self.origin.listeners.hear_no_more(self.number);
    }

    /// Connected nodes that have not told yet what they remembered when this listener came.
    pub fn awaited(&self) -> Vec<(NodeName, PopName)> {
        let connected = self.origin.nodes.connected_now();
        let Some(one) = self.one.as_ref().filter(|one| !one.is_gone.load(Relaxed)) else { return Vec::new() };
        let listener = one.listener.lock();
        connected.into_iter().filter(|(node, _)| !listener.has_all_of(node)).collect()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.origin.listeners.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use fleet_sync_proto::logs::AppLogs;

    use super::*;

    fn id(tenant: &str, app: &str) -> AppId {
        AppId { tenant: tenant.parse().unwrap(), app: app.parse().unwrap() }
    }

    #[test]
    fn places_are_bounded_for_a_tenant_and_for_all_and_are_given_back() {
        let all = Listeners::new(1);
        let places: Vec<_> =
            (0..LISTENERS_OF_TENANT_MAX).map(|_| all.join(&id("a", "shop"), 0).unwrap()).collect();
        assert_eq!(all.join(&id("a", "blog"), 0), Err(ListenError::Tenant));
        for tenant in 0..LISTENERS_MAX - LISTENERS_OF_TENANT_MAX {
            all.join(&id(&format!("t{tenant}"), "shop"), 0).unwrap();
        }
        assert_eq!(all.join(&id("b", "shop"), 0), Err(ListenError::All));
        all.leave(places[0]);
        all.join(&id("a", "blog"), 0).unwrap();
        assert!(all.followed.borrow().apps.len() <= FOLLOWED_MAX);
        all.close();
        assert_eq!(all.join(&id("b", "shop"), 0), Err(ListenError::Stopping));
        assert_eq!(*all.followed.borrow(), Follow::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_stuck_gives_its_place_back_and_nodes_rest() {
        let all = Listeners::new(1);
        all.join(&id("a", "shop"), 0).unwrap();
        tokio::time::advance(STUCK).await;
        let (id, lines) = (id("b", "shop"), vec![]);
        let app = AppLogs { id, asked: 1, run: 1, first: 0, lines, gaps: vec![], caught_up: false };
        let logs = Logs { number: 1, apps: vec![app] };
        all.told(&"fra1-1".parse().unwrap(), &"fra1".parse().unwrap(), logs);
        assert_eq!(*all.followed.borrow(), Follow::default());
    }

    #[test]
    fn lines_are_handed_on_while_somebody_else_holds_the_lock_of_all() {
        let all = Listeners::new(1);
        let number = all.join(&id("a", "shop"), 0).unwrap();
        let one = all.inner.lock().listeners[&number].clone();
        let app = AppLogs {
            id: id("a", "shop"),
            asked: number,
            run: 1,
            first: 0,
            lines: vec![],
            gaps: vec![],
            caught_up: true,
        };
        let (node, pop): (NodeName, PopName) = ("fra1-1".parse().unwrap(), "fra1".parse().unwrap());
        // A listener that is busy with its own lines holds up neither a new one nor a line of another app.
        let busy = one.listener.lock();
        std::thread::scope(|scope| {
            let told = scope.spawn(|| all.told(&node, &pop, Logs { number: 1, apps: vec![app] }));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!told.is_finished() && all.inner.try_lock().is_some());
            drop(busy);
        });
        assert!(one.listener.lock().has_all_of(&node));
    }

    #[test]
    fn many_nodes_that_tell_at_once_wait_longer_the_more_they_are_and_few_do_not() {
        let now = Instant::now() + Duration::from_secs(9);
        let (mut pace, message) = (Pace::default(), 64 * 1024);
        let waits: Vec<Duration> = (0..1_000).map(|_| pace.taken(now, message) - now).collect();
        assert!(waits[..32].iter().all(Duration::is_zero), "a burst");
        let last = waits[999];
        assert!(
            waits.is_sorted() && last > Duration::from_secs(7) && last < Duration::from_secs(8),
            "{last:?}"
        );
        // After a rest it is a burst again, and no more.
        let later = now + Duration::from_secs(3_600);
        assert_eq!(pace.taken(later, 0), later);
        assert_eq!(pace.taken(later, LOGS_BYTES_S_MAX as usize), later + Duration::from_secs(1) - BURST);
    }

    #[test]
    fn nodes_are_told_each_app_once_with_its_newest_listener_until_the_last_has_gone() {
        let all = Listeners::new(5);
        let mut seen = all.followed();
        let first = all.join(&id("a", "shop"), 0).unwrap();
        let second = all.join(&id("a", "shop"), 0).unwrap();
        let told = seen.borrow_and_update().clone();
        assert_eq!(told.apps, [Followed { id: id("a", "shop"), asked: second }]);
        assert!(second > first && first > 5_000, "and never a number of before a restart");
        all.leave(first);
        assert!(!seen.has_changed().unwrap(), "nothing for nodes to do");
        all.hear_no_more(second);
        assert_eq!(*seen.borrow_and_update(), Follow::default(), "also while it takes what waits");
        all.leave(second);
        assert_eq!(*seen.borrow_and_update(), Follow::default());
    }
}
