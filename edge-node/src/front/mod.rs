//! The front: terminates TLS and QUIC, and hands every request to one [`Handler`].
//!
//! Relies on the worker's local runtime: listeners, connections and handlers are tasks of one thread, and a
//! worker runs one accept loop per listener. Deliberately absent: routing, guests, metrics; the front knows
//! names only for certificates and for [`authority`], which the request path calls.
//!
//! | Module | One job |
//! |---|---|
//! | [`sockets`] | one TCP and UDP pair per worker on one port |
//! | [`tls`] | certificates by name, TLS settings for TCP and QUIC |
//! | [`tcp`] | accept → handshake → ALPN → h1 or h2 |
//! | [`h3`] | the same over QUIC |
//! | [`answer`] | what every request passes, whatever carried it |
//! | [`authority`] | which host a request is for: the tenant key |
//! | [`limits`] | every bound of the front |
//! | [`body`] | request and response bodies |
//! | [`unread`] | what becomes of a request body that nobody reads |
//! | `stalled` | readers that take nothing more of an answer |
//! | `watched` | a stream whose reads and writes are looked at |
//! | [`drain`] | going down without dropping a request |

use std::{future::Future, net::SocketAddr, sync::Arc};

use artifact::HostName;
use http::{Request, Response, request};

pub mod answer;
pub mod authority;
pub mod body;
mod connection;
mod date;
pub mod drain;
mod frames;
pub mod h3;
pub mod limits;
mod pseudo;
mod quic;
pub mod sockets;
mod stalled;
pub mod tcp;
pub mod tls;
pub mod unread;
pub(crate) mod watched;

#[cfg(test)]
mod tests;

pub use authority::{Authority, Refusal};
pub use body::{BodyError, InboundBody, OutboundBody};
pub use drain::{Drain, Draining};

/// What carried a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// Its name in logs and metrics, as ALPN writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::H1 => "http/1.1",
            Protocol::H2 => "h2",
            Protocol::H3 => "h3",
        }
    }
}

/// What the handshake settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// The name the client asked a certificate for (SNI). Without one there is no handshake.
    pub server_name: Option<HostName>,
    /// TLS 1.2 or 1.3.
    pub version: rustls::ProtocolVersion,
    /// The cipher suite; quinn does not tell.
    pub cipher: Option<rustls::CipherSuite>,
}

/// One client connection, shared by its requests. In an `Arc`, because the guests that see it may change
/// threads.
#[derive(Debug)]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address the client reached us at.
    pub local: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// `None` on the plaintext listener.
    pub tls: Option<TlsInfo>,
}

/// Answers requests. One per worker; runs on the worker's thread, so nothing here is `Send`.
pub trait Handler: 'static {
    /// Answers one request. The future is dropped when the client resets the stream (h2) or closes the
    /// connection before the answer.
    fn handle(
        &self,
        request: Request<InboundBody>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<OutboundBody>>;

    /// Answers a request whose head is refused and that is therefore not handled. For those who count or log: the
    /// default answers by status and one line.
    fn refuse(
        &self,
        head: &request::Parts,
        why: limits::BadHead,
        connection: &Arc<Connection>,
    ) -> Response<OutboundBody> {
        let _ = (head, connection);
        answer::plain(why.status(), format!("{why}\n"))
    }

    /// Answers in the place of a handler that panicked. For those who count or log.
    fn panicked(&self, connection: &Arc<Connection>) -> Response<OutboundBody> {
        tracing::error!(peer = %connection.peer, "the handler of a request panicked; answered 500");
        answer::plain(http::StatusCode::INTERNAL_SERVER_ERROR, "internal error\n".to_owned())
    }
}
