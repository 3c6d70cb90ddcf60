//! `fastly_http_body`: reading, writing and ending bodies. Reading and writing wait, on the client or for it; nothing
//! else does.

use std::{future::poll_fn, task::Poll};

use http::{HeaderMap, HeaderValue};
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status, code},
    body::{GuestBody, HeldBody},
    call, enter,
    handles::Item,
    headers::{append, read_name, read_value},
    memory::ListOut,
};
use crate::host::held::{name_bytes, value_bytes};

pub(super) const MODULE: &str = "fastly_http_body";
/// The `end` of a write.
const BACK: u32 = 0;
const FRONT: u32 = 1;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "new", |guest: Guest<'_>, handle: u32| {
        call(guest, |memory, state| {
            let new = state.insert(Item::Body(GuestBody::default()))?;
            memory.write_u32(handle, new)
        })
    })?;
    linker.func_wrap_async(
        MODULE,
        "read",
        |guest: Guest<'_>, (body, buffer, length, read): (u32, u32, u32, u32)| {
            Box::new(async move { code(self::read(guest, body, buffer, length, read).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "write",
        |guest: Guest<'_>, (body, buffer, length, end, written): (u32, u32, u32, u32, u32)| {
            Box::new(async move { code(write(guest, body, buffer, length, end, written).await) })
        },
    )?;
    linker.func_wrap(MODULE, "append", |guest: Guest<'_>, to: u32, from: u32| {
        call(guest, |_, state| append_body(state, to, from))
    })?;
    linker.func_wrap(MODULE, "close", |guest: Guest<'_>, body: u32| {
        call(guest, |_, state| {
            if let GuestBody::Streaming(streaming) = state.handles.take(body)? {
                streaming.finish();
            }
            Ok(())
        })
    })?;
    // Dropped unfinished, a streamed body aborts its response.
    linker.func_wrap(MODULE, "abandon", |guest: Guest<'_>, body: u32| {
        call(guest, |_, state| state.handles.take::<GuestBody>(body).map(drop))
    })?;
    linker.func_wrap(MODULE, "known_length", |guest: Guest<'_>, body: u32, length: u32| {
        call(guest, |memory, state| match state.handles.body(body)? {
            GuestBody::Held(held) => memory.write_u64(length, held.known_length().ok_or(Status::None)?),
            GuestBody::Streaming(_) => Err(Status::None),
        })
    })?;
    add_trailers(linker)
}

fn add_trailers(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "trailer_append",
        |guest: Guest<'_>, body: u32, name: u32, name_length: u32, value: u32, value_length: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let value = read_value(memory.bytes(value, value_length)?)?;
                state.handles.body(body)?;
                state.hold(name_bytes(&name) + value_bytes(&value))?;
                match state.handles.body(body)? {
                    GuestBody::Held(held) => append(&mut held.trailers, name, value),
                    GuestBody::Streaming(streaming) => append(&mut streaming.trailers, name, value),
                }
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "trailer_names_get",
        |guest: Guest<'_>, body: u32, buffer: u32, length_max: u32, cursor: u32, next: u32, written: u32| {
            call(guest, |memory, state| {
                let names = trailers(state, body)?.keys().map(|name| name.as_str().as_bytes());
                memory.give_list(names, ListOut { buffer, length_max, cursor, next, written })
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "trailer_value_get",
        |guest: Guest<'_>,
         body: u32,
         name: u32,
         name_length: u32,
         buffer: u32,
         length_max: u32,
         written: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let value = trailers(state, body)?.get(name).ok_or(Status::Invalid)?;
                memory.give(value.as_bytes(), buffer, length_max, written)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "trailer_values_get",
        |guest: Guest<'_>,
         body: u32,
         name: u32,
         name_length: u32,
         buffer: u32,
         length_max: u32,
         cursor: u32,
         next: u32,
         written: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let values = trailers(state, body)?.get_all(name);
                let values = values.iter().map(HeaderValue::as_bytes);
                memory.give_list(values, ListOut { buffer, length_max, cursor, next, written })
            })
        },
    )?;
    Ok(())
}

