//! A file that is sent in pieces. Each is read and checked on a thread that may wait for the disk, when the one before it has
//! left: a reader that is slow holds one piece, and room for it was taken before.

use std::{
    mem,
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
    next: Next,
    account: Arc<Account>,
}

/// The piece that `left` begins in.
enum Next {
    /// It was read.
    Here(Piece),
    /// It is read, or waits for that, and has the room.
    Asked(oneshot::Receiver<Piece>),
    /// It is not asked for before the one before it has left.
    Unasked(Room),
    /// There is none.
    Nothing,
}

/// What a read gives, right or not.
pub struct Piece {
    pub bytes: Result<Bytes, Unavailable>,
    /// Of the request that asked.
    pub room: Room,
}

/// The right to read files for one request, and to hold a piece.
pub struct Room {
    _permit: Permit,
    /// Of one piece. The last one that was sent holds it when the body is gone.
    memory: Arc<Memory>,
}

impl Room {
    /// With the memory of one piece, or [`Failure::NodeMemory`].
    pub fn take(permit: Permit, budget: &Budget) -> Result<Room, Failure> {
        Ok(Room { _permit: permit, memory: Arc::new(Memory::take(budget, PIECE_BYTES)?) })
    }

    /// Bytes that were read in it. They hold its memory until nobody has them any more.
    pub fn held_by(&self, bytes: Bytes) -> Bytes {
        Arc::clone(&self.memory).held_by(bytes)
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
        first: Piece,
        account: Arc<Account>,
    ) -> FileBody {
        FileBody { files, blob, left, next: Next::Here(first), account }
    }

    /// The next piece, asked for if it was not. `None`: there will be none.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            match mem::replace(&mut self.next, Next::Nothing) {
                Next::Here(piece) => return Poll::Ready(Some(piece)),
                Next::Unasked(room) => {
                    self.next = Next::Asked(self.files.read(&self.blob, self.left.start / PIECE_BYTES, room));
                }
                Next::Asked(mut read) => {
                    let piece = Pin::new(&mut read).poll(cx);
                    if piece.is_pending() {
                        self.next = Next::Asked(read);
                    }
                    return piece.map(Result::ok);
                }
                Next::Nothing => return Poll::Ready(None),
            }
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
        let before = this.left.start / PIECE_BYTES * PIECE_BYTES;
        let (start, end) = (this.left.start - before, (this.left.end - before).min(PIECE_BYTES));
        // A piece is as long as it is said to be, since its digest is right.
        let is_whole = |bytes: &Bytes| bytes.len() as u64 >= end;
        let Some(Piece { bytes: Ok(bytes), room }) =
            ready!(this.poll_piece(cx)).filter(|piece| piece.bytes.as_ref().is_ok_and(is_whole))
        else {
            this.files.mend(&this.blob);
            this.account.ended(Some(Failure::FileUnavailable));
            this.left = 0..0;
            return Poll::Ready(Some(Err(BodyError::FileUnavailable)));
        };
        this.left.start += end - start;
        let part = room.held_by(bytes.slice(start as usize..end as usize));
        this.next = Next::Unasked(room);
        Poll::Ready(Some(Ok(Frame::data(part))))
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
