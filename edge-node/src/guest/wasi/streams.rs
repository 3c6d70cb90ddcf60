//! `wasi:io/streams`: bodies as byte streams, and the log as one.
//!
//! A body's stream is a child of its body and has no state of its own. Flushing is done when bytes are in the host's
//! buffer, which is bounded: from there they leave as soon as the guest waits, yields or ends.

use std::{ops::Range, task::Poll};

use bytes::Bytes;
use wasmtime::{
    Result, bail,
    component::{ComponentType, Lift, Lower, Resource, WasmList},
};

use super::{
    At, Cx, Later, State, error::IoError, http_types::ErrorCode, incoming::IncomingBody,
    outgoing::OutgoingBody, poll::Pollable,
};
use crate::{account::guest_log::Stream, host::log};

/// Bytes of one read: as many as a guest may write ahead. A guest that asks for more is given what there is.
const READ_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of one write to the log.
const LOG_WRITE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one blocking write, by the interface.
const BLOCKING_WRITE_BYTES_MAX: usize = 4096;

/// Something to read from.
pub enum InputStream {
    /// Its parent, a body.
    Body,
    /// Nothing: standard input.
    Closed,
}

/// Something to write to.
pub enum OutputStream {
    /// Its parent, a body.
    Body,
    /// Standard output or error.
    Log(Stream),
}

/// Why a stream does not go on.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// It is over.
    Closed,
    /// It broke; said once, then it is over.
    Failed(ErrorCode),
}

/// A [`Fault`] as the guest sees it.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
pub enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

/// What a stream's functions answer.
type Answer<T> = (Result<T, StreamError>,);

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]input-stream.read" => at.func_wrap(name, read),
        "[method]input-stream.blocking-read" => at.func_wrap_async(name, blocking_read),
        "[method]input-stream.skip" => at.func_wrap(name, skip),
        "[method]input-stream.blocking-skip" => at.func_wrap_async(name, blocking_skip),
        "[method]input-stream.subscribe" => at.func_wrap(name, subscribe_input),
        "[method]output-stream.check-write" => at.func_wrap(name, check_write),
        "[method]output-stream.write" => at.func_wrap(name, write),
        "[method]output-stream.blocking-write-and-flush" => {
            at.func_wrap_async(name, blocking_write_and_flush)
        }
        "[method]output-stream.flush" => at.func_wrap(name, flush),
        "[method]output-stream.blocking-flush" => at.func_wrap_async(name, blocking_flush),
        "[method]output-stream.subscribe" => at.func_wrap(name, subscribe_output),
        "[method]output-stream.write-zeroes" => at.func_wrap(name, write_zeroes),
        "[method]output-stream.blocking-write-zeroes-and-flush" => {
            at.func_wrap_async(name, blocking_write_zeroes_and_flush)
        }
        "[method]output-stream.splice" => at.func_wrap(name, splice),
        "[method]output-stream.blocking-splice" => at.func_wrap_async(name, blocking_splice),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// Bytes a guest asks for, as far as it gets them at once.
fn bounded(length: u64) -> usize {
    length.min(READ_BYTES_MAX) as usize
}

fn read(mut cx: Cx<'_>, (stream, length): (Resource<InputStream>, u64)) -> Result<Answer<Vec<u8>>> {
    let state = cx.data_mut();
    let read = state.read(&stream, bounded(length))?;
    state.told(read.map(Vec::from))
}

fn skip(mut cx: Cx<'_>, (stream, length): (Resource<InputStream>, u64)) -> Result<Answer<u64>> {
    let state = cx.data_mut();
    let read = state.read(&stream, bounded(length))?;
    state.told(read.map(|bytes| bytes.len() as u64))
}

fn blocking_read(
    mut cx: Cx<'_>,
    (stream, length): (Resource<InputStream>, u64),
) -> Later<'_, Answer<Vec<u8>>> {
    Box::new(async move {
        let read = blocking(&mut cx, &stream, bounded(length)).await?;
        cx.data_mut().told(read.map(Vec::from))
    })
}

