//! What a guest writes on its way out: to the client, or to a backend.
//!
//! A queue of pieces between the guest's end and the reader's: bytes the guest wrote, and bodies from outside that
//! pass without entering it. The guest may be ahead of its reader by [`HELD_BYTES_MAX`]; the rest is back-pressure.
//! An end that is dropped unfinished aborts the other.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::{
    body::Incoming,
    door::{Door, Event, Fact, Source},
};
use crate::front::BodyError;

/// Bytes a guest may be ahead of its reader (DESIGN §4).
pub const HELD_BYTES_MAX: usize = 64 * 1024;

/// Nobody reads any more: the client or backend is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this body any more")]
pub struct Gone;

/// The guest's end.
pub struct Writer {
    queue: Arc<Mutex<Queue>>,
    door: Door,
    source: Source,
}

/// The other end: the front's or a backend's.
pub struct Reader(Arc<Mutex<Queue>>);

enum Piece {
    /// The guest's bytes; grows while nobody has taken it.
    Bytes(BytesMut),
    /// From outside.
    Body(Box<Incoming>),
}

enum End {
    Open,
    Finished(HeaderMap),
    Aborted,
}

struct Queue {
    pieces: VecDeque<Piece>,
    /// Of the guest's bytes in `pieces`.
    bytes: usize,
    /// Those in `pieces`: at most the client's and one for each fetch.
    bodies: usize,
    end: End,
    reader: Option<std::task::Waker>,
    writer: Option<std::task::Waker>,
    reader_gone: bool,
}

/// A pipe for the exchange's stream number `stream`: 0 is its response, n is the body of its n-th fetch.
pub fn pipe(door: &Door, stream: u32) -> (Writer, Reader) {
    let queue = Arc::new(Mutex::new(Queue {
        pieces: VecDeque::new(),
        bytes: 0,
        bodies: 0,
        end: End::Open,
        reader: None,
        writer: None,
        reader_gone: false,
    }));
    let reader = Reader(queue.clone());
    (Writer { queue, door: door.clone(), source: Source::Stream(stream) }, reader)
}

impl Queue {
    fn room(&self) -> Result<usize, Gone> {
        match self.reader_gone {
            true => Err(Gone),
            false => Ok(HELD_BYTES_MAX.saturating_sub(self.bytes)),
        }
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

impl Writer {
    /// Bytes there is room for now; may be none.
    pub fn room(&self) -> Result<usize, Gone> {
        self.door.learn(self.source, || Room(self.queue.lock().room())).0
    }

    /// Waits for room for at least one byte.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, Gone>> {
        self.door.poll_learn(self.source, || self.poll_world(cx)).map(|room| room.0)
    }

    /// The same for a poll or select, which notes only that there is room.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_world(cx).map(drop)
    }

    fn poll_world(&self, cx: &mut Context<'_>) -> Poll<Room> {
        let mut queue = self.queue.lock();
        match queue.room() {
            Ok(0) => {
                queue.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            room => Poll::Ready(Room(room)),
        }
    }

    /// Adds bytes. Whoever calls has asked for room; what is beyond it is taken all the same.
    pub fn write(&self, bytes: &[u8]) {
        self.door.cause(self.source, || Event::Chunk(Bytes::copy_from_slice(bytes)));
        let mut queue = self.queue.lock();
        if queue.reader_gone || bytes.is_empty() {
            return;
        }
        queue.bytes = queue.bytes.saturating_add(bytes.len());
        match queue.pieces.back_mut() {
            Some(Piece::Bytes(open)) => open.extend_from_slice(bytes),
            Some(Piece::Body(_)) | None => queue.pieces.push_back(Piece::Bytes(BytesMut::from(bytes))),
        }
        queue.wake_reader();
    }

    /// Adds a body from outside, which the reader pulls. Its trailers are dropped: this pipe's are its writer's.
    pub fn append(&mut self, body: Incoming) {
        let mut queue = self.queue.lock();
        if queue.reader_gone {
            return;
        }
        queue.bodies += 1;
        queue.pieces.push_back(Piece::Body(Box::new(body)));
        queue.wake_reader();
    }

    /// Ends it well.
    pub fn finish(self, trailers: HeaderMap) {
        self.door.cause(self.source, || Event::End(trailers.clone()));
        let mut queue = self.queue.lock();
        queue.end = End::Finished(trailers);
        queue.wake_reader();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        if matches!(queue.end, End::Open) {
            queue.end = End::Aborted;
            queue.wake_reader();
        }
    }
}

impl Reader {
    /// Bytes that wait here and that no writer can say of any more. For a pipe that nobody reads from yet, these are what
    /// its writer left.
    pub fn left_bytes(&self) -> usize {
        let queue = self.0.lock();
        match &queue.end {
            End::Open => 0,
            End::Aborted => queue.bytes,
            End::Finished(trailers) => {
                let text = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    name.as_str().len() + value.len() + size_of::<(http::HeaderName, http::HeaderValue)>()
                };
                queue.bytes + trailers.iter().map(text).sum::<usize>()
            }
        }
    }

    /// The whole body, if it is finished and nothing but bytes: its head need not wait for it, nor it for a reader.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let mut queue = self.0.lock();
        match &queue.end {
            End::Finished(trailers) if trailers.is_empty() && queue.bodies == 0 => {}
            _ => return None,
        }
        queue.bytes = 0;
        // Bytes that follow bytes were joined when they were written.
        match queue.pieces.pop_front() {
            Some(Piece::Bytes(bytes)) => Some(bytes.freeze()),
            Some(Piece::Body(_)) | None => Some(Bytes::new()),
        }
    }
}

