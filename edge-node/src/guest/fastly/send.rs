//! Sending a request to a backend: waiting for the response, or going on while it is under way, with the body complete
//! or still being written.

use std::{future::poll_fn, sync::Arc};

use http::Request;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, INVALID_HANDLE, Status, code},
    body::{GuestBody, Sent},
    call, enter, framing,
    gunzip::AutoDecompress,
    handles::Item,
    http_req::MODULE,
    memory::GuestMemory,
    pending::{Pending, ResponseOut},
    send_error,
};
use crate::host::outbound::{self, FetchError, Options, RequestBody, Target};

/// Bytes of a backend's name; SDKs allow 255.
pub(super) const NAME_BYTES_MAX: u32 = 255;

type Guest<'a> = Caller<'a, FastlyState>;

/// What is sent, and where to. Handles of request and body are used up by sending.
#[derive(Clone, Copy)]
struct Sending {
    request: u32,
    body: u32,
    backend: u32,
    backend_length: u32,
}

/// Is the body complete, or does the guest write on?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Complete,
    Streaming,
}

/// Why nothing was sent.
enum NotSent {
    /// A handle, name or pointer is none.
    Refused(Status),
    Failed(FetchError),
}

impl From<Status> for NotSent {
    fn from(status: Status) -> NotSent {
        NotSent::Refused(status)
    }
}

impl From<FetchError> for NotSent {
    fn from(error: FetchError) -> NotSent {
        NotSent::Failed(error)
    }
}

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "send",
        |guest: Guest<'_>,
         (request, body, backend, backend_length, response, response_body): (
            u32,
            u32,
            u32,
            u32,
            u32,
            u32,
        )| {
            let sending = Sending { request, body, backend, backend_length };
            let out = ResponseOut { detail: None, response, body: response_body };
            Box::new(async move { code(send(guest, sending, out).await) })
        },
    )?;
    // The third form bypasses caching, which is not done here for the others either.
    for name in ["send_v2", "send_v3"] {
        linker.func_wrap_async(
            MODULE,
            name,
            |guest: Guest<'_>,
             (request, body, backend, backend_length, detail, response, response_body): (
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
            )| {
                let sending = Sending { request, body, backend, backend_length };
                let out = ResponseOut { detail: Some(detail), response, body: response_body };
                Box::new(async move { code(send(guest, sending, out).await) })
            },
        )?;
    }
    for (name, kind) in [("send_async", Body::Complete), ("send_async_streaming", Body::Streaming)] {
        linker.func_wrap(
            MODULE,
            name,
            move |guest: Guest<'_>,
                  request: u32,
                  body: u32,
                  backend: u32,
                  backend_length: u32,
                  pending: u32| {
                let sending = Sending { request, body, backend, backend_length };
                call(guest, |memory, state| send_async(memory, state, sending, kind, pending))
            },
        )?;
    }
    linker.func_wrap(
        MODULE,
        "send_async_v2",
        |guest: Guest<'_>,
         request: u32,
         body: u32,
         backend: u32,
         backend_length: u32,
         streaming: u32,
         pending: u32| {
            let sending = Sending { request, body, backend, backend_length };
            let kind = if streaming == 0 { Body::Complete } else { Body::Streaming };
            call(guest, |memory, state| send_async(memory, state, sending, kind, pending))
        },
    )?;
    Ok(())
}

/// Sends and waits for the response's head.
async fn send(mut guest: Guest<'_>, sending: Sending, out: ResponseOut) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    out.check(&mut memory)?;
    let answer = match start(&memory, state, sending, Body::Complete) {
        Ok(mut pending) => {
            poll_fn(|cx| pending.poll_head(cx)).await;
            pending.into_response().map_err(|(error, _)| error)
        }
        Err(NotSent::Failed(error)) => Err(error),
        Err(NotSent::Refused(status)) => return Err(status),
    };
    let (mut memory, state) = enter(&mut guest)?;
    out.give(&mut memory, state, answer)
}

fn send_async(
    memory: &mut GuestMemory<'_>,
    state: &mut FastlyState,
    sending: Sending,
    kind: Body,
    pending: u32,
) -> Answer {
    memory.write_u32(pending, INVALID_HANDLE)?;
    let started = start(memory, state, sending, kind).map_err(|why| match why {
        NotSent::Refused(status) => status,
        NotSent::Failed(error) => send_error::status(error),
    })?;
    let handle = state.insert(Item::Pending(Box::new(started)))?;
    memory.write_u32(pending, handle)
}

/// Starts a request. Nothing is used up when a handle or the name is none.
fn start(
    memory: &GuestMemory<'_>,
    state: &mut FastlyState,
    sending: Sending,
    kind: Body,
) -> Result<Pending, NotSent> {
    let backend = read_name(memory, sending.backend, sending.backend_length)?;
    state.handles.request(sending.request)?;
    state.handles.body(sending.body)?.held()?;

    let (mut head, ()) = state.handles.take::<Box<Request<()>>>(sending.request)?.into_parts();
    let held = std::mem::take(state.handles.body(sending.body)?.held()?);
    let length = if kind == Body::Complete { held.known_length() } else { None };
    framing::settle(&mut head.headers, &head.extensions, length);
    state.fetches += 1; // bounded by the outbound door, which counts alike
    let (door, number) = (&state.exchange.door, state.fetches);
    let body = match kind {
        Body::Complete => {
            state.handles.take::<GuestBody>(sending.body)?;
            held.into_sent(door, number).into()
        }
        Body::Streaming => {
            let (writer, reader) = held.into_streaming(door, number);
            *state.handles.body(sending.body)? = GuestBody::Streaming(writer);
            RequestBody::Stream(http_body_util::BodyExt::boxed_unsync(reader))
        }
    };
    let target = match state.backends.get(backend) {
        Some(made) => Target::Dynamic(Arc::clone(made)),
        None => Target::Backend(backend),
    };
    let request = Request::from_parts(head, body);
    let decompress = request.extensions().get::<AutoDecompress>().copied();
    let fetch = outbound::send(&mut state.exchange, target, request, Options::default())?;
    Ok(Pending::new(fetch, decompress))
}

/// A backend's name, as it may be.
pub(super) fn read_name<'a>(memory: &'a GuestMemory<'_>, name: u32, length: u32) -> Result<&'a str, Status> {
    if length == 0 || length > NAME_BYTES_MAX {
        return Err(Status::Invalid);
    }
    memory.text(name, length)
}

impl From<Sent> for RequestBody {
    fn from(body: Sent) -> RequestBody {
        match body {
            Sent::Empty => RequestBody::Empty,
            Sent::Full(bytes) => RequestBody::Full(bytes),
            Sent::Stream(stream) => RequestBody::Stream(stream),
        }
    }
}
