//! `wasi:keyvalue`, as two drafts of it say: that of wasmtime and wasmCloud (`0.2.0-draft`) and that of Spin
//! (`0.2.0-draft2`), which differ in cursors, counters and compare-and-swap.

use std::pin::Pin;

use bytes::Bytes;
use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower, Resource, WasmList},
};

use super::{
    At, Cx, Later, State,
    handles::{Holds, Kind as _},
};
use crate::{
    exchange::Exchange,
    host::kv::{self, Entry, Generation, Insert, KvError, Mode, PAGE_KEYS_MAX, Page, Pending, Store},
    limits::{EXECUTION, Limit},
};

/// What an empty identifier opens, as on other hosts.
const DEFAULT_STORE: &str = "default";
/// Operations of one batch that are under way at once: half of what an execution may have.
const BATCH_OPEN_MAX: usize = kv::OPEN_MAX / 2;
/// Bytes that all entries found for a swap may hold together: two of the largest values.
const CAS_BYTES_MAX: usize = 2 * kv::VALUE_BYTES_MAX;
/// Times a counter is read and written again when others write it, too.
const INCREMENT_ATTEMPTS_MAX: usize = 10;

/// An open store.
pub struct Bucket {
    store: Store,
    /// Where pages go on, for a draft whose cursors are numbers: the n-th has cursor n, from 1.
    pages: Vec<String>,
}

/// One entry as it was found, to be swapped if it is still so.
pub struct Cas {
    store: Box<Store>,
    key: String,
    found: Option<(Generation, Bytes)>,
}

/// What the drafts call an error.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
#[allow(dead_code)] // what a tenant declared it may read and write
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<KvError> for Error {
    fn from(error: KvError) -> Error {
        Error::Other(error.to_string())
    }
}

/// Why a swap was not done.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    StoreError(Error),
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

/// A page of keys, by the draft with numbers.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct NumberedKeys {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<u64>,
}

/// A page of keys, by the draft with text.
#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Keys {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<String>,
}

/// What functions answer.
type Answer<T> = (Result<T, Error>,);

/// Links what a guest imports of either draft's `store`.
fn define_store(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "open" => at.func_wrap(name, open),
        "[method]bucket.get" => at.func_wrap_async(name, get),
        "[method]bucket.set" => at.func_wrap_async(name, set),
        "[method]bucket.delete" => at.func_wrap_async(name, delete),
        "[method]bucket.exists" => at.func_wrap_async(name, exists),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// Links what a guest imports of `store@0.2.0-draft`.
pub(super) fn define_store_draft(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]bucket.list-keys" => at.func_wrap_async(name, list_keys_numbered)?,
        _ => return define_store(at, name),
    }
    Ok(true)
}

/// Links what a guest imports of `store@0.2.0-draft2`.
pub(super) fn define_store_draft2(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]bucket.list-keys" => at.func_wrap_async(name, list_keys)?,
        _ => return define_store(at, name),
    }
    Ok(true)
}

/// Links what a guest imports of `batch@0.2.0-draft`.
pub(super) fn define_batch_draft(at: &mut At<'_>, name: &str) -> Result<bool> {
    if name == "get-many" {
        at.func_wrap_async(name, |cx: Cx<'_>, asked| {
            get_many(cx, asked, |key, value: Option<Vec<u8>>| value.map(|value| (key, value)))
        })?;
        return Ok(true);
    }
    define_batch(at, name)
}

/// Links what a guest imports of `batch@0.2.0-draft2`, which names a key that is not there.
pub(super) fn define_batch_draft2(at: &mut At<'_>, name: &str) -> Result<bool> {
    if name == "get-many" {
        at.func_wrap_async(name, |cx: Cx<'_>, asked| {
            get_many(cx, asked, |key, value: Option<Vec<u8>>| (key, value))
        })?;
        return Ok(true);
    }
    define_batch(at, name)
}

