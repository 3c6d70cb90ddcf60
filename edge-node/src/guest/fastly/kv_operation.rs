//! Operations on key-value stores that are under way, for both interfaces to them.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use wasmtime::Caller;

use super::{
    FastlyState,
    abi::{Answer, Status},
    body::GuestBody,
    handles::{Handles, Item, Kind},
    memory::GuestMemory,
};
use crate::host::{
    held::Room,
    kv::{self, Entry, Generation, KvError, Page, VALUE_BYTES_MAX},
};

/// Bytes of a store's name or of a key: more than either may have, so that the store says what is wrong.
const NAME_BYTES_MAX: u32 = 4 * 1024;

/// A store behind a handle.
#[derive(Debug)]
pub(super) struct Store(pub(super) kv::Store);

pub(super) type Lookup = Box<Operation<Option<Entry>>>;
pub(super) type Insert = Box<Operation<Generation>>;
pub(super) type Delete = Box<Operation<bool>>;
pub(super) type List = Box<Operation<Page>>;

/// An operation and, once it is there, its answer.
pub(super) struct Operation<T>(State<T>);

enum State<T> {
    UnderWay(kv::Pending<T>),
    Answered {
        answer: Result<T, KvError>,
        /// Counts for as long as the answer is here.
        _room: Option<Room>,
    },
}

impl<T> Operation<T> {
    /// One that was started, or refused: then waiting tells why. Only who has too many learns it at once.
    pub(super) fn started(started: Result<kv::Pending<T>, KvError>) -> Result<Box<Operation<T>>, Status> {
        match started {
            Ok(pending) => Ok(Box::new(Operation(State::UnderWay(pending)))),
            Err(KvError::TooMany) => Err(Status::LimitExceeded),
            Err(error) => Ok(Box::new(Operation(State::Answered { answer: Err(error), _room: None }))),
        }
    }

    /// Would taking the answer not wait?
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            State::UnderWay(pending) => pending.poll_ready(cx),
            State::Answered { .. } => Poll::Ready(()),
        }
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::UnderWay(pending) = &mut self.0 {
            let answer = ready!(pending.poll(cx));
            self.0 = State::Answered { answer, _room: pending.take_room() };
        }
        Poll::Ready(())
    }

    /// Waits for the answer.
    pub(super) async fn wait(mut self: Box<Self>) -> Result<T, KvError> {
        poll_fn(|cx| self.poll_answer(cx)).await;
        self.into_answer()
    }

    /// The answer, if it is there.
    pub(super) fn answer(&self) -> Option<&Result<T, KvError>> {
        match &self.0 {
            State::UnderWay(_) => None,
            State::Answered { answer, .. } => Some(answer),
        }
    }

    /// The same for good.
    pub(super) fn into_answer(self) -> Result<T, KvError> {
        match self.0 {
            State::UnderWay(_) => Err(KvError::Busy),
            State::Answered { answer, .. } => answer,
        }
    }
}

impl<T> std::fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.answer().is_some() { "Operation(answered)" } else { "Operation" })
    }
}

/// Waits until the answer of the operation behind a handle is there; the handle stays.
pub(super) async fn answered<T>(guest: &mut Caller<'_, FastlyState>, handle: u32) -> Result<(), Status>
where
    Box<Operation<T>>: Kind,
{
    poll_fn(|cx| match guest.data_mut().handles.get::<Box<Operation<T>>>(handle) {
        Ok(operation) => operation.poll_answer(cx).map(Ok),
        Err(status) => Poll::Ready(Err(status)),
    })
    .await
}

/// Starts a lookup and gives its handle to `out`.
pub(super) fn start_lookup(
    memory: &mut GuestMemory<'_>,
    state: &mut FastlyState,
    from: u32,
    (key, length): (u32, u32),
    out: u32,
) -> Answer {
    let from = store(&mut state.handles, from)?;
    let started = kv::get(&mut state.exchange, &from, read_text(memory, key, length)?);
    let handle = state.insert(Item::KvLookup(Operation::started(started)?))?;
    memory.write_u32(out, handle)
}

/// Starts a deletion and gives its handle to `out`.
pub(super) fn start_delete(
    memory: &mut GuestMemory<'_>,
    state: &mut FastlyState,
    from: u32,
    (key, length): (u32, u32),
    out: u32,
) -> Answer {
    let from = store(&mut state.handles, from)?;
    let started = kv::delete(&mut state.exchange, &from, read_text(memory, key, length)?, None);
    let handle = state.insert(Item::KvDelete(Operation::started(started)?))?;
    memory.write_u32(out, handle)
}

/// Opens a store; its handle.
pub(super) fn open(state: &mut FastlyState, name: &str) -> Result<u32, Status> {
    // SDKs read this status as "no such store".
    let store = kv::open(&state.exchange, name).map_err(|_| Status::Invalid)?;
    state.insert(Item::KvStore(Store(store)))
}

/// A store by its handle; a clone, because operations want the exchange to themselves.
pub(super) fn store(handles: &mut Handles, handle: u32) -> Result<kv::Store, Status> {
    handles.get::<Store>(handle).map(|store| store.0.clone())
}

/// A name or key.
pub(super) fn read_text<'a>(memory: &'a GuestMemory<'_>, text: u32, length: u32) -> Result<&'a str, Status> {
    if length > NAME_BYTES_MAX {
        return Err(Status::Invalid);
    }
    memory.text(text, length)
}

/// Uses a body up for its bytes. `None`: they are more than a value may have.
pub(super) async fn collect(guest: &mut Caller<'_, FastlyState>, body: u32) -> Result<Option<Bytes>, Status> {
    let handles = &mut guest.data_mut().handles;
    handles.body(body)?.held()?;
    let GuestBody::Held(mut held) = handles.take(body)? else { return Err(Status::BadHandle) };
    let mut value = BytesMut::new();
    match poll_fn(|cx| held.poll_collect(&mut value, VALUE_BYTES_MAX, cx)).await {
        Ok(()) => Ok(Some(value.freeze())),
        Err(Status::LimitExceeded) => Ok(None),
        Err(status) => Err(status),
    }
}
