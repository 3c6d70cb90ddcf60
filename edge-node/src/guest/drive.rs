//! Polls an execution until its response is under way: bills it, stops it at its limits, and never spawns a task for a
//! guest that answers at once.
//!
//! 1. Poll the run and the response head together. The first poll happens inline; a wall-clock timer exists only for a
//!    run that has to wait.
//! 2. With the head at hand, go on polling run and body while the run waits for nothing but room in its body, up to
//!    [`QUICK_BODY_BYTES_MAX`], [`QUICK_FRAMES_MAX`] and the end of its time slice. A run that ends within it becomes one
//!    buffer: head and body leave in one write.
//! 3. Otherwise the rest of the run becomes a task of this worker and the body streams. A client that goes away drops
//!    the body, which aborts the task; a run stopped by a limit drops its end of the body, which aborts the response.
//!    A body dropped after all that its `Content-Length` promised is a whole one, and the run goes on.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header::CONTENT_LENGTH, response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::JoinHandle,
    time::{Instant, Sleep},
};
use wasmtime::Trap;

use super::{CpuLimitReached, GuestExit, Run, wasi::AnsweredError};
use crate::{
    account::Account,
    exchange::Bill,
    failure::Failure,
    front::{BodyError, OutboundBody},
};

/// A body this small is collected when its guest does not have to wait: the per-stream buffer of DESIGN §4.
pub const QUICK_BODY_BYTES_MAX: usize = 64 * 1024;

/// Frames collected before the body streams, however small: each costs a poll of the guest.
pub const QUICK_FRAMES_MAX: usize = 64;

type Head = oneshot::Receiver<Response<OutboundBody>>;
type Stream = UnsyncBoxBody<Bytes, BodyError>;

/// Runs a guest up to its response. `wall` is what is left of its wall time now. The account is closed by whoever ends last: this call, the run, or the body.
pub async fn drive(
    run: Run,
    head: Head,
    bill: Arc<Bill>,
    wall: Duration,
    account: Arc<Account>,
) -> Result<Response<OutboundBody>, Failure> {
    let deadline = Instant::now() + wall;
    let mut driven = Driven { run: Some(run), bill, deadline, timer: None, failure: None };
    let response = driven.until_head(head).await?;
    let (head, body) = response.into_parts();
    let body = match body {
        OutboundBody::Boxed(stream) => driven.quick_body(stream).await,
        ready => {
            driven.poll_on().await;
            Collected::Whole(ready)
        }
    };
    match (body, driven.failure) {
        // Nothing has left yet: the client gets a clean answer instead of half a response.
        (Collected::Broken(..), Some(failure)) => Err(failure),
        (body, _) => Ok(driven.respond(head, body, account)),
    }
}

/// What the quick phase got of a body.
enum Collected {
    /// All of it.
    Whole(OutboundBody),
    /// A beginning; the rest streams.
    Partly(Vec<Frame<Bytes>>, Stream),
    /// A beginning, then an error: the response must break off.
    Broken(Vec<Frame<Bytes>>, BodyError),
}

/// A run and what stops it.
struct Driven {
    run: Option<Run>,
    bill: Arc<Bill>,
    deadline: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    failure: Option<Failure>,
}

impl Driven {
    async fn until_head(&mut self, mut head: Head) -> Result<Response<OutboundBody>, Failure> {
        poll_fn(|cx| {
            let ended = self.poll_run(cx);
            match head.try_recv() {
                Ok(response) => Poll::Ready(Ok(response)),
                // Ended without a response.
                Err(_) if ended.is_ready() => Poll::Ready(Err(self.failure.unwrap_or(Failure::NoResponse))),
                // Still running, with nothing left to respond with: its end will tell.
                Err(TryRecvError::Closed) => Poll::Pending,
                // Leaves the waker. Never used for the value: it is pending, too, when the task's cooperative
                // budget is spent.
                Err(TryRecvError::Empty) => {
                    Pin::new(&mut head).poll(cx).map(|response| response.map_err(|_| Failure::NoResponse))
                }
            }
        })
        .await
    }

