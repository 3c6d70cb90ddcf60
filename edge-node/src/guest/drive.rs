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
//!    A body dropped after all that its `Content-Length` promised is a whole one, and the run goes on. One that is longer
//!    or shorter breaks off, on every protocol.
//!
//! A run that outlives its tick, and one of an app that did so lately, goes on in the slow lane ([`crate::lane`]). All of
//! the above stays as it is, but that polling the run is then waiting for its end.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
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

use super::{GuestExit, Run, wasi::AnsweredError};
use crate::{
    account::Account,
    code::TooMuchHeld,
    exchange::Bill,
    failure::Failure,
    front::{BodyError, OutboundBody},
    generation::Deployment,
    lane::{End, Full, Job, Lanes, Start, TICK_NS, Ticket, Who},
    limits::{Limit, LimitReached},
};

/// A body this small is collected when its guest does not have to wait: the per-stream buffer of DESIGN §4.
pub const QUICK_BODY_BYTES_MAX: usize = 64 * 1024;

/// Frames collected before the body streams, however small: each costs a poll of the guest.
pub const QUICK_FRAMES_MAX: usize = 64;

type Head = oneshot::Receiver<Response<OutboundBody>>;
type Stream = UnsyncBoxBody<Bytes, BodyError>;

/// How long a run may still take.
#[derive(Debug, Clone, Copy)]
pub struct Wall {
    /// From now.
    pub left: Duration,
    /// The end is that of whoever sent the request, and earlier than the app's own.
    pub is_inherited: bool,
}

impl From<Duration> for Wall {
    fn from(left: Duration) -> Wall {
        Wall { left, is_inherited: false }
    }
}

