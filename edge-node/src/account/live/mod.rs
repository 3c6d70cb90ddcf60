//! Live logs: what the node remembers of each app's last lines, and what it tells of apps that somebody follows
//! (docs/design/0017-live-logs.md).
//!
//! | Module | One job |
//! |---|---|
//! | [`tail`] | the last lines of one app |
//! | [`telling`] | which apps are followed, and how far each was told |
//!
//! The threads that write the logs note every line here, whether anybody listens or not: a request pays nothing, and a
//! listener gets what was said before it came. What a followed app says is told from the same memory, so there is no
//! second queue: a line that left it before it was told leaves a hole in the numbers. Memory is bounded for each app and
//! for all together, and then divided equally: a loud app takes nothing from what a quiet one may have.

mod tail;
mod telling;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use artifact::AppId;
use fleet_sync_replica::logs::{AppLogs, Follow, UnixUs};
use parking_lot::Mutex;

use crate::exchange::RequestId;

use tail::Tail;
pub use tail::{Ended, Line, What};
use telling::Telling;

/// What an app's lines may take while nobody follows it: its last 270 requests, or six lines of 4 KiB.
pub const APP_BYTES_MAX: usize = 32 * 1024;
/// While it is followed: what the node tells in 0.4 s at most. With [`fleet_sync_replica::logs::FOLLOWED_MAX`]
/// apps 16 MiB.
pub const FOLLOWED_APP_BYTES_MAX: usize = 256 * 1024;
/// What the lines of all apps that nobody follows may take: 512 full ones.
pub const ALL_BYTES_MAX: usize = 16 << 20;
/// When they have more, each keeps its equal part of seven eighths: dividing is looking at every app, and is not to come
/// again before 2 MiB more were said.
const ALL_BYTES_KEPT: usize = ALL_BYTES_MAX / 8 * 7;

/// A node's. Cheap to clone.
#[derive(Clone, Default)]
pub struct Live(Arc<Shared>);

#[derive(Default)]
struct Shared {
    apps: Mutex<HashMap<AppId, Weak<AppTail>>>,
    /// Of the apps that nobody follows.
    bytes: AtomicUsize,
    telling: Mutex<Telling>,
}

/// The place of one app's lines, shared by all its versions. Gone with the last of them.
pub struct AppTail {
    id: AppId,
    shared: Arc<Shared>,
    /// Lines that found no room on their way here and were not noted yet.
    lost: AtomicU64,
    held: Mutex<Held>,
}

struct Held {
    tail: Tail,
    is_followed: bool,
}

/// One moment by both clocks: that of waiting and that of people.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting.
    pub at: Instant,
    /// For people, µs since 1970.
    pub us: UnixUs,
}

impl Now {
    /// This moment.
    pub fn get() -> Now {
        Now { at: Instant::now(), us: unix_us(SystemTime::now()) }
    }
}