    /// Polls the run: one slice, billed. Ready when it ended or was stopped, and from then on.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(run) = &mut self.run else { return Poll::Ready(()) };
        self.bill.begin_slice();
        let polled = run.as_mut().poll(cx);
        self.bill.end_slice();
        let failure = match polled {
            Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(error)) => Some(classify(&error, &self.bill)),
            Poll::Pending => {
                let timer =
                    self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.deadline)));
                ready!(timer.as_mut().poll(cx));
                Some(Failure::WallLimit)
            }
        };
        self.failure = failure;
        self.bill.begin_slice();
        self.run = None; // tearing an instance down is the guest's cost too
        self.bill.end_slice();
        Poll::Ready(())
    }

    /// One more slice for a run that has responded, unless it has just had a whole one.
    async fn poll_on(&mut self) {
        poll_fn(|cx| {
            if !self.bill.yielded() {
                let _ = self.poll_run(cx);
            }
            Poll::Ready(())
        })
        .await
    }

    /// Step 2.
    async fn quick_body(&mut self, mut stream: Stream) -> Collected {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let ended = poll_fn(|cx| {
            loop {
                // A run whose slice is over, here or with its head, goes on only after others have.
                let over = self.bill.yielded() || self.poll_run(cx).is_ready() || self.bill.yielded();
                let before = frames.len();
                let full =
                    |frames: &Vec<_>, bytes| bytes > QUICK_BODY_BYTES_MAX || frames.len() >= QUICK_FRAMES_MAX;
                while !full(&frames, bytes) {
                    match Pin::new(&mut stream).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            bytes += frame.data_ref().map_or(0, Bytes::len);
                            frames.push(frame);
                        }
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                        Poll::Ready(None) if self.failure.is_some() => {
                            return Poll::Ready(Some(Err(BodyError::GuestAborted)));
                        }
                        Poll::Ready(None) => {
                            // The body is complete; whatever the guest still does, the client need not wait.
                            return Poll::Ready(Some(Ok(())));
                        }
                        Poll::Pending => break,
                    }
                }
                // Taking frames may have made room for the guest: poll it again, unless nothing moved.
                if over || frames.len() == before || full(&frames, bytes) {
                    return Poll::Ready(None);
                }
            }
        })
        .await;
        let frames = joined(frames);
        match ended {
            Some(Ok(())) => {
                self.poll_on().await;
                whole(frames)
            }
            Some(Err(error)) => Collected::Broken(frames, error),
            None => Collected::Partly(frames, stream),
        }
    }

    /// Step 3, or the end.
    fn respond(
        self,
        head: response::Parts,
        body: Collected,
        account: Arc<Account>,
    ) -> Response<OutboundBody> {
        account.responded(head.status);
        if self.run.is_none() {
            account.ended(self.failure);
        }
        let (frames, rest) = match body {
            Collected::Whole(body) if self.run.is_none() => return Response::from_parts(head, body),
            Collected::Whole(body) => {
                // The response is complete, the guest is not: it goes on by itself, within its limits.
                self.spawn_rest(account);
                return Response::from_parts(head, body);
            }
            Collected::Partly(frames, stream) => (frames, Ok(stream)),
            Collected::Broken(frames, error) => (frames, Err(error)),
        };
        let task = self.spawn_rest(account.clone());
        let bytes_left = announced_length(&head.headers);
        let mut body =
            StreamedBody { ready: frames.into_iter(), rest, task, account, bytes_left, settled: false };
        if bytes_left == Some(0) {
            body.complete(); // hyper will not even ask for it
        }
        Response::from_parts(head, OutboundBody::stream(body))
    }

    fn spawn_rest(mut self, account: Arc<Account>) -> Option<JoinHandle<()>> {
        self.run.as_ref()?;
        Some(tokio::task::spawn_local(async move {
            let unwinding = Unwinding(account);
            poll_fn(|cx| self.poll_run(cx)).await;
            unwinding.0.ended(self.failure);
        }))
    }
}

/// Notes a panic of a host function as the failure of its run: a body whose other end was dropped by one would
/// otherwise look complete.
struct Unwinding(Arc<Account>);

impl Drop for Unwinding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ended(Some(Failure::Internal));
        }
    }
}