fn blocking_skip(mut cx: Cx<'_>, (stream, length): (Resource<InputStream>, u64)) -> Later<'_, Answer<u64>> {
    Box::new(async move {
        let read = blocking(&mut cx, &stream, bounded(length)).await?;
        cx.data_mut().told(read.map(|bytes| bytes.len() as u64))
    })
}

/// Waits for at least one byte, the end or a break.
async fn blocking(
    cx: &mut Cx<'_>,
    stream: &Resource<InputStream>,
    max: usize,
) -> Result<Result<Bytes, Fault>> {
    cx.data_mut()
        .wait(|state, task| match state.handles.get(stream)? {
            InputStream::Closed => Poll::Ready(Ok(Err(Fault::Closed))),
            InputStream::Body => {
                let body = state.handles.parent_mut::<IncomingBody>(stream.rep())?;
                body.poll_read(max, task).map(Ok)
            }
        })
        .await
}

fn check_write(mut cx: Cx<'_>, (stream,): (Resource<OutputStream>,)) -> Result<Answer<u64>> {
    let state = cx.data_mut();
    let room = state.room(&stream)?;
    state.told(room.map(|room| room as u64))
}

fn write(mut cx: Cx<'_>, (stream, bytes): (Resource<OutputStream>, WasmList<u8>)) -> Result<Answer<()>> {
    let room = cx.data_mut().room(&stream)?;
    if let Ok(room) = room
        && bytes.len() > room
    {
        bail!("wrote {} bytes where check-write permits {room}", bytes.len());
    }
    let written = match room {
        Ok(_) => put(&mut cx, &stream, &bytes, 0..bytes.len())?,
        Err(fault) => Err(fault),
    };
    cx.data_mut().told(written)
}

fn blocking_write_and_flush(
    mut cx: Cx<'_>,
    (stream, bytes): (Resource<OutputStream>, WasmList<u8>),
) -> Later<'_, Answer<()>> {
    Box::new(async move {
        if bytes.len() > BLOCKING_WRITE_BYTES_MAX {
            bail!("a blocking write of {} bytes, at most {BLOCKING_WRITE_BYTES_MAX}", bytes.len());
        }
        let mut written = 0;
        loop {
            let put = match cx.data_mut().wait_for_room(&stream).await? {
                Ok(room) => {
                    let end = bytes.len().min(written + room);
                    let range = written..end;
                    written = end;
                    put(&mut cx, &stream, &bytes, range)?
                }
                Err(fault) => Err(fault),
            };
            if put.is_err() || written == bytes.len() {
                return cx.data_mut().told(put);
            }
        }
    })
}

/// Copies a part of a guest's list, once, into the host's buffer.
fn put(
    cx: &mut Cx<'_>,
    stream: &Resource<OutputStream>,
    bytes: &WasmList<u8>,
    part: Range<usize>,
) -> Result<Result<(), Fault>> {
    let mut held = 0;
    if let OutputStream::Body = cx.data().handles.get(stream)? {
        let body = cx.data_mut().handles.parent_mut::<OutgoingBody>(stream.rep())?;
        match body.admit(part.len()) {
            Ok(more) => held = more,
            Err(fault) => return Ok(Err(fault)),
        }
    }
    let state = cx.data();
    let part = bytes.as_le_slice(&*cx).get(part).unwrap_or_default();
    match state.handles.get(stream)? {
        OutputStream::Log(log) => log::output(&state.exchange, *log, part),
        OutputStream::Body => state.handles.parent_ref::<OutgoingBody>(stream.rep())?.put(part),
    }
    cx.data_mut().hold(held)?;
    Ok(Ok(()))
}

fn flush(mut cx: Cx<'_>, (stream,): (Resource<OutputStream>,)) -> Result<Answer<()>> {
    let state = cx.data_mut();
    let room = state.room(&stream)?;
    state.told(room.map(|_| ()))
}

fn blocking_flush(mut cx: Cx<'_>, (stream,): (Resource<OutputStream>,)) -> Later<'_, Answer<()>> {
    Box::new(async move {
        let room = cx.data_mut().wait_for_room(&stream).await?;
        cx.data_mut().told(room.map(|_| ()))
    })
}

fn write_zeroes(mut cx: Cx<'_>, (stream, length): (Resource<OutputStream>, u64)) -> Result<Answer<()>> {
    let state = cx.data_mut();
    let written = match state.room(&stream)? {
        Ok(room) if length > room as u64 => bail!("wrote {length} zeroes where check-write permits {room}"),
        Ok(_) => state.write(&stream, &vec![0; length as usize])?,
        Err(fault) => Err(fault),
    };
    state.told(written)
}

fn blocking_write_zeroes_and_flush(
    mut cx: Cx<'_>,
    (stream, length): (Resource<OutputStream>, u64),
) -> Later<'_, Answer<()>> {
    Box::new(async move {
        if length > BLOCKING_WRITE_BYTES_MAX as u64 {
            bail!("a blocking write of {length} zeroes, at most {BLOCKING_WRITE_BYTES_MAX}");
        }
        let state = cx.data_mut();
        let written = state.write_all(&stream, &vec![0; length as usize]).await?;
        state.told(written)
    })
}

