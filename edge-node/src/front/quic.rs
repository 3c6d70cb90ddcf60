//! QUIC streams as the h3 crate wants them: those of `h3-quinn`, with three gaps closed.
//!
//! 1. The h3 crate collects a HEADERS or unknown frame of whatever length it announces, on request streams and
//!    on the control stream. [`FrameGuard`] ends the stream at the announcement.
//! 2. The h3 crate takes a stream that ends inside a DATA frame for a complete one, and then panics when asked
//!    for trailers. The guard ends such a stream with an error.
//! 3. `h3-quinn` panics when a stream is stopped, or asked its id, while a read is pending. Both are answered
//!    here without asking it.
//!
//! Everything else is delegation.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h3::{
    error::Code,
    quic::{
        self, BidiStream as _, ConnectionErrorIncoming, RecvStream as _, StreamErrorIncoming, StreamId,
        WriteBuf,
    },
};

use super::frames::{Fault, FrameGuard};

type Poller<T, E> = Poll<Result<T, E>>;

/// A QUIC connection.
pub struct Connection(h3_quinn::Connection);

impl Connection {
    pub(super) fn new(connection: quinn::Connection) -> Connection {
        Connection(h3_quinn::Connection::new(connection))
    }
}

/// The receiving half of a stream.
pub struct RecvStream {
    inner: h3_quinn::RecvStream,
    id: StreamId,
    reading: bool,
    guard: FrameGuard,
}

impl RecvStream {
    fn new(inner: h3_quinn::RecvStream, guard: FrameGuard) -> RecvStream {
        let id = inner.recv_id();
        RecvStream { inner, id, reading: false, guard }
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poller<Option<Bytes>, StreamErrorIncoming> {
        self.reading = true;
        let chunk = ready!(self.inner.poll_data(cx));
        self.reading = false;
        let chunk = chunk?;
        let seen = match &chunk {
            Some(bytes) => self.guard.feed(bytes),
            None => self.guard.end(),
        };
        Poll::Ready(match seen {
            Ok(()) => Ok(chunk),
            Err(fault) => {
                let code = match fault {
                    Fault::TooLong => Code::H3_EXCESSIVE_LOAD,
                    Fault::CutOff => Code::H3_FRAME_ERROR,
                };
                self.inner.stop_sending(code.value());
                Err(StreamErrorIncoming::StreamTerminated { error_code: code.value() })
            }
        })
    }

    fn stop_sending(&mut self, code: u64) {
        // While a read is pending quinn's stream is out of reach; dropping it stops the sender with code 0.
        if !self.reading {
            self.inner.stop_sending(code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// A stream for both directions.
pub struct BidiStream {
    send: h3_quinn::SendStream<Bytes>,
    recv: RecvStream,
}

impl BidiStream {
    fn new(inner: h3_quinn::BidiStream<Bytes>) -> BidiStream {
        let (send, recv) = inner.split();
        BidiStream { send, recv: RecvStream::new(recv, FrameGuard::request_stream()) }
    }
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = h3_quinn::SendStream<Bytes>;
    type RecvStream = RecvStream;

    fn split(self) -> (Self::SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poller<Option<Bytes>, StreamErrorIncoming> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.id
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poller<(), StreamErrorIncoming> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poller<(), StreamErrorIncoming> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poller<BidiStream, StreamErrorIncoming> {
        quic::OpenStreams::<Bytes>::poll_open_bidi(&mut self.0, cx).map_ok(BidiStream::new)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poller<Self::SendStream, StreamErrorIncoming> {
        quic::OpenStreams::<Bytes>::poll_open_send(&mut self.0, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.0, code, reason);
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poller<RecvStream, ConnectionErrorIncoming> {
        quic::Connection::<Bytes>::poll_accept_recv(&mut self.0, cx)
            .map_ok(|stream| RecvStream::new(stream, FrameGuard::one_way_stream()))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poller<BidiStream, ConnectionErrorIncoming> {
        quic::Connection::<Bytes>::poll_accept_bidi(&mut self.0, cx).map_ok(BidiStream::new)
    }

    fn opener(&self) -> Opener {
        Opener(quic::Connection::<Bytes>::opener(&self.0))
    }
}

/// Opens streams.
pub struct Opener(h3_quinn::OpenStreams);

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = BidiStream;
    type SendStream = h3_quinn::SendStream<Bytes>;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poller<BidiStream, StreamErrorIncoming> {
        quic::OpenStreams::<Bytes>::poll_open_bidi(&mut self.0, cx).map_ok(BidiStream::new)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poller<Self::SendStream, StreamErrorIncoming> {
        quic::OpenStreams::<Bytes>::poll_open_send(&mut self.0, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.0, code, reason);
    }
}
