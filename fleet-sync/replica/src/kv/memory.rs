//! What this node remembers of entries it read: a little, for a moment, and never past a write of its own.
//!
//! Tenants share it; whoever reads much pushes others' entries out, which costs them a question to the origin.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use fleet_sync_proto::kv::{At, Message, Said};
use tokio::time::Instant;

/// How long an answer is as good as the origin's.
pub(super) const FRESH: Duration = Duration::from_secs(1);
/// How long it answers while the origin is away: as long as a node without its control plane is not yet called stale.
pub(super) const STALE_MAX: Duration = Duration::from_secs(15 * 60);
/// Bytes of all that is remembered, and of one answer. Larger ones are asked for each time.
const BYTES_MAX: usize = 32 << 20;
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Answers, however small.
const ANSWERS_MAX: usize = 8_192;
/// What an answer takes besides its bytes: names, times, places in two tables.
const ANSWER_OVERHEAD_BYTES: usize = 512;
/// Counters of writes; two entries that share one forget a little more than they must.
const COUNTERS: usize = 256;

pub(super) struct Memory {
    answers: HashMap<At, Answer>,
    /// In the order they came; those that were replaced are passed over.
    order: VecDeque<(u64, At)>,
    next: u64,
    bytes: usize,
    writes: [u64; COUNTERS],
    hasher: RandomState,
}

struct Answer {
    said: Message<Said>,
    asked: Instant,
    number: u64,
    bytes: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            answers: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            bytes: 0,
            writes: [0; COUNTERS],
            hasher: RandomState::new(),
        }
    }
}

impl Memory {
    /// An answer that needs no question.
    pub(super) fn fresh(&self, at: &At, now: Instant) -> Option<Message<Said>> {
        self.answer(at, now, FRESH)
    }

    /// An answer for when the origin is away.
    pub(super) fn stale(&self, at: &At, now: Instant) -> Option<Message<Said>> {
        self.answer(at, now, STALE_MAX)
    }

    fn answer(&self, at: &At, now: Instant, age_max: Duration) -> Option<Message<Said>> {
        let held = self.answers.get(at)?;
        let age = now.saturating_duration_since(held.asked);
        if age >= age_max {
            return None;
        }
        let mut answer = held.said.clone();
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        match &mut answer.head {
            Said::Found { ttl_ms, age_ms, .. } => {
                if let Some(ttl_ms) = ttl_ms {
                    // Its life is over: the origin would say so.
                    *ttl_ms = ttl_ms.checked_sub(age).filter(|left| *left > 0)?;
                }
                *age_ms = age;
            }
            Said::Missing { age_ms } => *age_ms = age,
            _ => return None,
        }
        Some(answer)
    }

    /// To be shown to [`Memory::remember`]: a write since then makes the answer one of the past.
    pub(super) fn writes_to(&self, at: &At) -> u64 {
        self.writes[self.counter(at)]
    }

    /// Keeps what the origin said to a question asked at `asked`, when there were `before` writes.
    pub(super) fn remember(&mut self, at: &At, said: &Message<Said>, before: u64, asked: Instant) {
        let bytes = said.value.len() + said.metadata.len() + at.key.as_str().len() + ANSWER_OVERHEAD_BYTES;
        let is_entry = matches!(said.head, Said::Found { .. } | Said::Missing { .. });
        if !is_entry || bytes > ANSWER_BYTES_MAX || self.writes_to(at) != before {
            return;
        }
        self.forget(at);
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.order.push_back((number, at.clone()));
        self.answers.insert(at.clone(), Answer { said: said.clone(), asked, number, bytes });
        while self.bytes > BYTES_MAX || self.order.len() > ANSWERS_MAX {
            let Some((number, at)) = self.order.pop_front() else { break };
            if self.answers.get(&at).is_some_and(|held| held.number == number) {
                self.forget(&at);
            }
        }
    }

