//! Requests that guests send: to declared backends or to hosts of the app's list, over HTTP/1.1 and HTTP/2.

mod error;
pub mod limits;

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use artifact::manifest::Backend;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;

pub use error::FetchError;

use crate::{
    exchange::Exchange,
    front::BodyError,
    host::{body::Incoming, door::Event},
};

/// What the node offers for outbound requests, made once per process. Clones share all of it.
#[derive(Clone, Default)]
pub struct Outbound {}

/// Where a request is to go.
pub enum Target<'a> {
    /// To a backend of the app, by its name.
    Backend(&'a str),
    /// To a backend that the guest made; its origins must be on the app's list.
    Dynamic(Arc<Backend>),
    /// By the request's URI: the origin of a backend, or on the app's list.
    Url,
}

/// Times for one request; the backend's, or the defaults of [`limits`], where absent. None reaches beyond the
/// exchange's own deadline.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// To connect, lookup and TLS included.
    pub connect: Option<Duration>,
    /// From the request's last byte to the response's head.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub between_bytes: Option<Duration>,
}

/// The body of a request.
pub enum RequestBody {
    /// No bytes.
    Empty,
    /// All bytes at hand: the request can be sent again.
    Full(Bytes),
    /// Written while it is sent. `Content-Length`, if the head has one, must come true.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// Extension of a response: the address that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Sends a request. Counts as one of the execution's subrequests whatever becomes of it.
pub fn send(
    exchange: &mut Exchange,
    target: Target<'_>,
    request: Request<RequestBody>,
    options: Options,
) -> Result<Fetch, FetchError> {
    let _ = (exchange, target, request, options);
    Err(FetchError::NotAllowed)
}

/// A request under way. Dropping it ends the request: an HTTP/1.1 connection is closed, an HTTP/2 stream reset.
pub struct Fetch {
    number: u32,
}

impl Fetch {
    /// The n-th of its execution, from 1. Its response's body is `Source::Body(n)`.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The response's head, when it is there; once. The response has a [`Peer`] extension.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Incoming>, FetchError>> {
        let _ = cx;
        Poll::Ready(Err(FetchError::NotAllowed))
    }
}

/// What a guest learns of a response before its body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    version: Version,
    status: StatusCode,
    headers: HeaderMap,
    peer: Option<SocketAddr>,
}

impl Head {
    fn event(&self) -> Event {
        let peer = self.peer.map(|peer| format!(" {peer}")).unwrap_or_default();
        Event::Head(format!("{:?} {}{peer}", self.version, self.status.as_u16()), self.headers.clone())
    }

    fn recall(line: &str, headers: HeaderMap) -> Option<Head> {
        let mut words = line.split(' ');
        let version = match words.next()? {
            "HTTP/1.0" => Version::HTTP_10,
            "HTTP/1.1" => Version::HTTP_11,
            "HTTP/2.0" => Version::HTTP_2,
            _ => return None,
        };
        let status = StatusCode::from_bytes(words.next()?.as_bytes()).ok()?;
        let peer = words.next().map(str::parse).transpose().ok()?;
        Some(Head { version, status, headers, peer })
    }
}
