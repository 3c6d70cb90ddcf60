//! A body as a guest holds it, and the way of a streamed response out of it.
//!
//! A body is a queue of pieces: bytes the guest wrote, and bodies from outside that were given by handle and are
//! passed on without entering the guest. When its response has been sent for streaming, the queue is shared with the
//! front, which takes pieces as fast as the client reads; the guest may be ahead by [`STREAM_BYTES_HELD_MAX`].

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::abi::{Answer, Status};
use crate::front::{BodyError, InboundBody, OutboundBody};

/// Bytes a streaming guest may be ahead of its client (DESIGN §4).
pub(super) const STREAM_BYTES_HELD_MAX: usize = 64 * 1024;
/// Small writes are gathered in buffers of this size, so that a body of many small writes leaves in few pieces.
const GATHER_BYTES: usize = 64 * 1024;

/// A part of a body.
#[derive(Debug)]
pub(super) enum Piece {
    /// Written by the guest, or read from outside and not yet by the guest.
    Bytes(Bytes),
    /// Still growing: the guest appends to it.
    Open(BytesMut),
    /// From outside.
    Inbound(Box<InboundBody>),
}

/// A body behind a handle.
#[derive(Debug)]
pub(super) enum GuestBody {
    /// Read and written by the guest alone.
    Held(HeldBody),
    /// Written by the guest, read by the front.
    Streaming(Streaming),
}

impl Default for GuestBody {
    fn default() -> GuestBody {
        GuestBody::Held(HeldBody::default())
    }
}

/// Pieces that the host holds for a guest.
#[derive(Debug, Default)]
pub(super) struct HeldBody {
    pieces: VecDeque<Piece>,
    /// Trailers, complete when no inbound piece is left.
    pub(super) trailers: HeaderMap,
}

impl HeldBody {
    /// A body from outside.
    pub(super) fn inbound(body: InboundBody) -> HeldBody {
        HeldBody { pieces: VecDeque::from([Piece::Inbound(Box::new(body))]), trailers: HeaderMap::new() }
    }

    /// Adds bytes at the end.
    pub(super) fn push_back(&mut self, bytes: &[u8]) {
        match self.pieces.back_mut() {
            Some(Piece::Open(open)) if open.len() + bytes.len() <= GATHER_BYTES => {
                open.extend_from_slice(bytes)
            }
            _ if bytes.len() <= GATHER_BYTES => self.pieces.push_back(Piece::Open(BytesMut::from(bytes))),
            _ => self.pieces.push_back(Piece::Bytes(Bytes::copy_from_slice(bytes))),
        }
    }

    /// Adds bytes at the beginning.
    pub(super) fn push_front(&mut self, bytes: &[u8]) {
        self.pieces.push_front(Piece::Bytes(Bytes::copy_from_slice(bytes)));
    }

    /// Adds another body at the end.
    pub(super) fn append(&mut self, other: HeldBody) {
        self.pieces.extend(other.pieces);
        self.trailers.extend(other.trailers);
    }

    /// How many bytes it has, if that is known before reading.
    pub(super) fn known_length(&self) -> Option<u64> {
        known_length(&self.pieces)
    }

    /// Has everything from outside come in?
    pub(super) fn trailers_are_complete(&self) -> bool {
        !self.pieces.iter().any(|piece| matches!(piece, Piece::Inbound(_)))
    }

