//! The header functions, which requests and responses share but for their handle.

use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::{Caller, Linker};

use super::{
    FastlyState,
    abi::{Answer, Status},
    call,
    memory::{GuestMemory, ListOut},
};
use crate::host::held::{name_bytes, value_bytes};

/// Header fields one request or response may have (DESIGN §4).
const FIELDS_MAX: usize = 100;
/// Bytes of all names and values of one request or response (DESIGN §4).
const FIELDS_BYTES_MAX: usize = 64 * 1024;

/// Finds the fields behind a handle.
pub(super) type Fields = fn(&mut FastlyState, u32) -> Result<&mut HeaderMap, Status>;

/// Offers the header functions of `module`.
pub(super) fn add(linker: &mut Linker<FastlyState>, module: &str, fields: Fields) -> wasmtime::Result<()> {
    type Guest<'a> = Caller<'a, FastlyState>;
    linker.func_wrap(
        module,
        "header_names_get",
        move |guest: Guest<'_>,
              handle: u32,
              buffer: u32,
              length_max: u32,
              cursor: u32,
              next: u32,
              written: u32| {
            call(guest, |memory, state| {
                let names = fields(state, handle)?.keys().map(|name| name.as_str().as_bytes());
                memory.give_list(names, ListOut { buffer, length_max, cursor, next, written })
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header_values_get",
        move |guest: Guest<'_>,
              handle: u32,
              name: u32,
              name_length: u32,
              buffer: u32,
              length_max: u32,
              cursor: u32,
              next: u32,
              written: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let values = fields(state, handle)?.get_all(name);
                let values = values.iter().map(HeaderValue::as_bytes);
                memory.give_list(values, ListOut { buffer, length_max, cursor, next, written })
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header_value_get",
        move |guest: Guest<'_>,
              handle: u32,
              name: u32,
              name_length: u32,
              buffer: u32,
              length_max: u32,
              written: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let value = fields(state, handle)?.get(name).ok_or(Status::Invalid)?;
                memory.give(value.as_bytes(), buffer, length_max, written)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header_values_set",
        move |guest: Guest<'_>, handle: u32, name: u32, name_length: u32, values: u32, values_length: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let values = memory.bytes(values, values_length)?;
                fields(state, handle)?;
                let values = split(values)?;
                state.hold(name_bytes(&name) + values.iter().map(value_bytes).sum::<usize>())?;
                set_all(fields(state, handle)?, name, values)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header_insert",
        move |guest: Guest<'_>, handle: u32, name: u32, name_length: u32, value: u32, value_length: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let value = read_value(memory.bytes(value, value_length)?)?;
                fields(state, handle)?;
                state.hold(name_bytes(&name) + value_bytes(&value))?;
                let fields = fields(state, handle)?;
                fields.remove(&name);
                append(fields, name, value)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header_append",
        move |guest: Guest<'_>, handle: u32, name: u32, name_length: u32, value: u32, value_length: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                let value = read_value(memory.bytes(value, value_length)?)?;
                fields(state, handle)?;
                state.hold(name_bytes(&name) + value_bytes(&value))?;
                append(fields(state, handle)?, name, value)
            })
        },
    )?;
    linker.func_wrap(
        module,
        "header_remove",
        move |guest: Guest<'_>, handle: u32, name: u32, name_length: u32| {
            call(guest, |memory, state| {
                let name = read_name(memory, name, name_length)?;
                // Guests read "invalid" as "was not there".
                fields(state, handle)?.remove(name).map(drop).ok_or(Status::Invalid)
            })
        },
    )?;
    Ok(())
}

/// Refuses what no head may have before its bytes are touched.
pub(super) fn read_name(memory: &GuestMemory<'_>, name: u32, length: u32) -> Result<HeaderName, Status> {
    if length as usize > FIELDS_BYTES_MAX {
        return Err(Status::HttpHeadTooLarge);
    }
    HeaderName::from_bytes(memory.bytes(name, length)?).map_err(|_| Status::HttpInvalid)
}