/// What is the same in both.
fn define_batch(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "set-many" => at.func_wrap_async(name, set_many),
        "delete-many" => at.func_wrap_async(name, delete_many),
        _ => return Ok(false),
    }?;
    Ok(true)
}

/// Links what a guest imports of `atomics@0.2.0-draft`.
pub(super) fn define_atomics_draft(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "increment" => at.func_wrap_async(name, |cx: Cx<'_>, (bucket, key, delta): (_, String, u64)| {
            increment(cx, bucket, key, move |before: u64| before.checked_add(delta))
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Links what a guest imports of `atomics@0.2.0-draft2`.
pub(super) fn define_atomics_draft2(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "increment" => at.func_wrap_async(name, |cx: Cx<'_>, (bucket, key, delta): (_, String, i64)| {
            increment(cx, bucket, key, move |before: i64| before.checked_add(delta))
        }),
        "[static]cas.new" => at.func_wrap_async(name, cas_new),
        "[method]cas.current" => at.func_wrap(name, cas_current),
        "swap" => at.func_wrap_async(name, swap),
        _ => return Ok(false),
    }?;
    Ok(true)
}

impl State {
    fn store(&self, bucket: &Resource<Bucket>) -> Result<Store> {
        Ok(self.handles.get(bucket)?.store.clone())
    }

    /// The first page after `cursor` that is not empty, or the end: programs may take an empty one for it.
    pub(super) async fn page(
        &mut self,
        store: &Store,
        mut cursor: Option<String>,
    ) -> Result<Result<Page, KvError>> {
        loop {
            let page = self.ask(|exchange| kv::list(exchange, store, "", PAGE_KEYS_MAX, cursor)).await?;
            match page {
                Ok(Page { keys, next: next @ Some(_) }) if keys.is_empty() => cursor = next,
                page => return Ok(page),
            }
        }
    }

    /// Starts an operation and waits for its answer.
    async fn ask<T>(
        &mut self,
        start: impl FnOnce(&mut Exchange) -> Result<Pending<T>, KvError>,
    ) -> Result<Result<T, KvError>> {
        let mut pending = match start(&mut self.exchange) {
            Ok(pending) => pending,
            Err(error) => return Ok(Err(error)),
        };
        self.wait(|_, task| pending.poll(task).map(Ok)).await
    }

