//! The seam itself: what a guest learns and causes, as a stream of typed events.
//!
//! Off (no witness) it costs a branch. A witness that records notes every event; one that replays answers instead of
//! the world. Events are kept apart by [`Source`], because a body may be read by the front while the guest does
//! something else: within one source their order is fixed, between sources it is not.
//!
//! Rule for every capability: a value that a guest can tell from another value is an event. That includes what a poll
//! or select found ready, the edges of chunks, and how much room a stream had.

use std::{fmt, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::HeaderMap;

use crate::front::BodyError;

/// Where an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The request's head.
    Request,
    /// Monotonic and wall clock.
    Clock,
    /// Random bytes and seeds.
    Random,
    /// What a poll, select or wait found ready.
    Wait,
    /// A body from outside: 0 is the client's, n is that of the n-th fetch.
    Body(u32),
    /// The n-th stream the guest writes: 0 is its response, n is the body of its n-th fetch.
    Stream(u32),
    /// The n-th fetch.
    Fetch(u32),
    /// The n-th operation on key-value stores.
    Kv(u32),
    /// Configuration and secrets.
    Config,
    /// Lines for the log.
    Log,
    /// Geography and device of a client.
    Lookup,
    /// The response's head.
    Response,
    /// Whether there was memory: what a full node refuses.
    Memory,
}

/// What a guest learned or caused. A capability that needs another kind of value adds a variant.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A number: a clock's reading, a seed, a length, room in a stream.
    Number(u64),
    /// A time since an epoch.
    Time(Duration),
    /// Bytes: random ones, a value, a line.
    Bytes(Bytes),
    /// A value that may be absent.
    Optional(Option<Bytes>),
    /// Which of several things were ready.
    Ready(Vec<u32>),
    /// A piece of a body.
    Chunk(Bytes),
    /// A body has nothing yet.
    NotYet,
    /// A body ended, with these trailers.
    End(HeaderMap),
    /// A body or stream broke off.
    Broken(BodyError),
    /// A message's head: start line, then fields.
    Head(String, HeaderMap),
    /// An effect failed, by its stable name.
    Failed(String),
}

/// A value that passes the seam.
pub trait Fact: Sized {
    /// As an event.
    fn event(&self) -> Event;
    /// Back. `None`: the event is of another kind.
    fn recall(event: Event) -> Option<Self>;
}

/// Sees all that passes one exchange's door.
pub trait Witness: Send + Sync {
    /// Does it answer instead of the world? Then the world is not there to be waited for.
    fn replays(&self) -> bool;
    /// The next answer of `source`, for one that replays. `None`: it has no more, or of another kind; whoever asks
    /// gets what the world says.
    fn recall(&self, source: Source) -> Option<Event>;
    /// The guest learned something, of the world or of a replay.
    fn learned(&self, source: Source, event: Event);
    /// The guest caused something.
    fn caused(&self, source: Source, event: Event);
}

/// One exchange's door. Clones share a witness.
#[derive(Clone, Default)]
pub struct Door(Option<Arc<dyn Witness>>);

impl Door {
    /// A door that is watched.
    pub fn watched(witness: Arc<dyn Witness>) -> Door {
        Door(Some(witness))
    }

    /// Learns a fact of the world.
    #[inline]
    pub fn learn<T: Fact>(&self, source: Source, world: impl FnOnce() -> T) -> T {
        match &self.0 {
            None => world(),
            Some(witness) => watched(&**witness, source, world),
        }
    }

    /// Learns a fact that the world may not know yet. It passes the seam when it is there.
    #[inline]
    pub fn poll_learn<T: Fact>(&self, source: Source, world: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let Some(witness) = &self.0 else { return world() };
        if let Some(fact) = witness.recall(source).and_then(T::recall) {
            witness.learned(source, fact.event());
            return Poll::Ready(fact);
        }
        let polled = world();
        if let Poll::Ready(fact) = &polled {
            witness.learned(source, fact.event());
        }
        polled
    }

    /// Is the world away, so that waiting for it would be for ever?
    #[inline]
    pub fn replays(&self) -> bool {
        self.0.as_ref().is_some_and(|witness| witness.replays())
    }

    /// Notes an effect.
    #[inline]
    pub fn cause(&self, source: Source, event: impl FnOnce() -> Event) {
        if let Some(witness) = &self.0 {
            witness.caused(source, event());
        }
    }
}

#[cold]
fn watched<T: Fact>(witness: &dyn Witness, source: Source, world: impl FnOnce() -> T) -> T {
    let fact = witness.recall(source).and_then(T::recall).unwrap_or_else(world);
    witness.learned(source, fact.event());
    fact
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Door(watched)" } else { "Door" })
    }
}
