//! Time as a guest may ask for it and wait for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use tokio::time::Sleep;

use super::door::{Door, Event, Fact, Source};
use crate::exchange::Exchange;

/// Resolution of both clocks, as guests are told.
pub const RESOLUTION_NS: u64 = 1;

/// Nanoseconds since the request began. Its zero says nothing of the machine.
pub fn monotonic_ns(exchange: &Exchange) -> u64 {
    exchange
        .door
        .learn(Source::Clock, || {
            Nanoseconds(u64::try_from(exchange.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
        })
        .0
}

/// Time since the Unix epoch by the node's clock.
pub fn wall(exchange: &Exchange) -> Duration {
    exchange
        .door
        .learn(Source::Clock, || {
            UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
        })
        .0
}

/// CPU time this execution has used, in whole milliseconds: fine enough to budget with, too coarse to spy on
/// neighbours with.
pub fn cpu_ms(exchange: &Exchange) -> u64 {
    let bill = &exchange.bill;
    let used_ns = || Nanoseconds(bill.cpu_ns() + bill.slice_ns_running());
    exchange.door.learn(Source::Clock, used_ns).0 / 1_000_000
}

/// A point in time to wait for. Costs nothing before it is first waited for.
pub struct Timer {
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
    door: Door,
}

impl Timer {
    /// A timer for when [`monotonic_ns`] has reached `at_ns`. One that lies beyond what a clock can say is never.
    pub fn at(exchange: &Exchange, at_ns: u64) -> Timer {
        /// Longer than any request lives.
        const FAR: Duration = Duration::from_secs(24 * 3600);
        let after = Duration::from_nanos(at_ns).min(FAR);
        Timer { at: exchange.started + after, sleep: None, door: exchange.door.clone() }
    }

    /// Waits for it. Whoever selects over it notes that it was ready.
    pub fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.door.replays() || Instant::now() >= self.at {
            return Poll::Ready(());
        }
        let at = self.at;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into()))).as_mut().poll(cx)
    }
}

struct Nanoseconds(u64);

impl Fact for Nanoseconds {
    fn event(&self) -> Event {
        Event::Number(self.0)
    }

    fn recall(event: Event) -> Option<Nanoseconds> {
        match event {
            Event::Number(ns) => Some(Nanoseconds(ns)),
            _ => None,
        }
    }
}

struct UnixTime(Duration);

impl Fact for UnixTime {
    fn event(&self) -> Event {
        Event::Time(self.0)
    }

    fn recall(event: Event) -> Option<UnixTime> {
        match event {
            Event::Time(time) => Some(UnixTime(time)),
            _ => None,
        }
    }
}
