//! Samples, added up by kind of thread and stage. No I/O.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{
    rules::{self, UNSORTED},
    script::{Frame, Said, Sample},
};

/// Functions named of a stage.
const TOP: usize = 5;

/// What kind of thread a sample is of, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thread {
    Serving,
    SlowLane,
    Log,
    Other,
}

/// All that was sampled of a node.
#[derive(Debug, Default)]
pub struct Tally {
    lost: u64,
    samples: u64,
    threads: BTreeMap<Thread, HashMap<String, Counted>>,
}

/// Samples of one stage.
#[derive(Debug, Default)]
struct Counted {
    samples: u64,
    /// By the innermost function.
    functions: HashMap<String, u64>,
}

/// Where the CPU time of a request went, as far as it was sampled. The parts sum to the whole.
#[derive(Debug, Serialize)]
pub struct Sorted {
    pub samples: u64,
    /// By `perf`, before they could be written.
    pub lost: u64,
    pub threads: Vec<OfThread>,
}

/// Of all threads of a kind.
#[derive(Debug, Serialize)]
pub struct OfThread {
    pub thread: Thread,
    pub samples: u64,
    pub us: f64,
    /// The dearest first; what no rule knows, last.
    pub stages: Vec<Stage>,
}

#[derive(Debug, Serialize)]
pub struct Stage {
    pub stage: String,
    pub samples: u64,
    /// Of a request.
    pub us: f64,
    /// The innermost functions that had the most samples.
    pub functions: Vec<Function>,
}

#[derive(Debug, Serialize)]
pub struct Function {
    pub name: String,
    pub samples: u64,
}

impl Thread {
    fn of(name: &str) -> Thread {
        match name {
            name if name.starts_with("serve-") => Thread::Serving,
            name if name.starts_with("slow-") => Thread::SlowLane,
            "access-log" | "guest-log" => Thread::Log,
            _ => Thread::Other,
        }
    }

    /// For a person.
    pub fn text(self) -> &'static str {
        match self {
            Thread::Serving => "serving threads",
            Thread::SlowLane => "slow lane",
            Thread::Log => "logs",
            Thread::Other => "other threads",
        }
    }
}

impl Tally {
    pub fn add(&mut self, said: Said) {
        match said {
            Said::Lost(count) => self.lost += count,
            Said::Sample(sample) => self.sample(&sample),
        }
    }

    fn sample(&mut self, Sample { thread: name, frames }: &Sample) {
        let thread = Thread::of(name);
        // What the others do is no stage of a request: they are named.
        let stage = match thread {
            Thread::Serving | Thread::SlowLane => rules::stage(frames),
            Thread::Log | Thread::Other => {
                name.trim_end_matches(|end: char| end.is_ascii_digit() || end == '-')
            }
        };
        let stages = self.threads.entry(thread).or_default();
        let counted = stages.entry(stage.to_owned()).or_default();
        counted.samples += 1;
        *counted.functions.entry(innermost(frames).to_owned()).or_default() += 1;
        self.samples += 1;
    }

    /// Each stage's share of the samples is its share of `total_us`.
    pub fn sorted(self, total_us: f64) -> Sorted {
        let Tally { lost, samples, threads } = self;
        let us = |of: u64| total_us * of as f64 / samples.max(1) as f64;
        let of_thread = |(thread, stages): (Thread, HashMap<String, Counted>)| {
            let stage = |(stage, Counted { samples, functions })| Stage {
                stage,
                samples,
                us: us(samples),
                functions: top(functions),
            };
            let mut stages: Vec<Stage> = stages.into_iter().map(stage).collect();
            stages.sort_by(|a, b| rank(a).cmp(&rank(b)));
            let samples = stages.iter().map(|stage| stage.samples).sum();
            OfThread { thread, samples, us: us(samples), stages }
        };
        Sorted { samples, lost, threads: threads.into_iter().map(of_thread).collect() }
    }
}