    /// The same for many, some of them at once. The first that fails ends it; what was started goes on. Answers that
    /// together hold more than one call may copy end the guest.
    async fn ask_all<A, T>(
        &mut self,
        asks: Vec<A>,
        mut start: impl FnMut(&mut Exchange, A) -> Result<Pending<T>, KvError>,
        held_bytes: fn(&T) -> usize,
    ) -> Result<Result<Vec<T>, KvError>> {
        let (mut asks, mut answers, mut rooms, mut bytes) =
            (asks.into_iter(), Vec::new(), Vec::new(), 0_usize);
        loop {
            let mut open = Vec::new();
            for ask in asks.by_ref().take(BATCH_OPEN_MAX) {
                match start(&mut self.exchange, ask) {
                    Ok(pending) => open.push(pending),
                    Err(error) => return Ok(Err(error)),
                }
            }
            if open.is_empty() {
                return Ok(Ok(answers));
            }
            for mut pending in open {
                match self.wait(|_, task| Pin::new(&mut pending).poll(task).map(Ok)).await? {
                    Ok(answer) => {
                        bytes = bytes.saturating_add(held_bytes(&answer));
                        if bytes > EXECUTION.copy_bytes_per_call {
                            return Err(self.exchange.over(Limit::Copy).into());
                        }
                        rooms.extend(pending.take_room()); // until the guest has them
                        answers.push(answer);
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
    }

    /// Keeps an entry as it was found. All that are kept together have a bound.
    fn keep(&mut self, store: Store, key: String, entry: Option<Entry>) -> Result<Resource<Cas>> {
        let cas =
            Cas { store: Box::new(store), key, found: entry.map(|entry| (entry.generation, entry.value)) };
        let kept: usize =
            self.handles.entries_mut().map(|entry| Cas::of(entry).map_or(0, Holds::held_bytes)).sum();
        if kept.saturating_add(cas.held_bytes()) > CAS_BYTES_MAX {
            return Err(self.exchange.over(Limit::Resources).into());
        }
        self.push(cas)
    }
}

impl Holds for Cas {
    fn held_bytes(&self) -> usize {
        self.key.len() + self.found.as_ref().map_or(0, |(_, value)| value.len())
    }
}

impl Holds for Bucket {
    fn held_bytes(&self) -> usize {
        self.pages.iter().map(|page| page.len() + size_of::<String>()).sum()
    }
}

/// What a looked up entry holds.
fn value_bytes(entry: &Option<Entry>) -> usize {
    entry.as_ref().map_or(0, |entry| entry.value.len())
}

fn told<T>(answer: Result<T, KvError>) -> Answer<T> {
    (answer.map_err(Error::from),)
}

fn open(mut cx: Cx<'_>, (identifier,): (String,)) -> Result<Answer<Resource<Bucket>>> {
    let state = cx.data_mut();
    let name = if identifier.is_empty() { DEFAULT_STORE } else { &identifier };
    Ok((match kv::open(&state.exchange, name) {
        Ok(store) => Ok(state.push(Bucket { store, pages: Vec::new() })?),
        Err(_) => Err(Error::NoSuchStore),
    },))
}

fn get(mut cx: Cx<'_>, (bucket, key): (Resource<Bucket>, String)) -> Later<'_, Answer<Option<Vec<u8>>>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let entry = state.ask(|exchange| kv::get(exchange, &store, &key)).await?;
        Ok(told(entry.map(|entry| entry.map(|entry| entry.value.into()))))
    })
}

fn exists(mut cx: Cx<'_>, (bucket, key): (Resource<Bucket>, String)) -> Later<'_, Answer<bool>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let entry = state.ask(|exchange| kv::get(exchange, &store, &key)).await?;
        Ok(told(entry.map(|entry| entry.is_some())))
    })
}

fn set(
    mut cx: Cx<'_>,
    (bucket, key, value): (Resource<Bucket>, String, WasmList<u8>),
) -> Later<'_, Answer<()>> {
    Box::new(async move {
        let value = Bytes::copy_from_slice(value.as_le_slice(&cx));
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let stored =
            state.ask(|exchange| kv::insert(exchange, &store, &key, value, Insert::default())).await?;
        Ok(told(stored.map(drop)))
    })
}

fn delete(mut cx: Cx<'_>, (bucket, key): (Resource<Bucket>, String)) -> Later<'_, Answer<()>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let deleted = state.ask(|exchange| kv::delete(exchange, &store, &key, None)).await?;
        Ok(told(deleted.map(drop)))
    })
}

fn list_keys(
    mut cx: Cx<'_>,
    (bucket, cursor): (Resource<Bucket>, Option<String>),
) -> Later<'_, Answer<Keys>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let page = state.page(&store, cursor).await?;
        Ok(told(page.map(|page| Keys { keys: page.keys, cursor: page.next })))
    })
}

fn list_keys_numbered(
    mut cx: Cx<'_>,
    (bucket, cursor): (Resource<Bucket>, Option<u64>),
) -> Later<'_, Answer<NumberedKeys>> {
    Box::new(async move {
        let state = cx.data_mut();
        let Bucket { store, pages } = state.handles.get(&bucket)?;
        let (store, cursor) = match cursor {
            None | Some(0) => (store.clone(), None),
            Some(number) => {
                let page = usize::try_from(number - 1).ok().and_then(|at| pages.get(at));
                let Some(page) = page else { return Ok((Err(Error::Other("no such cursor".into())),)) };
                (store.clone(), Some(page.clone()))
            }
        };
        let page = match state.page(&store, cursor).await? {
            Ok(page) => page,
            Err(error) => return Ok(told(Err(error))),
        };
        let pages = &mut state.handles.get_mut(&bucket)?.pages; // as many as operations at most
        let mut held = 0;
        let cursor = page.next.map(|next| {
            held = next.len() + size_of::<String>();
            pages.push(next);
            pages.len() as u64
        });
        state.hold(held)?;
        Ok((Ok(NumberedKeys { keys: page.keys, cursor }),))
    })
}

