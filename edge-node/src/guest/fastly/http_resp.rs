//! `fastly_http_resp`: the response, and the one way to send it.

use std::future::poll_fn;

use http::{Response, StatusCode};
use tokio::{runtime::Handle, task::JoinHandle};
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status, version, version_number},
    body::{GuestBody, HeldBody},
    call,
    downstream::give_address,
    framing,
    handles::Item,
    headers,
    pending::Pending,
};
use crate::{
    exchange::Responder,
    front::OutboundBody,
    host::{
        door::{Door, Event, Source},
        outbound::Peer,
    },
};

pub(super) const MODULE: &str = "fastly_http_resp";
/// The response's number among the streams a guest writes.
const RESPONSE_STREAM: u32 = 0;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    headers::add(linker, MODULE, |state, handle| Ok(state.handles.response(handle)?.headers_mut()))?;
    linker.func_wrap(MODULE, "new", |guest: Guest<'_>, handle: u32| {
        call(guest, |memory, state| {
            let new = state.insert(Item::Response(Box::new(Response::new(()))))?;
            memory.write_u32(handle, new)
        })
    })?;
    linker.func_wrap(MODULE, "close", |guest: Guest<'_>, response: u32| {
        call(guest, |_, state| state.handles.take::<Box<Response<()>>>(response).map(drop))
    })?;
    linker.func_wrap(MODULE, "status_get", |guest: Guest<'_>, response: u32, status: u32| {
        call(guest, |memory, state| {
            memory.write_u16(status, state.handles.response(response)?.status().as_u16())
        })
    })?;
    linker.func_wrap(MODULE, "status_set", |guest: Guest<'_>, response: u32, status: u32| {
        call(guest, |_, state| {
            let response = state.handles.response(response)?;
            let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
            *response.status_mut() = status.ok_or(Status::BadStatusCode)?;
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "version_get", |guest: Guest<'_>, response: u32, number: u32| {
        call(guest, |memory, state| {
            memory.write_u32(number, version_number(state.handles.response(response)?.version()))
        })
    })?;
    linker.func_wrap(MODULE, "version_set", |guest: Guest<'_>, response: u32, number: u32| {
        call(guest, |_, state| {
            *state.handles.response(response)?.version_mut() = version(number)?;
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "framing_headers_mode_set", |guest: Guest<'_>, response: u32, mode: u32| {
        call(guest, |_, state| framing::set_mode(state.handles.response(response)?.extensions_mut(), mode))
    })?;
    // The client's connection belongs to the front; asking it to be automatic is asking for what is.
    linker.func_wrap(MODULE, "http_keepalive_mode_set", |guest: Guest<'_>, response: u32, mode: u32| {
        call(guest, |_, state| {
            state.handles.response(response)?;
            if mode == 0 { Ok(()) } else { Err(Status::Unsupported) }
        })
    })?;
    // A response the guest made came from no backend.
    linker.func_wrap(
        MODULE,
        "get_addr_dest_ip",
        |guest: Guest<'_>, response: u32, octets: u32, written: u32| {
            call(guest, |memory, state| {
                let peer = state.handles.response(response)?.extensions().get::<Peer>().copied();
                memory.write_u32(written, 0)?;
                give_address(memory, peer.ok_or(Status::None)?.0.ip(), octets, written)
            })
        },
    )?;
    linker.func_wrap(MODULE, "get_addr_dest_port", |guest: Guest<'_>, response: u32, port: u32| {
        call(guest, |memory, state| {
            let peer = state.handles.response(response)?.extensions().get::<Peer>().copied();
            memory.write_u16(port, peer.ok_or(Status::None)?.0.port())
        })
    })?;
    linker.func_wrap(
        MODULE,
        "send_downstream",
        |guest: Guest<'_>, response: u32, body: u32, streaming: u32| {
            call(guest, |_, state| send_downstream(state, response, body, streaming != 0))
        },
    )?;
    linker.func_wrap(MODULE, "send_downstream_pending", |guest: Guest<'_>, pending: u32| {
        call(guest, |_, state| send_downstream_pending(state, pending))
    })?;
    Ok(())
}

/// Sends the response. Streamed, the body's handle stays and is from now on written towards the client; otherwise
/// both handles are used up.
fn send_downstream(state: &mut FastlyState, response: u32, body: u32, streaming: bool) -> Answer {
    if state.handles.response(response)?.status().is_informational() {
        return Err(Status::Unsupported);
    }
    state.handles.body(body)?.held()?;
    // A second response to one request.
    let responder = state.responder.take().ok_or(Status::Error)?;
    let (mut head, ()) = state.handles.take::<Box<Response<()>>>(response)?.into_parts();
    let door = state.exchange.door.clone();
    let held = std::mem::take(state.handles.body(body)?.held()?);
    // Where there is no body its length may be told, which is that of another.
    if !state.downstream.is_head && head.status != StatusCode::NOT_MODIFIED {
        let length = if streaming { None } else { held.known_length() };
        framing::settle(&mut head.headers, &head.extensions, length);
    }
    let outbound = if streaming {
        let (writer, reader) = held.into_streaming(&door, RESPONSE_STREAM);
        *state.handles.body(body)? = GuestBody::Streaming(writer);
        OutboundBody::stream(reader)
    } else {
        state.handles.take::<GuestBody>(body)?;
        held.into_sent(&door, RESPONSE_STREAM).into()
    };
    respond(&door, responder, Response::from_parts(head, outbound));
    Ok(())
}

fn respond(door: &Door, responder: Responder, response: Response<OutboundBody>) {
    door.cause(Source::Response, || {
        Event::Head(response.status().as_str().to_owned(), response.headers().clone())
    });
    responder.send(response);
}

/// A response that reaches the client without its guest, which may end before. It ends when it is dropped.
pub(super) struct Forwarding(JoinHandle<()>);

impl Forwarding {
    /// Waits until the response is sent.
    pub(super) async fn sent(mut self) {
        let _ = (&mut self.0).await; // one that panicked has dropped the responder
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Lets the response to a request pass on, unread, when it is there. One that failed becomes a 5xx. As on the platform
/// the guest goes on at once, and its instance may be gone by then.
fn send_downstream_pending(state: &mut FastlyState, pending: u32) -> Answer {
    state.handles.get::<Box<Pending>>(pending)?;
    let runtime = Handle::try_current().map_err(|_| Status::Error)?;
    let responder = state.responder.take().ok_or(Status::Error)?;
    let mut pending = state.handles.take::<Box<Pending>>(pending)?;
    let door = state.exchange.door.clone();
    state.forwarding = Some(Forwarding(runtime.spawn(async move {
        poll_fn(|cx| pending.poll_head(cx)).await;
        let response = match pending.into_response() {
            Ok(response) => {
                response.map(|body| HeldBody::incoming(body).into_sent(&door, RESPONSE_STREAM).into())
            }
            Err((_, failed)) => failed.map(|()| OutboundBody::Empty),
        };
        respond(&door, responder, response);
    })));
    Ok(())
}
