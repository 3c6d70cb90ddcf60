//! A body as a guest holds it, and what becomes of it when it is sent.
//!
//! A held body is a queue of pieces: bytes the guest wrote, and bodies from outside that are passed on without
//! entering the guest. Once it was sent for streaming, its handle stands for the guest's end of a
//! [`crate::host::pipe`].

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use super::{
    abi::{Answer, Status},
    headers::append,
};
use crate::{
    front::{BodyError, InboundBody, OutboundBody},
    host::{
        body::{Incoming, Read},
        door::Door,
        pipe::{self, Reader, Writer},
    },
};

/// Small writes are gathered in buffers of this size, so that a body of many small writes leaves in few pieces.
const GATHER_BYTES: usize = 64 * 1024;

/// What a piece costs beside its bytes: its place, of which there may be as many again free, and an allocation with its
/// rounding.
const PIECE_BYTES: usize = 2 * size_of::<Piece>() + 32;

/// A part of a body.
#[derive(Debug)]
enum Piece {
    /// Written by the guest, or made for it.
    Bytes(Bytes),
    /// Still growing: the guest appends to it.
    Open(BytesMut),
    /// From outside.
    Incoming(Box<Incoming>),
}

/// A body behind a handle.
#[derive(Debug)]
pub(super) enum GuestBody {
    /// Read and written by the guest alone.
    Held(HeldBody),
    /// Written by the guest, read by the front or a backend.
    Streaming(Streaming),
}

impl Default for GuestBody {
    fn default() -> GuestBody {
        GuestBody::Held(HeldBody::default())
    }
}

impl From<HeldBody> for GuestBody {
    fn from(body: HeldBody) -> GuestBody {
        GuestBody::Held(body)
    }
}

impl GuestBody {
    /// A body to be read, or to be sent.
    pub(super) fn held(&mut self) -> Result<&mut HeldBody, Status> {
        match self {
            GuestBody::Held(held) => Ok(held),
            GuestBody::Streaming(_) => Err(Status::BadHandle),
        }
    }

    /// Waits until the guest could go on with it: read from it, or write to it when it is streamed.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            GuestBody::Held(held) => held.poll_readable(cx),
            GuestBody::Streaming(streaming) => streaming.writer.poll_writable(cx),
        }
    }
}

/// Pieces that the host holds for a guest.
#[derive(Debug, Default)]
pub(super) struct HeldBody {
    pieces: VecDeque<Piece>,
    /// Trailers, complete when no piece from outside is left.
    pub(super) trailers: HeaderMap,
}

impl HeldBody {
    /// A body from outside.
    pub(super) fn incoming(body: Incoming) -> HeldBody {
        HeldBody { pieces: VecDeque::from([Piece::Incoming(Box::new(body))]), trailers: HeaderMap::new() }
    }

    /// The client's body.
    pub(super) fn client(body: InboundBody, door: &Door) -> HeldBody {
        HeldBody::incoming(Incoming::client(body, door.clone()))
    }

    /// A value as a body.
    pub(super) fn full(bytes: Bytes) -> HeldBody {
        HeldBody { pieces: VecDeque::from([Piece::Bytes(bytes)]), trailers: HeaderMap::new() }
    }

    /// What the host would hold for so many bytes more at the end.
    pub(super) fn cost_back(&self, length: usize) -> usize {
        if self.gathers(length) { length } else { HeldBody::cost_front(length) }
    }

    /// The same at the beginning, where each has a piece of its own.
    pub(super) fn cost_front(length: usize) -> usize {
        if length == 0 { 0 } else { length + PIECE_BYTES }
    }

    /// Would they go to a piece that is there?
    fn gathers(&self, length: usize) -> bool {
        matches!(self.pieces.back(), Some(Piece::Open(open)) if open.len() + length <= GATHER_BYTES)
    }

    /// Adds bytes at the end.
    pub(super) fn push_back(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let gathers = self.gathers(bytes.len());
        match self.pieces.back_mut() {
            Some(Piece::Open(open)) if gathers => open.extend_from_slice(bytes),
            _ if bytes.len() <= GATHER_BYTES => self.pieces.push_back(Piece::Open(BytesMut::from(bytes))),
            _ => self.pieces.push_back(Piece::Bytes(Bytes::copy_from_slice(bytes))),
        }
    }

