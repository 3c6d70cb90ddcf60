//! Requests under way: polling them, waiting for one or the first of several, and changes to responses that are not
//! there yet.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, INVALID_HANDLE, Status, code},
    async_io::{first_ready, read_handles},
    body::{GuestBody, HeldBody},
    call, enter,
    gunzip::{AutoDecompress, decompressed},
    handles::Item,
    headers::{append, read_name, read_value},
    http_req::MODULE,
    memory::GuestMemory,
    send_error,
};
use crate::host::{
    body::Incoming,
    held::{name_bytes, value_bytes},
    outbound::{Fetch, FetchError},
    wait,
};

/// Changes to one response that wait for it: twice the fields it may have.
const CHANGES_MAX: usize = 200;

type Guest<'a> = Caller<'a, FastlyState>;
type Head = Result<Response<Incoming>, FetchError>;

/// A request under way.
pub(super) struct Pending {
    fetch: Fetch,
    /// Once it is there: it is given only once.
    head: Option<Head>,
    changes: Vec<Change>,
    decompress: Option<AutoDecompress>,
}

/// A change to a header of a response that is not there yet.
struct Change {
    name: HeaderName,
    what: What,
    of: Of,
}

impl Change {
    fn bytes(&self) -> usize {
        let value = match &self.what {
            What::Append(value) | What::Insert(value) => value_bytes(value),
            What::Remove => 0,
        };
        name_bytes(&self.name) + value
    }
}

type WithValue = fn(HeaderValue) -> What;

enum What {
    Append(HeaderValue),
    Insert(HeaderValue),
    Remove,
}

/// Which response it is for: the backend's, or the one that stands for it when it fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Any,
    Response,
    Error,
}

impl Pending {
    pub(super) fn new(fetch: Fetch, decompress: Option<AutoDecompress>) -> Pending {
        Pending { fetch, head: None, changes: Vec::new(), decompress }
    }

    /// Waits for the response's head, or that there will be none.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.head.is_none() {
            self.head = Some(ready!(self.fetch.poll_head(cx)));
        }
        Poll::Ready(())
    }

    /// What came, with its changes. With an error comes the response that would stand for it.
    pub(super) fn into_response(self) -> Result<Response<Incoming>, (FetchError, Response<()>)> {
        match self.head.unwrap_or(Err(FetchError::Internal)) {
            Ok(mut response) => {
                if self.decompress.is_some() {
                    response = decompressed(response, self.fetch.number());
                }
                apply(response.headers_mut(), self.changes, Of::Response);
                Ok(response)
            }
            Err(error) => {
                let mut response = Response::new(());
                *response.status_mut() = gateway_status(error);
                apply(response.headers_mut(), self.changes, Of::Error);
                Err((error, response))
            }
        }
    }

    fn change(&mut self, change: Change) -> Answer {
        if self.changes.len() >= CHANGES_MAX {
            return Err(Status::LimitExceeded);
        }
        self.changes.push(change);
        Ok(())
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pending({})", self.fetch.number())
    }
}

/// Changes in the order they were made. What would make a head too large is left out.
fn apply(headers: &mut HeaderMap, changes: Vec<Change>, of: Of) {
    for change in changes.into_iter().filter(|change| change.of == Of::Any || change.of == of) {
        if !matches!(change.what, What::Append(_)) {
            headers.remove(&change.name);
        }
        if let What::Append(value) | What::Insert(value) = change.what {
            let _ = append(headers, change.name, value);
        }
    }
}

fn gateway_status(error: FetchError) -> StatusCode {
    match error {
        FetchError::Deadline
        | FetchError::DnsTimeout
        | FetchError::ConnectionTimeout
        | FetchError::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        FetchError::TooMany | FetchError::TooManyOpen | FetchError::ConnectionLimit => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Where an answer to a request goes: handles of its head and body, and its error, if the guest wants to know it.
#[derive(Clone, Copy)]
pub(super) struct ResponseOut {
    pub(super) detail: Option<u32>,
    pub(super) response: u32,
    pub(super) body: u32,
}

impl ResponseOut {
    /// Is there memory for it? Asked before anything is used up.
    pub(super) fn check(self, memory: &mut GuestMemory<'_>) -> Answer {
        memory.write_u32(self.response, INVALID_HANDLE)?;
        memory.write_u32(self.body, INVALID_HANDLE)?;
        self.detail.map_or(Ok(()), |detail| send_error::check(memory, detail))
    }

    /// Gives a response to the guest, or its error.
    pub(super) fn give(
        self,
        memory: &mut GuestMemory<'_>,
        state: &mut FastlyState,
        answer: Result<Response<Incoming>, FetchError>,
    ) -> Answer {
        let (head, body) = match answer {
            Ok(response) => response.into_parts(),
            Err(error) => {
                if let Some(detail) = self.detail {
                    send_error::give(memory, detail, Some(error))?;
                }
                return Err(send_error::status(error));
            }
        };
        let response = Response::from_parts(head, ());
        let response = state.insert(Item::Response(Box::new(response)))?;
        let body = state.insert(Item::Body(GuestBody::Held(HeldBody::incoming(body))))?;
        memory.write_u32(self.response, response)?;
        memory.write_u32(self.body, body)?;
        self.detail.map_or(Ok(()), |detail| send_error::give(memory, detail, None))
    }
}

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    add_poll(linker)?;
    add_wait(linker)?;
    add_select(linker)?;
    add_changes(linker)
}

fn add_poll(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "pending_req_poll",
        |guest: Guest<'_>, pending: u32, done: u32, response: u32, body: u32| {
            poll(guest, pending, done, ResponseOut { detail: None, response, body })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "pending_req_poll_v2",
        |guest: Guest<'_>, pending: u32, detail: u32, done: u32, response: u32, body: u32| {
            poll(guest, pending, done, ResponseOut { detail: Some(detail), response, body })
        },
    )?;
    Ok(())
}

