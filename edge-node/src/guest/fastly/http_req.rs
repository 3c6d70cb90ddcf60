//! `fastly_http_req`: the client's request, and requests the guest makes for itself. How those are cached, sent and
//! waited for is in the modules below.

use http::{Method, Request, Uri};
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Status, version, version_number},
    cache_override, call, dynamic_backend, framing,
    gunzip::AutoDecompress,
    handles::Item,
    headers, pending, send,
};
use crate::{front::limits::URL_BYTES_MAX, limits::Limit};

pub(super) const MODULE: &str = "fastly_http_req";
/// The one content coding that can be taken off a response.
const GZIP: u32 = 1;
/// Bytes of a method; the registered ones have at most 17.
const METHOD_BYTES_MAX: u32 = 256;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    headers::add(linker, MODULE, |state, handle| Ok(state.handles.request(handle)?.headers_mut()))?;
    cache_override::add(linker)?;
    send::add(linker)?;
    pending::add(linker)?;
    dynamic_backend::add(linker)?;
    linker.func_wrap(MODULE, "body_downstream_get", |guest: Guest<'_>, request: u32, body: u32| {
        call(guest, |memory, state| {
            // A guest that wants only one of the two passes a null pointer for the other.
            for (pointer, handle) in [(request, state.downstream.request), (body, state.downstream.body)] {
                if pointer != 0 {
                    memory.write_u32(pointer, handle)?;
                }
            }
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "new", |guest: Guest<'_>, handle: u32| {
        call(guest, |memory, state| {
            let new = state.insert(Item::Request(Box::new(Request::new(()))))?;
            memory.write_u32(handle, new)
        })
    })?;
    linker.func_wrap(MODULE, "close", |guest: Guest<'_>, request: u32| {
        call(guest, |_, state| state.handles.take::<Box<Request<()>>>(request).map(drop))
    })?;
    linker.func_wrap(
        MODULE,
        "method_get",
        |guest: Guest<'_>, request: u32, buffer: u32, length_max: u32, written: u32| {
            call(guest, |memory, state| {
                let method = state.handles.request(request)?.method();
                memory.give(method.as_str().as_bytes(), buffer, length_max, written)
            })
        },
    )?;
    linker.func_wrap(MODULE, "method_set", |guest: Guest<'_>, request: u32, method: u32, length: u32| {
        call(guest, |memory, state| {
            if length > METHOD_BYTES_MAX {
                return Err(Status::LimitExceeded);
            }
            let method =
                Method::from_bytes(memory.bytes(method, length)?).map_err(|_| Status::HttpInvalid)?;
            *state.handles.request(request)?.method_mut() = method;
            Ok(())
        })
    })?;
    linker.func_wrap(
        MODULE,
        "uri_get",
        |guest: Guest<'_>, request: u32, buffer: u32, length_max: u32, written: u32| {
            call(guest, |memory, state| {
                let uri = state.handles.request(request)?.uri().to_string();
                memory.give(uri.as_bytes(), buffer, length_max, written)
            })
        },
    )?;
    linker.func_wrap(MODULE, "uri_set", |guest: Guest<'_>, request: u32, uri: u32, length: u32| {
        call(guest, |memory, state| {
            if length as usize > URL_BYTES_MAX {
                state.exchange.bill.meet(Limit::Url);
                return Err(Status::LimitExceeded);
            }
            let uri = Uri::try_from(memory.bytes(uri, length)?).map_err(|_| Status::HttpInvalid)?;
            state.handles.request(request)?;
            state.hold(length as usize)?;
            *state.handles.request(request)?.uri_mut() = uri;
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "version_get", |guest: Guest<'_>, request: u32, number: u32| {
        call(guest, |memory, state| {
            memory.write_u32(number, version_number(state.handles.request(request)?.version()))
        })
    })?;
    linker.func_wrap(MODULE, "version_set", |guest: Guest<'_>, request: u32, number: u32| {
        call(guest, |_, state| {
            *state.handles.request(request)?.version_mut() = version(number)?;
            Ok(())
        })
    })?;
    linker.func_wrap(MODULE, "framing_headers_mode_set", |guest: Guest<'_>, request: u32, mode: u32| {
        call(guest, |_, state| framing::set_mode(state.handles.request(request)?.extensions_mut(), mode))
    })?;
    linker.func_wrap(
        MODULE,
        "auto_decompress_response_set",
        |guest: Guest<'_>, request: u32, codings: u32| {
            call(guest, |_, state| {
                let extensions = state.handles.request(request)?.extensions_mut();
                match codings {
                    0 => drop(extensions.remove::<AutoDecompress>()),
                    GZIP => drop(extensions.insert(AutoDecompress)),
                    _ => return Err(Status::Invalid),
                }
                Ok(())
            })
        },
    )?;
    Ok(())
}
