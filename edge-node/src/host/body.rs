//! A body from outside, as a guest reads it: the client's, or that of a response a guest fetched.
//!
//! Pulled piece by piece by whoever has it, the guest or, when it is passed on unread, the front or a backend; never
//! more than one piece ahead. Every piece, with its edges, passes the door.

use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use super::door::{Door, Event, Fact, Source};
use crate::front::{BodyError, InboundBody};

/// What a backend's connection gives at once, or about: trailers are no more.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// See the module.
pub struct Incoming {
    origin: Origin,
    /// Pulled and not yet given on.
    piece: Bytes,
    end: Option<End>,
    /// The end has passed the door: the guest knows of it.
    end_learned: bool,
    door: Door,
    source: Source,
}

enum Origin {
    Client(InboundBody),
    Backend(UnsyncBoxBody<Bytes, BodyError>),
}

enum End {
    /// With these trailers, which may be none.
    Whole(HeaderMap),
    Broken(BodyError),
}

/// What a read without waiting finds.
#[derive(Debug, PartialEq)]
pub enum Read {
    /// Bytes, at least one.
    Chunk(Bytes),
    /// Nothing, but there may be more: [`Incoming::poll_readable`] waits for it.
    NotYet,
    /// All has been read; [`Incoming::trailers`] has the rest.
    End,
    /// It broke off.
    Broken(BodyError),
}

/// A piece of a body as it passes the door.
#[derive(Debug)]
enum Piece {
    Chunk(Bytes),
    NotYet,
    End(HeaderMap),
    Broken(BodyError),
}

impl Fact for Piece {
    fn event(&self) -> Event {
        match self {
            Piece::Chunk(bytes) => Event::Chunk(bytes.clone()),
            Piece::NotYet => Event::NotYet,
            Piece::End(trailers) => Event::End(trailers.clone()),
            Piece::Broken(error) => Event::Broken(*error),
        }
    }

    fn recall(event: Event) -> Option<Piece> {
        match event {
            Event::Chunk(bytes) => Some(Piece::Chunk(bytes)),
            Event::NotYet => Some(Piece::NotYet),
            Event::End(trailers) => Some(Piece::End(trailers)),
            Event::Broken(error) => Some(Piece::Broken(error)),
            _ => None,
        }
    }
}

impl Incoming {
    /// Bytes that the host may hold for it. None for the client's, which is the connection's.
    pub fn held_bytes(&self) -> usize {
        match self.origin {
            Origin::Client(_) => 0,
            Origin::Backend(_) => PIECE_BYTES_MAX,
        }
    }

    /// The client's body.
    pub fn client(body: InboundBody, door: Door) -> Incoming {
        Incoming::new(Origin::Client(body), door, 0)
    }

    /// The body of the response to the exchange's fetch number `fetch`, from 1.
    pub fn fetched(body: UnsyncBoxBody<Bytes, BodyError>, fetch: u32, door: Door) -> Incoming {
        Incoming::new(Origin::Backend(body), door, fetch)
    }

    fn new(origin: Origin, door: Door, number: u32) -> Incoming {
        let source = Source::Body(number);
        Incoming { origin, piece: Bytes::new(), end: None, end_learned: false, door, source }
    }

