//! `fastly_config_store` and the older `fastly_dictionary`, which are one: stores of plain configuration.

use wasmtime::{Caller, Linker};

use super::{FastlyState, abi::Status, call, handles::Item, memory::GuestMemory};
use crate::host::config;

/// Both modules have the same two functions.
const MODULES: [&str; 2] = ["fastly_config_store", "fastly_dictionary"];
/// Bytes of a store's name or of a key; SDKs know this limit.
const NAME_BYTES_MAX: u32 = 255;

/// A store behind a handle: its name.
#[derive(Debug)]
pub(super) struct ConfigStore(Box<str>);

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    for module in MODULES {
        linker.func_wrap(module, "open", |guest: Guest<'_>, name: u32, length: u32, store: u32| {
            call(guest, |memory, state| {
                // SDKs read these as "empty", "too long" and "no such store".
                let name = read_name(memory, name, length, Status::None)?;
                if !config::has_store(&state.exchange, Some(name)) {
                    return Err(Status::BadHandle);
                }
                let opened = state.insert(Item::ConfigStore(ConfigStore(name.into())))?;
                memory.write_u32(store, opened)
            })
        })?;
        linker.func_wrap(
            module,
            "get",
            |guest: Guest<'_>,
             store: u32,
             key: u32,
             key_length: u32,
             buffer: u32,
             length_max: u32,
             written: u32| {
                call(guest, |memory, state| {
                    let ConfigStore(store) = state.handles.get(store)?;
                    let key = read_name(memory, key, key_length, Status::Invalid)?;
                    let value = config::get(&state.exchange, Some(store), key);
                    let value = value.map_err(|config::NoStore| Status::BadHandle)?;
                    memory.give_optional(value.as_deref().map(str::as_bytes), buffer, length_max, written)
                })
            },
        )?;
    }
    Ok(())
}

fn read_name<'a>(
    memory: &'a GuestMemory<'_>,
    name: u32,
    length: u32,
    empty: Status,
) -> Result<&'a str, Status> {
    match length {
        0 => Err(empty),
        1..=NAME_BYTES_MAX => memory.text(name, length),
        _ => Err(Status::Unsupported),
    }
}
