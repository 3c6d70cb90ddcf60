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
use tokio::task::JoinHandle;

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
    reading: Option<JoinHandle<Result<Bytes, Unavailable>>>,
    account: Arc<Account>,
    _room: Room,
}

/// The right to read files for one request, and to hold a piece.
pub struct Room {
    _permit: Permit,
    budget: Budget,
}

impl Room {
    /// With the memory of one piece, or [`Failure::NodeMemory`].
    pub fn take(permit: Permit, budget: &Budget) -> Result<Room, Failure> {
        match budget.take(PIECE_BYTES) {
            true => Ok(Room { _permit: permit, budget: budget.clone() }),
            false => Err(Failure::NodeMemory),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.give(PIECE_BYTES);
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
        FileBody { files, blob, left, first: Some(first), reading: None, account, _room: room }
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
        Poll::Ready(Some(Ok(Frame::data(piece.slice(start as usize..end as usize)))))
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