/// The entries of `keys`, each with its key as the draft has it.
fn get_many<T: Send + 'static>(
    mut cx: Cx<'_>,
    (bucket, keys): (Resource<Bucket>, Vec<String>),
    found_as: impl Fn(String, Option<Vec<u8>>) -> T + Send + 'static,
) -> Later<'_, Answer<Vec<T>>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let found =
            state.ask_all(keys.clone(), |exchange, key| kv::get(exchange, &store, &key), value_bytes).await?;
        let found = found.map(|entries| {
            let pairs = keys.into_iter().zip(entries);
            pairs.map(|(key, entry)| found_as(key, entry.map(|entry| entry.value.into()))).collect()
        });
        Ok(told(found))
    })
}

fn set_many(
    mut cx: Cx<'_>,
    (bucket, entries): (Resource<Bucket>, Vec<(String, Vec<u8>)>),
) -> Later<'_, Answer<()>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let stored = state
            .ask_all(
                entries,
                |exchange, (key, value)| kv::insert(exchange, &store, &key, value.into(), Insert::default()),
                |_| 0,
            )
            .await?;
        Ok(told(stored.map(drop)))
    })
}

fn delete_many(mut cx: Cx<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)) -> Later<'_, Answer<()>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let deleted =
            state.ask_all(keys, |exchange, key| kv::delete(exchange, &store, &key, None), |_| 0).await?;
        Ok(told(deleted.map(drop)))
    })
}

/// A counter is its number in decimal text, as other hosts keep it.
fn increment<'a, N>(
    mut cx: Cx<'a>,
    bucket: Resource<Bucket>,
    key: String,
    add: impl Fn(N) -> Option<N> + Send + 'a,
) -> Later<'a, Answer<N>>
where
    N: std::str::FromStr + ToString + Default + Send + 'a,
{
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        let other = |text: &str| Ok((Err(Error::Other(text.to_owned())),));
        for _ in 0..INCREMENT_ATTEMPTS_MAX {
            let found = match state.ask(|exchange| kv::get(exchange, &store, &key)).await? {
                Ok(found) => found,
                Err(error) => return Ok(told(Err(error))),
            };
            let before = match &found {
                None => N::default(),
                Some(entry) => {
                    match std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()) {
                        Some(number) => number,
                        None => return other("the value is no number"),
                    }
                }
            };
            let Some(after) = add(before) else { return other("the number would be too large") };
            let how = swapping(found.as_ref().map(|entry| entry.generation));
            let text = after.to_string().into();
            match state.ask(|exchange| kv::insert(exchange, &store, &key, text, how)).await? {
                Ok(_) => return Ok((Ok(after),)),
                Err(KvError::Precondition) => {}
                Err(error) => return Ok(told(Err(error))),
            }
        }
        other("others write this counter all the time")
    })
}

/// A write that must meet what was found.
fn swapping(found: Option<Generation>) -> Insert {
    match found {
        Some(generation) => Insert { if_generation: Some(generation), ..Insert::default() },
        None => Insert { mode: Mode::Add, ..Insert::default() },
    }
}