/// Refuses what could end a field early: CR, LF, NUL; and, before its bytes are touched, what no head may have.
pub(super) fn read_value(bytes: &[u8]) -> Result<HeaderValue, Status> {
    if bytes.len() > FIELDS_BYTES_MAX {
        return Err(Status::HttpHeadTooLarge);
    }
    HeaderValue::from_bytes(bytes).map_err(|_| Status::HttpInvalid)
}

/// Adds a field, within the limits.
pub(super) fn append(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Answer {
    let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if fields.len() >= FIELDS_MAX || bytes + name.as_str().len() + value.len() > FIELDS_BYTES_MAX {
        return Err(Status::HttpHeadTooLarge);
    }
    fields.try_append(name, value).map(drop).map_err(|_| Status::HttpHeadTooLarge)
}

/// Values that each end in NUL, no more than a head may have.
fn split(values: &[u8]) -> Result<Vec<HeaderValue>, Status> {
    if values.len() > FIELDS_BYTES_MAX + FIELDS_MAX {
        return Err(Status::HttpHeadTooLarge);
    }
    let values = match values.split_last() {
        None => return Ok(Vec::new()),
        Some((0, values)) => values.split(|byte| *byte == 0),
        Some(_) => return Err(Status::Invalid),
    };
    let mut found = Vec::new();
    for value in values {
        if found.len() == FIELDS_MAX {
            return Err(Status::HttpHeadTooLarge);
        }
        found.push(read_value(value)?);
    }
    Ok(found)
}

/// Replaces a field by these values.
fn set_all(fields: &mut HeaderMap, name: HeaderName, values: Vec<HeaderValue>) -> Answer {
    fields.remove(&name);
    values.into_iter().try_for_each(|value| append(fields, name.clone(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_values_replaces_what_was_there() {
        let mut fields = HeaderMap::new();
        let name = HeaderName::from_static("x");
        fields.append(&name, "old".parse().unwrap());
        set_all(&mut fields, name.clone(), split(b"a\0\0b c\0").unwrap()).unwrap();
        assert_eq!(fields.get_all(&name).iter().collect::<Vec<_>>(), ["a", "", "b c"]);
        assert_eq!(split(b"a"), Err(Status::Invalid));
        assert_eq!(split(b"a\r\nb\0"), Err(Status::HttpInvalid));
        set_all(&mut fields, name.clone(), split(b"").unwrap()).unwrap();
        assert!(fields.is_empty());
    }

    #[test]
    fn what_no_head_may_have_is_refused_unread() {
        assert_eq!(split(&[0; FIELDS_MAX]).unwrap().len(), FIELDS_MAX);
        assert_eq!(split(&[0; FIELDS_MAX + 1]), Err(Status::HttpHeadTooLarge));
        // No field could have this byte: that it is not what is complained of shows that it was not read.
        let unread = vec![b'\n'; FIELDS_BYTES_MAX + FIELDS_MAX + 1];
        assert_eq!(split(&unread), Err(Status::HttpHeadTooLarge));
        assert_eq!(read_value(&unread), Err(Status::HttpHeadTooLarge));
        let mut unread = unread;
        let length = unread.len() as u32;
        let memory = GuestMemory::new(&mut unread);
        assert_eq!(read_name(&memory, 0, length), Err(Status::HttpHeadTooLarge));
    }

    #[test]
    fn header_injection_and_header_floods_are_refused() {
        for bad in [&b"a\r\nset-cookie: b"[..], b"a\nb", b"a\0b"] {
            assert_eq!(read_value(bad), Err(Status::HttpInvalid));
        }
        let mut fields = HeaderMap::new();
        let name = HeaderName::from_static("x");
        for _ in 0..FIELDS_MAX {
            append(&mut fields, name.clone(), "v".parse().unwrap()).unwrap();
        }
        assert_eq!(append(&mut fields, name.clone(), "v".parse().unwrap()), Err(Status::HttpHeadTooLarge));
        let big = HeaderValue::from_bytes(&vec![b'v'; FIELDS_BYTES_MAX]).unwrap();
        assert_eq!(append(&mut HeaderMap::new(), name, big), Err(Status::HttpHeadTooLarge));
    }
}
