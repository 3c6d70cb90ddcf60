//! `fastly_object_store`: the older interface to key-value stores, whose calls tell what became of them by status.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, INVALID_HANDLE, Status, code},
    body::HeldBody,
    call, enter,
    handles::Item,
    kv_operation::{self, Delete, Insert, Lookup, Operation, collect, read_text, store},
    kv_store,
};
use crate::host::kv::{self, Entry, KvError};

const MODULE: &str = "fastly_object_store";

/// A function that SDKs of different age declare with different types, and the type that is not in the table.
pub(super) const INSERT_WAIT_WITH_OUTCOME: (&str, &str, &str) = (MODULE, "pending_insert_wait", "ii:i");

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "open", |guest: Guest<'_>, name: u32, length: u32, store: u32| {
        call(guest, |memory, state| {
            let opened = kv_operation::open(state, read_text(memory, name, length)?)?;
            memory.write_u32(store, opened)
        })
    })?;
    add_lookup(linker)?;
    add_insert(linker)?;
    add_delete(linker)
}

fn add_lookup(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "lookup",
        |guest: Guest<'_>, (from, key, length, body): (u32, u32, u32, u32)| {
            Box::new(async move { code(lookup(guest, from, key, length, body).await) })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "lookup_async",
        |guest: Guest<'_>, from: u32, key: u32, length: u32, lookup: u32| {
            call(guest, |memory, state| {
                kv_operation::start_lookup(memory, state, from, (key, length), lookup)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "pending_lookup_wait",
        |mut guest: Guest<'_>, (lookup, body): (u32, u32)| {
            Box::new(async move {
                let operation = guest.data_mut().handles.take::<Lookup>(lookup);
                code(match operation {
                    Ok(operation) => found(guest, operation, body).await,
                    Err(status) => Err(status),
                })
            })
        },
    )?;
    Ok(())
}

async fn lookup(mut guest: Guest<'_>, from: u32, key: u32, length: u32, body: u32) -> Answer {
    let (memory, state) = enter(&mut guest)?;
    let from = store(&mut state.handles, from)?;
    let started = kv::get(&mut state.exchange, &from, read_text(&memory, key, length)?);
    found(guest, Operation::started(started)?, body).await
}

async fn found(mut guest: Guest<'_>, operation: Lookup, body: u32) -> Answer {
    enter(&mut guest)?.0.write_u32(body, INVALID_HANDLE)?;
    let answer = operation.wait().await;
    let (mut memory, state) = enter(&mut guest)?;
    let entry: Entry = answer.map_err(|error| status(&error))?.ok_or(Status::None)?;
    state.hold(entry.value.len())?;
    let handle = state.insert(Item::Body(HeldBody::full(entry.value).into()))?;
    memory.write_u32(body, handle)
}

fn add_insert(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "insert",
        |guest: Guest<'_>, (to, key, length, body): (u32, u32, u32, u32)| {
            Box::new(async move {
                code(match start_insert(guest, to, key, length, body).await {
                    Ok((_, operation)) => operation.wait().await.map(drop).map_err(|error| status(&error)),
                    Err(status) => Err(status),
                })
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "insert_async",
        |guest: Guest<'_>, (to, key, length, body, insert): (u32, u32, u32, u32, u32)| {
            Box::new(async move { code(insert_async(guest, to, key, length, body, insert).await) })
        },
    )?;
    linker.func_wrap_async(MODULE, "pending_insert_wait", |guest: Guest<'_>, (insert,): (u32,)| {
        Box::new(async move { code(insert_wait(guest, insert).await) })
    })?;
    Ok(())
}

/// Defines [`INSERT_WAIT_WITH_OUTCOME`] instead of the one of the table: it tells as the newer interface does.
pub(super) fn add_insert_wait_with_outcome(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    let (module, name, _) = INSERT_WAIT_WITH_OUTCOME;
    linker.func_wrap_async(module, name, |guest: Guest<'_>, (insert, outcome): (u32, u32)| {
        Box::new(async move { code(kv_store::wait::<kv::Generation>(guest, insert, outcome).await) })
    })?;
    Ok(())
}

async fn start_insert(
    mut guest: Guest<'_>,
    to: u32,
    key: u32,
    length: u32,
    body: u32,
) -> Result<(Guest<'_>, Insert), Status> {
    let (memory, state) = enter(&mut guest)?;
    let to = store(&mut state.handles, to)?;
    let key = read_text(&memory, key, length)?.to_owned();
    let value: Option<Bytes> = collect(&mut guest, body).await?;
    let started = match value {
        Some(value) => kv::insert(&mut guest.data_mut().exchange, &to, &key, value, kv::Insert::default()),
        None => Err(KvError::ValueTooLarge),
    };
    Ok((guest, Operation::started(started)?))
}

async fn insert_async(guest: Guest<'_>, to: u32, key: u32, length: u32, body: u32, insert: u32) -> Answer {
    let (mut guest, operation) = start_insert(guest, to, key, length, body).await?;
    let (mut memory, state) = enter(&mut guest)?;
    let handle = state.insert(Item::KvInsert(operation))?;
    memory.write_u32(insert, handle)
}

async fn insert_wait(mut guest: Guest<'_>, insert: u32) -> Answer {
    let operation = guest.data_mut().handles.take::<Insert>(insert)?;
    operation.wait().await.map(drop).map_err(|error| status(&error))
}

fn add_delete(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "delete_async",
        |guest: Guest<'_>, from: u32, key: u32, length: u32, delete: u32| {
            call(guest, |memory, state| {
                kv_operation::start_delete(memory, state, from, (key, length), delete)
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "pending_delete_wait", |mut guest: Guest<'_>, (delete,): (u32,)| {
        Box::new(async move {
            let operation = guest.data_mut().handles.take::<Delete>(delete);
            code(match operation {
                Ok(operation) => operation.wait().await.map(drop).map_err(|error| status(&error)),
                Err(status) => Err(status),
            })
        })
    })?;
    Ok(())
}

fn status(error: &KvError) -> Status {
    match error {
        KvError::Invalid(_) => Status::Invalid,
        KvError::ValueTooLarge
        | KvError::MetadataTooLarge
        | KvError::TooMany
        | KvError::Quota(_)
        | KvError::Busy
        | KvError::NoRoom => Status::LimitExceeded,
        KvError::Precondition | KvError::Away(_) | KvError::NoAnswer(_) => Status::Error,
    }
}
