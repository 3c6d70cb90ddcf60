//! Waiting for the first of several things. What was found ready is learned: it passes the door.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use super::door::{Door, Event, Fact, Source};

/// Waits until `ready`, which polls every thing, names at least one of them by its index.
pub async fn select(door: &Door, mut ready: impl FnMut(&mut Context<'_>) -> Vec<u32>) -> Vec<u32> {
    let poll = |cx: &mut Context<'_>| {
        let found = ready(cx);
        if found.is_empty() { Poll::Pending } else { Poll::Ready(Ready(found)) }
    };
    let mut poll = poll;
    poll_fn(|cx| door.poll_learn(Source::Wait, || poll(cx))).await.0
}

/// Which of several things are ready now, perhaps none.
pub fn ready_now(door: &Door, ready: impl FnOnce(&mut Context<'_>) -> Vec<u32>) -> Vec<u32> {
    door.learn(Source::Wait, || Ready(ready(&mut Context::from_waker(Waker::noop())))).0
}

struct Ready(Vec<u32>);

impl Fact for Ready {
    fn event(&self) -> Event {
        Event::Ready(self.0.clone())
    }

    fn recall(event: Event) -> Option<Ready> {
        match event {
            Event::Ready(found) => Some(Ready(found)),
            _ => None,
        }
    }
}