    /// Waits until bytes, or the end, are at the beginning.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            let frame = match self.pieces.front_mut() {
                None => return Poll::Ready(Ok(())),
                Some(Piece::Bytes(bytes)) if !bytes.is_empty() => return Poll::Ready(Ok(())),
                Some(Piece::Open(bytes)) if !bytes.is_empty() => return Poll::Ready(Ok(())),
                Some(Piece::Bytes(_) | Piece::Open(_)) => None,
                Some(Piece::Inbound(body)) => ready!(Pin::new(&mut **body).poll_frame(cx)),
            };
            match frame {
                None => drop(self.pieces.pop_front()),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.pieces.push_front(Piece::Bytes(data)),
                    Err(other) => self.trailers.extend(other.into_trailers().unwrap_or_default()),
                },
                Some(Err(error)) => {
                    self.pieces.pop_front();
                    return Poll::Ready(Err(read_status(error)));
                }
            }
        }
    }

    /// Moves bytes that are at hand to `target` and says how many.
    pub(super) fn read(&mut self, target: &mut [u8]) -> usize {
        let mut read = 0;
        while read < target.len() {
            let into = &mut target[read..];
            let taken = match self.pieces.front_mut() {
                Some(Piece::Bytes(bytes)) => take(bytes, into),
                Some(Piece::Open(bytes)) => take(bytes, into),
                Some(Piece::Inbound(_)) | None => break,
            };
            read += taken;
            if matches!(self.pieces.front(), Some(Piece::Bytes(bytes)) if bytes.is_empty())
                || matches!(self.pieces.front(), Some(Piece::Open(bytes)) if bytes.is_empty())
            {
                self.pieces.pop_front();
            }
        }
        read
    }

    /// The whole of it as a response body.
    pub(super) fn into_outbound(mut self) -> OutboundBody {
        let bytes_only = self.trailers.is_empty() && self.trailers_are_complete();
        match (bytes_only, self.pieces.len()) {
            (true, 0) => OutboundBody::Empty,
            (true, 1) => match self.pieces.pop_front() {
                Some(Piece::Open(bytes)) => bytes.freeze().into(),
                Some(Piece::Bytes(bytes)) => bytes.into(),
                Some(Piece::Inbound(_)) | None => OutboundBody::Empty,
            },
            _ => {
                let (mut streaming, outbound) = self.into_streaming();
                streaming.finish();
                outbound
            }
        }
    }

    /// Shares it with the front: the guest writes on, the front reads.
    pub(super) fn into_streaming(self) -> (Streaming, OutboundBody) {
        let mut queue = Queue {
            pieces: VecDeque::new(),
            bytes: 0,
            trailers: self.trailers,
            end: End::Open,
            reader: None,
            writer: None,
            reader_gone: false,
        };
        self.pieces.into_iter().for_each(|piece| queue.push(piece));
        let queue = Arc::new(Mutex::new(queue));
        (Streaming(Arc::clone(&queue)), OutboundBody::stream(Outgoing(queue)))
    }
}

fn known_length(pieces: &VecDeque<Piece>) -> Option<u64> {
    pieces.iter().try_fold(0u64, |sum, piece| {
        let length = match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Open(bytes) => bytes.len() as u64,
            Piece::Inbound(body) => body.size_hint().exact()?,
        };
        sum.checked_add(length)
    })
}

fn take(bytes: &mut impl Buf, target: &mut [u8]) -> usize {
    let taken = bytes.remaining().min(target.len());
    bytes.copy_to_slice(&mut target[..taken]);
    taken
}

fn read_status(error: BodyError) -> Status {
    match error {
        BodyError::ClientProtocol(_) | BodyError::BackendProtocol(_) => Status::HttpInvalid,
        BodyError::ClientGone
        | BodyError::BackendGone
        | BodyError::BackendTimeout
        | BodyError::GuestAborted
        | BodyError::GuestLimit
        | BodyError::Shutdown => Status::HttpIncomplete,
    }
}

#[derive(Debug)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    trailers: HeaderMap,
    end: End,
    reader: Option<Waker>,
    writer: Option<Waker>,
    reader_gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Finished,
    Aborted,
}

impl Queue {
    fn push(&mut self, piece: Piece) {
        let piece = match piece {
            Piece::Open(bytes) => Piece::Bytes(bytes.freeze()),
            other => other,
        };
        if let Piece::Bytes(bytes) = &piece {
            self.bytes += bytes.len();
        }
        self.pieces.push_back(piece);
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn end(&mut self, end: End) {
        if self.end == End::Open {
            self.end = end;
            self.wake_reader();
        }
    }
}

/// The guest's end of a streamed response. Dropped without [`Streaming::finish`], it aborts the response.
pub(super) struct Streaming(Arc<Mutex<Queue>>);

impl fmt::Debug for Streaming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streaming")
    }
}

impl Streaming {
    /// Waits until there is room for at least one byte.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut queue = self.0.lock();
        if queue.reader_gone {
            return Poll::Ready(Err(Status::HttpIncomplete));
        }
        if queue.bytes < STREAM_BYTES_HELD_MAX {
            return Poll::Ready(Ok(()));
        }
        queue.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes what there is room for and says how much.
    pub(super) fn write(&self, bytes: &[u8]) -> usize {
        let mut queue = self.0.lock();
        let taken = bytes.len().min(STREAM_BYTES_HELD_MAX.saturating_sub(queue.bytes));
        if taken > 0 {
            queue.push(Piece::Bytes(Bytes::copy_from_slice(&bytes[..taken])));
        }
        taken
    }