fn rank(stage: &Stage) -> (bool, std::cmp::Reverse<u64>, &str) {
    (stage.stage == UNSORTED, std::cmp::Reverse(stage.samples), &stage.stage)
}

fn innermost(frames: &[Frame]) -> &str {
    frames.first().and_then(|frame| frame.symbol.as_deref()).unwrap_or("a function without a name")
}

fn top(functions: HashMap<String, u64>) -> Vec<Function> {
    let mut all: Vec<Function> =
        functions.into_iter().map(|(name, samples)| Function { name, samples }).collect();
    all.sort_by(|a, b| b.samples.cmp(&a.samples).then_with(|| a.name.cmp(&b.name)));
    all.truncate(TOP);
    all
}

impl Sorted {
    /// What no rule knows.
    pub fn unsorted(&self) -> impl Iterator<Item = &Stage> {
        self.threads.iter().flat_map(|thread| &thread.stages).filter(|stage| stage.stage == UNSORTED)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::stages::script::{
        Place,
        tests::{named, unnamed},
    };

    fn sample(thread: &str, innermost: &str) -> Said {
        Said::Sample(Sample { thread: thread.into(), frames: vec![named(innermost, Place::File)] })
    }

    /// One that is sorted.
    pub fn serving() -> Said {
        sample("serve-0", "wasmtime::runtime::store::Store::new")
    }

    /// Ten samples: seven serving, of which two are known by no rule; one of the slow lane, one of a log, one of another.
    pub fn ten() -> Tally {
        let mut tally = Tally::default();
        for _ in 0..4 {
            tally.add(serving());
        }
        tally.add(sample("serve-1", "epoll_wait"));
        tally.add(sample("serve-1", "strange::b"));
        tally.add(sample("serve-1", "strange::a"));
        let guest = vec![unnamed(Place::Guest)];
        tally.add(Said::Sample(Sample { thread: "slow-1".into(), frames: guest }));
        tally.add(sample("access-log", "writev"));
        tally.add(sample("load-1", "epoll_wait"));
        tally.add(Said::Lost(3));
        tally
    }

    #[test]
    fn threads_are_told_by_their_names_and_stages_by_what_they_cost() {
        let sorted = ten().sorted(20.0);
        let told: Vec<(Thread, Vec<(&str, u64)>)> = sorted
            .threads
            .iter()
            .map(|of| (of.thread, of.stages.iter().map(|one| (one.stage.as_str(), one.samples)).collect()))
            .collect();
        let serving =
            vec![("make store and instance, fibers", 4), ("look at the sockets, wait", 1), (UNSORTED, 2)];
        assert_eq!(
            told,
            [
                (Thread::Serving, serving),
                (Thread::SlowLane, vec![("guest code", 1)]),
                (Thread::Log, vec![("access-log", 1)]),
                (Thread::Other, vec![("load", 1)]),
            ]
        );
        assert_eq!((sorted.samples, sorted.lost), (10, 3));
    }

    #[test]
    fn stages_and_threads_sum_to_the_total() {
        let sorted = ten().sorted(19.4);
        let threads: f64 = sorted.threads.iter().map(|thread| thread.us).sum();
        let stages: f64 = sorted.threads.iter().flat_map(|thread| &thread.stages).map(|one| one.us).sum();
        assert!((threads - 19.4).abs() < 1e-9 && (stages - 19.4).abs() < 1e-9, "{sorted:?}");
        assert!((sorted.threads[0].us - 19.4 * 0.7).abs() < 1e-9, "{sorted:?}");
        assert_eq!(Tally::default().sorted(19.4).threads.len(), 0);
    }

    #[test]
    fn what_no_rule_knows_is_named() {
        let sorted = ten().sorted(1.0);
        let names: Vec<&str> =
            sorted.unsorted().flat_map(|one| &one.functions).map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["strange::a", "strange::b"]);
    }
}
