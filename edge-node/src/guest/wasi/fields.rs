//! `wasi:http/types.fields`: the header fields and trailers of a message.
//!
//! Kept as an [`http::HeaderMap`], shared until somebody changes it: a request's fields become a guest's, and a guest's
//! become a response's, without a conversion. Names are lower case; the values of one name stay together, in their
//! order, which is how they leave.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, Entry},
};
use wasmtime::{
    Result,
    component::{Resource, WasmList, WasmStr},
};

use super::{At, Cx, State, handles::Holds, http_types::HeaderError};
use crate::{
    host::held::{name_bytes, value_bytes},
    limits::{EXECUTION, Limit, LimitReached},
};

/// Bytes of one list of fields in memory, as [`name_bytes`] and [`value_bytes`] have it. The largest head that the front
/// lets in has 88 KiB of it; a guest may hold many lists.
pub const FIELDS_BYTES_MAX: usize = 128 * 1024;

/// See the module.
pub struct Fields {
    map: Arc<HeaderMap>,
    /// In memory, with the room that deleted fields have left: a map never gives it back. None for those of the client's
    /// request, which are held anyway.
    bytes: usize,
    /// Of them in use. Not counted for fields of the client's request, which do not change.
    used: usize,
    is_fixed: bool,
}

/// Why fields are not changed.
enum Fault {
    /// The guest is told.
    Refused(HeaderError),
    /// No case of the interface says it: the guest traps.
    TooLarge,
}

impl From<HeaderError> for Fault {
    fn from(error: HeaderError) -> Fault {
        Fault::Refused(error)
    }
}

impl Holds for Fields {
    fn held_bytes(&self) -> usize {
        self.bytes
    }
}

impl Fields {
    /// Fields of a message from outside: what belongs to a connection is not the guest's to see, and it changes nothing.
    pub fn received(map: HeaderMap) -> Fields {
        let fields = Fields::of_client(map);
        let used = map_bytes(&fields.map);
        Fields { bytes: used, used, ..fields }
    }

    /// The same of the client's request, whose fields are there for as long as the guest is.
    pub fn of_client(mut map: HeaderMap) -> Fields {
        let hidden: Vec<HeaderName> = map.keys().filter(|name| is_forbidden(name)).cloned().collect();
        for name in hidden {
            map.remove(name);
        }
        Fields { map: Arc::new(map), bytes: 0, used: 0, is_fixed: true }
    }

    fn empty() -> Fields {
        Fields { map: Arc::default(), bytes: 0, used: 0, is_fixed: false }
    }

    /// The same fields, never to be changed: those of a message that was made.
    pub fn fixed(self) -> Fields {
        Fields { is_fixed: true, ..self }
    }

    /// Another handle on the same unchangeable fields.
    pub fn share(&self) -> Fields {
        Fields { map: self.map.clone(), is_fixed: true, ..*self }
    }

    /// A copy that may be changed.
    fn copy(&self) -> Fields {
        let used = map_bytes(&self.map);
        Fields { map: self.map.clone(), bytes: self.bytes.max(used), used, is_fixed: false }
    }

    /// To read them.
    pub fn map(&self) -> &HeaderMap {
        &self.map
    }

    /// Are they more than a message's head, or its trailers, may have?
    pub fn are_too_many(&self) -> bool {
        let bytes: usize = self.map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        self.map.len() > EXECUTION.header_fields || bytes > EXECUTION.header_bytes
    }

    /// To send them.
    pub fn into_map(self) -> HeaderMap {
        Arc::unwrap_or_clone(self.map)
    }

    fn check_mutable(&self) -> Result<(), HeaderError> {
        if self.is_fixed { Err(HeaderError::Immutable) } else { Ok(()) }
    }

    /// So many bytes are to be in use.
    fn grow_to(&mut self, used: usize) -> Result<(), Fault> {
        if used > FIELDS_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        self.used = used;
        self.bytes = self.bytes.max(used);
        Ok(())
    }

    /// Moves what is left to a map without the room of what is gone, when that is more than half. Each field that moves
    /// was outnumbered by deleted ones, so that this costs no more than they did.
    fn shrink(&mut self) {
        if self.used > self.bytes / 2 {
            return;
        }
        let map = Arc::make_mut(&mut self.map);
        let old = std::mem::take(map);
        map.reserve(old.keys_len());
        map.extend(old);
        self.bytes = self.used;
    }