    /// Adds bytes at the beginning.
    pub(super) fn push_front(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.pieces.push_front(Piece::Bytes(Bytes::copy_from_slice(bytes)));
    }

    /// Moves another body to the end. One that is refused stays as it is.
    pub(super) fn append(&mut self, other: &mut HeldBody) -> Answer {
        merge(&mut self.trailers, &other.trailers)?;
        self.pieces.append(&mut other.pieces);
        Ok(())
    }

    /// How many bytes it has, if that is known before reading.
    pub(super) fn known_length(&self) -> Option<u64> {
        self.pieces.iter().try_fold(0u64, |sum, piece| {
            let length = match piece {
                Piece::Bytes(bytes) => bytes.len() as u64,
                Piece::Open(bytes) => bytes.len() as u64,
                Piece::Incoming(body) => body.known_length()?,
            };
            sum.checked_add(length)
        })
    }

    /// Has everything from outside come in?
    pub(super) fn trailers_are_complete(&self) -> bool {
        !self.pieces.iter().any(|piece| matches!(piece, Piece::Incoming(_)))
    }

    /// Waits until [`HeldBody::read`] has something to say.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.pieces.front_mut() {
                Some(Piece::Incoming(body)) => return body.poll_readable(cx),
                Some(Piece::Bytes(bytes)) if bytes.is_empty() => drop(self.pieces.pop_front()),
                Some(Piece::Open(bytes)) if bytes.is_empty() => drop(self.pieces.pop_front()),
                Some(Piece::Bytes(_) | Piece::Open(_)) | None => return Poll::Ready(()),
            }
        }
    }

    /// Moves bytes that are at hand to `target` and says how many. `None`: nothing yet. 0: the end, unless
    /// `target` is empty.
    pub(super) fn read(&mut self, target: &mut [u8]) -> Result<Option<usize>, Status> {
        let mut read = 0;
        while let Some(into) = target.get_mut(read..).filter(|into| !into.is_empty()) {
            let taken = match self.pieces.front_mut() {
                None => break,
                Some(Piece::Bytes(bytes)) => take(bytes, into),
                Some(Piece::Open(bytes)) => take(bytes, into),
                Some(Piece::Incoming(_)) if read > 0 => break,
                Some(Piece::Incoming(body)) => match body.read(into.len()) {
                    Read::Chunk(bytes) => return Ok(Some(take(&mut { bytes }, into))),
                    Read::NotYet => return Ok(None),
                    Read::Broken(error) => return Err(read_status(error)),
                    Read::End => {
                        merge(&mut self.trailers, &body.trailers().unwrap_or_default())?;
                        0
                    }
                },
            };
            read += taken;
            if taken < into.len() {
                self.pieces.pop_front();
            }
        }
        Ok(Some(read))
    }

    /// Waits for all of it, at most `bytes_max`, for an effect that takes a value rather than a stream.
    pub(super) fn poll_collect(
        &mut self,
        collected: &mut BytesMut,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Answer> {
        loop {
            match self.pieces.front_mut() {
                None => return Poll::Ready(Ok(())),
                Some(Piece::Incoming(body)) => match body.read(usize::MAX) {
                    Read::Chunk(bytes) => collected.extend_from_slice(&bytes),
                    Read::NotYet => {
                        ready!(body.poll_readable(cx));
                        continue;
                    }
                    Read::Broken(error) => return Poll::Ready(Err(read_status(error))),
                    Read::End => drop(self.pieces.pop_front()),
                },
                Some(Piece::Bytes(bytes)) => {
                    collected.extend_from_slice(bytes);
                    self.pieces.pop_front();
                }
                Some(Piece::Open(bytes)) => {
                    collected.extend_from_slice(bytes);
                    self.pieces.pop_front();
                }
            }
            if collected.len() > bytes_max {
                return Poll::Ready(Err(Status::LimitExceeded));
            }
        }
    }

    /// The whole of it, to be read by the front or a backend. `stream` is its number, if it needs one: see
    /// [`pipe::pipe`].
    pub(super) fn into_sent(mut self, door: &Door, stream: u32) -> Sent {
        if self.trailers.is_empty() && self.pieces.len() <= 1 {
            return match self.pieces.pop_front() {
                None => Sent::Empty,
                Some(Piece::Bytes(bytes)) => Sent::full(bytes),
                Some(Piece::Open(bytes)) => Sent::full(bytes.freeze()),
                Some(Piece::Incoming(body)) => Sent::Stream(UnsyncBoxBody::new(body)),
            };
        }
        let (streaming, reader) = self.into_streaming(door, stream);
        streaming.finish();
        Sent::Stream(reader.boxed_unsync())
    }

    /// Shares it with the front or a backend: the guest writes on, the other side reads.
    pub(super) fn into_streaming(self, door: &Door, stream: u32) -> (Streaming, Reader) {
        let (writer, reader) = pipe::pipe(door, stream);
        let mut streaming = Streaming { writer, trailers: self.trailers };
        streaming.write_all(self.pieces);
        (streaming, reader)
    }
}

