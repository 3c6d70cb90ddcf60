//! A connection's own clocks: how many requests are in flight, since when none is, and how long a head has
//! been coming in.

use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{
    BodyError, OutboundBody,
    limits::{HEAD_TIMEOUT, IDLE_TIMEOUT},
    watched::Reads,
};

/// Counts the requests of one connection. A request is in flight until its response body is gone.
#[derive(Debug)]
pub(super) struct Activity {
    in_flight: Cell<u32>,
    begun: Cell<u64>,
    idle_since: Cell<Instant>,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Rc<Activity>);

impl Activity {
    pub(super) fn new() -> Rc<Activity> {
        Rc::new(Activity {
            in_flight: Cell::new(0),
            begun: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        })
    }

    pub(super) fn begin(self: &Rc<Activity>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.begun.set(self.begun.get() + 1);
        InFlight(Rc::clone(self))
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Returns once there was nothing in flight for [`IDLE_TIMEOUT`].
    pub(super) async fn idle(&self) {
        loop {
            if self.in_flight.get() > 0 {
                sleep(IDLE_TIMEOUT).await;
                continue;
            }
            let deadline = self.idle_since.get() + IDLE_TIMEOUT;
            if Instant::now() >= deadline {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// A response body that keeps its request in flight.
#[derive(Debug)]
pub(super) struct CountedBody {
    body: OutboundBody,
    _in_flight: InFlight,
}

impl CountedBody {
    pub(super) fn new(body: OutboundBody, in_flight: InFlight) -> CountedBody {
        CountedBody { body, _in_flight: in_flight }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends an h1 connection whose request head takes longer than [`HEAD_TIMEOUT`].
///
/// hyper has one timer for a head and for the pause before it; it is set to the idle timeout, and this one measures the
/// head alone: from the connection's start or a head's first byte until its request begins.
pub(super) struct HeadTimer {
    activity: Rc<Activity>,
    timer: Pin<Box<Sleep>>,
    /// How many requests had begun when the timer was set; more have begun: the head came in.
    armed_at: Option<u64>,
}

impl HeadTimer {
    pub(super) fn new(activity: Rc<Activity>) -> HeadTimer {
        HeadTimer { activity, timer: Box::pin(sleep(HEAD_TIMEOUT)), armed_at: Some(0) }
    }

    fn bytes_came(&mut self) {
        let between_requests = self.activity.in_flight() == 0;
        if self.armed_at.is_none() && between_requests {
            self.timer.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
            self.armed_at = Some(self.activity.begun.get());
        }
    }

    fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        if self.armed_at != Some(self.activity.begun.get()) {
            self.armed_at = None;
        }
        self.armed_at.is_some() && self.timer.as_mut().poll(cx).is_ready()
    }
}

impl Reads for HeadTimer {
    fn polled(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        // A head that came in whole leaves the timer set; a new one must not run on its clock.
        let expired = self.expired(cx);
        if outcome.is_pending() && expired {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if bytes > 0 {
            self.bytes_came();
        }
        outcome
    }
}
