//! The client's request, and bodies from outside: `incoming-request`, `incoming-body`, `future-trailers`.

use std::{
    mem,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header::HOST, request};
use wasmtime::{Result, component::Resource};

use super::{
    At, Cx, State,
    fields::Fields,
    handles::Holds,
    http_types::{ErrorCode, Method, Scheme},
    poll::Pollable,
    streams::{Fault, InputStream},
};
use crate::{
    exchange::GuestRequest,
    front::{BodyError, InboundBody},
    host::{
        body::{Incoming, Read},
        client::is_secure,
        wait,
    },
};

/// The execution's one request: its parts are the state's.
pub struct IncomingRequest;

/// What [`IncomingRequest`] stands for.
pub struct ClientRequest {
    head: request::Parts,
    /// Made of the head's when they are first asked for.
    fields: Option<Fields>,
    body: Option<InboundBody>,
}

impl ClientRequest {
    /// The request as it came.
    pub fn new(request: GuestRequest) -> ClientRequest {
        let (head, body) = request.into_parts();
        ClientRequest { head, fields: None, body: Some(body) }
    }

    /// The front checked that there is exactly one: in the URI, or as `Host`.
    fn authority(&self) -> Option<String> {
        match self.head.uri.authority() {
            Some(authority) => Some(authority.as_str().to_owned()),
            None => self.head.headers.get(HOST)?.to_str().ok().map(str::to_owned),
        }
    }

    fn fields(&mut self) -> Fields {
        let head = &mut self.head;
        self.fields
            .get_or_insert_with(|| {
                let host = head.headers.get(HOST).cloned(); // stays: it may be the authority
                let fields = Fields::of_client(mem::take(&mut head.headers));
                head.headers.extend(host.map(|host| (HOST, host)));
                fields
            })
            .share()
    }
}

/// A body from outside, while it is read.
pub struct IncomingBody {
    body: Box<Incoming>,
    has_stream: bool,
    broken: bool,
}

impl Holds for IncomingBody {
    fn held_bytes(&self) -> usize {
        self.body.held_bytes()
    }
}

impl IncomingBody {
    /// A body that nobody has read from.
    pub fn new(body: Incoming) -> IncomingBody {
        IncomingBody::boxed(Box::new(body))
    }

    /// The same.
    pub fn boxed(body: Box<Incoming>) -> IncomingBody {
        IncomingBody { body, has_stream: false, broken: false }
    }

    /// Waits until [`IncomingBody::read`] has something to say.
    pub fn poll_readable(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if self.broken { Poll::Ready(()) } else { self.body.poll_readable(task) }
    }

    /// What is there, which may be nothing yet.
    pub fn read(&mut self, max: usize) -> Result<Bytes, Fault> {
        if self.broken {
            return Err(Fault::Closed);
        }
        if max == 0 {
            return Ok(Bytes::new());
        }
        match self.body.read(max) {
            Read::Chunk(bytes) => Ok(bytes),
            Read::NotYet => Ok(Bytes::new()),
            Read::End => Err(Fault::Closed),
            Read::Broken(error) => {
                self.broken = true;
                Err(Fault::Failed(error.into()))
            }
        }
    }

    /// The same, once there is something.
    pub fn poll_read(&mut self, max: usize, task: &mut Context<'_>) -> Poll<Result<Bytes, Fault>> {
        loop {
            ready!(self.poll_readable(task));
            match self.read(max) {
                // Only a recording can say "nothing yet" where something was waited for.
                Ok(bytes) if bytes.is_empty() && max > 0 => {}
                read => return Poll::Ready(read),
            }
        }
    }
}

/// The end of a body: what was not read is read and thrown away.
pub struct FutureTrailers {
    end: End,
    /// Of the body or of its trailers.
    held_bytes: usize,
}

enum End {
    /// It may still come.
    Waiting(Box<Incoming>),
    /// It is there.
    Here(Box<Result<HeaderMap, BodyError>>),
    /// The guest has it.
    Taken,
}

impl Holds for FutureTrailers {
    fn held_bytes(&self) -> usize {
        if let End::Taken = self.end { 0 } else { self.held_bytes }
    }
}

