//! Who listens to which app: the set that nodes are told, and the way of their lines to each listener.
//!
//! Relies on [`fleet_sync_proto::logs::listener`] for what a listener has heard. Nobody waits for a listener: a slow one
//! loses lines and is told so. Deliberately absent: who may listen to what, which is the API's work, and other origins:
//! each knows the lines of its own nodes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use artifact::{AppId, NodeName, names::PopName, record::UnixMs};
use fleet_sync_proto::logs::{
    FOLLOWED_MAX, Follow, Followed, LogLine, Logs,
    listener::{Heard, Listener},
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
    listeners: BTreeMap<u64, One>,
    /// Numbers never come twice, also over restarts: they begin with the time.
    last: u64,
    closed: bool,
}

struct One {
    app: AppId,
    listener: Listener,
    wake: Arc<Notify>,
    read: Instant,
    /// It takes what waits for it, and nothing new.
    is_done: bool,
}

/// A place among the listeners; given back when dropped.
pub struct Listening {
    origin: Arc<Origin>,
    number: u64,
    wake: Arc<Notify>,
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
        let (wake, read) = (Arc::new(Notify::new()), Instant::now());
        let one = One { app: app.clone(), listener, wake, read, is_done: false };
        inner.listeners.insert(number, one);
        self.tell(&inner);
        Ok(number)
    }

    /// A node told lines. Never waits; says when the node may be told that they were taken.
    pub(crate) fn told(&self, node: &NodeName, pop: &PopName, logs: &Logs) -> Instant {
        let mut inner = self.inner.lock();
        self.forget_stuck(&mut inner);
        for app in &logs.apps {
            for one in inner.listeners.values_mut().filter(|one| one.app == app.id && !one.is_done) {
                one.listener.hear(node, pop, app);
                one.wake.notify_one();
            }
        }
        let bytes = logs.apps.iter().flat_map(|app| &app.lines).map(LogLine::bytes).sum();
        self.pace.lock().taken(Instant::now(), bytes)
    }

    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for (_, one) in std::mem::take(&mut inner.listeners) {
            one.wake.notify_one();
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
        let mut inner = self.inner.lock();
        if let Some(one) = inner.listeners.get_mut(&number).filter(|one| !one.is_done) {
            one.is_done = true;
            self.tell(&inner);
        }
    }

    fn forget_stuck(&self, inner: &mut Inner) {
        let before = inner.listeners.len();
        inner.listeners.retain(|_, one| one.read.elapsed() < STUCK);
        if inner.listeners.len() < before {
            self.tell(inner);
        }
    }

    /// The set, from those who are there: each app once, under its newest number.
    fn tell(&self, inner: &Inner) {
        let listeners = inner.listeners.iter().filter(|(_, one)| !one.is_done);
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
        let wake = origin.listeners.inner.lock().listeners.get(&number).map(|one| one.wake.clone());
        Listening { origin, number, wake: wake.unwrap_or_default() }
    }

    /// What was heard, as soon as there is something; `None` when listening has ended. May be dropped at any moment without
    /// losing anything.
    pub async fn next(&self) -> Option<Heard> {
        loop {
            if let Some(heard) = self.now()? {
                return Some(heard);
            }
            self.wake.notified().await;
        }
    }

    /// What was heard already, if anything. The outer `None`: listening has ended.
    pub fn now(&self) -> Option<Option<Heard>> {
        let mut inner = self.origin.listeners.inner.lock();
        let one = inner.listeners.get_mut(&self.number)?;
        one.read = Instant::now();
        Some(one.listener.take())
    }

    /// From now on only what waits already is given, and nodes need not tell more. The place is kept until this is dropped.
    pub fn hear_no_more(&self) {
        self.origin.listeners.hear_no_more(self.number);
    }

    /// Connected nodes that have not told yet what they remembered when this listener came.
    pub fn awaited(&self) -> Vec<(NodeName, PopName)> {
        let connected = self.origin.nodes.connected_now();
        let inner = self.origin.listeners.inner.lock();
        let Some(one) = inner.listeners.get(&self.number) else { return Vec::new() };
        connected.into_iter().filter(|(node, _)| !one.listener.has_all_of(node)).collect()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.origin.listeners.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
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
        let logs = Logs::default();
        all.told(&"fra1-1".parse().unwrap(), &"fra1".parse().unwrap(), &logs);
        assert_eq!(*all.followed.borrow(), Follow::default());
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