/// A body on its way out.
pub(super) enum Sent {
    Empty,
    Full(Bytes),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Sent {
    fn full(bytes: Bytes) -> Sent {
        if bytes.is_empty() { Sent::Empty } else { Sent::Full(bytes) }
    }
}

impl From<Sent> for OutboundBody {
    fn from(body: Sent) -> OutboundBody {
        match body {
            Sent::Empty => OutboundBody::Empty,
            Sent::Full(bytes) => OutboundBody::Full(bytes),
            Sent::Stream(stream) => OutboundBody::Boxed(stream),
        }
    }
}

/// Adds trailers, all or none, within the limits of one head.
fn merge(trailers: &mut HeaderMap, added: &HeaderMap) -> Answer {
    if added.is_empty() {
        return Ok(());
    }
    let mut merged = trailers.clone();
    for (name, value) in added {
        append(&mut merged, name.clone(), value.clone())?;
    }
    *trailers = merged;
    Ok(())
}

fn take(bytes: &mut impl Buf, target: &mut [u8]) -> usize {
    let taken = bytes.remaining().min(target.len());
    let (into, _) = target.split_at_mut(taken);
    bytes.copy_to_slice(into);
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
        | BodyError::FileUnavailable
        | BodyError::Shutdown => Status::HttpIncomplete,
    }
}

/// The guest's end of a streamed body. Dropped without [`Streaming::finish`], it aborts what was being sent.
#[derive(Debug)]
pub(super) struct Streaming {
    writer: Writer,
    pub(super) trailers: HeaderMap,
}

