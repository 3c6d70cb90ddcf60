//! What one thread has seen, and the sum of all threads.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use super::{scenario::Scenario, worker::TASKS_A_LOOK};

/// Kinds of errors that are told apart; what comes after them is "other".
const ERROR_KINDS_MAX: usize = 32;
/// What is told of requests without a whole answer by the end.
const CUT: &str = "no whole answer by the end";
/// The longest latency the histogram tells apart, in ns: longer than any run.
const LATENCY_MAX_NS: u64 = 2 * 3600 * 1_000_000_000;
/// Each value within 0.1 %.
const DIGITS: u8 = 3;
/// A start that comes later than this after the intended one was missed.
const LATE: Duration = Duration::from_millis(1);

/// What a run gave: of the requests that were to start within the measured time.
#[derive(Debug)]
pub struct Outcome {
    /// Whole answers, whatever their status.
    pub answered: u64,
    /// Requests without a whole answer, by what happened.
    pub errors: BTreeMap<String, u64>,
    pub statuses: BTreeMap<u16, u64>,
    /// Of slow readers: answers that had begun and that they had not taken whole by the end. Neither answers nor errors.
    pub under_way: u64,
    /// From the end of the warm-up to the end, or to the last answer if that came later.
    pub elapsed: Duration,
    /// From the start of a request (open loop: the intended one) to the last byte of its answer.
    pub latency_ns: Histogram<u64>,
    /// Answers that ended in each second.
    pub per_second: Vec<u64>,
    /// Of heads and bodies as the protocol carries them (h2 and h3: of bodies alone).
    pub bytes_in: u64,
    /// Of the generator's threads while it measured.
    pub client_cpu: Duration,
    /// Open loop: requests that started more than 1 ms after the intended moment.
    pub late_starts: u64,
    /// Of a client that sleeps between two looks at its sockets: how often it looked, all threads together.
    pub looks: u64,
    /// It was told to stop.
    pub stopped_early: bool,
}

impl Outcome {
    pub fn empty() -> Outcome {
        Outcome {
            answered: 0,
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            under_way: 0,
            elapsed: Duration::ZERO,
            latency_ns: histogram(),
            per_second: Vec::new(),
            bytes_in: 0,
            client_cpu: Duration::ZERO,
            late_starts: 0,
            looks: 0,
            stopped_early: false,
        }
    }

    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Answers in a second, over the whole measured time.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// How often a client that sleeps between two looks had to look for an answer, on each of its connections or streams (or on
    /// as many as it gets to in one look). One that finds each at the first look, or at the second because the first came
    /// just before, cannot tell how long it was there: its sleeps are what was measured. `None` of one that is woken.
    pub fn looks_for_an_answer(&self, scenario: &Scenario) -> Option<f64> {
        if scenario.look_every.is_zero() || self.answered == 0 {
            return None;
        }
        let slots = scenario.slots() as f64 / f64::from(scenario.threads);
        Some(self.looks as f64 * slots.min(TASKS_A_LOOK.into()) / self.answered as f64)
    }

    /// Another thread's.
    pub fn add(&mut self, other: Outcome) {
        self.answered += other.answered;
        for (kind, count) in other.errors {
            self.add_error(&kind, count);
        }
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.elapsed = self.elapsed.max(other.elapsed);
        // Both have the same bounds, so none of its values is out of ours.
        let _ = self.latency_ns.add(&other.latency_ns);
        for (second, count) in other.per_second.into_iter().enumerate() {
            self.in_second(second, count);
        }
        self.bytes_in += other.bytes_in;
        self.client_cpu += other.client_cpu;
        self.late_starts += other.late_starts;
        self.looks += other.looks;
        self.stopped_early |= other.stopped_early;
    }

    /// So many answers to slow readers were cut off by the end: nobody's fault. Those to requests of the warm-up are among
    /// them, and in no count.
    pub fn leave_under_way(&mut self, cut: u64) {
        let Some(count) = self.errors.get_mut(CUT) else { return };
        self.under_way = cut.min(*count);
        *count -= self.under_way;
        if *count == 0 {
            self.errors.remove(CUT);
        }
    }

    fn add_error(&mut self, kind: &str, count: u64) {
        let known = self.errors.len() < ERROR_KINDS_MAX || self.errors.contains_key(kind);
        *self.errors.entry(if known { kind } else { "other" }.to_owned()).or_default() += count;
    }

    fn in_second(&mut self, second: usize, count: u64) {
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += count;
    }
}

/// An empty one with the bounds of all of ours.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS)
        .expect("1 is below the maximum, and 3 digits are allowed")
}

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub bytes_in: u64,
}

/// What a thread shows while it runs.
#[derive(Debug, Default)]
pub struct Live {
    pub answered: AtomicU64,
    pub errors: AtomicU64,
}

/// One thread's count.
pub struct Tally {
    outcome: Outcome,
    /// Requests that count and have begun.
    begun: u64,
    measure_from: Instant,
    measure_to: Instant,
    /// Statuses by number: a map would be walked for each answer.
    statuses: Vec<u64>,
}

impl Tally {
    pub fn new(measure_from: Instant, measure_to: Instant) -> Tally {
        Tally { outcome: Outcome::empty(), begun: 0, measure_from, measure_to, statuses: vec![0; 1000] }
    }

    /// A request begins that was to begin at `intended`.
    pub fn begin(&mut self, intended: Instant) {
        if self.counts(intended) {
            self.begun += 1;
            if intended.elapsed() > LATE {
                self.outcome.late_starts += 1;
            }
        }
    }

    /// It ended.
    pub fn end(&mut self, intended: Instant, result: &Result<Answer, String>, live: &Live) {
        if !self.counts(intended) {
            return;
        }
        match result {
            Ok(answer) => {
                self.answered(intended, *answer);
                live.answered.store(self.outcome.answered, Relaxed);
            }
            Err(kind) => {
                self.outcome.add_error(kind, 1);
                live.errors.fetch_add(1, Relaxed);
            }
        }
    }

    fn answered(&mut self, intended: Instant, answer: Answer) {
        let now = Instant::now();
        let outcome = &mut self.outcome;
        outcome.answered += 1;
        outcome.bytes_in += answer.bytes_in;
        outcome.latency_ns.saturating_record((now - intended).as_nanos() as u64);
        let since = now - self.measure_from;
        outcome.elapsed = outcome.elapsed.max(since);
        outcome.in_second(since.as_secs() as usize, 1);
        self.statuses[usize::from(answer.status).min(999)] += 1;
    }

    fn counts(&self, intended: Instant) -> bool {
        intended >= self.measure_from && intended < self.measure_to
    }

    /// The thread's part of the outcome. `missing` are requests that were to begin and did not.
    pub fn finish(mut self, client_cpu: Duration, missing: u64, stopped_early: bool) -> Outcome {
        let ended = self.outcome.answered + self.outcome.errors_total();
        // Whoever stops a run does not hold the rest against the target.
        if !stopped_early {
            for (kind, count) in [(CUT, self.begun - ended), ("not started by the end", missing)] {
                if count > 0 {
                    self.outcome.add_error(kind, count);
                }
            }
        }
        let over = Instant::now().min(self.measure_to).saturating_duration_since(self.measure_from);
        let mut outcome = self.outcome;
        let statuses = self.statuses.iter().enumerate().filter(|(_, count)| **count > 0);
        outcome.statuses = statuses.map(|(status, count)| (status as u16, *count)).collect();
        outcome.elapsed = outcome.elapsed.max(over);
        outcome.client_cpu = client_cpu;
        outcome.stopped_early = stopped_early;
        outcome
    }
}
