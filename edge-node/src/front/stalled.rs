//! Readers that take nothing more of an answer. What an answer has of the node (room to read files, memory, a guest's place)
//! goes with its body, and hyper asks a body for more only when there is room for it: of a client that reads nothing, neither
//! the body nor an error of it would ever be heard again. So the time is taken beside it, and over it the connection (h1) or the
//! stream (h2) is dropped with all it holds; h3 bounds each write.
//!
//! What the node itself owes, a guest that thinks or a disk that reads, is not on this clock.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::Poll,
};

use tokio::time::{Instant, sleep, sleep_until};

use super::limits::STALL_MAX;

thread_local! {
    /// Of the h2 stream that is polled now: hyper has no other way from a stream to its request.
    static OF_STREAM: RefCell<Option<Rc<Reader>>> = const { RefCell::new(None) };
}

/// Who reads the answers of an h1 connection or of an h2 stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Since when it could take a piece and did not. `None`: it waits for one, or there is no answer.
    since: Cell<Option<Instant>>,
}

impl Reader {
    /// A piece is there for it.
    pub(super) fn may_take(&self) {
        self.since.set(Some(Instant::now()));
    }

    /// It has all there is for now.
    pub(super) fn waits(&self) {
        self.since.set(None);
    }

    /// It took some bytes.
    pub(super) fn took(&self) {
        if self.since.get().is_some() {
            self.may_take();
        }
    }

    /// Returns when it has taken nothing for [`STALL_MAX`]; looked at no more often than that.
    pub(super) async fn stalled(&self) {
        loop {
            match self.since.get().map(|since| since + STALL_MAX) {
                None => sleep(STALL_MAX).await,
                Some(due) if due <= Instant::now() => return,
                Some(due) => sleep_until(due).await,
            }
        }
    }
}

/// The reader of the h2 stream that this is called in.
pub(super) fn of_stream() -> Rc<Reader> {
    OF_STREAM.with_borrow(Clone::clone).unwrap_or_default()
}

/// Runs an h2 stream to its end, or until its reader has stalled.
pub(super) async fn run_stream(stream: impl Future) {
    let reader = Rc::new(Reader::default());
    let (mut stream, mut stalled) = (pin!(stream), pin!(reader.stalled()));
    poll_fn(|cx| {
        OF_STREAM.set(Some(Rc::clone(&reader)));
        let ended = stream.as_mut().poll(cx);
        OF_STREAM.set(None);
        match (ended, reader.since.get()) {
            (Poll::Ready(_), _) => Poll::Ready(()),
            // Only now is a timer set: most answers are gone after one poll.
            (Poll::Pending, Some(_)) => stalled.as_mut().poll(cx),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await;
}
