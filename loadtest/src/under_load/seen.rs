//! What the client saw of a round, and what is told where it does not count.

use std::{cmp::Reverse, time::Duration};

use super::figures::Measured;
use crate::statistics::Point;

/// Kinds of errors and statuses that are told of a void round.
const KINDS_TOLD: usize = 4;
/// Void rounds that are told of.
const ROUNDS_TOLD: usize = 3;

/// What the client saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Answered or not.
    pub asked: u64,
    pub answered: u64,
    /// Requests without an answer, and answers that were no 200: what and how many.
    pub wrong: Vec<(String, u64)>,
    pub elapsed: Duration,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub latency_us: Vec<Point>,
    /// Answers of each whole second.
    pub per_second: Vec<u64>,
    pub client_cpu: Duration,
    pub late_starts: u64,
    /// Of a client that sleeps between two looks at its sockets: how many it took for an answer.
    pub looks_for_an_answer: Option<f64>,
    pub stopped_early: bool,
}

impl Seen {
    /// Which statuses and errors there were instead, and how many of each: the most frequent.
    pub fn not_200(&self) -> String {
        let mut kinds: Vec<_> = self.wrong.iter().collect();
        kinds.sort_by_key(|(_, count)| Reverse(*count));
        let all: u64 = kinds.iter().map(|(_, count)| count).sum();
        let mut told: Vec<_> =
            kinds.iter().take(KINDS_TOLD).map(|(what, count)| format!("{count} × {what}")).collect();
        let rest: u64 = kinds.iter().skip(KINDS_TOLD).map(|(_, count)| count).sum();
        told.extend((rest > 0).then(|| format!("{rest} others")));
        format!("{all} of {} requests were not answered 200: {}", self.asked, told.join(", "))
    }
}

/// Why rounds do not count, of the first that do not.
pub fn void(rounds: &[Measured]) -> Option<String> {
    let all = rounds.len();
    let told = |(number, round): (usize, &Measured)| {
        let why = round.as_ref().err()?;
        Some(if all == 1 { why.clone() } else { format!("round {number} of {all}: {why}") })
    };
    let mut told: Vec<String> = (1..).zip(rounds).filter_map(told).collect();
    let more = told.len().saturating_sub(ROUNDS_TOLD);
    told.truncate(ROUNDS_TOLD);
    told.extend((more > 0).then(|| format!("and {more} more")));
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_kinds_the_most_frequent_are_told() {
        let wrong = (1..=6).map(|count| (format!("status 50{count}"), count)).collect();
        assert_eq!(
            Seen { asked: 99, wrong, ..Seen::default() }.not_200(),
            "21 of 99 requests were not answered 200: 6 × status 506, 5 × status 505, 4 × status 504, 3 × status \
             503, 3 others"
        );
    }
}
