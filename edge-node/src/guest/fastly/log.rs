//! `fastly_log`: named logs. Any name is one; what is written goes to the exchange's log under it.

use wasmtime::{Caller, Linker};

use super::{FastlyState, abi::Status, call, handles::Item};
use crate::{account::guest_log::NAME_CHARS_MAX, host::log};

const MODULE: &str = "fastly_log";

/// A log behind a handle: its name.
#[derive(Debug)]
pub(super) struct LogEndpoint(Box<str>);

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "endpoint_get", |guest: Guest<'_>, name: u32, length: u32, endpoint: u32| {
        call(guest, |memory, state| {
            if length as usize > NAME_CHARS_MAX {
                return Err(Status::LimitExceeded);
            }
            let name = memory.text(name, length)?;
            if name.is_empty() {
                return Err(Status::Invalid);
            }
            let opened = state.insert(Item::LogEndpoint(LogEndpoint(name.into())))?;
            memory.write_u32(endpoint, opened)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "write",
        |guest: Guest<'_>, endpoint: u32, message: u32, length: u32, written: u32| {
            call(guest, |memory, state| {
                memory.write_u32(written, 0)?;
                let message = memory.bytes(message, length)?;
                let LogEndpoint(name) = state.handles.get(endpoint)?;
                log::entry(&state.exchange, name, &[message]);
                memory.write_u32(written, length)
            })
        },
    )?;
    Ok(())
}