    /// An entry is about to be written, or has been.
    pub(super) fn written(&mut self, at: &At) {
        let counter = self.counter(at);
        self.writes[counter] = self.writes[counter].wrapping_add(1);
        self.forget(at);
    }

    fn forget(&mut self, at: &At) {
        if let Some(gone) = self.answers.remove(at) {
            self.bytes -= gone.bytes;
        }
    }

    fn counter(&self, at: &At) -> usize {
        self.hasher.hash_one(at) as usize % COUNTERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_sync_proto::kv::Space;

    fn at(key: &str) -> At {
        let space = Space { tenant: "a".parse().unwrap(), store: "s".parse().unwrap() };
        At { space, key: key.parse().unwrap() }
    }

    fn found(value: &[u8], ttl_ms: Option<u64>) -> Message<Said> {
        let head = Said::Found { generation: 1, ttl_ms, age_ms: 0 };
        Message { head, metadata: vec![], value: value.to_vec() }
    }

    fn remember(memory: &mut Memory, key: &str, said: &Message<Said>, asked: Instant) {
        let before = memory.writes_to(&at(key));
        memory.remember(&at(key), said, before, asked);
    }

    #[test]
    fn an_answer_is_fresh_for_a_second_and_says_its_age_after() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        remember(&mut memory, "k", &found(b"v", None), start);
        let later = start + Duration::from_millis(999);
        assert!(memory.fresh(&at("k"), later).is_some());
        let later = start + FRESH;
        assert_eq!(memory.fresh(&at("k"), later), None);
        let stale = memory.stale(&at("k"), later).unwrap();
        assert_eq!(stale.head, Said::Found { generation: 1, ttl_ms: None, age_ms: 1_000 });
        assert_eq!(memory.stale(&at("k"), start + STALE_MAX), None);
    }

    #[test]
    fn an_entry_whose_life_is_over_is_not_answered_from_memory() {
        let (mut memory, start) = (Memory::default(), Instant::now());
        remember(&mut memory, "k", &found(b"v", Some(5_000)), start);
        let left = memory.stale(&at("k"), start + Duration::from_millis(4_999)).unwrap();
        assert_eq!(left.head, Said::Found { generation: 1, ttl_ms: Some(1), age_ms: 4_999 });
        assert_eq!(memory.stale(&at("k"), start + Duration::from_secs(5)), None);
    }

    #[test]
    fn a_read_that_overlaps_a_write_is_not_remembered() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let before = memory.writes_to(&at("k"));
        memory.written(&at("k"));
        memory.remember(&at("k"), &found(b"old", None), before, now);
        assert_eq!(memory.stale(&at("k"), now), None);
        remember(&mut memory, "k", &found(b"new", None), now);
        assert!(memory.fresh(&at("k"), now).is_some());
        memory.written(&at("k"));
        assert_eq!(memory.stale(&at("k"), now), None);
    }

    #[test]
    fn it_is_bounded_in_number_and_bytes_and_counts_right() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for n in 0..ANSWERS_MAX + 10 {
            remember(&mut memory, &format!("k{n}"), &found(b"v", None), now);
            remember(&mut memory, "hot", &found(b"v", None), now);
        }
        assert!(memory.order.len() <= ANSWERS_MAX && memory.answers.len() <= ANSWERS_MAX);
        assert!(memory.fresh(&at("hot"), now).is_some() && memory.fresh(&at("k0"), now).is_none());
        let large = vec![0; ANSWER_BYTES_MAX - ANSWER_OVERHEAD_BYTES - 8];
        for n in 0..200 {
            remember(&mut memory, &format!("l{n}"), &found(&large, None), now);
        }
        assert!(memory.bytes <= BYTES_MAX && memory.bytes > BYTES_MAX / 2);
        let counted: usize = memory.answers.values().map(|held| held.bytes).sum();
        assert_eq!(memory.bytes, counted);
        remember(&mut memory, "too-large", &found(&vec![0; ANSWER_BYTES_MAX], None), now);
        assert_eq!(memory.fresh(&at("too-large"), now), None);
    }
}