    /// Waits until a read would find bytes, the end or a break.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.door.replays() {
            return Poll::Ready(());
        }
        while self.piece.is_empty() && self.end.is_none() {
            let frame = ready!(self.origin.poll_frame(cx));
            self.take(frame);
        }
        Poll::Ready(())
    }

    /// Takes at most `max` bytes of what is at hand, without waiting.
    pub fn read(&mut self, max: usize) -> Read {
        match &self.end {
            Some(End::Whole(_)) if self.end_learned => return Read::End,
            Some(End::Broken(error)) if self.end_learned => return Read::Broken(*error),
            _ => {}
        }
        let door = self.door.clone();
        match door.learn(self.source, || self.at_hand(max)) {
            Piece::Chunk(bytes) => Read::Chunk(bytes),
            Piece::NotYet => Read::NotYet,
            Piece::End(trailers) => {
                self.met(End::Whole(trailers));
                Read::End
            }
            Piece::Broken(error) => {
                self.met(End::Broken(error));
                Read::Broken(error)
            }
        }
    }

    fn met(&mut self, end: End) {
        self.end = Some(end);
        self.end_learned = true;
    }

    /// Its length from here on, if that is known before reading.
    pub fn known_length(&self) -> Option<u64> {
        self.door.learn(self.source, || KnownLength(self.length())).0
    }

    fn length(&self) -> Option<u64> {
        let rest = match (&self.end, &self.origin) {
            (Some(_), _) => Some(0),
            (None, Origin::Client(body)) => body.size_hint().exact(),
            (None, Origin::Backend(body)) => body.size_hint().exact(),
        };
        rest?.checked_add(self.piece.len() as u64)
    }

    /// What came after the last byte, once the end was met. Given once.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.end {
            Some(End::Whole(trailers)) if self.end_learned => Some(mem::take(trailers)),
            Some(End::Whole(_) | End::Broken(_)) | None => None,
        }
    }

    /// Reads to the end and throws away what comes. Its trailers can then be had.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            match ready!(self.poll_piece(cx)) {
                Piece::Chunk(_) | Piece::NotYet => {}
                Piece::End(_) => return Poll::Ready(Ok(())),
                Piece::Broken(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The next piece, past the door. At the end the trailers stay here.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Piece> {
        match &self.end {
            Some(End::Whole(_)) if self.end_learned => return Poll::Ready(Piece::End(HeaderMap::new())),
            Some(End::Broken(error)) if self.end_learned => return Poll::Ready(Piece::Broken(*error)),
            _ => {}
        }
        let door = self.door.clone();
        let piece = ready!(
            door.poll_learn(self.source, || { self.poll_readable(cx).map(|()| self.at_hand(usize::MAX)) })
        );
        Poll::Ready(match piece {
            Piece::End(trailers) => {
                self.met(End::Whole(trailers));
                Piece::End(HeaderMap::new())
            }
            Piece::Broken(error) => {
                self.met(End::Broken(error));
                Piece::Broken(error)
            }
            piece => piece,
        })
    }

    /// What there is now.
    fn at_hand(&mut self, max: usize) -> Piece {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.poll_readable(&mut nobody).is_pending() {
            return Piece::NotYet;
        }
        if !self.piece.is_empty() {
            return Piece::Chunk(self.piece.split_to(max.min(self.piece.len())));
        }
        match &mut self.end {
            Some(End::Whole(trailers)) => Piece::End(mem::take(trailers)),
            Some(End::Broken(error)) => Piece::Broken(*error),
            None => Piece::NotYet,
        }
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) {
        match frame {
            None => self.end = Some(End::Whole(HeaderMap::new())),
            Some(Err(error)) => self.end = Some(End::Broken(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.piece = data,
                // Nothing comes after trailers.
                Err(frame) => self.end = Some(End::Whole(frame.into_trailers().unwrap_or_default())),
            },
        }
    }
}

impl Origin {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Origin::Client(body) => Pin::new(body).poll_frame(cx),
            Origin::Backend(body) => Pin::new(body).poll_frame(cx),
        }
    }
}

