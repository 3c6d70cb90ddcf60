//! Counts of one kind of machine, and how others are compared with them. No I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts of one request, by what is asked (`fastly-hello over h1`).
pub type Requests = BTreeMap<String, Counts>;
/// Counts of one request.
pub type Counts = BTreeMap<Count, f64>;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    Allocations,
    AllocatedBytes,
    PageFaults,
    SystemCalls,
    Instructions,
}

/// What was counted on one kind of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    pub taken: Taken,
    pub requests: Requests,
}

/// What instructions, system calls and page faults depend on, beside the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// Which native code the guests are.
    pub target: String,
    /// How a slot is reset.
    pub reset: String,
}

/// How a count stands to the one that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Within what is allowed.
    Kept,
    /// More than it may be.
    Worse,
    /// So much less that the baseline should be lowered: else it would let the gain be lost again unseen.
    Better,
    /// There is nothing to compare it with.
    New,
    /// It is kept and was not counted now.
    Missing,
    /// It was taken under other conditions and means nothing here.
    NotComparable,
}

/// One count, and the one that is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    pub request: String,
    pub count: Count,
    pub now: Option<f64>,
    pub kept: Option<f64>,
    pub standing: Standing,
}

/// A regression is more than this part.
const PART: f64 = 0.10;

impl Count {
    /// In the order of a table.
    pub const ALL: [Count; 5] = [
        Count::Allocations,
        Count::AllocatedBytes,
        Count::PageFaults,
        Count::SystemCalls,
        Count::Instructions,
    ];

    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            Count::Allocations => "allocations",
            Count::AllocatedBytes => "bytes",
            Count::PageFaults => "page faults",
            Count::SystemCalls => "system calls",
            Count::Instructions => "instructions",
        }
    }

    /// What a count may differ by whatever it is: a tenth of next to nothing is noise. Below one whole event per request,
    /// but for bytes, which a word more here and there changes, and for instructions, which a seed of a hash does.
    fn slack(self) -> f64 {
        match self {
            Count::Allocations | Count::SystemCalls => 0.5,
            Count::PageFaults => 0.05,
            Count::AllocatedBytes => 64.0,
            Count::Instructions => 100.0,
        }
    }

    /// What a figure in the file is a multiple of.
    pub fn step(self) -> f64 {
        match self {
            Count::Allocations | Count::SystemCalls | Count::PageFaults => 0.5,
            Count::AllocatedBytes => 1.0,
            Count::Instructions => 100.0,
        }
    }

    /// Is it the same on every machine?
    fn is_universal(self) -> bool {
        matches!(self, Count::Allocations | Count::AllocatedBytes)
    }
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "target {}, slots reset by {}", self.target, self.reset)
    }
}

impl Baseline {
    /// Every count of either side.
    pub fn compare(&self, now: &Baseline) -> Vec<Compared> {
        let is_same = self.taken == now.taken;
        let mut all = Vec::new();
        let names: std::collections::BTreeSet<_> = self.requests.keys().chain(now.requests.keys()).collect();
        for request in names {
            for count in Count::ALL {
                let of = |requests: &Requests| requests.get(request)?.get(&count).copied();
                let (kept, now) = (of(&self.requests), of(&now.requests));
                if kept.is_some() || now.is_some() {
                    let standing = standing(count, kept, now, is_same);
                    all.push(Compared { request: request.clone(), count, now, kept, standing });
                }
            }
        }
        all
    }
}

fn standing(count: Count, kept: Option<f64>, now: Option<f64>, is_same: bool) -> Standing {
    match (kept, now) {
        (None, _) => Standing::New,
        (Some(_), None) => Standing::Missing,
        (Some(_), Some(_)) if !is_same && !count.is_universal() => Standing::NotComparable,
        (Some(kept), Some(now)) if now > kept + (kept * PART).max(count.slack()) => Standing::Worse,
        (Some(kept), Some(now)) if now < kept - (kept * PART).max(count.slack()) => Standing::Better,
        (Some(_), Some(_)) => Standing::Kept,
    }
}

impl Compared {
    /// How much more it is than what is kept, in percent; of nothing, nothing can be said.
    pub fn percent(&self) -> Option<f64> {
        match (self.kept, self.now) {
            (Some(kept), Some(now)) if kept > 0.0 => Some((now / kept - 1.0) * 100.0),
            _ => None,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn baseline(counts: &[(Count, f64)]) -> Baseline {
        let taken = Taken { target: "x86_64-v3".into(), reset: "PAGEMAP_SCAN".into() };
        Baseline { taken, requests: [("hello".to_owned(), counts.iter().copied().collect())].into() }
    }

    fn one(count: Count, kept: f64, now: f64) -> Standing {
        let compared = baseline(&[(count, kept)]).compare(&baseline(&[(count, now)]));
        assert_eq!(compared.len(), 1);
        compared[0].standing
    }

    #[test]
    fn a_tenth_more_is_kept_and_anything_above_is_worse() {
        assert_eq!(one(Count::Instructions, 50_000.0, 55_000.0), Standing::Kept);
        assert_eq!(one(Count::Instructions, 50_000.0, 55_001.0), Standing::Worse);
        assert_eq!(one(Count::Allocations, 40.0, 44.0), Standing::Kept);
        assert_eq!(one(Count::Allocations, 40.0, 45.0), Standing::Worse);
    }

    #[test]
    fn what_got_better_by_more_than_a_tenth_is_told() {
        assert_eq!(one(Count::Instructions, 50_000.0, 45_000.0), Standing::Kept);
        assert_eq!(one(Count::Instructions, 50_000.0, 44_999.0), Standing::Better);
        assert_eq!(one(Count::Allocations, 40.0, 35.0), Standing::Better);
    }

    #[test]
    fn tiny_counts_have_room_but_not_for_one_in_every_request() {
        assert_eq!(one(Count::PageFaults, 0.0, 0.02), Standing::Kept);
        assert_eq!(one(Count::SystemCalls, 1.0, 1.02), Standing::Kept);
        for count in [Count::PageFaults, Count::SystemCalls, Count::Allocations] {
            assert_eq!(one(count, 0.0, 1.0), Standing::Worse, "{count:?}");
        }
        assert_eq!(one(Count::SystemCalls, 5.0, 6.0), Standing::Worse);
        assert_eq!(one(Count::PageFaults, 1.0, 0.0), Standing::Better);
    }

    #[test]
    fn what_is_on_one_side_only_is_told() {
        let (both, one) = (
            baseline(&[(Count::Allocations, 40.0), (Count::Instructions, 5.0)]),
            baseline(&[(Count::Allocations, 40.0)]),
        );
        let of = |compared: Vec<Compared>| compared.iter().map(|one| one.standing).collect::<Vec<_>>();
        assert_eq!(of(both.compare(&one)), [Standing::Kept, Standing::Missing]);
        assert_eq!(of(one.compare(&both)), [Standing::Kept, Standing::New]);
    }

    #[test]
    fn under_other_conditions_only_allocations_are_compared() {
        let kept = baseline(&[(Count::Allocations, 40.0), (Count::Instructions, 50_000.0)]);
        let mut now = baseline(&[(Count::Allocations, 50.0), (Count::Instructions, 90_000.0)]);
        now.taken.reset = "copying".into();
        let of = kept.compare(&now).iter().map(|one| one.standing).collect::<Vec<_>>();
        assert_eq!(of, [Standing::Worse, Standing::NotComparable]);
    }
}