impl Body for Reader {
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
                    queue.bytes = queue.bytes.saturating_sub(bytes.len());
                    queue.wake_writer();
                    return Poll::Ready(Some(Ok(Frame::data(bytes.freeze()))));
                }
                Some(Piece::Body(mut body)) => match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Pending => {
                        queue.pieces.push_front(Piece::Body(body));
                        return Poll::Pending;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        queue.end = End::Aborted;
                        queue.pieces.clear();
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                        queue.pieces.push_front(Piece::Body(body));
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    // Its trailers are not its new owner's: a message has the trailers its sender gave it.
                    Poll::Ready(Some(Ok(_)) | None) => {
                        queue.bodies -= 1;
                        queue.wake_writer();
                    }
                },
                None => return queue.poll_end(cx),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let queue = self.0.lock();
        queue.pieces.is_empty() && matches!(&queue.end, End::Finished(trailers) if trailers.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let queue = self.0.lock();
        let whole = matches!(&queue.end, End::Finished(trailers) if trailers.is_empty());
        match whole && queue.bodies == 0 {
            true => SizeHint::with_exact(queue.bytes as u64),
            false => SizeHint::default(),
        }
    }
}

impl Queue {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.end {
            End::Open => {
                self.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            End::Aborted => Poll::Ready(Some(Err(BodyError::GuestAborted))),
            End::Finished(trailers) if trailers.is_empty() => Poll::Ready(None),
            End::Finished(trailers) => Poll::Ready(Some(Ok(Frame::trailers(std::mem::take(trailers))))),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.reader_gone = true;
        queue.pieces.clear();
        queue.wake_writer();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({:?})", self.source)
    }
}

/// Room in a pipe as it passes the door.
struct Room(Result<usize, Gone>);

impl Fact for Room {
    fn event(&self) -> Event {
        match self.0 {
            Ok(room) => Event::Number(room as u64),
            Err(Gone) => Event::Broken(BodyError::ClientGone),
        }
    }

    fn recall(event: Event) -> Option<Room> {
        match event {
            Event::Number(room) => usize::try_from(room).ok().map(|room| Room(Ok(room))),
            Event::Broken(_) => Some(Room(Err(Gone))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::front::InboundBody;

    fn next(reader: &mut Reader) -> Option<Option<Result<Frame<Bytes>, BodyError>>> {
        reader.frame().now_or_never()
    }

    #[test]
    fn small_writes_leave_together_and_the_end_is_clean() {
        let (writer, mut reader) = pipe(&Door::default(), 0);
        writer.write(b"hel");
        writer.write(b"lo");
        assert_eq!(next(&mut reader).unwrap().unwrap().unwrap().into_data().unwrap(), "hello");
        assert!(next(&mut reader).is_none(), "open");
        writer.finish(HeaderMap::new());
        assert!(reader.is_end_stream());
        assert!(next(&mut reader).unwrap().is_none());
    }

    #[test]
    fn a_writer_waits_for_its_reader() {
        let (writer, mut reader) = pipe(&Door::default(), 0);
        assert_eq!(writer.room(), Ok(HELD_BYTES_MAX));
        writer.write(&vec![7; HELD_BYTES_MAX]);
        assert_eq!(writer.room(), Ok(0));
        let room = |writer: &Writer| std::future::poll_fn(|cx| writer.poll_room(cx)).now_or_never();
        assert_eq!(room(&writer), None);
        assert!(next(&mut reader).is_some());
        assert_eq!(room(&writer), Some(Ok(HELD_BYTES_MAX)));
        drop(reader);
        assert_eq!((writer.room(), room(&writer)), (Err(Gone), Some(Err(Gone))));
    }

    #[test]
    fn a_writer_that_is_dropped_aborts() {
        let (writer, mut reader) = pipe(&Door::default(), 0);
        writer.write(b"some");
        drop(writer);
        assert!(next(&mut reader).unwrap().unwrap().is_ok());
        assert_eq!(next(&mut reader).unwrap().unwrap().unwrap_err(), BodyError::GuestAborted);
    }

    #[test]
    fn a_finished_body_of_bytes_can_be_taken_whole() {
        let (writer, mut reader) = pipe(&Door::default(), 0);
        writer.write(b"hel");
        writer.write(b"lo");
        assert_eq!(reader.take_whole(), None, "open");
        writer.finish(HeaderMap::new());
        assert_eq!(reader.take_whole().unwrap(), "hello");

        let (writer, mut reader) = pipe(&Door::default(), 0);
        let trailers: HeaderMap = [(http::header::ETAG, "x".parse().unwrap())].into_iter().collect();
        writer.finish(trailers);
        assert_eq!(reader.take_whole(), None, "trailers");
        let (writer, mut reader) = pipe(&Door::default(), 0);
        drop(writer);
        assert_eq!(reader.take_whole(), None, "aborted");
        let (mut writer, mut reader) = pipe(&Door::default(), 0);
        writer.append(Incoming::client(InboundBody::Full(Bytes::from_static(b"x")), Door::default()));
        writer.finish(HeaderMap::new());
        assert_eq!(reader.take_whole(), None, "a body from outside");
    }

    #[test]
    fn a_body_from_outside_passes_between_the_guests_own_bytes() {
        let (mut writer, reader) = pipe(&Door::default(), 0);
        writer.write(b"<");
        let body = InboundBody::Full(Bytes::from_static(b"middle"));
        writer.append(Incoming::client(body, Door::default()));
        writer.write(b">");
        let trailers: HeaderMap = [(http::header::ETAG, "x".parse().unwrap())].into_iter().collect();
        writer.finish(trailers.clone());
        let all = reader.collect().now_or_never().unwrap().unwrap();
        assert_eq!(all.trailers(), Some(&trailers));
        assert_eq!(all.to_bytes(), "<middle>");
    }
}
