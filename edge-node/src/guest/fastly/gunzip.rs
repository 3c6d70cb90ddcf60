//! Responses that a program asked to have decompressed: a body that takes gzip off as it is read.

use std::{
    io::Write as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use http::{HeaderMap, Response, header};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{
    front::BodyError,
    host::{body::Incoming, door::Door},
};

/// Compressed bytes that are unpacked at a time: deflate makes at most 1032 of one (RFC 1951), so that half a MiB
/// comes of it at most.
const STEP_BYTES: usize = 512;

/// An extension of a request: take gzip off its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct AutoDecompress;

/// Takes gzip off a response that has it, and the fields that speak of it.
pub(super) fn decompressed(response: Response<Incoming>, fetch: u32) -> Response<Incoming> {
    let coding = response.headers().get(header::CONTENT_ENCODING).map(|coding| coding.as_bytes());
    if !coding
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip"))
    {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_ENCODING);
    head.headers.remove(header::CONTENT_LENGTH);
    let unpacked = Gunzip {
        packed: body,
        piece: Bytes::new(),
        decoder: MultiGzDecoder::new(Vec::new()),
        trailers: None,
        state: State::Reading,
    };
    // What is in it has passed the door already, packed.
    let body = Incoming::fetched(UnsyncBoxBody::new(unpacked), fetch, Door::default());
    Response::from_parts(head, body)
}

struct Gunzip {
    packed: Incoming,
    /// Read and not yet unpacked.
    piece: Bytes,
    decoder: MultiGzDecoder<Vec<u8>>,
    trailers: Option<HeaderMap>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Reading,
    Ending,
    Ended,
}

const NOT_GZIP: BodyError = BodyError::BackendProtocol("gzip");

impl Gunzip {
    /// Unpacks a little; what came of it, if anything.
    fn step(&mut self) -> Result<Option<Bytes>, BodyError> {
        let step = self.piece.len().min(STEP_BYTES);
        self.decoder.write_all(self.piece.get(..step).unwrap_or_default()).map_err(|_| NOT_GZIP)?;
        self.piece.advance(step);
        let unpacked = std::mem::take(self.decoder.get_mut());
        Ok((!unpacked.is_empty()).then(|| Bytes::from(unpacked)))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match ready!(Pin::new(&mut self.packed).poll_frame(cx)) {
            None => self.state = State::Ending,
            Some(Err(error)) => return Poll::Ready(Err(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => self.piece = piece,
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok();
                    self.state = State::Ending;
                }
            },
        }
        Poll::Ready(Ok(()))
    }
}

impl Body for Gunzip {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if !self.piece.is_empty() {
                match self.step() {
                    Ok(None) => continue,
                    Ok(Some(unpacked)) => return Poll::Ready(Some(Ok(Frame::data(unpacked)))),
                    Err(error) => {
                        self.state = State::Ended;
                        self.piece = Bytes::new();
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            match self.state {
                State::Reading => {
                    if let Err(error) = ready!(self.poll_piece(cx)) {
                        self.state = State::Ended;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                State::Ending => {
                    self.state = State::Ended;
                    if self.decoder.try_finish().is_err() {
                        return Poll::Ready(Some(Err(NOT_GZIP)));
                    }
                    let rest = std::mem::take(self.decoder.get_mut());
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(rest)))));
                    }
                }
                State::Ended => {
                    return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use futures_util::FutureExt as _;
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    fn response(coding: &str, body: Vec<u8>) -> Response<Incoming> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
        let body = Incoming::fetched(UnsyncBoxBody::new(body), 1, Door::default());
        let response = Response::builder().header("content-encoding", coding).header("content-length", "9");
        response.body(body).unwrap()
    }

    fn read(response: Response<Incoming>) -> Result<Vec<u8>, BodyError> {
        let read = decompressed(response, 1).into_body().collect().now_or_never().unwrap();
        read.map(|all| all.to_bytes().to_vec())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_and_what_speaks_of_it_are_taken_off() {
        let bytes = b"to be or not to be ".repeat(10_000);
        assert!(read(response("GZIP", gzip(&bytes))).unwrap() == bytes);
        let headers = decompressed(response("gzip", gzip(b"x")), 1);
        assert!(headers.headers().is_empty());
        assert_eq!(read(response("br", b"left alone".to_vec())).unwrap(), b"left alone");
        assert_eq!(read(response("gzip", b"this is no gzip at all".to_vec())), Err(NOT_GZIP));
        let whole = gzip(&bytes);
        assert_eq!(read(response("gzip", whole[..whole.len() / 2].to_vec())), Err(NOT_GZIP), "cut off");
    }

    #[test]
    fn a_bomb_is_unpacked_in_small_pieces() {
        let bomb = gzip(&vec![0; 8 << 20]);
        let mut body = decompressed(response("gzip", bomb), 1).into_body();
        let mut total = 0;
        while let Some(frame) = body.frame().now_or_never().unwrap() {
            let piece = frame.unwrap().into_data().unwrap().len();
            assert!(piece <= STEP_BYTES * 1100 + (64 << 10), "{piece} bytes at once");
            total += piece;
        }
        assert_eq!(total, 8 << 20);
    }
}
