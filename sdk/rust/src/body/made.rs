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
