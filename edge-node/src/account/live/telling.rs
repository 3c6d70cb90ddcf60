//! Which apps are followed, and how far each was told: pure, time and tails are arguments.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use artifact::AppId;
use fleet_sync_replica::logs::{
    AppLogs, FOLLOW_MS, FOLLOWED_MAX, Follow, Followed, LOGS_BYTES_MAX, LogLine, UnixUs,
};

use super::{
    Now,
    tail::{Most, Read, Tail},
};

/// Two threads note lines, each when it wakes: what is younger than this may still get an earlier neighbour, and waits.
const YOUNG_US: u64 = 25_000;
/// What is later than this is not young: the clock was set back.
const AHEAD_US: u64 = 1_000_000;

/// How long an app that was followed keeps its memory: a stream that ended is asked for anew within this.
pub(super) const LEFT_KEPT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Default)]
pub(super) struct Telling {
    /// In the order in which they are told: who found no room in a message is the first of the next.
    apps: Vec<One>,
    /// Those that nobody follows any more, and until when they remember as much as if somebody did: who asks anew hears what
    /// was said meanwhile. Oldest first; with `apps` never more than may be followed.
    left: VecDeque<(AppId, Instant)>,
}

struct One {
    followed: Followed,
    /// Somebody asked again before all was told to who asked first: the number, and when. All is told to the end before it
    /// begins anew, or askers that are quicker than that would hear the beginning for ever, and the others nothing.
    next: Option<(u64, UnixUs)>,
    until: Instant,
    /// When it was asked for.
    asked_us: UnixUs,
    told: Told,
    /// Once what is under way was taken.
    then: Option<Told>,
}

/// How far an app was told.
#[derive(Clone, Copy, Default)]
struct Told {
    /// Numbering, and number of the line that comes next.
    at: (u64, u64),
    caught_up: bool,
}

impl Telling {
    /// These apps and no others; gives those that are to forget. Whose turn it was stays so, however often the set
    /// changes.
    pub fn follow(&mut self, now: Now, follow: Follow) -> Vec<AppId> {
        let until = now.at + Duration::from_millis(FOLLOW_MS);
        let is_gone = |one: &mut One| !follow.apps.iter().any(|followed| followed.id == one.followed.id);
        let gone = self.apps.extract_if(.., is_gone).map(|one| (one.followed.id, now.at + LEFT_KEPT));
        self.left.extend(gone);
        self.left.retain(|(id, _)| !follow.apps.iter().any(|followed| followed.id == *id));
        for followed in follow.apps {
            match self.apps.iter_mut().find(|one| one.followed.id == followed.id) {
                Some(one) => one.renew(now, until, followed.asked),
                None => self.apps.push(One {
                    followed,
                    next: None,
                    until,
                    asked_us: now.us,
                    told: Told::default(),
                    then: None,
                }),
            }
        }
        let too_many = (self.apps.len() + self.left.len()).saturating_sub(FOLLOWED_MAX);
        self.left.drain(..too_many.min(self.left.len())).map(|(id, _)| id).collect()
    }

    /// Forgets those that nobody spoke of for long, and those that were left some time ago; gives them.
    pub fn expire(&mut self, now: Now) -> Vec<AppId> {
        let left = self.left.iter().take_while(|(_, until)| *until <= now.at).count();
        let left = self.left.drain(..left).map(|(id, _)| id);
        left.chain(self.apps.extract_if(.., |one| one.until <= now.at).map(|one| one.followed.id)).collect()
    }

    /// The next lines. `tail` calls with the tail of an app, if the node has one.
    pub fn tell(
        &mut self,
        now: Now,
        tail: impl Fn(&AppId, &dyn Fn(&Tail) -> Read) -> Option<Read>,
    ) -> Vec<AppLogs> {
        let count = self.apps.len();
        let (mut logs, mut bytes_left) = (Vec::new(), LOGS_BYTES_MAX);
        let mut left_out = None;
        for (at, one) in self.apps.iter_mut().enumerate() {
            let most = Most { part: bytes_left / (count - at), all: bytes_left };
            let read = tail(&one.followed.id, &|tail| tail.read(one.told.at, most, is_young(now)));
            let read = read.unwrap_or_default();
            if read.lines.is_empty() && read.after_us.is_some_and(|time_us| !is_young(now)(time_us)) {
                left_out.get_or_insert(at);
            }
            if let Some(told) = one.tell(now, read) {
                bytes_left = bytes_left.saturating_sub(told.lines.iter().map(LogLine::bytes).sum());
                logs.push(told);
            }
        }
        self.apps.rotate_left(left_out.unwrap_or(count.min(1)));
        logs
    }

    /// What was told last has arrived.
    pub fn taken(&mut self) {
        for one in &mut self.apps {
            one.told = one.then.take().unwrap_or(one.told);
            one.begin_next();
        }
    }
}

impl One {
    fn renew(&mut self, now: Now, until: Instant, asked: u64) {
        self.until = until;
        if asked == self.followed.asked {
            self.next = None;
        } else if self.next.is_none_or(|(next, _)| next != asked) {
            self.next = Some((asked, now.us));
        }
        self.begin_next();
    }

    /// Begins anew for who asked meanwhile, once all was told.
    fn begin_next(&mut self) {
        if self.told.caught_up
            && let Some((asked, asked_us)) = self.next.take()
        {
            (self.followed.asked, self.asked_us) = (asked, asked_us);
            (self.told, self.then) = (Told::default(), None);
        }
    }

    fn tell(&mut self, now: Now, read: Read) -> Option<AppLogs> {
        self.then = None;
        // Lines from before it was asked for may still be on their way to the tail.
        let all_noted = now.us >= self.asked_us + YOUNG_US || now.us < self.asked_us;
        let at_end = read.after_us.is_none_or(|time_us| time_us > self.asked_us);
        let caught_up = self.told.caught_up || (all_noted && at_end);
        if read.lines.is_empty() && caught_up == self.told.caught_up {
            return None;
        }
        let Followed { id, asked } = self.followed.clone();
        let at = (read.run, read.next);
        self.then = Some(Told { at, caught_up });
        let Read { run, first, lines, gaps, .. } = read;
        Some(AppLogs { id, asked, run, first, lines, gaps, caught_up })
    }
}

fn is_young(now: Now) -> impl Fn(UnixUs) -> bool {
    move |time_us| time_us + YOUNG_US > now.us && time_us < now.us + AHEAD_US
}