    fn append(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), Fault> {
        let is_new = !self.map.contains_key(&name);
        // With two of them nobody knows where the body ends.
        if !is_new && name == CONTENT_LENGTH {
            return Err(HeaderError::InvalidSyntax.into());
        }
        let more = if is_new { name_bytes(&name) } else { 0 } + value_bytes(&value);
        self.check_mutable()?;
        self.grow_to(self.used.saturating_add(more))?;
        Arc::make_mut(&mut self.map).try_append(name, value).map_err(|_| Fault::TooLarge)?;
        Ok(())
    }

    fn set(&mut self, name: HeaderName, values: Vec<HeaderValue>) -> Result<(), Fault> {
        let before: usize = self.map.get_all(&name).iter().map(value_bytes).sum();
        let is_new = !self.map.contains_key(&name);
        let after: usize = values.iter().map(value_bytes).sum();
        let mut values = values.into_iter();
        let Some(first) = values.next() else { return self.delete(&name) };
        let more = if is_new { name_bytes(&name) } else { 0 } + after;
        self.check_mutable()?;
        self.grow_to(self.used.saturating_sub(before).saturating_add(more))?;
        let map = Arc::make_mut(&mut self.map);
        let mut entry = match map.try_entry(name).map_err(|_| Fault::TooLarge)? {
            Entry::Vacant(place) => place.try_insert_entry(first).map_err(|_| Fault::TooLarge)?,
            Entry::Occupied(mut entry) => {
                entry.insert(first); // in the place it had
                entry
            }
        };
        values.for_each(|value| entry.append(value));
        self.shrink();
        Ok(())
    }

    fn delete(&mut self, name: &HeaderName) -> Result<(), Fault> {
        self.check_mutable()?;
        if self.map.contains_key(name)
            && let Entry::Occupied(entry) =
                Arc::make_mut(&mut self.map).try_entry(name).map_err(|_| Fault::TooLarge)?
        {
            let (name, values) = entry.remove_entry_mult();
            let freed = name_bytes(&name) + values.map(|value| value_bytes(&value)).sum::<usize>();
            self.used = self.used.saturating_sub(freed);
            self.shrink();
        }
        Ok(())
    }
}

fn map_bytes(map: &HeaderMap) -> usize {
    map.keys().map(name_bytes).sum::<usize>() + map.values().map(value_bytes).sum::<usize>()
}

/// Names that belong to a connection, or that the host sets: the same as on `wasmtime-wasi-http`.
fn is_forbidden(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "host"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn parse_name(name: &str) -> Result<HeaderName, HeaderError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::InvalidSyntax)?;
    if is_forbidden(&name) { Err(HeaderError::Forbidden) } else { Ok(name) }
}

fn parse_value(name: &HeaderName, value: &[u8]) -> Result<HeaderValue, HeaderError> {
    if name != CONTENT_LENGTH {
        return HeaderValue::from_bytes(value).map_err(|_| HeaderError::InvalidSyntax);
    }
    parse_length(value).map(HeaderValue::from).ok_or(HeaderError::InvalidSyntax)
}

/// `1*DIGIT` (RFC 9110 §8.6); Rust's own parser also takes a plus sign.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// The length that a message's fields announce. [`Fields`] holds at most one and only a valid one.
pub fn announced_length(map: &HeaderMap) -> Option<u64> {
    parse_length(map.get(CONTENT_LENGTH)?.as_bytes())
}

/// What the guest hears of it.
fn told<T>(result: Result<T, Fault>) -> Result<(Result<T, HeaderError>,)> {
    match result {
        Ok(done) => Ok((Ok(done),)),
        Err(Fault::Refused(error)) => Ok((Err(error),)),
        // More than FIELDS_BYTES_MAX of memory.
        Err(Fault::TooLarge) => Err(LimitReached(Limit::Headers).into()),
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[constructor]fields" => at.func_wrap(name, new),
        "[static]fields.from-list" => at.func_wrap(name, from_list),
        "[method]fields.get" => at.func_wrap(name, get),
        "[method]fields.has" => at.func_wrap(name, has),
        "[method]fields.set" => at.func_wrap(name, set),
        "[method]fields.delete" => at.func_wrap(name, delete),
        "[method]fields.append" => at.func_wrap(name, append),
        "[method]fields.entries" => at.func_wrap(name, entries),
        "[method]fields.clone" => at.func_wrap(name, clone),
        _ => return Ok(false),
    }?;
    Ok(true)
}