/// Passing it on without a look into it.
impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            return Poll::Ready(match ready!(self.poll_piece(cx)) {
                Piece::Chunk(bytes) => Some(Ok(Frame::data(bytes))),
                Piece::NotYet => continue,
                Piece::Broken(error) => Some(Err(error)),
                Piece::End(_) => {
                    let trailers = self.trailers().filter(|trailers| !trailers.is_empty());
                    trailers.map(|trailers| Ok(Frame::trailers(trailers)))
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && matches!(&self.end, Some(End::Whole(trailers)) if trailers.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self.length() {
            Some(length) if !self.door.replays() => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({:?})", self.source)
    }
}

/// A length before reading.
struct KnownLength(Option<u64>);

impl Fact for KnownLength {
    fn event(&self) -> Event {
        self.0.map_or(Event::NotYet, Event::Number)
    }

    fn recall(event: Event) -> Option<KnownLength> {
        match event {
            Event::Number(length) => Some(KnownLength(Some(length))),
            Event::NotYet => Some(KnownLength(None)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::host::tape::Tape;

    fn fetched(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Incoming {
        let body = UnsyncBoxBody::new(StreamBody::new(futures_util::stream::iter(frames)));
        Incoming::fetched(body, 1, Door::default())
    }

    fn trailers() -> HeaderMap {
        [(http::HeaderName::from_static("x"), "1".parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn reads_take_what_is_asked_and_meet_the_end_with_its_trailers() {
        let mut body =
            fetched(vec![Ok(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers()))]);
        assert_eq!(body.read(2), Read::Chunk(Bytes::from_static(b"he")));
        assert_eq!(body.trailers(), None, "not before the end");
        assert_eq!(body.read(9), Read::Chunk(Bytes::from_static(b"llo")));
        assert_eq!((body.read(9), body.read(9)), (Read::End, Read::End));
        assert_eq!(body.trailers(), Some(trailers()));
    }

    #[test]
    fn a_break_stays_a_break() {
        let mut body = fetched(vec![Ok(Frame::data(Bytes::from_static(b"x"))), Err(BodyError::BackendGone)]);
        assert_eq!(body.read(1), Read::Chunk(Bytes::from_static(b"x")));
        assert_eq!(body.read(1), Read::Broken(BodyError::BackendGone));
        assert_eq!(body.read(1), Read::Broken(BodyError::BackendGone));
        assert_eq!(body.trailers(), None);
    }

    #[test]
    fn an_end_that_was_waited_for_is_learned_like_any_other() {
        let frames = || {
            vec![Ok(Frame::data(Bytes::from_static(b"x"))), Ok::<_, BodyError>(Frame::trailers(trailers()))]
        };
        let all = |frames: Vec<_>, door: Door| {
            let body = UnsyncBoxBody::new(StreamBody::new(futures_util::stream::iter(frames)));
            let mut body = Incoming::fetched(body, 1, door);
            let mut read = || {
                assert!(std::future::poll_fn(|cx| body.poll_readable(cx)).now_or_never().is_some());
                body.read(9)
            };
            ([read(), read(), read()], body.trailers())
        };
        let tape = Tape::record();
        let live = all(frames(), tape.door());
        assert_eq!(live, ([Read::Chunk(Bytes::from_static(b"x")), Read::End, Read::End], Some(trailers())));
        assert_eq!(all(vec![], Tape::play(tape.recording()).door()), live);
    }

    #[test]
    fn what_was_not_read_can_be_passed_on() {
        let data = |text: &'static [u8]| Ok(Frame::data(Bytes::from_static(text)));
        let mut body = fetched(vec![data(b"hello "), data(b"world"), Ok(Frame::trailers(trailers()))]);
        assert_eq!(body.read(1), Read::Chunk(Bytes::from_static(b"h")));
        let rest = body.collect().now_or_never().unwrap().unwrap();
        assert_eq!(rest.trailers(), Some(&trailers()));
        assert_eq!(rest.to_bytes(), "ello world");
    }

    #[test]
    fn waiting_and_length() {
        let body = UnsyncBoxBody::new(StreamBody::new(futures_util::stream::pending()));
        let mut body = Incoming::fetched(body, 1, Door::default());
        assert_eq!((body.read(1), body.known_length()), (Read::NotYet, None));
        let mut body = Incoming::client(InboundBody::Full(Bytes::from_static(b"abc")), Door::default());
        assert_eq!(body.known_length(), Some(3));
        assert_eq!(body.read(1), Read::Chunk(Bytes::from_static(b"a")));
        assert_eq!(body.known_length(), Some(2));
        assert!(std::future::poll_fn(|cx| body.poll_end(cx)).now_or_never().unwrap().is_ok());
        assert_eq!((body.read(1), body.known_length()), (Read::End, Some(0)));
    }
}
