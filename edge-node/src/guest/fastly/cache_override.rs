//! What a program says about caching the response to a request: `cache_override_set` in its three forms. It is checked
//! and kept with the request. Nothing is cached yet, so it has no effect.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status},
    call,
    headers::read_value,
    http_req::MODULE,
    memory::{GuestMemory, field},
};

/// What a program overrides; absent is what the response says itself. An extension of its request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheOverride {
    /// Neither look it up nor store it; nothing else of this counts.
    pub pass: bool,
    /// Freshness, in seconds.
    pub ttl: Option<u32>,
    /// How long it may be used while a newer one is fetched, in seconds.
    pub stale_while_revalidate: Option<u32>,
    /// Never to leave memory.
    pub sensitive: bool,
    /// Keys to purge it by, separated by spaces; may be empty.
    pub surrogate_keys: Bytes,
    /// How long to wait for another request's fetch of the same, in milliseconds.
    pub lookup_timeout_ms: Option<u32>,
}

/// The bits of a tag.
const PASS: u32 = 1;
const TTL: u32 = 1 << 1;
const STALE_WHILE_REVALIDATE: u32 = 1 << 2;
const SENSITIVE: u32 = 1 << 3;
const LOOKUP_TIMEOUT: u32 = 1 << 4;
/// Those of the first two forms.
const TAG: u32 = PASS | TTL | STALE_WHILE_REVALIDATE | SENSITIVE;
/// Bytes of all keys: what fits into a header.
const KEYS_BYTES_MAX: u32 = 16 * 1024;

type Guest<'a> = Caller<'a, FastlyState>;

pub(super) fn add(linker: &mut Linker<FastlyState>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "cache_override_set",
        |guest: Guest<'_>, request: u32, tag: u32, ttl: u32, stale: u32| {
            call(guest, |_, state| set(state, request, by_tag(tag, TAG, ttl, stale, Bytes::new())?))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "cache_override_v2_set",
        |guest: Guest<'_>, request: u32, tag: u32, ttl: u32, stale: u32, keys: u32, keys_length: u32| {
            call(guest, |memory, state| {
                let keys = read_keys(memory, keys, keys_length)?;
                set(state, request, by_tag(tag, TAG, ttl, stale, keys)?)
            })
        },
    )?;
    // TTL, stale while revalidate, address and length of the keys, lookup timeout: 4 bytes each.
    linker.func_wrap(
        MODULE,
        "cache_override_v3_set",
        |guest: Guest<'_>, request: u32, tag: u32, fields: u32| {
            call(guest, |memory, state| {
                let read = |at| memory.read_u32(field(fields, at)?);
                let keys = read_keys(memory, read(8)?, read(12)?)?;
                let said = by_tag(tag, TAG | LOOKUP_TIMEOUT, read(0)?, read(4)?, keys)?;
                let timeout = read(16)?;
                let lookup_timeout_ms = (tag & LOOKUP_TIMEOUT != 0).then_some(timeout);
                set(state, request, CacheOverride { lookup_timeout_ms, ..said })
            })
        },
    )?;
    Ok(())
}

fn read_keys(memory: &GuestMemory<'_>, keys: u32, length: u32) -> Result<Bytes, Status> {
    if length == 0 {
        return Ok(Bytes::new()); // of no keys the address says nothing
    }
    if length > KEYS_BYTES_MAX {
        return Err(Status::LimitExceeded);
    }
    let keys = memory.bytes(keys, length)?;
    read_value(keys)?;
    Ok(Bytes::copy_from_slice(keys))
}

fn by_tag(tag: u32, known: u32, ttl: u32, stale: u32, keys: Bytes) -> Result<CacheOverride, Status> {
    if tag & !known != 0 {
        return Err(Status::Invalid);
    }
    Ok(CacheOverride {
        pass: tag & PASS != 0,
        ttl: (tag & TTL != 0).then_some(ttl),
        stale_while_revalidate: (tag & STALE_WHILE_REVALIDATE != 0).then_some(stale),
        sensitive: tag & SENSITIVE != 0,
        surrogate_keys: keys,
        lookup_timeout_ms: None,
    })
}

fn set(state: &mut FastlyState, request: u32, said: CacheOverride) -> Answer {
    state.handles.request(request)?;
    state.hold(said.surrogate_keys.len())?;
    state.handles.request(request)?.extensions_mut().insert(said);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_says_which_fields_count() {
        let said = by_tag(TTL, TAG, 60, 30, Bytes::from_static(b"a b")).unwrap();
        assert_eq!((said.ttl, said.stale_while_revalidate, said.pass), (Some(60), None, false));
        assert_eq!(said.surrogate_keys, "a b");
        assert!(by_tag(PASS | SENSITIVE, TAG, 0, 0, Bytes::new()).unwrap().sensitive);
        assert_eq!(by_tag(LOOKUP_TIMEOUT, TAG, 0, 0, Bytes::new()), Err(Status::Invalid));
    }
}