/// Runs a guest up to its response. `wall` is what is left of its wall time now. The account is closed by whoever ends
/// last: this call, the run, or the body. Without `lanes`, or an account of a deployment, the run stays on this thread.
pub async fn drive(
    run: Run,
    head: Head,
    bill: Arc<Bill>,
    wall: impl Into<Wall>,
    account: Arc<Account>,
    lanes: Option<&Lanes>,
) -> Result<Response<OutboundBody>, Failure> {
    let Wall { left, is_inherited } = wall.into();
    let deadline = Instant::now() + left;
    let place = Place::Here(run);
    let lanes = lanes.cloned();
    let mut driven = Driven {
        place,
        bill,
        lanes,
        account: account.clone(),
        deadline,
        is_inherited,
        timer: None,
        failure: None,
        who: Who::Stranger,
    };
    driven.start();
    let response = driven.until_head(head).await?;
    let (head, body) = response.into_parts();
    let body = match body {
        OutboundBody::Boxed(stream) => driven.quick_body(stream, announced_length(&head.headers)).await,
        ready => {
            driven.poll_on().await;
            Collected::Whole(ready)
        }
    };
    if let (Collected::Broken(..), Place::Slow(_)) = (&body, &driven.place)
        && account.failed()
    {
        // It has failed; how, is on its way.
        poll_fn(|cx| driven.poll_run(cx)).await;
    }
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

/// Where a run is.
enum Place {
    /// On this thread.
    Here(Run),
    /// In the slow lane.
    Slow(Ticket),
    /// Nowhere: it ended or was stopped.
    Ended,
}

/// A run and what stops it.
struct Driven {
    place: Place,
    bill: Arc<Bill>,
    lanes: Option<Lanes>,
    account: Arc<Account>,
    deadline: Instant,
    /// See [`Wall::is_inherited`].
    is_inherited: bool,
    timer: Option<Pin<Box<Sleep>>>,
    failure: Option<Failure>,
    /// Whose strain it is what it has of this thread: an offender's, if it found no place in the slow lane.
    who: Who,
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

    /// A run of an app that may not begin here goes to the slow lane before it was polled. Where that is full it begins here
    /// after all if this thread has time to spare: its app is to be slow then, not away.
    fn start(&mut self) {
        let (Some(lanes), Some(deployment)) = (&self.lanes, self.account.deployment()) else { return };
        if lanes.start(&deployment.standing) == Start::Fast {
            return;
        }
        let has_spare = lanes.has_spare();
        if self.enter().is_ok() {
            return;
        }
        self.who = Who::Offender;
        if !has_spare {
            self.end_without_place();
        }
    }

    /// What the run has just had of this thread, however it ended, if that is over its tick or the run in all is.
    fn note_strain(&self, before_ns: u64) {
        let Some(lanes) = &self.lanes else { return };
        let all_ns = self.bill.slices_ns();
        if self.bill.yielded() || all_ns > TICK_NS {
            lanes.held(self.who, all_ns.saturating_sub(before_ns));
        }
    }

    /// Polls the run: one slice, billed. Ready when it ended or was stopped, and from then on.
    fn poll_run(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Place::Here(_) = self.place {
            self.poll_here(cx);
        }
        if let Place::Slow(ticket) = &mut self.place
            && let Poll::Ready(failure) = ticket.poll_end(cx)
        {
            self.end(failure);
        }
        if let Place::Ended = self.place {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.deadline)));
        ready!(timer.as_mut().poll(cx));
        if self.is_inherited {
            self.end(Some(Failure::Deadline));
        } else {
            self.bill.meet(Limit::Wall);
            self.end(Some(Failure::WallLimit));
        }
        Poll::Ready(())
    }

    /// One slice on this thread. A run whose time here is over is in the slow lane afterwards.
    fn poll_here(&mut self, cx: &mut Context<'_>) {
        let Driven { place, bill, .. } = self;
        let Place::Here(run) = place else { return };
        let before_ns = bill.slices_ns();
        let slice = bill.slice();
        let polled = run.as_mut().poll(cx);
        if polled.is_ready() {
            *place = Place::Ended; // tearing an instance down is the guest's cost too
        }
        drop(slice);
        self.note_strain(before_ns);
        if polled.is_pending() {
            // Before the look below: what is billed from here on wakes it.
            self.bill.wake_when_over(cx.waker());
        }
        match polled {
            Poll::Ready(Ok(())) => self.settle(None, End::ByItself),
            Poll::Ready(Err(error)) => self.settle(Some(classify(&error, &self.bill)), End::ByItself),
            Poll::Pending if self.is_over_cpu() => {
                self.end(Some(Failure::CpuLimit));
            }
            Poll::Pending if self.bill.yielded() || self.bill.slices_ns() > TICK_NS => self.go(),
            Poll::Pending => {}
        }
    }

    /// To the slow lane, if there is one. Without a place there it ends.
    fn go(&mut self) {
        if self.enter().is_err() {
            self.end_without_place();
        }
    }

    /// Into the slow lane, if there is one, and the run is not there. Without a place it stays.
    fn enter(&mut self) -> Result<(), Full> {
        let (Some(lanes), Some(deployment)) = (&self.lanes, self.account.deployment()) else { return Ok(()) };
        let run = match std::mem::replace(&mut self.place, Place::Ended) {
            Place::Here(run) => run,
            other => {
                self.place = other;
                return Ok(());
            }
        };
        let (bill, account) = (self.bill.clone(), self.account.clone());
        match lanes.enter(Job { run, bill, account, deployment: deployment.clone() }) {
            Ok(ticket) => {
                self.place = Place::Slow(ticket);
                Ok(())
            }
            Err((full, job)) => {
                self.place = Place::Here(job.run);
                Err(full)
            }
        }
    }

    fn end_without_place(&mut self) {
        self.bill.meet(Limit::SlowLane);
        self.end(Some(Failure::SlowLaneFull));
    }

    /// Ends the run. One in the slow lane settles there what it leaves.
    fn end(&mut self, failure: Option<Failure>) {
        self.failure = failure;
        let Place::Here(run) = std::mem::replace(&mut self.place, Place::Ended) else { return };
        let before_ns = self.bill.slices_ns();
        let slice = self.bill.slice();
        drop(run);
        drop(slice);
        self.note_strain(before_ns);
        self.settle(failure, End::Stopped);
    }

    /// The run is gone: its memory goes back, and its app is judged by what it cost.
    fn settle(&mut self, failure: Option<Failure>, end: End) {
        self.failure = failure;
        self.bill.give_back_memory();
        if let Some(deployment) = self.account.deployment() {
            deployment.standing.ended(self.bill.judged_ns(), end);
        }
    }

    fn is_over_cpu(&self) -> bool {
        self.account.deployment().is_some_and(|app| is_over_cpu(app, &self.bill, self.bill.limited_ns()))
    }

    fn has_ended(&self) -> bool {
        matches!(self.place, Place::Ended)
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

    /// Step 2. `announced` is the body's length by its head.
    async fn quick_body(&mut self, mut stream: Stream, announced: Option<u64>) -> Collected {
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
                        Poll::Ready(None) => {
                            // On another thread its run may be ending now, and not yet have said how.
                            stream = empty();
                            ready!(self.bill.poll_between_slices(cx));
                            if self.failure.is_some() || self.account.failed() {
                                return Poll::Ready(Some(Err(BodyError::GuestAborted)));
                            }
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
                whole(frames, announced)
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
        if self.has_ended() {
            account.ended(self.failure);
        }
        let (frames, rest) = match body {
            Collected::Whole(body) if self.has_ended() => return Response::from_parts(head, body),
            Collected::Whole(body) => {
                // The response is complete, the guest is not: it goes on by itself, within its limits.
                self.spawn_rest(account);
                return Response::from_parts(head, body);
            }
            Collected::Partly(frames, stream) => (frames, Ok(stream)),
            Collected::Broken(frames, error) => (frames, Err(error)),
        };
        let bill = self.bill.clone();
        let task = self.spawn_rest(account.clone());
        let bytes_left = announced_length(&head.headers);
        let ready = frames.into_iter();
        let mut body = StreamedBody { ready, rest, task, account, bill, bytes_left, settled: false };
        if bytes_left == Some(0) {
            body.complete(); // hyper will not even ask for it
        }
        Response::from_parts(head, OutboundBody::stream(body))
    }

    fn spawn_rest(mut self, account: Arc<Account>) -> Option<JoinHandle<()>> {
        if self.has_ended() {
            return None;
        }
        Some(tokio::task::spawn_local(async move {
            let unwinding = Unwinding(account);
            poll_fn(|cx| self.poll_run(cx)).await;
            unwinding.0.ended(self.failure);
        }))
    }
}

/// A run that is dropped on the way, because its client left or a host function panicked, is torn down at its own cost.
impl Drop for Driven {
    fn drop(&mut self) {
        if let Place::Here(_) = self.place
            && catch_unwind(AssertUnwindSafe(|| self.end(self.failure))).is_err()
        {
            tracing::error!("ending a guest panicked");
        }
    }
}

/// After a slice that did not end its run: has it used up its CPU time? The epoch asks only while guest code runs, not
/// while the host looks at what the guest waits for.
pub(crate) fn is_over_cpu(app: &Deployment, bill: &Bill, used_ns: u64) -> bool {
    let is_over = used_ns >= u64::from(app.limits().cpu_ms) * 1_000_000;
    if is_over {
        bill.meet(Limit::Cpu);
    }
    is_over
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

fn data_bytes(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, Bytes::len) as u64
}

/// One buffer, which has its true length whatever was announced, unless there are trailers.
fn whole(mut frames: Vec<Frame<Bytes>>, announced: Option<u64>) -> Collected {
    if frames.iter().any(Frame::is_trailers) {
        let body = StreamedBody {
            ready: frames.into_iter(),
            rest: Ok(empty()),
            task: None,
            account: Account::none(),
            bill: Arc::default(),
            bytes_left: announced,
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
pub(crate) fn classify(error: &wasmtime::Error, bill: &Bill) -> Failure {
    if let Some(LimitReached(limit)) = error.downcast_ref() {
        return limit.failure();
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Failure::NoRoom;
    }
    if error.is::<TooMuchHeld>() {
        return Failure::CodeUnavailable;
    }
    if let Some(answered) = error.downcast_ref::<AnsweredError>() {
        return if answered.is_backends() { Failure::BackendError } else { Failure::GuestError };
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
        bill.meet(Limit::Stack);
        return Failure::StackLimit;
    }
    // A guest that was refused what it wanted and traps has given up over it.
    let refused = bill.limits_met();
    for limit in [Limit::NodeMemory, Limit::Memory, Limit::Table] {
        if refused.has(limit) {
            return limit.failure();
        }
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
    bill: Arc<Bill>,
    /// What is left of the length the guest announced, which it is held to: h2 and h3 would send whatever comes. hyper
    /// drops an h1 body at its last byte.
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

    /// Does it become longer than was announced, or end before?
    fn breaks_promise(&self, next: Option<&Result<Frame<Bytes>, BodyError>>) -> bool {
        let Some(left) = self.bytes_left else { return false };
        match next {
            Some(Ok(frame)) if frame.is_trailers() => left > 0,
            Some(Ok(frame)) => data_bytes(frame) > left,
            Some(Err(_)) => false,
            None => left > 0,
        }
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
        let frame = ready!(self.poll_rest(cx));
        if frame.is_none() {
            // Its guest, on another thread, may be ending now: wait until it has said how.
            self.rest = Ok(empty());
            ready!(self.bill.poll_between_slices(cx));
        }
        let frame = match frame {
            // A stopped guest's end of the body closes as if it were complete; only its failure tells.
            None if self.account.failed() => Some(Err(BodyError::GuestAborted)),
            frame if self.breaks_promise(frame.as_ref()) => {
                // Its guest may still do what it has to do, as for a response that nobody gets the body of.
                self.complete();
                self.rest = Err(BodyError::GuestAborted);
                self.ready = Vec::new().into_iter();
                Some(Err(BodyError::GuestAborted))
            }
            frame => frame,
        };
        match &frame {
            Some(Ok(frame)) => {
                let bytes = data_bytes(frame);
                self.bytes_left = self.bytes_left.map(|left| left.saturating_sub(bytes));
                if self.bytes_left == Some(0) && !frame.is_trailers() {
                    self.complete();
                }
            }
            // An app that passes its client's body on has its client's faults.
            Some(Err(BodyError::ClientGone)) => {}
            // Of a body that is passed on, perhaps after its guest: nobody else notices.
            Some(Err(BodyError::GuestLimit)) => self.account.ended(Some(Failure::CpuLimit)),
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
