//! Whose turn it is among open requests, and which of them pause. In memory: a restart begins with the oldest, at once.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::admin::{Recompile, Scope};

/// First pause of a request in which something failed; doubles up to [`PAUSE_MAX`] until something goes well.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub struct Turns {
    /// The last of a tenant that had its turn.
    last: u64,
    /// Was the last turn one of the fleet's?
    was_fleet: bool,
    pauses: HashMap<u64, Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    failures: u32,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A step of this request.
    Request(Box<Recompile>),
    /// All that are open pause until then.
    Pause(Instant),
    /// None is open.
    Nothing,
}

impl Turns {
    /// Of open requests, ordered by their ids. One for the whole fleet has every second turn, so that tenants do not keep the
    /// operator waiting; tenants' requests take turns.
    pub fn next(&mut self, open: Vec<Recompile>, now: Instant) -> Next {
        self.pauses.retain(|id, _| open.iter().any(|request| request.id == *id));
        let pausing = |id: u64| self.pauses.get(&id).map(|pause| pause.until).filter(|until| *until > now);
        if open.is_empty() {
            return Next::Nothing;
        }
        let (last, was_fleet) = (self.last, self.was_fleet);
        let order = |request: &&Recompile| {
            let is_fleet = request.scope == Scope::Fleet;
            (is_fleet == was_fleet, !is_fleet && request.id <= last, request.id)
        };
        let Some(request) = open.iter().filter(|request| pausing(request.id).is_none()).min_by_key(order)
        else {
            let first = open.iter().filter_map(|request| pausing(request.id)).min();
            return Next::Pause(first.unwrap_or(now));
        };
        self.was_fleet = request.scope == Scope::Fleet;
        if !self.was_fleet {
            self.last = request.id;
        }
        Next::Request(Box::new(request.clone()))
    }

    /// Something of a request went well.
    pub fn went_well(&mut self, id: u64) {
        self.pauses.remove(&id);
    }

    /// Something of it failed: it pauses, longer each time.
    pub fn failed(&mut self, id: u64, now: Instant) {
        let pause = self.pauses.entry(id).or_insert(Pause { until: now, failures: 0 });
        pause.until = now + PAUSE.saturating_mul(1 << pause.failures.min(6)).min(PAUSE_MAX);
        pause.failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64, scope: Scope) -> Recompile {
        Recompile {
            id,
            scope,
            tenant: "a".parse().unwrap(),
            reason: String::new(),
            by: String::new(),
            asked_ms: 0,
            ended_ms: None,
            problem: None,
            seen_rev: 0,
            looks: 1,
            counts: Default::default(),
            failed: vec![],
        }
    }

    fn open() -> Vec<Recompile> {
        let app = || Scope::App("shop".parse().unwrap());
        vec![
            request(1, app()),
            request(2, app()),
            request(3, Scope::Fleet),
            request(4, Scope::Fleet),
            request(5, app()),
        ]
    }

    fn named(next: Next) -> u64 {
        match next {
            Next::Request(request) => request.id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_fleets_first_has_every_second_turn_and_tenants_take_the_others() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let order: Vec<u64> = (0..8).map(|_| named(turns.next(open(), now))).collect();
        assert_eq!(order, [3, 1, 3, 2, 3, 5, 3, 1]);
        assert_eq!(turns.next(vec![], now), Next::Nothing);
    }

    #[test]
    fn a_request_that_fails_pauses_longer_each_time_and_holds_back_no_other() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        for id in [3, 1, 4] {
            turns.failed(id, now);
        }
        assert_eq!([named(turns.next(open(), now)), named(turns.next(open(), now))], [2, 5]);
        let two = |turns: &mut Turns, now| turns.next(vec![request(3, Scope::Fleet)], now);
        assert_eq!(two(&mut turns, now), Next::Pause(now + PAUSE));
        assert_eq!(named(two(&mut turns, now + PAUSE)), 3);
        turns.failed(3, now);
        assert_eq!(two(&mut turns, now), Next::Pause(now + 2 * PAUSE));
        for _ in 0..40 {
            turns.failed(3, now);
        }
        assert_eq!(two(&mut turns, now), Next::Pause(now + PAUSE_MAX));
        turns.went_well(3);
        assert_eq!(named(two(&mut turns, now)), 3);
    }
}
