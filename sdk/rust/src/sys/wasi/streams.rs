//! Bodies as streams of the host.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use wasip2::{
    http::types::{IncomingBody as WasiIncomingBody, OutgoingBody},
    io::streams::{InputStream, OutputStream, StreamError},
};

use crate::{
    Body, BodyError, Error, Result,
    body::Pieces,
    executor::{Wait, block_on, wait},
};

/// Bytes asked for by one read: as much as hosts buffer.
const READ_BYTES: u64 = 64 << 10;
/// Bytes that one blocking write may have (`wasi:io`).
const BLOCKING_WRITE_BYTES_MAX: usize = 4096;

/// A request's body that is still being sent while its answer is read.
pub(super) type Upload = Pin<Box<dyn Future<Output = Result<(), Stopped>>>>;

/// A body from outside. Its parts are children of those below them, and go before them.
pub(super) struct IncomingBody {
    /// For the next piece.
    waiting: Option<Wait>,
    /// `None` at the end.
    stream: Option<InputStream>,
    _body: WasiIncomingBody,
    upload: Option<Upload>,
}

impl IncomingBody {
    /// `None` if its stream is taken, which nobody but us could have done.
    pub(super) fn of(body: WasiIncomingBody) -> Option<IncomingBody> {
        let stream = body.stream().ok()?;
        Some(IncomingBody { waiting: None, stream: Some(stream), _body: body, upload: None })
    }

    /// Sends the rest of this while it is read.
    pub(super) fn with_upload(mut self, upload: Option<Upload>) -> IncomingBody {
        self.upload = upload;
        self
    }

    /// At least one byte, or the end.
    fn poll_read(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BodyError>> {
        let Some(stream) = &self.stream else { return Poll::Ready(Ok(None)) };
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(Pin::new(waiting).poll(task));
                self.waiting = None;
            }
            return Poll::Ready(match stream.read(READ_BYTES) {
                Ok(bytes) if bytes.is_empty() => {
                    self.waiting = Some(wait(stream.subscribe()));
                    continue;
                }
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(StreamError::Closed) => Ok(None),
                Err(StreamError::LastOperationFailed(_)) => Err(BodyError::BrokenOff),
            });
        }
    }
}

impl Pieces for IncomingBody {
    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        // How sending ends is not asked for any more: there is an answer.
        if self.upload.as_mut().is_some_and(|upload| upload.as_mut().poll(task).is_ready()) {
            self.upload = None;
        }
        let read = ready!(self.poll_read(task));
        if !matches!(read, Ok(Some(_))) {
            self.stream = None;
        }
        Poll::Ready(Ok(read?))
    }

    fn send(self: Box<Self>, sink: Sink) -> Result<(), Stopped> {
        pump_all(self, sink)
    }
}

/// Why a body was not sent to its end.
pub(crate) enum Stopped {
    /// Nobody takes it.
    Gone,
    /// It could not be made.
    Failed(Error),
}

impl From<StreamError> for Stopped {
    fn from(_: StreamError) -> Stopped {
        Stopped::Gone
    }
}

/// Where a body is written to. Dropped without [`Sink::finish`], it is broken off.
pub(crate) struct Sink {
    /// Before `body`, whose child it is.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Sink {
    /// `None` if it is taken, which nobody but us could have done.
    pub(super) fn of(body: Result<OutgoingBody, ()>) -> Option<Sink> {
        let body = body.ok()?;
        let stream = body.write().ok()?;
        Some(Sink { stream, body })
    }

    /// Writes a piece and lets it go.
    async fn write(&self, mut bytes: &[u8]) -> Result<(), Stopped> {
        while !bytes.is_empty() {
            match self.stream.check_write()? {
                0 => wait(self.stream.subscribe()).await,
                room => {
                    let room = usize::try_from(room).unwrap_or(usize::MAX);
                    let (now, later) = bytes.split_at(room.min(bytes.len()));
                    self.stream.write(now)?;
                    bytes = later;
                }
            }
        }
        Ok(self.stream.flush()?)
    }

    /// All of a body that is in memory, by one call of the host for an ordinary one. Nothing else is under way then, so it
    /// may block, which saves a program without streams the code and the imports for them.
    pub(crate) fn write_whole(self, bytes: &[u8]) -> Result<(), Stopped> {
        for part in bytes.chunks(BLOCKING_WRITE_BYTES_MAX) {
            self.stream.blocking_write_and_flush(part)?;
        }
        self.finish()
    }

    fn finish(self) -> Result<(), Stopped> {
        drop(self.stream);
        OutgoingBody::finish(self.body, None)
            .map_err(|_| Stopped::Failed(Error::new("it is not as long as its content-length says")))
    }
}

/// Sends all of a body, piece by piece.
pub(super) async fn pump(mut body: Body, sink: Sink) -> Result<(), Stopped> {
    while let Some(piece) = body.chunk().await.map_err(Stopped::Failed)? {
        sink.write(&piece).await?;
    }
    sink.finish()
}

/// The same, with nothing beside it.
pub(crate) fn pump_all(pieces: Box<dyn Pieces>, sink: Sink) -> Result<(), Stopped> {
    block_on(pump(Body::streamed(pieces), sink))
}
