//! `fastly_kv_store`: operations on key-value stores, each started by one call and waited for by another.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, INVALID_HANDLE, Status, code},
    body::HeldBody,
    call, enter,
    handles::Item,
    kv_operation::{self, List, Lookup, Operation, answered, collect, read_text, store},
    memory::{GuestMemory, field},
};
use crate::host::kv::{self, Entry, KvError, Mode, Page};

const MODULE: &str = "fastly_kv_store";
/// Keys of a page when the program does not say.
const PAGE_KEYS: u32 = 100;

/// How the interface numbers what became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Outcome {
    Uninitialized = 0,
    Ok = 1,
    BadRequest = 2,
    NotFound = 3,
    PreconditionFailed = 4,
    PayloadTooLarge = 5,
    InternalError = 6,
}

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
    add_delete(linker)?;
    add_list(linker)
}

fn add_lookup(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "lookup",
        |guest: Guest<'_>, from: u32, key: u32, length: u32, mask: u32, _options: u32, lookup: u32| {
            call(guest, |memory, state| {
                no_options(mask)?;
                kv_operation::start_lookup(memory, state, from, (key, length), lookup)
            })
        },
    )?;
    type Form = fn(u32) -> GenerationOut;
    for (name, form) in
        [("lookup_wait", GenerationOut::Never as Form), ("lookup_wait_v2", GenerationOut::Wide)]
    {
        linker.func_wrap_async(
            MODULE,
            name,
            move |guest: Guest<'_>,
                  (lookup, body, metadata, length_max, written, generation, outcome): (
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
            )| {
                let generation = form(generation);
                let out = LookupOut { body, metadata, length_max, written, generation, outcome };
                Box::new(async move { code(lookup_wait(guest, lookup, out).await) })
            },
        )?;
    }
    Ok(())
}

/// Where what was found goes.
#[derive(Clone, Copy)]
struct LookupOut {
    body: u32,
    metadata: u32,
    length_max: u32,
    written: u32,
    generation: GenerationOut,
    outcome: u32,
}

#[derive(Clone, Copy)]
enum GenerationOut {
    /// The older form has 32 bits for it, which are always 0.
    Never(u32),
    Wide(u32),
}

async fn lookup_wait(mut guest: Guest<'_>, lookup: u32, out: LookupOut) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    state.handles.get::<Lookup>(lookup)?;
    memory.write_u32(out.body, INVALID_HANDLE)?;
    memory.write_u32(out.outcome, Outcome::Uninitialized as u32)?;
    memory.write_u32(out.written, 0)?;
    give_generation(&mut memory, out.generation, 0)?;
    answered::<Option<Entry>>(&mut guest, lookup).await?;

    let (mut memory, state) = enter(&mut guest)?;
    // A buffer that is too short leaves the answer for the next call.
    if let Some(Ok(Some(entry))) = state.handles.get::<Lookup>(lookup)?.answer() {
        memory.give(&entry.metadata, out.metadata, out.length_max, out.written)?;
    }
    match state.handles.take::<Lookup>(lookup)?.into_answer() {
        Ok(Some(entry)) => {
            state.hold(entry.value.len())?;
            let body = state.insert(Item::Body(HeldBody::full(entry.value).into()))?;
            memory.write_u32(out.body, body)?;
            give_generation(&mut memory, out.generation, entry.generation)?;
            memory.write_u32(out.outcome, Outcome::Ok as u32)
        }
        Ok(None) => memory.write_u32(out.outcome, Outcome::NotFound as u32),
        Err(error) => fail(&mut memory, out.outcome, &error),
    }
}

fn give_generation(memory: &mut GuestMemory<'_>, out: GenerationOut, generation: u64) -> Answer {
    match out {
        GenerationOut::Never(at) => memory.write_u32(at, 0),
        GenerationOut::Wide(at) => memory.write_u64(at, generation),
    }
}

