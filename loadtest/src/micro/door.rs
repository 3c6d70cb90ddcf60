//! What the host door costs when nobody watches: how often a cycle passes it, times what an unwatched pass takes.
//!
//! The difference of a percent between two whole cycles drowns in noise; a count and a loop do not.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use edge_node::host::door::{Door, Event, Fact, Source, Witness};
use serde::Serialize;

use super::host::{self, Host};

/// Passes of the loop: some 10 ms.
const LOOP_PASSES: u64 = 10_000_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DoorCost {
    /// Times a cycle passes the door.
    pub passes: u64,
    /// Of one pass of a door that nobody watches, in ns.
    pub pass_ns: f64,
}

impl DoorCost {
    /// Its part of a cycle, in percent.
    pub fn percent_of(&self, cycle_us: f64) -> f64 {
        self.passes as f64 * self.pass_ns / (cycle_us * 1e3) * 100.0
    }
}

/// Counts one cycle of `host` and times a pass.
pub async fn cost(host: &Host) -> anyhow::Result<DoorCost> {
    let counter = Arc::new(Counter::default());
    let begun = host.begin_watched(Door::watched(counter.clone()));
    host::read(host.drive(begun).await?).await?;
    Ok(DoorCost { passes: counter.0.load(Relaxed), pass_ns: pass_ns() })
}

fn pass_ns() -> f64 {
    let door = black_box(Door::default());
    let timed = |pass: &dyn Fn(u64) -> u64| {
        let start = Instant::now();
        (0..LOOP_PASSES).for_each(|n| {
            black_box(pass(n));
        });
        start.elapsed().as_nanos() as f64 / LOOP_PASSES as f64
    };
    let with = timed(&|n| black_box(&door).learn(Source::Clock, || Number(black_box(n))).0);
    let without = timed(&|n| black_box(n));
    (with - without).max(0.0)
}

/// Counts what passes.
#[derive(Default)]
struct Counter(AtomicU64);

impl Witness for Counter {
    fn replays(&self) -> bool {
        false
    }

    fn recall(&self, _: Source) -> Option<Event> {
        None
    }

    fn learned(&self, _: Source, _: Event) {
        self.0.fetch_add(1, Relaxed);
    }

    fn caused(&self, _: Source, _: Event) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct Number(u64);

impl Fact for Number {
    fn event(&self) -> Event {
        Event::Number(self.0)
    }

    fn recall(_: Event) -> Option<Number> {
        None
    }
}