/// The length a guest announced, if it is one: with two the front announces none.
fn announced_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    only.to_str().ok()?.parse().ok()
}

/// The same body in at most two frames: one of data, one of trailers.
fn joined(frames: Vec<Frame<Bytes>>) -> Vec<Frame<Bytes>> {
    if frames.len() < 2 {
        return frames;
    }
    let bytes = frames.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
    let (mut data, mut others) = (BytesMut::with_capacity(bytes), Vec::new());
    for frame in frames {
        match frame.into_data() {
            Ok(chunk) => data.extend_from_slice(&chunk),
            Err(other) => others.push(other), // trailers, which end a body
        }
    }
    let data = (!data.is_empty()).then(|| Frame::data(data.freeze()));
    data.into_iter().chain(others).collect()
}

/// One buffer, unless there are trailers.
fn whole(mut frames: Vec<Frame<Bytes>>) -> Collected {
    if frames.iter().any(Frame::is_trailers) {
        let body = StreamedBody {
            ready: frames.into_iter(),
            rest: Ok(empty()),
            task: None,
            account: Account::none(),
            bytes_left: None,
            settled: false,
        };
        return Collected::Whole(OutboundBody::stream(body));
    }
    let data = frames.pop().and_then(|frame| frame.into_data().ok());
    Collected::Whole(data.map_or(OutboundBody::Empty, OutboundBody::from))
}

fn empty() -> Stream {
    UnsyncBoxBody::new(http_body_util::BodyExt::map_err(http_body_util::Empty::new(), |never| match never {}))
}

/// Why a run ended with an error.
fn classify(error: &wasmtime::Error, bill: &Bill) -> Failure {
    if error.is::<CpuLimitReached>() {
        return Failure::CpuLimit;
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Failure::NoRoom;
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        return Failure::StackLimit;
    }
    if bill.memory_refused() {
        return Failure::MemoryLimit;
    }
    if let Some(answered) = error.downcast_ref::<AnsweredError>() {
        return if answered.is_backends() { Failure::BackendError } else { Failure::GuestError };
    }
    let by_guest = error.is::<Trap>() || error.is::<GuestExit>();
    if !by_guest {
        tracing::debug!("a guest ended with an error of the host: {error:#}");
    }
    Failure::GuestTrap
}

/// A response body whose guest is still running.
struct StreamedBody {
    ready: std::vec::IntoIter<Frame<Bytes>>,
    rest: Result<Stream, BodyError>,
    task: Option<JoinHandle<()>>,
    account: Arc<Account>,
    /// What is left of the length the guest announced. hyper drops an h1 body at its last byte.
    bytes_left: Option<u64>,
    /// Sent whole, or broken off by us: dropping it says nothing about the client.
    settled: bool,
}

impl StreamedBody {
    /// The client has it all: the guest may do what it still has to do.
    fn complete(&mut self) {
        self.task = None;
        self.settled = true;
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ready.next() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Ok(stream) => Pin::new(stream).poll_frame(cx),
            Err(error) => Poll::Ready(Some(Err(*error))),
        }
    }
}

impl http_body::Body for StreamedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(self.poll_rest(cx)) {
            // A stopped guest's end of the body closes as if it were complete; only its failure tells.
            None if self.account.failed() => Some(Err(BodyError::GuestAborted)),
            frame => frame,
        };
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes));
                if self.bytes_left == Some(0) && !frame.is_trailers() {
                    self.complete();
                }
            }
            // An app that passes its client's body on has its client's faults.
            Some(Err(BodyError::ClientGone)) => {}
            Some(Err(_)) => self.settled = true,
            None => self.complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // Whoever hears "yes" drops the body, which would stop a guest that still runs or hide one that failed.
        self.task.is_none()
            && !self.account.failed()
            && self.ready.len() == 0
            && self.rest.as_ref().is_ok_and(|stream| stream.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if !self.settled && !self.account.failed() {
            let known_end = self.task.is_none() && self.is_end_stream();
            self.account.ended((!known_end).then_some(Failure::ClientGone));
        }
    }
}

#[cfg(test)]
mod tests;