impl FutureTrailers {
    /// Waits for the end.
    pub fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if let End::Waiting(body) = &mut self.end {
            let end = ready!(body.poll_end(task));
            self.end = End::Here(Box::new(end.map(|()| body.trailers().unwrap_or_default())));
        }
        Poll::Ready(())
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]incoming-request.method" => at.func_wrap(name, method),
        "[method]incoming-request.path-with-query" => at.func_wrap(name, path_with_query),
        "[method]incoming-request.scheme" => at.func_wrap(name, scheme),
        "[method]incoming-request.authority" => at.func_wrap(name, authority),
        "[method]incoming-request.headers" => at.func_wrap(name, headers),
        "[method]incoming-request.consume" => at.func_wrap(name, consume),
        "[method]incoming-body.stream" => at.func_wrap(name, stream),
        "[static]incoming-body.finish" => at.func_wrap(name, finish),
        "[method]future-trailers.subscribe" => at.func_wrap(name, subscribe),
        "[method]future-trailers.get" => at.func_wrap(name, get),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn method(cx: Cx<'_>, (_,): (Resource<IncomingRequest>,)) -> Result<(Method,)> {
    Ok((Method::from(&cx.data().request.head.method),))
}

fn path_with_query(cx: Cx<'_>, (_,): (Resource<IncomingRequest>,)) -> Result<(Option<String>,)> {
    let path = cx.data().request.head.uri.path_and_query();
    Ok((path.map(|path| path.as_str().to_owned()),))
}

fn scheme(cx: Cx<'_>, (_,): (Resource<IncomingRequest>,)) -> Result<(Option<Scheme>,)> {
    let secure = is_secure(&cx.data().exchange);
    Ok((Some(if secure { Scheme::Https } else { Scheme::Http }),))
}

fn authority(cx: Cx<'_>, (_,): (Resource<IncomingRequest>,)) -> Result<(Option<String>,)> {
    Ok((cx.data().request.authority(),))
}

fn headers(mut cx: Cx<'_>, (_,): (Resource<IncomingRequest>,)) -> Result<(Resource<Fields>,)> {
    let state = cx.data_mut();
    let fields = state.request.fields();
    Ok((state.push(fields)?,))
}

fn consume(
    mut cx: Cx<'_>,
    (_,): (Resource<IncomingRequest>,),
) -> Result<(Result<Resource<IncomingBody>, ()>,)> {
    let state = cx.data_mut();
    let Some(body) = state.request.body.take() else { return Ok((Err(()),)) };
    let body = Incoming::client(body, state.exchange.door.clone());
    Ok((Ok(state.push(IncomingBody::new(body))?),))
}

fn stream(
    mut cx: Cx<'_>,
    (body,): (Resource<IncomingBody>,),
) -> Result<(Result<Resource<InputStream>, ()>,)> {
    let state = cx.data_mut();
    if mem::replace(&mut state.handles.get_mut(&body)?.has_stream, true) {
        return Ok((Err(()),));
    }
    Ok((Ok(state.push_child(InputStream::Body, &body)?),))
}

fn finish(mut cx: Cx<'_>, (body,): (Resource<IncomingBody>,)) -> Result<(Resource<FutureTrailers>,)> {
    let state = cx.data_mut();
    let body = state.handles.take(body)?.body;
    Ok((state.push(FutureTrailers { held_bytes: body.held_bytes(), end: End::Waiting(body) })?,))
}

fn subscribe(mut cx: Cx<'_>, (trailers,): (Resource<FutureTrailers>,)) -> Result<(Resource<Pollable>,)> {
    Ok((cx.data_mut().push_child(Pollable::Parent, &trailers)?,))
}

type Trailers = Option<Result<Result<Option<Resource<Fields>>, ErrorCode>, ()>>;

fn get(mut cx: Cx<'_>, (trailers,): (Resource<FutureTrailers>,)) -> Result<(Trailers,)> {
    let state = cx.data_mut();
    let State { handles, exchange, .. } = state;
    let future = handles.get_mut(&trailers)?;
    if let End::Taken = future.end {
        return Ok((Some(Err(())),));
    }
    // That it is ready is learned; a replay then finds the end on its tape.
    let found = wait::ready_now(&exchange.door, |task| match future.poll(task) {
        Poll::Ready(()) => vec![0],
        Poll::Pending => vec![],
    });
    if found.is_empty() || future.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        return Ok((None,));
    }
    let End::Here(end) = mem::replace(&mut future.end, End::Taken) else { return Ok((None,)) };
    Ok((Some(Ok(match *end {
        Ok(trailers) if trailers.is_empty() => Ok(None),
        Ok(trailers) => Ok(Some(state.push(Fields::received(trailers))?)),
        Err(error) => Err(error.into()),
    })),))
}
