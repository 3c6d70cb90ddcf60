//! Bodies as streams of the host.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
};

use bytes::Bytes;
use wasip2::{
    http::types::{IncomingBody as WasiIncomingBody, OutgoingBody},
    io::streams::{InputStream, OutputStream, StreamError},
};

use crate::{
    Body, BodyError, Error, Result,
    executor::{block_on, wait},
};

/// Bytes asked for by one read: as much as hosts buffer.
const READ_BYTES: u64 = 64 << 10;
/// Bytes that one blocking write may have (`wasi:io`).
const BLOCKING_WRITE_BYTES_MAX: usize = 4096;

/// A request's body that is still being sent while its answer is read.
pub(super) type Upload = Pin<Box<dyn Future<Output = Result<(), Stopped>>>>;

/// A body from outside.
pub(crate) struct IncomingBody {
    /// Before `body`, whose child it is. `None` at the end.
    stream: Option<InputStream>,
    _body: WasiIncomingBody,
    upload: Option<Upload>,
}

impl IncomingBody {
    /// `None` if its stream is taken, which nobody but us could have done.
    pub(super) fn of(body: WasiIncomingBody) -> Option<IncomingBody> {
        let stream = body.stream().ok()?;
        Some(IncomingBody { stream: Some(stream), _body: body, upload: None })
    }

    /// Sends the rest of this while it is read.
    pub(super) fn with_upload(mut self, upload: Option<Upload>) -> IncomingBody {
        self.upload = upload;
        self
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let IncomingBody { stream, upload, .. } = self;
        let Some(open) = stream else { return Ok(None) };
        let read = {
            let mut read = pin!(read(open));
            poll_fn(|task| {
                // How sending ends is not asked for any more: there is an answer.
                if upload.as_mut().is_some_and(|upload| upload.as_mut().poll(task).is_ready()) {
                    *upload = None;
                }
                read.as_mut().poll(task)
            })
            .await
        };
        if !matches!(read, Ok(Some(_))) {
            *stream = None;
        }
        Ok(read?)
    }
}

/// At least one byte, or the end.
async fn read(stream: &InputStream) -> Result<Option<Bytes>, BodyError> {
    loop {
        match stream.read(READ_BYTES) {
            Ok(bytes) if bytes.is_empty() => wait(stream.subscribe()).await,
            Ok(bytes) => return Ok(Some(bytes.into())),
            Err(StreamError::Closed) => return Ok(None),
            Err(StreamError::LastOperationFailed(_)) => return Err(BodyError::BrokenOff),
        }
    }
}

/// Why a body was not sent to its end.
pub(super) enum Stopped {
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
pub(super) struct Sink {
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

    /// All of a body, by one call of the host where that is enough.
    pub(super) fn write_whole(self, bytes: &[u8]) -> Result<(), Stopped> {
        if bytes.len() <= BLOCKING_WRITE_BYTES_MAX {
            self.stream.blocking_write_and_flush(bytes)?;
        } else {
            block_on(self.write(bytes))?;
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