    /// Adds a whole body, whose bytes the host holds already.
    pub(super) fn append(&self, body: HeldBody) {
        let mut queue = self.0.lock();
        body.pieces.into_iter().for_each(|piece| queue.push(piece));
        queue.trailers.extend(body.trailers);
    }

    /// Adds a trailer.
    pub(super) fn with_trailers<T>(&self, change: impl FnOnce(&mut HeaderMap) -> T) -> T {
        change(&mut self.0.lock().trailers)
    }

    /// Ends the body well.
    pub(super) fn finish(&mut self) {
        self.0.lock().end(End::Finished);
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.lock().end(End::Aborted);
    }
}

/// The front's end.
struct Outgoing(Arc<Mutex<Queue>>);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.0.lock();
        loop {
            match queue.pieces.pop_front() {
                Some(Piece::Bytes(bytes)) => {
                    queue.bytes -= bytes.len();
                    if let Some(waker) = queue.writer.take() {
                        waker.wake();
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
                Some(Piece::Open(bytes)) if bytes.is_empty() => {}
                Some(Piece::Open(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes.freeze())))),
                Some(Piece::Inbound(mut body)) => match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => {
                        queue.pieces.push_front(Piece::Inbound(body));
                        return Poll::Pending;
                    }
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            queue.pieces.push_front(Piece::Inbound(body));
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        Err(other) => {
                            let trailers = other.into_trailers().unwrap_or_default();
                            queue.trailers.extend(trailers);
                        }
                    },
                },
                None => {
                    return match queue.end {
                        End::Open => {
                            queue.reader = Some(cx.waker().clone());
                            Poll::Pending
                        }
                        End::Aborted => Poll::Ready(Some(Err(BodyError::GuestAborted))),
                        End::Finished if queue.trailers.is_empty() => Poll::Ready(None),
                        End::Finished => {
                            let trailers = std::mem::take(&mut queue.trailers);
                            Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                        }
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let queue = self.0.lock();
        queue.end == End::Finished && queue.pieces.is_empty() && queue.trailers.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let queue = self.0.lock();
        let complete = queue.end == End::Finished && queue.trailers.is_empty();
        match known_length(&queue.pieces) {
            Some(length) if complete => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.reader_gone = true;
        queue.pieces.clear();
        if let Some(waker) = queue.writer.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    fn now<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        std::future::poll_fn(poll).now_or_never()
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let mut body = HeldBody::inbound(InboundBody::Full(Bytes::from_static(b"middle ")));
        body.push_back(b"e");
        body.push_back(b"nd");
        body.push_front(b"begin ");
        assert_eq!(body.known_length(), Some(16));
        let mut all = Vec::new();
        let mut part = [0; 4];
        loop {
            assert_eq!(now(|cx| body.poll_readable(cx)), Some(Ok(())));
            match body.read(&mut part) {
                0 => break,
                read => all.extend_from_slice(&part[..read]),
            }
        }
        assert_eq!(all, b"begin middle end");
        assert_eq!(body.known_length(), Some(0));
    }

    #[test]
    fn a_stream_is_bounded_and_ends_as_its_guest_ends_it() {
        let (mut streaming, mut outbound) = HeldBody::default().into_streaming();
        let big = vec![7; STREAM_BYTES_HELD_MAX + 10];
        assert_eq!(streaming.write(&big), STREAM_BYTES_HELD_MAX);
        assert_eq!(now(|cx| streaming.poll_writable(cx)), None, "full");
        let first = outbound.frame().now_or_never().unwrap().unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), STREAM_BYTES_HELD_MAX);
        assert_eq!(now(|cx| streaming.poll_writable(cx)), Some(Ok(())));
        assert!(outbound.frame().now_or_never().is_none(), "open");
        streaming.finish();
        assert!(outbound.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_dropped_stream_is_an_aborted_response() {
        let (streaming, mut outbound) = HeldBody::default().into_streaming();
        streaming.write(b"some");
        drop(streaming);
        assert!(outbound.frame().now_or_never().unwrap().unwrap().is_ok());
        let end = outbound.frame().now_or_never().unwrap().unwrap();
        assert_eq!(end.unwrap_err(), BodyError::GuestAborted);
    }

    #[test]
    fn a_writer_learns_that_its_client_is_gone() {
        let (streaming, outbound) = HeldBody::default().into_streaming();
        drop(outbound);
        assert_eq!(now(|cx| streaming.poll_writable(cx)), Some(Err(Status::HttpIncomplete)));
    }
}