type Done = (Result<(), HeaderError>,);

impl State {
    /// Changes fields, and counts by how much they grew.
    fn change(
        &mut self,
        fields: &Resource<Fields>,
        change: impl FnOnce(&mut Fields) -> Result<(), Fault>,
    ) -> Result<Done> {
        let fields = self.handles.get_mut(fields)?;
        let before = fields.bytes;
        let done = told(change(fields))?;
        let more = fields.bytes.saturating_sub(before);
        self.hold(more)?;
        Ok(done)
    }
}

fn new(mut cx: Cx<'_>, (): ()) -> Result<(Resource<Fields>,)> {
    Ok((cx.data_mut().push(Fields::empty())?,))
}

fn from_list(
    mut cx: Cx<'_>,
    (list,): (Vec<(WasmStr, WasmList<u8>)>,),
) -> Result<(Result<Resource<Fields>, HeaderError>,)> {
    let mut fields = Fields::empty();
    for (name, value) in &list {
        let field = parse_name(&name.to_str(&cx)?)
            .and_then(|name| parse_value(&name, value.as_le_slice(&cx)).map(|value| (name, value)));
        let added = field.map_err(Fault::Refused).and_then(|(name, value)| fields.append(name, value));
        if let (Err(error),) = told(added)? {
            return Ok((Err(error),));
        }
    }
    Ok((Ok(cx.data_mut().push(fields)?),))
}

fn get(cx: Cx<'_>, (fields, name): (Resource<Fields>, WasmStr)) -> Result<(Vec<Vec<u8>>,)> {
    let Ok(name) = HeaderName::from_bytes(name.to_str(&cx)?.as_bytes()) else { return Ok((vec![],)) };
    let fields = cx.data().handles.get(&fields)?;
    Ok((fields.map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect(),))
}

fn has(cx: Cx<'_>, (fields, name): (Resource<Fields>, WasmStr)) -> Result<(bool,)> {
    let Ok(name) = HeaderName::from_bytes(name.to_str(&cx)?.as_bytes()) else { return Ok((false,)) };
    Ok((cx.data().handles.get(&fields)?.map.contains_key(name),))
}

fn set(
    mut cx: Cx<'_>,
    (fields, name, values): (Resource<Fields>, WasmStr, Vec<WasmList<u8>>),
) -> Result<Done> {
    let name = match parse_name(&name.to_str(&cx)?) {
        Ok(name) => name,
        Err(error) => return Ok((Err(error),)),
    };
    if cx.data().handles.get(&fields)?.is_fixed {
        return Ok((Err(HeaderError::Immutable),));
    }
    let too_many = name == CONTENT_LENGTH && values.len() > 1;
    let parsed = values.iter().map(|value| parse_value(&name, value.as_le_slice(&cx)));
    match parsed.collect::<Result<Vec<_>, _>>() {
        Ok(values) if !too_many => cx.data_mut().change(&fields, |fields| fields.set(name, values)),
        Ok(_) => Ok((Err(HeaderError::InvalidSyntax),)),
        Err(error) => Ok((Err(error),)),
    }
}

fn delete(mut cx: Cx<'_>, (fields, name): (Resource<Fields>, WasmStr)) -> Result<Done> {
    match parse_name(&name.to_str(&cx)?) {
        Ok(name) => cx.data_mut().change(&fields, |fields| fields.delete(&name)),
        Err(error) => Ok((Err(error),)),
    }
}

fn append(mut cx: Cx<'_>, (fields, name, value): (Resource<Fields>, WasmStr, WasmList<u8>)) -> Result<Done> {
    let field = parse_name(&name.to_str(&cx)?)
        .and_then(|name| parse_value(&name, value.as_le_slice(&cx)).map(|value| (name, value)));
    match field {
        Ok((name, value)) => cx.data_mut().change(&fields, |fields| fields.append(name, value)),
        Err(error) => Ok((Err(error),)),
    }
}

/// Names and values, in their order.
type List = Vec<(String, Vec<u8>)>;

