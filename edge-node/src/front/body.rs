//! Request and response bodies, the same type whatever protocol carries them.
//!
//! Both are `Send`, because a guest and its exchange may move to another thread. An error in an outbound body
//! must end the response visibly (h1: connection closed before the last chunk; h2, h3: stream reset), never as
//! a clean end: the body types make no difference between "error" and "abort", so neither can a caller.
//! Deliberately absent: buffering. A body is pulled by whoever reads it, which is the back-pressure.

use std::{
    error::Error,
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use super::{h3::H3Body, unread::HyperBody};

/// Why a body ended before its end. Each variant is somebody's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Client: it reset the stream or closed the connection.
    #[error("the client went away in the middle of a body")]
    ClientGone,
    /// Client: its body breaks the rules of its protocol.
    #[error("the client's body breaks the protocol: {0}")]
    ClientProtocol(&'static str),
    /// Guest: it trapped, or gave its streaming body up before the end.
    #[error("the guest gave up its response in the middle")]
    GuestAborted,
    /// Guest: it ran into one of its limits while streaming.
    #[error("the guest exceeded a limit while sending its response")]
    GuestLimit,
    /// Backend: it closed its connection or reset its stream.
    #[error("the backend went away in the middle of its response")]
    BackendGone,
    /// Backend: its body breaks the rules of its protocol.
    #[error("the backend's body breaks the protocol: {0}")]
    BackendProtocol(&'static str),
    /// Backend: it sent nothing for too long.
    #[error("the backend stopped sending in the middle of its response")]
    BackendTimeout,
    /// Us: a static file is not on the disk as it should be.
    #[error("a static file is lost or damaged on this node")]
    FileUnavailable,
    /// Us: the node is going down and the time to finish is over.
    #[error("the node is shutting down")]
    Shutdown,
}

/// The body of a request as it comes in.
#[derive(Default)]
pub enum InboundBody {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes at hand: tests and benchmarks.
    Full(Bytes),
    /// From an h1 or h2 connection.
    Hyper(HyperBody),
    /// From an h3 stream. Boxed: five times the size of the others.
    H3(Box<H3Body>),
}

impl fmt::Debug for InboundBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InboundBody::Empty => "Empty",
            InboundBody::Full(_) => "Full",
            InboundBody::Hyper(_) => "Hyper",
            InboundBody::H3(_) => "H3",
        })
    }
}

impl Body for InboundBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            InboundBody::Empty => Poll::Ready(None),
            InboundBody::Full(bytes) => {
                let bytes = mem::take(bytes);
                *self = InboundBody::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            InboundBody::Hyper(body) => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| hyper_fault(&error))))
            }
            InboundBody::H3(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            InboundBody::Empty => true,
            InboundBody::Full(bytes) => bytes.is_empty(),
            InboundBody::Hyper(body) => body.is_end_stream(),
            InboundBody::H3(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            InboundBody::Empty => SizeHint::with_exact(0),
            InboundBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            InboundBody::Hyper(body) => body.size_hint(),
            InboundBody::H3(body) => body.size_hint(),
        }
    }
}

/// hyper says "invalid data" (chunk sizes, h2 content-length) by `io::ErrorKind`, everything else means that no
/// more bytes will come.
fn hyper_fault(error: &hyper::Error) -> BodyError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && matches!(io.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        {
            return BodyError::ClientProtocol("framing");
        }
        cause = inner.source();
    }
    if error.is_parse() { BodyError::ClientProtocol("framing") } else { BodyError::ClientGone }
}

/// The body of a response on its way out.
#[derive(Default)]
pub enum OutboundBody {
    /// No bytes.
    #[default]
    Empty,
    /// All bytes at hand: head and body leave in one write.
    Full(Bytes),
    /// Streamed by a guest.
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

impl OutboundBody {
    /// Wraps a stream of frames.
    pub fn stream(body: impl Body<Data = Bytes, Error = BodyError> + Send + 'static) -> OutboundBody {
        OutboundBody::Boxed(UnsyncBoxBody::new(body))
    }
}

impl fmt::Debug for OutboundBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutboundBody::Empty => f.write_str("Empty"),
            OutboundBody::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            OutboundBody::Boxed(_) => f.write_str("Boxed"),
        }
    }
}

impl From<&'static str> for OutboundBody {
    fn from(text: &'static str) -> OutboundBody {
        OutboundBody::from(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for OutboundBody {
    fn from(text: String) -> OutboundBody {
        OutboundBody::from(Bytes::from(text))
    }
}

impl From<Bytes> for OutboundBody {
    fn from(bytes: Bytes) -> OutboundBody {
        if bytes.is_empty() { OutboundBody::Empty } else { OutboundBody::Full(bytes) }
    }
}

impl Body for OutboundBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            OutboundBody::Empty => Poll::Ready(None),
            OutboundBody::Full(bytes) => {
                let bytes = mem::take(bytes);
                *self = OutboundBody::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            OutboundBody::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            OutboundBody::Empty => true,
            OutboundBody::Full(bytes) => bytes.is_empty(),
            OutboundBody::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            OutboundBody::Empty => SizeHint::with_exact(0),
            OutboundBody::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            OutboundBody::Boxed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send<T: Send + 'static>() {}

    #[test]
    fn bodies_may_move_between_threads() {
        send::<InboundBody>();
        send::<OutboundBody>();
    }
}