impl Streaming {
    /// Waits until there is room for at least one byte and says for how many there is.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Status>> {
        self.writer.poll_room(cx).map_err(|pipe::Gone| Status::HttpIncomplete)
    }

    /// Adds bytes, for which there is room.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.writer.write(bytes);
    }

    /// Moves a whole body, whose bytes the host holds already, to the end. One that is refused stays as it is.
    pub(super) fn append(&mut self, body: &mut HeldBody) -> Answer {
        merge(&mut self.trailers, &body.trailers)?;
        self.write_all(std::mem::take(&mut body.pieces));
        Ok(())
    }

    fn write_all(&mut self, pieces: VecDeque<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => self.writer.write(&bytes),
                Piece::Open(bytes) => self.writer.write(&bytes),
                Piece::Incoming(body) => self.writer.append(*body),
            }
        }
    }

    /// Ends the body well.
    pub(super) fn finish(self) {
        self.writer.finish(self.trailers);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use http_body::Body as _;

    use super::*;

    fn client(text: &'static [u8]) -> HeldBody {
        HeldBody::client(InboundBody::Full(Bytes::from_static(text)), &Door::default())
    }

    fn trailers() -> HeaderMap {
        [(http::header::ETAG, "x".parse().unwrap())].into_iter().collect()
    }

    fn mixed() -> HeldBody {
        let mut body = client(b"middle ");
        body.push_back(b"e");
        body.push_back(b"nd");
        body.push_front(b"begin ");
        body
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let mut body = mixed();
        assert_eq!(body.known_length(), Some(16));
        let mut all = Vec::new();
        let mut part = [0; 4];
        while let Some(read @ 1..) = body.read(&mut part).unwrap() {
            all.extend_from_slice(&part[..read]);
        }
        assert_eq!(all, b"begin middle end");
        assert_eq!(body.known_length(), Some(0));
        assert_eq!(mixed().read(&mut []), Ok(Some(0)));
    }

    #[test]
    fn what_has_no_bytes_is_no_piece_and_costs_nothing() {
        let mut body = HeldBody::default();
        for _ in 0..3 {
            body.push_front(b"");
            body.push_back(b"");
        }
        assert_eq!((body.pieces.len(), body.cost_back(0), HeldBody::cost_front(0)), (0, 0, 0));
        assert_eq!((body.cost_back(1), HeldBody::cost_front(1)), (1 + PIECE_BYTES, 1 + PIECE_BYTES));
        body.push_back(b"x");
        assert_eq!((body.pieces.len(), body.cost_back(1)), (1, 1), "gathered");
        assert_eq!(body.cost_back(GATHER_BYTES), GATHER_BYTES + PIECE_BYTES);
    }

    #[test]
    fn a_collected_body_is_whole_or_refused() {
        let collect = |max| {
            let (mut body, mut bytes) = (mixed(), BytesMut::new());
            let answer = poll_fn(|cx| body.poll_collect(&mut bytes, max, cx)).now_or_never().unwrap();
            answer.map(|()| bytes.to_vec())
        };
        assert_eq!(collect(16), Ok(b"begin middle end".to_vec()));
        assert_eq!(collect(15), Err(Status::LimitExceeded));
    }

    #[test]
    fn a_sent_body_is_one_piece_when_it_can_be() {
        let door = Door::default();
        assert!(matches!(HeldBody::default().into_sent(&door, 0), Sent::Empty));
        let mut written = HeldBody::default();
        written.push_back(b"x");
        assert!(matches!(written.into_sent(&door, 0), Sent::Full(bytes) if bytes == "x"));
        let body = OutboundBody::from(client(b"from outside").into_sent(&door, 0));
        assert_eq!(body.size_hint().exact(), Some(12), "passed on as it is");
        let mut mixed = mixed();
        mixed.trailers = trailers();
        let body = OutboundBody::from(mixed.into_sent(&door, 0));
        let all = body.collect().now_or_never().unwrap().unwrap();
        assert_eq!(all.trailers(), Some(&trailers()));
        assert_eq!(all.to_bytes(), "begin middle end");
    }

    #[test]
    fn trailers_of_joined_bodies_are_those_of_one_head() {
        let with_trailers = |count: usize| {
            let mut body = mixed();
            for _ in 0..count {
                append(&mut body.trailers, http::header::ETAG, "x".parse().unwrap()).unwrap();
            }
            body
        };
        let (mut body, mut other) = (with_trailers(60), with_trailers(60));
        assert_eq!(body.append(&mut other), Err(Status::HttpHeadTooLarge));
        assert_eq!((body.known_length(), other.known_length()), (Some(16), Some(16)), "as they were");
        assert_eq!((body.trailers.len(), other.trailers.len()), (60, 60));
        body.append(&mut with_trailers(40)).unwrap();
        assert_eq!((body.known_length(), body.trailers.len()), (Some(32), 100));
        let (mut streaming, _reader) = body.into_streaming(&Door::default(), 0);
        assert_eq!(streaming.append(&mut other), Err(Status::HttpHeadTooLarge));
        assert_eq!((streaming.trailers.len(), other.known_length()), (100, Some(16)));
    }

    #[test]
    fn a_stream_begins_with_what_was_held() {
        let (mut streaming, reader) = mixed().into_streaming(&Door::default(), 0);
        streaming.write(b"!");
        streaming.finish();
        assert_eq!(reader.collect().now_or_never().unwrap().unwrap().to_bytes(), "begin middle end!");
    }

    #[test]
    fn a_writer_learns_that_its_reader_is_gone() {
        let (streaming, reader) = HeldBody::default().into_streaming(&Door::default(), 0);
        drop(reader);
        let room = poll_fn(|cx| streaming.poll_room(cx)).now_or_never();
        assert_eq!(room, Some(Err(Status::HttpIncomplete)));
    }
}