fn add_insert(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "insert",
        |guest: Guest<'_>,
         (to, key, length, body, mask, options, insert): (u32, u32, u32, u32, u32, u32, u32)| {
            Box::new(async move {
                code(self::insert(guest, to, (key, length), body, (mask, options), insert).await)
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "insert_wait", |guest: Guest<'_>, (insert, outcome): (u32, u32)| {
        Box::new(async move {
            let done = wait::<kv::Generation>(guest, insert, outcome).await;
            code(done.map(drop))
        })
    })?;
    Ok(())
}

/// Options of an insert and the bits that say which count. A background fetch is a hint to a cache.
mod insert_option {
    pub const BACKGROUND_FETCH: u32 = 1 << 1;
    pub const METADATA: u32 = 1 << 3;
    pub const TTL: u32 = 1 << 4;
    pub const IF_GENERATION: u32 = 1 << 5;
    pub const KNOWN: u32 = BACKGROUND_FETCH | METADATA | TTL | IF_GENERATION;

    pub const MODE_AT: u32 = 0;
    pub const METADATA_AT: u32 = 8;
    pub const TTL_AT: u32 = 16;
    pub const IF_GENERATION_AT: u32 = 24;
}

fn read_insert(memory: &GuestMemory<'_>, mask: u32, options: u32) -> Result<kv::Insert, Status> {
    use insert_option::*;
    if mask & !KNOWN != 0 {
        return Err(Status::Invalid);
    }
    let number = |at| memory.read_u32(field(options, at)?);
    let mode = match number(MODE_AT)? {
        0 => Mode::Overwrite,
        1 => Mode::Add,
        2 => Mode::Append,
        3 => Mode::Prepend,
        _ => return Err(Status::Invalid),
    };
    let mut insert = kv::Insert { mode, ..kv::Insert::default() };
    if mask & METADATA != 0 {
        let bytes = memory.bytes(number(METADATA_AT)?, number(METADATA_AT + 4)?)?;
        // One byte more than there may be is enough to be refused.
        let bytes = bytes.get(..kv::METADATA_BYTES_MAX + 1).unwrap_or(bytes);
        insert.metadata = Some(Bytes::copy_from_slice(bytes));
    }
    if mask & TTL != 0 {
        insert.ttl = Some(Duration::from_secs(number(TTL_AT)?.into()));
    }
    if mask & IF_GENERATION != 0 {
        insert.if_generation = Some(memory.read_u64(field(options, IF_GENERATION_AT)?)?);
    }
    Ok(insert)
}

async fn insert(
    mut guest: Guest<'_>,
    to: u32,
    (key, length): (u32, u32),
    body: u32,
    (mask, options): (u32, u32),
    insert: u32,
) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    memory.write_u32(insert, INVALID_HANDLE)?;
    let how = read_insert(&memory, mask, options)?;
    let key = read_text(&memory, key, length)?.to_owned();
    let to = store(&mut state.handles, to)?;
    let value = collect(&mut guest, body).await?;

    let (mut memory, state) = enter(&mut guest)?;
    let started = match value {
        Some(value) => kv::insert(&mut state.exchange, &to, &key, value, how),
        None => Err(KvError::ValueTooLarge),
    };
    let handle = state.insert(Item::KvInsert(Operation::started(started)?))?;
    memory.write_u32(insert, handle)
}

fn add_delete(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "delete",
        |guest: Guest<'_>, from: u32, key: u32, length: u32, mask: u32, _options: u32, delete: u32| {
            call(guest, |memory, state| {
                no_options(mask)?;
                kv_operation::start_delete(memory, state, from, (key, length), delete)
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "delete_wait", |guest: Guest<'_>, (delete, outcome): (u32, u32)| {
        Box::new(async move {
            let done = wait::<bool>(guest, delete, outcome).await;
            code(done.map(drop))
        })
    })?;
    Ok(())
}

/// Options of a list and the bits that say which count.
mod list_option {
    pub const CURSOR: u32 = 1 << 1;
    pub const LIMIT: u32 = 1 << 2;
    pub const PREFIX: u32 = 1 << 3;
    pub const KNOWN: u32 = CURSOR | LIMIT | PREFIX;

    pub const MODE_AT: u32 = 0;
    pub const CURSOR_AT: u32 = 4;
    pub const LIMIT_AT: u32 = 12;
    pub const PREFIX_AT: u32 = 16;
}

/// What a list is asked for, which its answer repeats.
#[derive(Debug)]
pub(super) struct Asked {
    limit: u32,
    prefix: Option<String>,
}

impl Asked {
    /// Asks for a page.
    fn ask(
        &self,
        state: &mut FastlyState,
        store: &kv::Store,
        cursor: Option<String>,
    ) -> Result<List, Status> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        Operation::started(kv::list(&mut state.exchange, store, prefix, self.limit, cursor))
    }
}

/// A list under way.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) operation: List,
    asked: Asked,
    store: kv::Store,
}

