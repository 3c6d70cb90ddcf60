//! `fastly_secret_store`: secrets of the version, and such that a program makes of its own bytes.

use std::fmt;

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{FastlyState, abi::Status, call, handles::Item, memory::GuestMemory};
use crate::host::{config::NoStore, secrets};

const MODULE: &str = "fastly_secret_store";
/// Bytes of a store's name or of a secret's.
const NAME_BYTES_MAX: u32 = 255;
/// Bytes of a secret that a program makes; SDKs know this limit.
const SECRET_BYTES_MAX: u32 = 64 * 1024;

/// A store behind a handle: its name.
#[derive(Debug)]
pub(super) struct SecretStore(Box<str>);

/// A secret behind a handle.
pub(super) struct Secret(Bytes);

impl Secret {
    /// Its bytes.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "open", |guest: Guest<'_>, name: u32, length: u32, store: u32| {
        call(guest, |memory, state| {
            let name = read_name(memory, name, length)?;
            if !secrets::has_store(&state.exchange, Some(name)) {
                return Err(Status::None);
            }
            let opened = state.insert(Item::SecretStore(SecretStore(name.into())))?;
            memory.write_u32(store, opened)
        })
    })?;
    linker.func_wrap(
        MODULE,
        "get",
        |guest: Guest<'_>, store: u32, name: u32, length: u32, secret: u32| {
            call(guest, |memory, state| {
                let SecretStore(store) = state.handles.get(store)?;
                let name = read_name(memory, name, length)?;
                let found = secrets::get(&state.exchange, Some(store), name);
                let found = found.map_err(|NoStore| Status::BadHandle)?.ok_or(Status::None)?;
                let handle = insert(state, found)?;
                memory.write_u32(secret, handle)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "plaintext",
        |guest: Guest<'_>, secret: u32, buffer: u32, length_max: u32, written: u32| {
            call(guest, |memory, state| {
                let Secret(bytes) = &**state.handles.get::<Box<Secret>>(secret)?;
                memory.give(bytes, buffer, length_max, written)
            })
        },
    )?;
    linker.func_wrap(MODULE, "from_bytes", |guest: Guest<'_>, bytes: u32, length: u32, secret: u32| {
        call(guest, |memory, state| {
            if length > SECRET_BYTES_MAX {
                return Err(Status::Invalid);
            }
            let bytes = Bytes::copy_from_slice(memory.bytes(bytes, length)?);
            let handle = insert(state, bytes)?;
            memory.write_u32(secret, handle)
        })
    })?;
    Ok(())
}

fn insert(state: &mut FastlyState, bytes: Bytes) -> Result<u32, Status> {
    state.hold(bytes.len())?;
    state.insert(Item::Secret(Box::new(Secret(bytes))))
}

fn read_name<'a>(memory: &'a GuestMemory<'_>, name: u32, length: u32) -> Result<&'a str, Status> {
    match length {
        1..=NAME_BYTES_MAX => memory.text(name, length),
        _ => Err(Status::Invalid),
    }
}
