//! Bodies on their way: [`Upload`] towards a backend, [`Answer`] from it.

use std::{
    io, mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{RequestBody, pool::Lease};
use crate::front::BodyError;

/// The body of a request, kept until an attempt has begun to send it.
pub enum Upload {
    Empty,
    Full(Bytes),
    Stream(Arc<Shared>),
}

/// A stream that one attempt at a time may read.
pub struct Shared {
    state: Mutex<State>,
    finished: AtomicBool,
    waker: AtomicWaker,
}

struct State {
    body: UnsyncBoxBody<Bytes, BodyError>,
    /// Bytes left of the announced length.
    left: Option<u64>,
    /// The attempt that may read it.
    attempt: u32,
    /// Has any of it been read?
    touched: bool,
    failed: bool,
}

impl Upload {
    /// `announced` is the request's `Content-Length`.
    pub fn new(body: RequestBody, announced: Option<u64>) -> Upload {
        match body {
            RequestBody::Empty => Upload::Empty,
            RequestBody::Full(bytes) if bytes.is_empty() => Upload::Empty,
            RequestBody::Full(bytes) => Upload::Full(bytes),
            RequestBody::Stream(body) => Upload::Stream(Arc::new(Shared {
                state: Mutex::new(State { body, left: announced, attempt: 0, touched: false, failed: false }),
                finished: AtomicBool::new(false),
                waker: AtomicWaker::new(),
            })),
        }
    }

    /// The body for one more attempt; what an earlier attempt still holds is cut off.
    pub fn attempt(&self) -> Sending {
        match self {
            Upload::Empty => Sending::Empty,
            Upload::Full(bytes) => Sending::Full(bytes.clone()),
            Upload::Stream(shared) => {
                let mut state = shared.state.lock();
                state.attempt += 1;
                Sending::Stream { shared: shared.clone(), attempt: state.attempt }
            }
        }
    }

    /// Can it be sent once more from its beginning?
    pub fn is_whole(&self) -> bool {
        match self {
            Upload::Empty | Upload::Full(_) => true,
            Upload::Stream(shared) => !shared.state.lock().touched,
        }
    }

    /// Did the guest break it off?
    pub fn failed(&self) -> bool {
        matches!(self, Upload::Stream(shared) if shared.state.lock().failed)
    }

    /// Ready when all of it was taken over by the connection.
    pub fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Upload::Stream(shared) = self else { return Poll::Ready(()) };
        if !shared.finished.load(Relaxed) {
            shared.waker.register(cx.waker());
        }
        if shared.finished.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The body of one attempt.
pub enum Sending {
    Empty,
    Full(Bytes),
    Stream { shared: Arc<Shared>, attempt: u32 },
}

impl Shared {
    fn poll(&self, attempt: u32, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.lock();
        if state.attempt != attempt {
            return Poll::Ready(Some(Err(BodyError::GuestAborted)));
        }
        let Poll::Ready(frame) = Pin::new(&mut state.body).poll_frame(cx) else { return Poll::Pending };
        state.touched = true;
        let counted = state.count(frame);
        state.failed |= matches!(counted, Some(Err(_)));
        let is_last = !matches!(&counted, Some(Ok(frame)) if frame.is_data()) || state.left == Some(0);
        drop(state);
        if is_last {
            self.finished.store(true, Relaxed);
            self.waker.wake();
        }
        Poll::Ready(counted)
    }
}

type Polled = Option<Result<Frame<Bytes>, BodyError>>;

impl State {
    /// Holds the guest to the length it announced.
    fn count(&mut self, frame: Polled) -> Polled {
        let Some(left) = &mut self.left else { return frame };
        let bytes = match &frame {
            Some(Ok(frame)) => frame.data_ref().map(|data| data.len() as u64),
            Some(Err(_)) => return frame,
            None => None,
        };
        match bytes {
            Some(bytes) if bytes <= *left => *left -= bytes,
            None if *left == 0 => {}
            _ => return Some(Err(BodyError::GuestAborted)),
        }
        frame
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        match &mut *self {
            Sending::Empty => Poll::Ready(None),
            Sending::Full(bytes) => {
                let bytes = mem::take(bytes);
                *self = Sending::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Sending::Stream { shared, attempt } => shared.poll(*attempt, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Sending::Empty => true,
            Sending::Full(bytes) => bytes.is_empty(),
            Sending::Stream { shared, .. } => {
                let state = shared.state.lock();
                state.body.is_end_stream() && state.left.unwrap_or(0) == 0
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Sending::Empty => SizeHint::with_exact(0),
            Sending::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Sending::Stream { shared, .. } => {
                let state = shared.state.lock();
                state.left.map_or_else(|| state.body.size_hint(), SizeHint::with_exact)
            }
        }
    }
}

/// One of the requests an execution may have under way.
pub struct OpenSlot(Arc<AtomicU32>);

impl OpenSlot {
    /// Takes one of `max`.
    pub fn take(open: &Arc<AtomicU32>, max: u32) -> Option<OpenSlot> {
        let slot = OpenSlot(open.clone());
        (open.fetch_add(1, Relaxed) < max).then_some(slot)
    }
}

impl Drop for OpenSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The body of a response. Gives its connection back at its end, and closes or resets it when it is dropped before.
pub struct Answer {
    incoming: Option<hyper::body::Incoming>,
    /// Connection and slot, while there may be more.
    held: Option<(Lease, OpenSlot)>,
    between_bytes: Duration,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl Answer {
    /// A body that is read over a connection.
    pub fn new(
        incoming: hyper::body::Incoming,
        lease: Lease,
        slot: OpenSlot,
        between_bytes: Duration,
        deadline: Instant,
    ) -> Answer {
        let held = Some((lease, slot));
        let mut answer =
            Answer { incoming: Some(incoming), held, between_bytes, deadline, timer: None, waits: false };
        answer.settle();
        answer
    }

    /// Lets go of connection and slot if this was all.
    fn settle(&mut self) {
        if self.incoming.as_ref().is_none_or(Body::is_end_stream)
            && let Some((lease, _)) = self.held.take()
        {
            lease.give_back();
        }
    }

    fn break_off(&mut self, error: BodyError) -> Poll<Polled> {
        self.incoming = None;
        self.held = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Ready when the backend took too long. The time runs only while somebody waits.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(self.deadline)));
        if !mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(self.deadline.min(Instant::now() + self.between_bytes));
        }
        timer.as_mut().poll(cx)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        if self.held.as_ref().is_some_and(|(lease, _)| lease.payer().is_over()) {
            return self.break_off(BodyError::GuestLimit);
        }
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.waits = false;
                if frame.is_trailers() {
                    self.incoming = None; // nothing comes after them, and many readers do not look
                }
                self.settle();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.break_off(fault(&error)),
            Poll::Ready(None) => {
                self.incoming = None;
                self.settle();
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_timeout(cx) {
                Poll::Ready(()) => self.break_off(BodyError::BackendTimeout),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// hyper says "invalid data" (chunk sizes, h2 content-length) by `io::ErrorKind`, everything else means that no more
/// bytes will come.
fn fault(error: &hyper::Error) -> BodyError {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        {
            return BodyError::BackendProtocol("framing");
        }
        cause = inner.source();
    }
    if error.is_parse() { BodyError::BackendProtocol("framing") } else { BodyError::BackendGone }
}