/// Microseconds since 1970.
pub fn unix_us(time: SystemTime) -> UnixUs {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

impl Live {
    /// The place of an app's lines.
    pub fn app(&self, id: &AppId) -> Arc<AppTail> {
        let mut apps = self.0.apps.lock();
        if let Some(known) = apps.get(id).and_then(Weak::upgrade) {
            return known;
        }
        let tail = Tail::new(unix_us(SystemTime::now()), APP_BYTES_MAX);
        let held = Mutex::new(Held { tail, is_followed: false });
        let app = AppTail { id: id.clone(), shared: self.0.clone(), lost: AtomicU64::new(0), held };
        let app = Arc::new(app);
        apps.insert(id.clone(), Arc::downgrade(&app));
        app
    }

    /// Somebody listens to these apps and to no others.
    pub fn follow(&self, now: Now, follow: Follow) {
        let ended = self.0.telling.lock().follow(now, follow);
        ended.iter().filter_map(|id| self.0.app(id)).for_each(|app| app.set_followed(false));
    }

    /// Ends what nobody renewed. To be called now and then also while no origin is there to tell lines to.
    pub fn expire(&self, now: Now) {
        let ended = self.0.telling.lock().expire(now);
        ended.iter().filter_map(|id| self.0.app(id)).for_each(|app| app.set_followed(false));
    }

    /// The next lines to tell, the same ones until they were [`Live::taken`].
    pub fn tell(&self, now: Now) -> Vec<AppLogs> {
        self.expire(now);
        self.0.telling.lock().tell(now, |id, read| {
            let app = self.0.app(id)?;
            app.set_followed(true);
            app.note_lost(now);
            Some(read(&app.held.lock().tail))
        })
    }

    /// What was told last has arrived.
    pub fn taken(&self) {
        self.0.telling.lock().taken();
    }
}

impl Shared {
    fn app(&self, id: &AppId) -> Option<Arc<AppTail>> {
        self.apps.lock().get(id)?.upgrade()
    }

    /// Brings every app that nobody follows to an equal part.
    fn divide(&self) {
        let apps: Vec<Arc<AppTail>> = self.apps.lock().values().filter_map(Weak::upgrade).collect();
        let part = ALL_BYTES_KEPT / apps.len().max(1);
        for app in apps {
            let mut held = app.held.lock();
            if !held.is_followed {
                self.counted(&mut held.tail, |tail| tail.shrink(part));
            }
        }
    }

    /// Changes a tail that counts.
    fn counted(&self, tail: &mut Tail, change: impl FnOnce(&mut Tail)) {
        let before = tail.capacity();
        change(tail);
        self.bytes.fetch_add(tail.capacity().wrapping_sub(before), Relaxed); // wraps back where it has less
    }
}

impl AppTail {
    /// Remembers a line. Called by the threads that write logs, never while a request waits.
    pub fn note(&self, line: &Line<'_>) {
        let lost = if self.lost.load(Relaxed) == 0 { 0 } else { self.lost.swap(0, Relaxed) };
        let push = |tail: &mut Tail| {
            if lost > 0 {
                tail.push(&Line { what: What::Dropped(lost), ..*line });
            }
            tail.push(line);
        };
        let mut held = self.held.lock();
        if held.is_followed {
            return push(&mut held.tail);
        }
        self.shared.counted(&mut held.tail, push);
        drop(held);
        if self.shared.bytes.load(Relaxed) > ALL_BYTES_MAX {
            self.shared.divide();
        }
    }

    /// Says what was lost and was not said with a line that came after it: perhaps none does.
    fn note_lost(&self, now: Now) {
        let lost = self.lost.swap(0, Relaxed);
        if lost > 0 {
            // Of no version and no request: nobody is told of either with it.
            let request = RequestId::new();
            self.note(&Line { time_us: now.us, version: 0, request, what: What::Dropped(lost) });
        }
    }

    /// A line found no room on its way here. On a serving thread: the next one that is noted says so, or who follows is told.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    fn set_followed(&self, followed: bool) {
        let mut held = self.held.lock();
        if held.is_followed == followed {
            return;
        }
        held.is_followed = followed;
        if followed {
            self.shared.bytes.fetch_sub(held.tail.capacity(), Relaxed);
            held.tail.set_room(FOLLOWED_APP_BYTES_MAX);
        } else {
            held.tail.set_room(APP_BYTES_MAX);
            self.shared.bytes.fetch_add(held.tail.capacity(), Relaxed);
        }
    }
}

impl Drop for AppTail {
    fn drop(&mut self) {
        let held = self.held.get_mut();
        if !held.is_followed {
            self.shared.bytes.fetch_sub(held.tail.capacity(), Relaxed);
        }
        let mut apps = self.shared.apps.lock();
        // Another may have taken its place meanwhile.
        if apps.get(&self.id).is_some_and(|app| app.strong_count() == 0) {
            apps.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests;
