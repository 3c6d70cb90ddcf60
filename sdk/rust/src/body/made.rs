//! A body that a function makes: its future and its reader hand pieces over in one slot.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use super::Pieces;
use crate::Result;

/// Where the function of [`Body::stream`](crate::Body::stream) writes to.
pub struct Writer(Rc<RefCell<Slot>>);

/// One piece between writer and reader.
#[derive(Default)]
struct Slot {
    piece: Option<Bytes>,
    /// Who waits until it was taken.
    writer: Option<Waker>,
}

/// The reader's end, with the function's future.
pub(super) struct Made {
    /// `None` at the end.
    future: Option<Pin<Box<dyn Future<Output = Result<()>>>>>,
    slot: Rc<RefCell<Slot>>,
}

impl Writer {
    /// Hands a piece on, and waits until it was taken. Nothing is done for an empty one. When nobody reads any more, the
    /// function is dropped where it waits.
    pub async fn write(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if piece.is_empty() {
            return;
        }
        self.0.borrow_mut().piece = Some(piece);
        poll_fn(|task| {
            let mut slot = self.0.borrow_mut();
            if slot.piece.is_none() {
                return Poll::Ready(());
            }
            slot.writer = Some(task.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Made {
    pub(super) fn by<F>(write: F) -> Made
    where
        F: AsyncFnOnce(&mut Writer) -> Result<()> + 'static,
    {
        let slot = Rc::<RefCell<Slot>>::default();
        let mut writer = Writer(slot.clone());
        Made { future: Some(Box::pin(async move { write(&mut writer).await })), slot }
    }

    /// Takes what was written. Its writer may wait behind a waker of its own, so it is woken.
    fn take(&mut self) -> Option<Bytes> {
        let mut slot = self.slot.borrow_mut();
        let piece = slot.piece.take()?;
        let writer = slot.writer.take();
        drop(slot);
        if let Some(writer) = writer {
            writer.wake();
        }
        Some(piece)
    }
}

impl Pieces for Made {
    /// Runs the function until it has written, ended or waits for something else.
    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let Some(future) = &mut self.future else { return Poll::Ready(Ok(None)) };
        let ended = future.as_mut().poll(task);
        match (self.take(), ended) {
            (Some(piece), Poll::Pending) => Poll::Ready(Ok(Some(piece))),
            (None, Poll::Pending) => Poll::Pending,
            // One that is left when it has ended was given up by its writer: a `write` that was dropped.
            (_, Poll::Ready(ended)) => {
                self.future = None;
                Poll::Ready(ended.map(|()| None))
            }
        }
    }

    #[cfg(target_os = "wasi")]
    fn send(self: Box<Self>, sink: crate::sys::Sink) -> Result<(), crate::sys::Stopped> {
        crate::sys::pump_all(self, sink)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc, Mutex,
            atomic::{AtomicBool, Ordering},
        },
        task::Wake,
    };

    use crate::{Body, block_on};

    use super::*;

    /// Polls its future again only when that itself was woken, as combinators of other crates do.
    struct Alone<'a> {
        future: Pin<Box<dyn Future<Output = ()> + 'a>>,
        woken: Arc<Woken>,
    }

    struct Woken {
        is: AtomicBool,
        outer: Mutex<Option<Waker>>,
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.is.store(true, Ordering::Relaxed);
            if let Some(outer) = self.outer.lock().unwrap().take() {
                outer.wake();
            }
        }
    }

    impl Future for Alone<'_> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
            *self.woken.outer.lock().unwrap() = Some(task.waker().clone());
            if !self.woken.is.swap(false, Ordering::Relaxed) {
                return Poll::Pending;
            }
            let waker = Waker::from(self.woken.clone());
            self.future.as_mut().poll(&mut Context::from_waker(&waker))
        }
    }

    #[test]
    fn a_writer_behind_a_waker_of_its_own_is_woken() {
        let body = Body::stream(async |out| {
            let woken = Arc::new(Woken { is: AtomicBool::new(true), outer: Mutex::default() });
            let future = Box::pin(async {
                out.write("a").await;
                out.write("b").await;
            });
            Alone { future, woken }.await;
            Ok(())
        });
        assert_eq!(block_on(body.text()).unwrap(), "ab");
    }

    #[test]
    fn a_body_that_nobody_reads_any_more_is_dropped_where_it_waits() {
        let world = crate::testing::World::new();
        let mut body = Body::stream(async |out| {
            out.write("a").await;
            crate::log::info("went on");
            Ok(())
        });
        assert_eq!(block_on(body.chunk()).unwrap().unwrap(), "a");
        drop(body);
        assert!(world.logged().is_empty());
    }
}
