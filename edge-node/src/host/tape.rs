//! A witness for tests: records what passes one exchange's door, and plays it back where there is no world.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use super::door::{Door, Event, Source, Witness};

/// What one exchange learned and caused, by source, in its order.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Recording {
    /// Learned.
    pub learned: BTreeMap<Source, VecDeque<Event>>,
    /// Caused.
    pub caused: BTreeMap<Source, VecDeque<Event>>,
}

/// See the module.
pub struct Tape {
    recording: Mutex<Recording>,
    /// What is left to be played back.
    playing: Option<Mutex<Recording>>,
}

impl Tape {
    /// Records.
    pub fn record() -> Arc<Tape> {
        Arc::new(Tape { recording: Mutex::default(), playing: None })
    }

    /// Plays a recording back, and records again what then happens.
    pub fn play(recording: Recording) -> Arc<Tape> {
        Arc::new(Tape { recording: Mutex::default(), playing: Some(Mutex::new(recording)) })
    }

    /// A door that this tape watches.
    pub fn door(self: &Arc<Tape>) -> Door {
        Door::watched(self.clone())
    }

    /// What it has recorded.
    pub fn recording(&self) -> Recording {
        self.recording.lock().clone()
    }
}

impl Witness for Tape {
    fn replays(&self) -> bool {
        self.playing.is_some()
    }

    fn recall(&self, source: Source) -> Option<Event> {
        let next = self.playing.as_ref()?.lock().learned.get_mut(&source).and_then(VecDeque::pop_front);
        Some(next.unwrap_or_else(|| panic!("the replay asks {source:?} for more than was recorded")))
    }

    fn learned(&self, source: Source, event: Event) {
        self.recording.lock().learned.entry(source).or_default().push_back(event);
    }

    fn caused(&self, source: Source, event: Event) {
        self.recording.lock().caused.entry(source).or_default().push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::{clock, random, wait},
        testing,
    };

    fn visit(door: Door) -> (u64, u64, Vec<u8>, Vec<u32>) {
        let mut exchange = testing::exchange(Default::default());
        exchange.door = door;
        let found = wait::ready_now(&exchange.door, |_| vec![2]);
        let random = random::bytes(&exchange, 16).unwrap();
        (clock::monotonic_ns(&exchange), random::number(&exchange).unwrap(), random, found)
    }

    #[test]
    fn what_is_played_back_is_what_was_recorded() {
        let tape = Tape::record();
        let live = visit(tape.door());
        assert_ne!(live, visit(Door::default()), "the world is not the same twice");
        let again = Tape::play(tape.recording());
        assert_eq!(visit(again.door()), live);
        assert_eq!(again.recording(), tape.recording());
    }
}
