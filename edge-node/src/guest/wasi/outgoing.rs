//! The guest's response, and bodies it writes: `outgoing-response`, `outgoing-body`, `response-outparam`.
//!
//! A response's head is held back while its guest runs on: if the body is finished before the guest waits, yields or
//! ends, head and body leave as one buffer, and nothing was streamed. See [`Answer`].

use std::{
    mem,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response, StatusCode};
use wasmtime::{Result, component::Resource};

use super::{
    At, Cx, State,
    fields::{Fields, announced_length},
    handles::{Entry, Handles, Holds},
    http_types::ErrorCode,
    streams::{Fault, OutputStream},
};
use crate::{
    exchange::Responder,
    front::OutboundBody,
    host::{
        door::{Door, Event, Source},
        pipe::{Gone, HELD_BYTES_MAX, Reader, Writer, pipe},
    },
    limits::{Limit, LimitReached},
};

/// The execution's one place for a response: what it holds is the state's [`Answer`].
pub struct ResponseOutparam;

/// A response while it is made.
pub struct OutgoingResponse {
    status: StatusCode,
    fields: Fields,
    /// The other end of the body that the guest asked for.
    body: Option<Reader>,
}

impl Holds for OutgoingResponse {
    fn held_bytes(&self) -> usize {
        self.fields.held_bytes() + self.body.as_ref().map_or(0, Reader::left_bytes)
    }
}

/// Whose body it is: errors are named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// To a backend.
    Request,
    /// To the client.
    Response,
}

/// A body while it is written. Dropped unfinished, it is aborted.
pub struct OutgoingBody {
    writer: Writer,
    message: Message,
    has_stream: bool,
    /// What the message's fields promise.
    announced: Option<u64>,
    written: u64,
    /// Over what was announced: nothing more is taken.
    failed: bool,
}

/// What it may be ahead of its reader: how much of it was read is not the guest's to know.
impl Holds for OutgoingBody {
    fn held_bytes(&self) -> usize {
        self.written.min(HELD_BYTES_MAX as u64) as usize
    }
}

impl OutgoingBody {
    /// A body for a message with these fields, and where it is read.
    pub fn new(door: &Door, stream: u32, message: Message, fields: &Fields) -> (OutgoingBody, Reader) {
        let (writer, reader) = pipe(door, stream);
        let announced = announced_length(fields.map());
        (OutgoingBody { writer, message, has_stream: false, announced, written: 0, failed: false }, reader)
    }

    /// Bytes that may be written now.
    pub fn room(&self) -> Result<usize, Fault> {
        if self.failed { Err(Fault::Closed) } else { self.writer.room().map_err(gone) }
    }

    /// Waits until at least one may be.
    pub fn poll_room(&self, task: &mut Context<'_>) -> Poll<Result<usize, Fault>> {
        if self.failed {
            return Poll::Ready(Err(Fault::Closed));
        }
        Poll::Ready(ready!(self.writer.poll_room(task)).map_err(gone))
    }

    /// The same for a poll, which notes only that it is ready.
    pub fn poll_writable(&self, task: &mut Context<'_>) -> Poll<()> {
        if self.failed { Poll::Ready(()) } else { self.writer.poll_writable(task) }
    }

    /// Counts bytes that are to be written, and refuses those that were not announced. So many more may then be held.
    pub fn admit(&mut self, bytes: usize) -> Result<usize, Fault> {
        let before = self.held_bytes();
        self.written = self.written.saturating_add(bytes as u64);
        if self.announced.is_some_and(|announced| self.written > announced) {
            self.failed = true;
            return Err(Fault::Failed(self.wrong_size()));
        }
        Ok(self.held_bytes() - before)
    }

    /// Writes them.
    pub fn put(&self, bytes: &[u8]) {
        self.writer.write(bytes);
    }

    fn finish(self, trailers: HeaderMap) -> Result<(), ErrorCode> {
        if self.announced.is_some_and(|announced| self.written != announced) {
            return Err(self.wrong_size()); // dropped here: aborted
        }
        self.writer.finish(trailers);
        Ok(())
    }

    fn wrong_size(&self) -> ErrorCode {
        match self.message {
            Message::Request => ErrorCode::HttpRequestBodySize(Some(self.written)),
            Message::Response => ErrorCode::HttpResponseBodySize(Some(self.written)),
        }
    }
}

fn gone(_: Gone) -> Fault {
    Fault::Closed
}

/// Where the response is.
pub enum Answer {
    /// The guest owes it.
    Owed(Responder),
    /// Its body is being written, and the guest has not let go of the thread since.
    Held(Responder, Response<()>, Reader),
    /// It is on its way.
    Given,
    /// The guest gave an error instead.
    Refused(ErrorCode),
}

impl Answer {
    fn give(&mut self, response: Result<OutgoingResponse, ErrorCode>, door: &Door) {
        let Answer::Owed(responder) = mem::replace(self, Answer::Given) else {
            return; // the interface lets a guest give it once
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                *self = Answer::Refused(error);
                return;
            }
        };
        door.cause(Source::Response, || {
            Event::Head(response.status.as_str().to_owned(), response.fields.map().clone())
        });
        let mut head = Response::new(());
        *head.status_mut() = response.status;
        *head.headers_mut() = response.fields.into_map();
        match response.body {
            None => responder.send(head.map(|()| OutboundBody::Empty)),
            Some(body) => {
                *self = Answer::Held(responder, head, body);
                self.finished();
            }
        }
    }

    /// Some body was finished: if it is the response's, all of it can go.
    pub fn finished(&mut self) {
        if let Answer::Held(_, _, body) = self
            && let Some(whole) = body.take_whole()
            && let Answer::Held(responder, head, _) = mem::replace(self, Answer::Given)
        {
            responder.send(head.map(|()| OutboundBody::from(whole)));
        }
    }

    /// Lets a held head go: from here on the body streams.
    pub fn release(&mut self) {
        if let Answer::Held(..) = self
            && let Answer::Held(responder, head, body) = mem::replace(self, Answer::Given)
        {
            responder.send(head.map(|()| OutboundBody::stream(body)));
        }
    }
}