type Splice = (Resource<OutputStream>, Resource<InputStream>, u64);

fn splice(mut cx: Cx<'_>, (to, from, length): Splice) -> Result<Answer<u64>> {
    let state = cx.data_mut();
    let spliced = match state.room(&to)? {
        Ok(0) => Ok(0),
        Ok(room) => match state.read(&from, bounded(length).min(room))? {
            Ok(bytes) => state.write(&to, &bytes)?.map(|()| bytes.len() as u64),
            Err(fault) => Err(fault),
        },
        Err(fault) => Err(fault),
    };
    state.told(spliced)
}

fn blocking_splice(mut cx: Cx<'_>, (to, from, length): Splice) -> Later<'_, Answer<u64>> {
    Box::new(async move {
        let room = cx.data_mut().wait_for_room(&to).await?;
        let spliced = match room {
            Ok(room) => match blocking(&mut cx, &from, bounded(length).min(room)).await? {
                Ok(bytes) => cx.data_mut().write(&to, &bytes)?.map(|()| bytes.len() as u64),
                Err(fault) => Err(fault),
            },
            Err(fault) => Err(fault),
        };
        cx.data_mut().told(spliced)
    })
}

fn subscribe_input(mut cx: Cx<'_>, (stream,): (Resource<InputStream>,)) -> Result<(Resource<Pollable>,)> {
    Ok((cx.data_mut().push_child(Pollable::Parent, &stream)?,))
}

fn subscribe_output(mut cx: Cx<'_>, (stream,): (Resource<OutputStream>,)) -> Result<(Resource<Pollable>,)> {
    Ok((cx.data_mut().push_child(Pollable::Parent, &stream)?,))
}

impl State {
    fn read(&mut self, stream: &Resource<InputStream>, max: usize) -> Result<Result<Bytes, Fault>> {
        match self.handles.get(stream)? {
            InputStream::Closed => Ok(Err(Fault::Closed)),
            InputStream::Body => Ok(self.handles.parent_mut::<IncomingBody>(stream.rep())?.read(max)),
        }
    }

    fn room(&mut self, stream: &Resource<OutputStream>) -> Result<Result<usize, Fault>> {
        match self.handles.get(stream)? {
            OutputStream::Log(_) => Ok(Ok(LOG_WRITE_BYTES_MAX)),
            OutputStream::Body => Ok(self.handles.parent_mut::<OutgoingBody>(stream.rep())?.room()),
        }
    }

    /// Room for at least one byte.
    async fn wait_for_room(&mut self, stream: &Resource<OutputStream>) -> Result<Result<usize, Fault>> {
        self.wait(|state, task| match state.handles.get(stream)? {
            OutputStream::Log(_) => Poll::Ready(Ok(Ok(LOG_WRITE_BYTES_MAX))),
            OutputStream::Body => {
                state.handles.parent_mut::<OutgoingBody>(stream.rep())?.poll_room(task).map(Ok)
            }
        })
        .await
    }

    fn write(&mut self, stream: &Resource<OutputStream>, bytes: &[u8]) -> Result<Result<(), Fault>> {
        match self.handles.get(stream)? {
            OutputStream::Log(log) => {
                log::output(&self.exchange, *log, bytes);
                Ok(Ok(()))
            }
            OutputStream::Body => {
                let body = self.handles.parent_mut::<OutgoingBody>(stream.rep())?;
                let held = match body.admit(bytes.len()) {
                    Ok(held) => held,
                    Err(fault) => return Ok(Err(fault)),
                };
                body.put(bytes);
                self.hold(held)?;
                Ok(Ok(()))
            }
        }
    }

    async fn write_all(
        &mut self,
        stream: &Resource<OutputStream>,
        mut bytes: &[u8],
    ) -> Result<Result<(), Fault>> {
        loop {
            let room = match self.wait_for_room(stream).await? {
                Ok(room) => room,
                Err(fault) => return Ok(Err(fault)),
            };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if let Err(fault) = self.write(stream, now)? {
                return Ok(Err(fault));
            }
            if later.is_empty() {
                return Ok(Ok(()));
            }
            bytes = later;
        }
    }

    /// What the guest hears: a fault that says why becomes a handle.
    fn told<T>(&mut self, result: Result<T, Fault>) -> Result<Answer<T>> {
        Ok((match result {
            Ok(done) => Ok(done),
            Err(Fault::Closed) => Err(StreamError::Closed),
            Err(Fault::Failed(code)) => Err(StreamError::LastOperationFailed(self.push(IoError(code))?)),
        },))
    }
}