fn entries(cx: Cx<'_>, (fields,): (Resource<Fields>,)) -> Result<(List,)> {
    let fields = cx.data().handles.get(&fields)?;
    let entry = |(name, value): (&HeaderName, &HeaderValue)| (name.as_str().into(), value.as_bytes().into());
    Ok((fields.map.iter().map(entry).collect(),))
}

fn clone(mut cx: Cx<'_>, (fields,): (Resource<Fields>,)) -> Result<(Resource<Fields>,)> {
    let state = cx.data_mut();
    let copy = state.handles.get(&fields)?.copy();
    Ok((state.push(copy)?,))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exchange::Responder,
        front::InboundBody,
        host::{
            Host,
            held::{NAME_BYTES, VALUE_BYTES},
        },
        memory::Budget,
        testing,
    };

    fn value(text: &'static str) -> HeaderValue {
        HeaderValue::from_static(text)
    }

    fn name(text: &str) -> HeaderName {
        parse_name(text).unwrap()
    }

    #[test]
    fn a_head_has_as_many_fields_and_bytes_as_one_that_comes_in() {
        let fields = |count: usize, bytes: usize| {
            let mut fields = Fields::empty();
            for number in 0..count {
                let name = HeaderName::from_bytes(format!("x-{number:06}").as_bytes()).unwrap();
                let value = HeaderValue::from_bytes(&vec![b'v'; bytes - 8]).unwrap();
                assert!(fields.append(name, value).is_ok());
            }
            fields.are_too_many()
        };
        assert!(!fields(EXECUTION.header_fields, 10) && fields(EXECUTION.header_fields + 1, 10));
        let bytes = EXECUTION.header_bytes / 8;
        assert!(!fields(8, bytes) && fields(8, bytes + 1));
    }

    #[test]
    fn bytes_are_counted_up_and_down() {
        let mut fields = Fields::empty();
        let one = 1 + NAME_BYTES + 3 + VALUE_BYTES;
        assert!(fields.append(name("X"), value("one")).is_ok());
        assert_eq!(fields.bytes, one);
        assert!(fields.append(name("x"), value("two")).is_ok());
        assert_eq!(fields.bytes, one + 3 + VALUE_BYTES);
        assert!(fields.set(name("x"), vec![value("six")]).is_ok());
        assert_eq!((fields.used, fields.copy().used), (one, one));
        assert!(fields.delete(&name("x")).is_ok());
        assert_eq!((fields.bytes, fields.used), (0, 0));
    }

    #[test]
    fn bytes_are_counted_for_as_long_as_they_are_allocated() {
        let with_values = |names: &[&str]| {
            let mut fields = Fields::empty();
            for number in 0..800 {
                assert!(fields.append(name(names[number % names.len()]), value("")).is_ok());
            }
            fields
        };
        // All of it goes: the map, too.
        let mut fields = with_values(&["x"]);
        let full = fields.bytes;
        assert!(fields.delete(&name("x")).is_ok());
        assert_eq!((fields.bytes, fields.map.capacity()), (0, 0));
        // A third of it goes: it stays, for who shares it and who copies it as well.
        let mut fields = with_values(&["x", "y", "z"]);
        assert!(fields.delete(&name("y")).is_ok());
        assert!(fields.bytes >= full && fields.used < full * 3 / 4);
        assert_eq!([fields.share().bytes, fields.copy().bytes], [fields.bytes; 2]);
        // More than half: what is left is as it was, and has moved.
        let at = |fields: &Fields| std::ptr::from_ref(&fields.map["z"]);
        let before = at(&fields);
        assert!(fields.set(name("x"), vec![value("v")]).is_ok());
        assert!(fields.bytes == fields.used && before != at(&fields));
        assert_eq!(fields.bytes, map_bytes(&fields.map));
        assert_eq!(
            (fields.map.get_all("x").iter().count(), fields.map.get_all("z").iter().count()),
            (1, 266)
        );
        assert_eq!(fields.map.keys().collect::<Vec<_>>(), ["x", "z"], "in their order");
        // Room of what is gone does not count against the largest list there may be.
        let large = || HeaderValue::from_bytes(&[b'v'; FIELDS_BYTES_MAX / 2]).unwrap();
        for _ in 0..3 {
            assert!(fields.append(name("large"), large()).is_ok());
            assert!(fields.delete(&name("large")).is_ok());
        }
    }

    #[test]
    fn a_list_has_an_end() {
        let mut fields = Fields::empty();
        let mut count = 0;
        while fields.append(name("x"), value("")).is_ok() {
            count += 1;
        }
        assert_eq!(count, (FIELDS_BYTES_MAX - 1 - NAME_BYTES) / VALUE_BYTES);
        assert!(matches!(fields.set(name("y"), vec![value("v"); count + 1]), Err(Fault::TooLarge)));
        assert_eq!(fields.map.get_all("x").iter().count(), count);
    }

    #[test]
    fn what_lists_hold_is_the_nodes_memory_and_those_that_are_gone_make_room() {
        const LARGE: usize = 100 << 10;
        let budget = Budget::new(1 << 30, 0).unwrap();
        let mut exchange = testing::exchange(Default::default());
        exchange.host = Arc::new(Host { memory: budget.clone(), ..testing::bare_host() });
        let request = http::Request::new(InboundBody::Empty);
        let mut state = State::new(exchange, request, Responder::new().0);
        let add = |state: &mut State| -> Result<Resource<Fields>> {
            let list = state.push(Fields::empty())?;
            let large = HeaderValue::from_bytes(&[b'v'; LARGE]).unwrap();
            assert_eq!(state.change(&list, |fields| fields.append(name("x"), large))?, (Ok(()),));
            Ok(list)
        };
        let fit = EXECUTION.held_bytes / (LARGE + 1_000);
        // Dropped at once: as many as it likes.
        for _ in 0..2 * fit {
            let list = add(&mut state).unwrap();
            state.handles.take(list).unwrap();
        }
        assert!((budget.bytes() as usize) < EXECUTION.held_bytes / 100, "{} bytes", budget.bytes());
        // Kept: as many as there is room for. A fixed copy that shares the text counts like its own.
        let mut kept: Vec<_> = (0..fit).map(|_| add(&mut state).unwrap()).collect();
        assert!(budget.bytes() as usize > fit * LARGE && budget.bytes() as usize <= EXECUTION.held_bytes);
        let last = kept.pop().unwrap();
        let refused = (0..10).find_map(|_| {
            let share = state.handles.get(&last).unwrap().share();
            state.push(share).err()
        });
        assert_eq!(refused.unwrap().downcast_ref::<LimitReached>().unwrap().0, Limit::Held);
        assert!(state.exchange.bill.limits_met().has(Limit::Held));
        drop(state);
        assert_eq!(budget.bytes(), 0, "it comes back");
    }

    #[test]
    fn content_length_is_one_number() {
        let length = |text: &str| parse_value(&CONTENT_LENGTH, text.as_bytes()).is_ok();
        assert!(length("0") && length("18446744073709551615"));
        for wrong in ["", "+5", "-5", " 5", "5,5", "18446744073709551616"] {
            assert!(!length(wrong), "{wrong:?}");
        }
        let mut fields = Fields::empty();
        assert!(fields.append(CONTENT_LENGTH, value("5")).is_ok());
        assert!(matches!(
            fields.append(CONTENT_LENGTH, value("5")),
            Err(Fault::Refused(HeaderError::InvalidSyntax))
        ));
        assert_eq!(announced_length(fields.map()), Some(5));
    }

    #[test]
    fn what_came_from_outside_lacks_the_connections_fields_and_does_not_change() {
        let mut map = HeaderMap::new();
        for name in ["host", "connection", "upgrade", "x-kept"] {
            map.insert(HeaderName::from_static(name), value("v"));
        }
        let mut fields = Fields::received(map);
        assert_eq!(fields.map().keys().collect::<Vec<_>>(), ["x-kept"]);
        for refused in [
            fields.append(name("x"), value("")),
            fields.set(name("x"), vec![]),
            fields.delete(&name("x-kept")),
        ] {
            assert!(matches!(refused, Err(Fault::Refused(HeaderError::Immutable))));
        }
        assert!(fields.share().held_bytes() > 0 && Fields::of_client(fields.map().clone()).held_bytes() == 0);
        let mut copy = fields.share().copy();
        assert!(copy.delete(&name("x-kept")).is_ok());
        assert_eq!((copy.map().len(), fields.map().len()), (0, 1));
    }
}