fn cas_new(mut cx: Cx<'_>, (bucket, key): (Resource<Bucket>, String)) -> Later<'_, Answer<Resource<Cas>>> {
    Box::new(async move {
        let state = cx.data_mut();
        let store = state.store(&bucket)?;
        Ok(match state.ask(|exchange| kv::get(exchange, &store, &key)).await? {
            Ok(entry) => (Ok(state.keep(store, key, entry)?),),
            Err(error) => told(Err(error)),
        })
    })
}

fn cas_current(cx: Cx<'_>, (cas,): (Resource<Cas>,)) -> Result<Answer<Option<Vec<u8>>>> {
    let found = &cx.data().handles.get(&cas)?.found;
    Ok((Ok(found.as_ref().map(|(_, value)| value.to_vec())),))
}

fn swap(mut cx: Cx<'_>, (cas, value): (Resource<Cas>, WasmList<u8>)) -> Later<'_, (Result<(), CasError>,)> {
    Box::new(async move {
        let value = Bytes::copy_from_slice(value.as_le_slice(&cx));
        let state = cx.data_mut();
        let Cas { store, key, found: before } = state.handles.take(cas)?;
        let how = swapping(before.map(|(generation, _)| generation));
        let failed = |error: KvError| Ok((Err(CasError::StoreError(error.into())),));
        match state.ask(|exchange| kv::insert(exchange, &store, &key, value, how)).await? {
            Ok(_) => return Ok((Ok(()),)),
            Err(KvError::Precondition) => {}
            Err(error) => return failed(error),
        }
        // The next try begins with what is there now.
        match state.ask(|exchange| kv::get(exchange, &store, &key)).await? {
            Ok(entry) => {
                let cas = state.keep(*store, key, entry)?;
                Ok((Err(CasError::CasFailed(cas)),))
            }
            Err(error) => failed(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;
    use http::Request;

    use super::*;
    use crate::{
        exchange::Responder,
        front::InboundBody,
        limits::LimitReached,
        testing::{exchange, local},
    };

    const LARGE: usize = 6 << 20;

    /// A guest's state, with one store that has these large values.
    async fn state(keys: &[&str]) -> (State, Store) {
        let config = AppConfig { kv_stores: vec!["s".into()], ..AppConfig::default() };
        let request = Request::get("/").body(InboundBody::Empty).unwrap();
        let mut state = State::new(exchange(config), request, Responder::new().0);
        let store = kv::open(&state.exchange, "s").unwrap();
        for key in keys {
            let value = Bytes::from(vec![b'x'; LARGE]);
            let put = kv::insert(&mut state.exchange, &store, key, value, Insert::default());
            put.unwrap().await.unwrap();
        }
        (state, store)
    }

    #[test]
    fn a_batch_takes_as_much_as_one_call_may_copy_and_no_more() {
        local(async {
            let (mut state, store) = state(&["a", "b", "c"]).await;
            for (keys, fits) in [(vec!["a", "b", "none"], true), (vec!["a", "b", "c"], false)] {
                let asked = state.ask_all(keys, |exchange, key| kv::get(exchange, &store, key), value_bytes);
                match asked.await {
                    Ok(found) => assert!(fits && found.unwrap().len() == 3),
                    Err(error) => {
                        assert!(!fits);
                        assert_eq!(error.downcast_ref::<LimitReached>().unwrap().0, Limit::Copy);
                    }
                }
            }
            assert!(state.exchange.bill.limits_met().has(Limit::Copy));
        });
    }

    #[test]
    fn entries_kept_for_a_swap_have_a_bound_together_and_give_way_when_dropped() {
        local(async {
            let (mut state, store) = state(&["a"]).await;
            let mut kept = Vec::new();
            let entry = async |state: &mut State| {
                state.ask(|exchange| kv::get(exchange, &store, "a")).await.unwrap().unwrap()
            };
            for _ in 0..CAS_BYTES_MAX / LARGE {
                let found = entry(&mut state).await;
                kept.push(state.keep(store.clone(), "a".into(), found).unwrap());
            }
            let found = entry(&mut state).await;
            let refused = state.keep(store.clone(), "a".into(), found).unwrap_err();
            assert_eq!(refused.downcast_ref::<LimitReached>().unwrap().0, Limit::Resources);
            state.handles.take(kept.pop().unwrap()).unwrap();
            let found = entry(&mut state).await;
            assert!(state.keep(store.clone(), "a".into(), found).is_ok());
        });
    }
}
