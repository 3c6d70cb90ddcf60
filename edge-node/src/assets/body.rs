//! A file that is sent in pieces. Each is read and checked on a thread that may wait for the disk, when the one before it has
//! left: a reader that is slow holds one piece, and room for it was taken before.

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use artifact::assets::{AssetBlob, PIECE_BYTES};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{StaticFiles, Unavailable};
use crate::{account::Account, failure::Failure, front::BodyError, memory::Budget, node::Permit};

/// See the module.
pub struct FileBody {
    files: Arc<StaticFiles>,
    blob: AssetBlob,
    /// What is not sent yet.
    left: Range<u64>,
    /// The piece it begins in, if that is here already.
    first: Option<Bytes>,
    reading: Option<oneshot::Receiver<Result<Bytes, Unavailable>>>,
    account: Arc<Account>,
    _permit: Permit,
    /// Of one piece. The last one that was sent holds it when the body is gone.
    memory: Arc<Memory>,
}

/// The right to read files for one request, and to hold a piece.
pub struct Room {
    _permit: Permit,
    memory: Memory,
}

impl Room {
    /// With the memory of one piece, or [`Failure::NodeMemory`].
    pub fn take(permit: Permit, budget: &Budget) -> Result<Room, Failure> {
        Ok(Room { _permit: permit, memory: Memory::take(budget, PIECE_BYTES)? })
    }

    /// What is left when nothing more is read: the memory of what was.
    pub fn into_memory(self) -> Memory {
        self.memory
    }
}

/// Memory of the guests' that a reader's bytes have, given back with them.
pub struct Memory {
    budget: Budget,
    bytes: u64,
}

impl Memory {
    /// So many bytes, or [`Failure::NodeMemory`].
    pub fn take(budget: &Budget, bytes: u64) -> Result<Memory, Failure> {
        match budget.take(bytes) {
            true => Ok(Memory { budget: budget.clone(), bytes }),
            false => Err(Failure::NodeMemory),
        }
    }

    /// Bytes that hold this until nobody has them any more. They may lie long in the buffers of a connection whose client
    /// does not read.
    pub fn held_by(self: Arc<Self>, bytes: Bytes) -> Bytes {
        struct Held {
            bytes: Bytes,
            _memory: Arc<Memory>,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        Bytes::from_owner(Held { bytes, _memory: self })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

impl FileBody {
    /// Sends `left` of a blob. `first` is the piece it begins in.
    pub fn new(
        files: Arc<StaticFiles>,
        blob: AssetBlob,
        left: Range<u64>,
        first: Bytes,
        account: Arc<Account>,
        room: Room,
    ) -> FileBody {
        let Room { _permit, memory } = room;
        FileBody {
            files,
            blob,
            left,
            first: Some(first),
            reading: None,
            account,
            _permit,
            memory: Arc::new(memory),
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let number = this.left.start / PIECE_BYTES;
        let piece = match this.first.take() {
            Some(first) => Ok(first),
            None => {
                let reading = this.reading.get_or_insert_with(|| this.files.read(&this.blob, number));
                let read = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                read.unwrap_or(Err(Unavailable))
            }
        };
        let start = this.left.start - number * PIECE_BYTES;
        let end = (this.left.end - number * PIECE_BYTES).min(PIECE_BYTES);
        // A piece is as long as it is said to be, since its digest is right.
        let Some(piece) = piece.ok().filter(|piece| piece.len() as u64 >= end) else {
            this.files.mend(&this.blob);
            this.account.ended(Some(Failure::FileUnavailable));
            this.left = 0..0;
            return Poll::Ready(Some(Err(BodyError::FileUnavailable)));
        };
        this.left.start += end - start;
        let part = piece.slice(start as usize..end as usize);
        Poll::Ready(Some(Ok(Frame::data(Arc::clone(&this.memory).held_by(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        if !self.left.is_empty() {
            self.account.ended(Some(Failure::ClientGone));
        }
    }
}