fn poll(guest: Guest<'_>, handle: u32, done: u32, out: ResponseOut) -> i32 {
    call(guest, |memory, state| {
        state.handles.get::<Box<Pending>>(handle)?;
        out.check(memory)?;
        memory.write_u32(done, 0)?;
        let door = state.exchange.door.clone();
        if wait::ready_now(&door, |cx| state.handles.ready_of(&[handle], cx)).is_empty() {
            return Ok(());
        }
        let mut pending = state.handles.take::<Box<Pending>>(handle)?;
        // There, as was just seen; a recording has it, too.
        let _ = pending.poll_head(&mut Context::from_waker(std::task::Waker::noop()));
        memory.write_u32(done, 1)?;
        out.give(memory, state, pending.into_response().map_err(|(error, _)| error))
    })
}

fn add_wait(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "pending_req_wait",
        |guest: Guest<'_>, (pending, response, body): (u32, u32, u32)| {
            let out = ResponseOut { detail: None, response, body };
            Box::new(async move { code(wait_for(guest, pending, out).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "pending_req_wait_v2",
        |guest: Guest<'_>, (pending, detail, response, body): (u32, u32, u32, u32)| {
            let out = ResponseOut { detail: Some(detail), response, body };
            Box::new(async move { code(wait_for(guest, pending, out).await) })
        },
    )?;
    Ok(())
}

async fn wait_for(mut guest: Guest<'_>, handle: u32, out: ResponseOut) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    out.check(&mut memory)?;
    let mut pending = state.handles.take::<Box<Pending>>(handle)?;
    poll_fn(|cx| pending.poll_head(cx)).await;
    let (mut memory, state) = enter(&mut guest)?;
    out.give(&mut memory, state, pending.into_response().map_err(|(error, _)| error))
}

fn add_select(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "pending_req_select",
        |guest: Guest<'_>, (handles, count, index, response, body): (u32, u32, u32, u32, u32)| {
            let out = ResponseOut { detail: None, response, body };
            Box::new(async move { code(select(guest, handles, count, index, out).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "pending_req_select_v2",
        |guest: Guest<'_>,
         (handles, count, detail, index, response, body): (u32, u32, u32, u32, u32, u32)| {
            let out = ResponseOut { detail: Some(detail), response, body };
            Box::new(async move { code(select(guest, handles, count, index, out).await) })
        },
    )?;
    Ok(())
}

/// The first that is done is used up; its error, if it failed, is told by invalid handles and not by the status,
/// which is that of selecting.
async fn select(mut guest: Guest<'_>, handles: u32, count: u32, index: u32, out: ResponseOut) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    out.check(&mut memory)?;
    memory.write_u32(index, 0)?;
    let listed = read_handles(&memory, &mut state.handles, handles, count)?;
    for handle in &listed {
        state.handles.get::<Box<Pending>>(*handle)?;
    }
    let first = first_ready(&mut guest, &listed, None).await.ok_or(Status::Error)?;
    let handle = *listed.get(first as usize).ok_or(Status::Error)?;
    let mut pending = guest.data_mut().handles.take::<Box<Pending>>(handle)?;
    poll_fn(|cx| pending.poll_head(cx)).await;
    let (mut memory, state) = enter(&mut guest)?;
    memory.write_u32(index, first)?;
    let answer = pending.into_response().map_err(|(error, _)| error);
    let failed = answer.is_err();
    match out.give(&mut memory, state, answer) {
        Err(_) if failed => Ok(()),
        given => given,
    }
}

fn add_changes(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    let with_value: [(&str, WithValue); 2] =
        [("pending_req_header_append", What::Append), ("pending_req_header_insert", What::Insert)];
    for (function, what) in with_value {
        linker.func_wrap(
            MODULE,
            function,
            move |guest: Guest<'_>,
                  pending: u32,
                  name: u32,
                  name_length: u32,
                  value: u32,
                  value_length: u32,
                  of: u32| {
                call(guest, |memory, state| {
                    state.handles.get::<Box<Pending>>(pending)?;
                    let name = read_name(memory, name, name_length)?;
                    let value = read_value(memory.bytes(value, value_length)?)?;
                    change(state, pending, Change { name, what: what(value), of: response_kind(of)? })
                })
            },
        )?;
    }
    linker.func_wrap(
        MODULE,
        "pending_req_header_remove",
        |guest: Guest<'_>, pending: u32, name: u32, name_length: u32, of: u32| {
            call(guest, |memory, state| {
                state.handles.get::<Box<Pending>>(pending)?;
                let name = read_name(memory, name, name_length)?;
                change(state, pending, Change { name, what: What::Remove, of: response_kind(of)? })
            })
        },
    )?;
    Ok(())
}

/// Keeps a change for its response, as long as the host may hold it.
fn change(state: &mut FastlyState, pending: u32, change: Change) -> Answer {
    state.hold(change.bytes())?;
    state.handles.get::<Box<Pending>>(pending)?.change(change)
}

fn response_kind(number: u32) -> Result<Of, Status> {
    match number {
        0 => Ok(Of::Any),
        1 => Ok(Of::Response),
        2 => Ok(Of::Error),
        _ => Err(Status::Invalid),
    }
}