/// The trailers of a body that was read to its end.
fn trailers(state: &mut FastlyState, body: u32) -> Result<&mut HeaderMap, Status> {
    match state.handles.body(body)? {
        GuestBody::Held(held) if held.trailers_are_complete() => Ok(&mut held.trailers),
        GuestBody::Held(_) => Err(Status::Again),
        GuestBody::Streaming(_) => Err(Status::Invalid),
    }
}

/// Reads what is at hand, or waits until something is; 0 bytes are the end.
async fn read(mut guest: Guest<'_>, body: u32, buffer: u32, length: u32, read: u32) -> Answer {
    loop {
        let (mut memory, state) = enter(&mut guest)?;
        let held = state.handles.body(body)?.held()?;
        // Where the count goes is checked first: bytes that were taken must not be lost.
        memory.write_u32(read, 0)?;
        let taken = held.read(memory.bytes_mut(buffer, length)?);
        if let Some(taken) = state.noted(taken)? {
            return memory.write_usize(read, taken);
        }
        poll_fn(|cx| match guest.data_mut().handles.body(body) {
            Ok(body) => body.poll_ready(cx),
            Err(_) => Poll::Ready(()),
        })
        .await;
    }
}

/// Writes all: to a streamed body piece by piece, as the client makes room. Not every SDK writes the rest of a short
/// write.
async fn write(mut guest: Guest<'_>, body: u32, buffer: u32, length: u32, end: u32, written: u32) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    memory.write_u32(written, 0)?;
    let bytes = memory.bytes(buffer, length)?;
    match (state.handles.body(body)?, end) {
        (GuestBody::Held(held), BACK | FRONT) => {
            let cost =
                if end == BACK { held.cost_back(bytes.len()) } else { HeldBody::cost_front(bytes.len()) };
            state.hold(cost)?;
            let held = state.handles.body(body)?.held()?;
            if end == BACK { held.push_back(bytes) } else { held.push_front(bytes) }
        }
        (GuestBody::Streaming(_), BACK) => stream(&mut guest, body, buffer, length).await?,
        _ => return Err(Status::Invalid),
    }
    enter(&mut guest)?.0.write_u32(written, length)
}

async fn stream(guest: &mut Guest<'_>, body: u32, buffer: u32, length: u32) -> Answer {
    let mut done = 0;
    while done < length {
        let room = poll_fn(|cx| match guest.data_mut().handles.body(body) {
            Ok(GuestBody::Streaming(streaming)) => streaming.poll_room(cx),
            Ok(GuestBody::Held(_)) => Err(Status::BadHandle).into(),
            Err(status) => Err(status).into(),
        })
        .await?;
        let (memory, state) = enter(guest)?;
        let rest = (length - done).min(u32::try_from(room).unwrap_or(u32::MAX));
        let bytes = memory.bytes(buffer + done, rest)?; // inside memory, as the whole was
        let GuestBody::Streaming(streaming) = state.handles.body(body)? else {
            return Err(Status::BadHandle);
        };
        streaming.write(bytes);
        done += rest;
    }
    Ok(())
}

/// Moves one body to the end of another, without its bytes entering the guest.
fn append_body(state: &mut FastlyState, to: u32, from: u32) -> Answer {
    state.handles.body(to)?;
    if to == from || matches!(state.handles.body(from)?, GuestBody::Streaming(_)) {
        return Err(Status::BadHandle);
    }
    let mut added = std::mem::take(state.handles.body(from)?.held()?);
    let answer = match state.handles.body(to)? {
        GuestBody::Held(held) => held.append(&mut added),
        GuestBody::Streaming(streaming) => streaming.append(&mut added),
    };
    if answer.is_err() {
        *state.handles.body(from)? = GuestBody::Held(added);
        return answer;
    }
    state.handles.take::<GuestBody>(from).map(drop)
}