fn add_list(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "list", |guest: Guest<'_>, from: u32, mask: u32, options: u32, list: u32| {
        call(guest, |memory, state| {
            let from = store(&mut state.handles, from)?;
            let (asked, cursor) = read_list(memory, mask, options)?;
            let operation = asked.ask(state, &from, cursor)?;
            let listing = Listing { operation, asked, store: from };
            let handle = state.insert(Item::KvList(Box::new(listing)))?;
            memory.write_u32(list, handle)
        })
    })?;
    linker.func_wrap_async(
        MODULE,
        "list_wait",
        |guest: Guest<'_>, (list, body, outcome): (u32, u32, u32)| {
            Box::new(async move { code(list_wait(guest, list, body, outcome).await) })
        },
    )?;
    Ok(())
}

fn read_list(memory: &GuestMemory<'_>, mask: u32, options: u32) -> Result<(Asked, Option<String>), Status> {
    use list_option::*;
    if mask & !KNOWN != 0 {
        return Err(Status::Invalid);
    }
    let number = |at| memory.read_u32(field(options, at)?);
    let text = |option, at| match mask & option {
        0 => Ok(None),
        _ => read_text(memory, number(at)?, number(at + 4)?).map(|text| Some(text.to_owned())),
    };
    // Strong or eventual: the stores decide how fresh a list is.
    if number(MODE_AT)? > 1 {
        return Err(Status::Invalid);
    }
    let limit = if mask & LIMIT != 0 { number(LIMIT_AT)? } else { PAGE_KEYS };
    Ok((Asked { limit, prefix: text(PREFIX, PREFIX_AT)? }, text(CURSOR, CURSOR_AT)?))
}

async fn list_wait(mut guest: Guest<'_>, list: u32, body: u32, outcome: u32) -> Answer {
    let (mut memory, state) = enter(&mut guest)?;
    memory.write_u32(body, INVALID_HANDLE)?;
    memory.write_u32(outcome, Outcome::Uninitialized as u32)?;
    let Listing { operation, asked, store } = *state.handles.take::<Box<Listing>>(list)?;
    let mut answer = operation.wait().await;
    // A page may be empty before the end; SDKs take an empty one for the end.
    while let Ok(Page { keys, next: next @ Some(_) }) = &mut answer
        && keys.is_empty()
    {
        let cursor = next.take();
        answer = asked.ask(guest.data_mut(), &store, cursor)?.wait().await;
    }
    let (mut memory, state) = enter(&mut guest)?;
    match answer {
        Ok(page) => {
            let text = page_json(page, &asked);
            state.hold(text.len())?;
            let handle = state.insert(Item::Body(HeldBody::full(text).into()))?;
            memory.write_u32(body, handle)?;
            memory.write_u32(outcome, Outcome::Ok as u32)
        }
        Err(error) => fail(&mut memory, outcome, &error),
    }
}

/// A page in the form SDKs read.
fn page_json(Page { keys, next }: Page, asked: &Asked) -> Bytes {
    let mut meta = json!({ "limit": asked.limit });
    if let Some(prefix) = &asked.prefix {
        meta["prefix"] = prefix.as_str().into();
    }
    if let Some(next) = next {
        meta["next_cursor"] = next.into();
    }
    json!({ "data": keys, "meta": meta }).to_string().into()
}

/// Waits for an operation of which only its outcome matters.
pub(super) async fn wait<T>(mut guest: Guest<'_>, handle: u32, outcome: u32) -> Answer
where
    Box<Operation<T>>: super::handles::Kind,
{
    let (mut memory, state) = enter(&mut guest)?;
    memory.write_u32(outcome, Outcome::Uninitialized as u32)?;
    let answer = state.handles.take::<Box<Operation<T>>>(handle)?.wait().await;
    let (mut memory, _) = enter(&mut guest)?;
    match answer {
        Ok(_) => memory.write_u32(outcome, Outcome::Ok as u32),
        Err(error) => fail(&mut memory, outcome, &error),
    }
}

/// An operation that failed: by its outcome, or by status where SDKs have no number for it.
fn fail(memory: &mut GuestMemory<'_>, at: u32, error: &KvError) -> Answer {
    let outcome = match error {
        KvError::Invalid(_) => Outcome::BadRequest,
        KvError::ValueTooLarge | KvError::MetadataTooLarge => Outcome::PayloadTooLarge,
        KvError::Precondition => Outcome::PreconditionFailed,
        KvError::Away(_) | KvError::NoAnswer(_) => Outcome::InternalError,
        KvError::TooMany | KvError::Quota(_) | KvError::Busy | KvError::NoRoom => {
            return Err(Status::LimitExceeded);
        }
    };
    memory.write_u32(at, outcome as u32)
}

/// Lookups and deletes have no options yet.
fn no_options(mask: u32) -> Answer {
    if mask == 0 { Ok(()) } else { Err(Status::Invalid) }
}
