//! An operation under way, to be polled alone or among other things.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fleet_sync_replica::kv::wire::{Message, Said};

use super::{Answer, Arrived, KvError};
use crate::host::{
    door::{Door, Event, Fact, Source},
    held::Room,
};

/// See the module. As a future it resolves once; polled again, it stays pending.
pub struct Pending<T> {
    door: Door,
    source: Source,
    state: State,
    /// Counts as open for as long as it is there.
    open: Option<Arc<()>>,
    /// That of the answer, once it is taken.
    room: Option<Room>,
    read: fn(Message<Said>) -> Result<T, KvError>,
}

enum State {
    /// There is no world that could answer; the door does.
    Nowhere,
    Waiting(Answer),
    There(Result<Arrived, KvError>),
    Taken,
}

type Outcome = Result<Message<Said>, KvError>;

impl<T> Pending<T> {
    pub(super) fn new(
        door: Door,
        source: Source,
        answer: Option<Answer>,
        open: Arc<()>,
        read: fn(Message<Said>) -> Result<T, KvError>,
    ) -> Pending<T> {
        let state = answer.map_or(State::Nowhere, State::Waiting);
        Pending { door, source, state, open: Some(open), room: None, read }
    }

    /// Is the answer there? For the `ready` of [`crate::host::wait`]: what is found ready passes the door there.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Waiting(answer) = &mut self.state {
            match answer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(said) => self.state = State::There(said),
            }
        }
        match self.state {
            State::There(_) => Poll::Ready(()),
            State::Nowhere | State::Waiting(_) | State::Taken => Poll::Pending,
        }
    }

    /// The room of an answer that was taken: whoever keeps the answer here keeps this with it.
    pub fn take_room(&mut self) -> Option<Room> {
        self.room.take()
    }

    /// The answer, once.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, KvError>> {
        if matches!(self.state, State::Taken) {
            return Poll::Pending;
        }
        let (door, source) = (self.door.clone(), self.source);
        let learned = door.poll_learn(source, || {
            self.poll_ready(cx).map(|()| match std::mem::replace(&mut self.state, State::Taken) {
                State::There(arrived) => Learned(arrived.map(|Arrived { said, room }| {
                    self.room = room;
                    said
                })),
                State::Nowhere | State::Waiting(_) | State::Taken => Learned(Err(KvError::Busy)),
            })
        });
        learned.map(|Learned(said)| {
            self.state = State::Taken;
            self.open = None;
            said.and_then(self.read)
        })
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, KvError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().poll(cx)
    }
}

/// What an operation answered, as it passes the door.
struct Learned(Outcome);

impl Fact for Learned {
    fn event(&self) -> Event {
        match &self.0 {
            Ok(said) => Event::Bytes(said.encode().into()),
            Err(error) => Event::Failed(serde_json::to_string(error).unwrap_or_default()),
        }
    }

    fn recall(event: Event) -> Option<Learned> {
        match event {
            Event::Bytes(bytes) => Message::decode(&bytes).ok().map(|said| Learned(Ok(said))),
            Event::Failed(text) => serde_json::from_str(&text).ok().map(|error| Learned(Err(error))),
            _ => None,
        }
    }
}