/// The guest has returned. A response's body that it neither finished nor dropped is whole if it is as long as
/// announced: programs that forget to finish work elsewhere (docs/design/0009-wasi-host.md).
pub fn finish_forgotten(handles: &mut Handles) {
    for entry in handles.entries_mut() {
        if let Entry::OutgoingBody(body) = entry
            && body.message == Message::Response
            && !body.failed
            && let Entry::OutgoingBody(body) = mem::replace(entry, Entry::ResponseOutparam(ResponseOutparam))
        {
            let _ = body.finish(HeaderMap::new()); // or it is aborted
        }
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[constructor]outgoing-response" => at.func_wrap(name, new),
        "[method]outgoing-response.status-code" => at.func_wrap(name, status_code),
        "[method]outgoing-response.set-status-code" => at.func_wrap(name, set_status_code),
        "[method]outgoing-response.headers" => at.func_wrap(name, headers),
        "[method]outgoing-response.body" => at.func_wrap(name, body),
        "[method]outgoing-body.write" => at.func_wrap(name, write),
        "[static]outgoing-body.finish" => at.func_wrap(name, finish),
        "[static]response-outparam.set" => at.func_wrap(name, set),
        "[method]response-outparam.send-informational" => at.func_wrap(name, send_informational),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn new(mut cx: Cx<'_>, (fields,): (Resource<Fields>,)) -> Result<(Resource<OutgoingResponse>,)> {
    let state = cx.data_mut();
    let fields = state.handles.take(fields)?.fixed();
    Ok((state.push(OutgoingResponse { status: StatusCode::OK, fields, body: None })?,))
}

fn status_code(cx: Cx<'_>, (response,): (Resource<OutgoingResponse>,)) -> Result<(u16,)> {
    Ok((cx.data().handles.get(&response)?.status.as_u16(),))
}

fn set_status_code(
    mut cx: Cx<'_>,
    (response, status): (Resource<OutgoingResponse>, u16),
) -> Result<(Result<(), ()>,)> {
    let response = cx.data_mut().handles.get_mut(&response)?;
    Ok((StatusCode::from_u16(status).map(|status| response.status = status).map_err(drop),))
}

fn headers(mut cx: Cx<'_>, (response,): (Resource<OutgoingResponse>,)) -> Result<(Resource<Fields>,)> {
    let state = cx.data_mut();
    let fields = state.handles.get(&response)?.fields.share();
    Ok((state.push(fields)?,))
}

fn body(
    mut cx: Cx<'_>,
    (response,): (Resource<OutgoingResponse>,),
) -> Result<(Result<Resource<OutgoingBody>, ()>,)> {
    let state = cx.data_mut();
    let response = state.handles.get_mut(&response)?;
    if response.body.is_some() {
        return Ok((Err(()),));
    }
    let (body, reader) = OutgoingBody::new(&state.exchange.door, 0, Message::Response, &response.fields);
    response.body = Some(reader);
    Ok((Ok(state.push(body)?),))
}

fn write(
    mut cx: Cx<'_>,
    (body,): (Resource<OutgoingBody>,),
) -> Result<(Result<Resource<OutputStream>, ()>,)> {
    let state = cx.data_mut();
    if mem::replace(&mut state.handles.get_mut(&body)?.has_stream, true) {
        return Ok((Err(()),));
    }
    Ok((Ok(state.push_child(OutputStream::Body, &body)?),))
}

fn finish(
    mut cx: Cx<'_>,
    (body, trailers): (Resource<OutgoingBody>, Option<Resource<Fields>>),
) -> Result<(Result<(), ErrorCode>,)> {
    let State { handles, answer, .. } = cx.data_mut();
    let body = handles.take(body)?;
    let trailers = trailers.map(|trailers| handles.take(trailers)).transpose()?;
    if trailers.as_ref().is_some_and(Fields::are_too_many) {
        return Err(LimitReached(Limit::Headers).into());
    }
    let finished = body.finish(trailers.map(Fields::into_map).unwrap_or_default());
    answer.finished();
    Ok((finished,))
}

fn set(
    mut cx: Cx<'_>,
    (outparam, response): (Resource<ResponseOutparam>, Result<Resource<OutgoingResponse>, ErrorCode>),
) -> Result<()> {
    let State { handles, answer, exchange, .. } = cx.data_mut();
    handles.take(outparam)?;
    let response = match response {
        Ok(response) => Ok(handles.take(response)?),
        Err(error) => Err(error.cut()),
    };
    if response.as_ref().is_ok_and(|response| response.fields.are_too_many()) {
        return Err(LimitReached(Limit::Headers).into());
    }
    answer.give(response, &exchange.door);
    Ok(())
}

fn send_informational(
    mut cx: Cx<'_>,
    (_, status, fields): (Resource<ResponseOutparam>, u16, Resource<Fields>),
) -> Result<(Result<(), ErrorCode>,)> {
    cx.data_mut().handles.take(fields)?;
    Ok((Err(match status {
        100..=199 => ErrorCode::InternalError(Some("informational responses are not offered".into())),
        _ => ErrorCode::HttpProtocolError,
    }),))
}
