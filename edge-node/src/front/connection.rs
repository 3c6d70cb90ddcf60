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
    stalled::Reader,
    unread::Discarding,
    watched::Reads,
};

/// Counts the requests of one connection. A request is in flight until its response body is gone.
#[derive(Debug)]
pub(super) struct Activity {
    in_flight: Cell<u32>,
    begun: Cell<u64>,
    /// Bodies that are read after their answers: their bytes are no head.
    pub(super) discarding: Discarding,
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
            discarding: Discarding::default(),
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

/// A response body that keeps its request in flight, and says when it is its reader's turn.
#[derive(Debug)]
pub(super) struct CountedBody {
    body: OutboundBody,
    reader: Rc<Reader>,
    _in_flight: InFlight,
}

impl CountedBody {
    pub(super) fn new(body: OutboundBody, in_flight: InFlight, reader: Rc<Reader>) -> CountedBody {
        if !body.is_end_stream() {
            reader.may_take();
        }
        CountedBody { body, reader, _in_flight: in_flight }
    }
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => self.reader.may_take(),
            Poll::Ready(_) | Poll::Pending => self.reader.waits(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.reader.waits();
    }
}

/// Ends an h1 connection whose request head takes longer than [`HEAD_TIMEOUT`], from the connection's start or the head's
/// first byte until its request begins.
///
/// Nearly every head comes in one read, and then there is nothing to wait for: the timer is set when a reader comes back
/// for more of a head.
pub(super) struct HeadTimer {
    activity: Rc<Activity>,
    reader: Rc<Reader>,
    timer: Pin<Box<Sleep>>,
    head: Head,
}

/// What is known of the head that comes next. Each holds how many requests had begun: more have, and the head came in.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// None of it is here.
    None,
    /// A read brought its beginning, and perhaps all of it.
    Begun(u64),
    /// It took more than one read, and the timer is set.
    Timed(u64),
}

impl HeadTimer {
    /// Of a connection. Its reader hears of what was written.
    pub(super) fn new(activity: Rc<Activity>, reader: Rc<Reader>) -> HeadTimer {
        HeadTimer { activity, reader, timer: Box::pin(sleep(HEAD_TIMEOUT)), head: Head::Timed(0) }
    }

    /// Before a read: has the head's time passed?
    fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        let begun = self.activity.begun.get();
        match self.head {
            Head::Begun(at) if at == begun => {
                self.timer.as_mut().reset(Instant::now() + HEAD_TIMEOUT);
                self.head = Head::Timed(at);
            }
            Head::Timed(at) if at == begun => {}
            _ => self.head = Head::None,
        }
        matches!(self.head, Head::Timed(_)) && self.timer.as_mut().poll(cx).is_ready()
    }

    fn bytes_came(&mut self) {
        if let (Head::None, 0, 0) = (self.head, self.activity.in_flight(), self.activity.discarding.count()) {
            self.head = Head::Begun(self.activity.begun.get());
        }
    }
}

impl Reads for HeadTimer {
    fn polled(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let expired = self.expired(cx);
        if outcome.is_pending() && expired {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if bytes > 0 {
            self.bytes_came();
        }
        outcome
    }

    fn wrote(&mut self) {
        self.reader.took();
    }
}
