//! HTTP/3: QUIC connection → request streams → requests.
//!
//! Relies on quinn and, behind [`super::quic`], on the h3 crate; no type of either is in this module's public
//! functions but the server settings. One endpoint per worker on its own socket; one task per connection and one
//! per request, all on the worker's thread, so that closing a connection ends its requests. Deliberately absent:
//! 0-RTT, migration, server push, WebTransport. A client that abandons a request is noticed when the response
//! is written, not before: the h3 crate shows no STOP_SENDING.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use artifact::HostName;
use bytes::{Buf, Bytes};
use h3::{
    error::{Code, StreamError},
    proto::frame::Frame as WireFrame,
    quic::SendStream as _,
    server::{RequestResolver, RequestStream},
};
use http::{HeaderMap, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime, VarInt, crypto::rustls::HandshakeData};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout, timeout_at},
};

use super::{
    BodyError, Connection, Draining, Handler, InboundBody, OutboundBody, Protocol, TlsInfo,
    answer::answer,
    connection::Activity,
    date,
    limits::{self, GOODBYE_TIMEOUT, HANDSHAKE_TIMEOUT, HEAD_TIMEOUT},
    pseudo, quic,
};

type Resolver = RequestResolver<quic::Connection, Bytes>;
type Received = RequestStream<quic::RecvStream, Bytes>;
type Sent = RequestStream<h3_quinn::SendStream<Bytes>, Bytes>;

/// What the connections of one endpoint share.
struct Listener<H> {
    handler: Rc<H>,
    local: SocketAddr,
    handshakes: Cell<usize>,
}

/// Serves HTTP/3 until drained. Runs as a local task of a worker.
pub async fn serve<H: Handler>(
    socket: UdpSocket,
    config: quinn::ServerConfig,
    handler: Rc<H>,
    mut draining: Draining,
) -> io::Result<()> {
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
    let shared = Rc::new(Listener { handler, local: endpoint.local_addr()?, handshakes: Cell::new(0) });
    let mut connections = JoinSet::new();
    let deadline = loop {
        tokio::select! {
            biased;
            deadline = draining.started() => break deadline,
            Some(_ended) = connections.join_next() => {}
            incoming = endpoint.accept(), if connections.len() < limits::CONNECTIONS_PER_WORKER_MAX => {
                let Some(incoming) = incoming else { return Ok(()) };
                if let Some(incoming) = proven(incoming, shared.handshakes.get()) {
                    connections.spawn_local(connection(incoming, Rc::clone(&shared), draining.clone()));
                }
            }
        }
    };
    endpoint.set_server_config(None);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout_at(deadline, all_ended).await;
    connections.shutdown().await;
    endpoint.close(code(Code::H3_NO_ERROR), b"shutting down");
    let _ = timeout(GOODBYE_TIMEOUT, endpoint.wait_idle()).await;
    Ok(())
}

/// Under load a client must show that it receives at the address it sends from, before it costs a handshake.
fn proven(incoming: Incoming, handshakes: usize) -> Option<Incoming> {
    let busy = handshakes >= limits::QUIC_HANDSHAKES_UNPROVEN_MAX;
    if busy && !incoming.remote_address_validated() && incoming.may_retry() {
        let _ = incoming.retry();
        return None;
    }
    Some(incoming)
}

async fn connection<H: Handler>(incoming: Incoming, shared: Rc<Listener<H>>, draining: Draining) {
    let peer = incoming.remote_address();
    shared.handshakes.set(shared.handshakes.get() + 1);
    let handshake = async { incoming.accept()?.await };
    let settled = timeout(HANDSHAKE_TIMEOUT, handshake).await;
    shared.handshakes.set(shared.handshakes.get() - 1);
    match settled {
        Ok(Ok(connection)) => {
            if let Err(error) = requests(connection, shared, draining).await {
                tracing::debug!(%peer, %error, "h3 connection");
            }
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "QUIC handshake"),
        Err(_) => tracing::debug!(%peer, "QUIC handshake took longer than {HANDSHAKE_TIMEOUT:?}"),
    }
}

/// Runs a connection to its end; when idle for too long or draining, sends GOAWAY and lets what is in flight
/// finish.
async fn requests<H: Handler>(
    quic: quinn::Connection,
    shared: Rc<Listener<H>>,
    mut draining: Draining,
) -> Result<(), h3::error::ConnectionError> {
    let connection = Arc::new(describe(&quic, shared.local));
    let mut http = h3::server::builder()
        .max_field_section_size(limits::HEAD_BYTES_HELD_MAX as u64)
        .send_grease(false)
        .build(quic::Connection::new(quic))
        .await?;
    let activity = Activity::new();
    let mut requests = JoinSet::new();
    let mut told_to_go = false;
    loop {
        tokio::select! {
            biased;
            Some(_ended) = requests.join_next() => {}
            accepted = http.accept() => {
                let Some(resolver) = accepted? else { return Ok(()) };
                let in_flight = activity.begin();
                let (shared, connection) = (Rc::clone(&shared), Arc::clone(&connection));
                requests.spawn_local(async move {
                    if let Err(error) = request(resolver, &*shared.handler, &connection).await {
                        tracing::debug!(peer = %connection.peer, %error, "h3 request");
                    }
                    drop(in_flight);
                });
            }
            _deadline = draining.started(), if !told_to_go => {
                http.shutdown(0).await?;
                told_to_go = true;
            }
            () = activity.idle(), if !told_to_go => {
                http.shutdown(0).await?;
                told_to_go = true;
            }
            // The client has its answers and should close; closing for it could cut what is still on the way.
            () = sleep(GOODBYE_TIMEOUT), if told_to_go && requests.is_empty() => return Ok(()),
        }
    }
}

fn describe(quic: &quinn::Connection, bound: SocketAddr) -> Connection {
    let handshake = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let server_name = handshake.and_then(|data| data.server_name);
    Connection {
        peer: quic.remote_address(),
        local: SocketAddr::new(quic.local_ip().unwrap_or(bound.ip()), bound.port()),
        protocol: Protocol::H3,
        tls: Some(TlsInfo {
            server_name: server_name.and_then(|name| HostName::from_authority_host(&name).ok()),
            // RFC 9001 §4.2: QUIC has no other.
            version: rustls::ProtocolVersion::TLSv1_3,
            cipher: None,
        }),
    }
}

/// One request: head → handler → response.
async fn request<H: Handler>(
    resolver: Resolver,
    handler: &H,
    connection: &Arc<Connection>,
) -> Result<(), StreamError> {
    let Some((head, stream)) = resolve(resolver).await? else { return Ok(()) };
    let (sent, received) = stream.split();
    // From here on, leaving without `finished` resets the stream.
    let mut reply = Reply { stream: sent, finished: false };
    let body = InboundBody::H3(Box::new(H3Body::new(received, head.headers())));
    let response = answer(handler, head.map(|()| body), connection, None).await;
    reply.send(response).await
}

/// Reads the head. `None`: refused by resetting the stream.
async fn resolve(
    mut resolver: Resolver,
) -> Result<Option<(Request<()>, RequestStream<quic::BidiStream, Bytes>)>, StreamError> {
    let first = timeout(HEAD_TIMEOUT, poll_fn(|cx| resolver.frame_stream.poll_next(cx))).await;
    let Ok(first) = first else {
        resolver.frame_stream.reset(Code::H3_REQUEST_CANCELLED.value());
        return Ok(None);
    };
    if let Ok(Some(WireFrame::Headers(section))) = &first
        && pseudo::authorities(section).is_some_and(|count| count > 1)
    {
        resolver.frame_stream.reset(Code::H3_MESSAGE_ERROR.value());
        return Ok(None);
    }
    resolver.accept_with_frame(first)?.resolve().await.map(Some)
}

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

/// The response half of a request. quinn finishes a dropped stream as if all had been said, so that whatever
/// ends a response early (an error, a dropped task) must reset it.
struct Reply {
    stream: Sent,
    finished: bool,
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.finished {
            self.stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}

impl Reply {
    /// Sends a response. The next piece of a body is asked for when quinn has taken the last.
    async fn send(&mut self, response: Response<OutboundBody>) -> Result<(), StreamError> {
        let (mut head, mut body) = response.into_parts();
        head.headers.entry(header::DATE).or_insert_with(date::now);
        if let Some(length @ 1..) = body.size_hint().exact() {
            head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        self.stream.send_response(Response::from_parts(head, ())).await?;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                // Reset by `drop`.
                return Ok(());
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    if !self.send_data(data).await? {
                        return Ok(());
                    }
                }
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        self.stream.send_trailers(trailers).await?;
                        break;
                    }
                }
            }
        }
        self.stream.finish().await?;
        self.finished = true;
        Ok(())
    }
}

impl Reply {
    /// `false`: its reader has stalled.
    async fn send_data(&mut self, mut data: Bytes) -> Result<bool, StreamError> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(limits::H3_SEND_BYTES_MAX));
            let Ok(sent) = timeout(limits::STALL_MAX, self.stream.send_data(part)).await else {
                return Ok(false);
            };
            sent?;
        }
        Ok(true)
    }
}

/// A request body from an h3 stream.
pub struct H3Body {
    stream: Received,
    next: Next,
    /// What `Content-Length` still promises (RFC 9114 §4.1.2); the h3 crate does not compare.
    promised: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Data,
    Trailers,
    Nothing,
}

impl H3Body {
    fn new(stream: Received, headers: &HeaderMap) -> H3Body {
        let promised =
            headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        H3Body { stream, next: Next::Data, promised }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.next == Next::Nothing
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.promised.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.next {
                Next::Data => match ready!(self.stream.poll_recv_data(cx)) {
                    Ok(Some(mut data)) => {
                        let data = data.copy_to_bytes(data.remaining());
                        if let Err(fault) = self.count(data.len() as u64) {
                            return self.end(Err(fault));
                        }
                        if !data.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                    }
                    Ok(None) => self.next = Next::Trailers,
                    Err(error) => return self.end(Err(fault(&error))),
                },
                Next::Trailers => {
                    let trailers = ready!(self.stream.poll_recv_trailers(cx));
                    return match trailers {
                        Ok(_) if self.promised.is_some_and(|left| left > 0) => {
                            self.end(Err(BodyError::ClientProtocol("shorter than content-length")))
                        }
                        Ok(trailers) => self.end(Ok(trailers)),
                        Err(error) => self.end(Err(fault(&error))),
                    };
                }
                Next::Nothing => return Poll::Ready(None),
            }
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), BodyError> {
        if let Some(left) = &mut self.promised {
            *left = left.checked_sub(bytes).ok_or(BodyError::ClientProtocol("longer than content-length"))?;
        }
        Ok(())
    }

    fn end(
        &mut self,
        last: Result<Option<HeaderMap>, BodyError>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.next = Next::Nothing;
        Poll::Ready(last.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }
}

impl Drop for H3Body {
    fn drop(&mut self) {
        if self.next != Next::Nothing {
            // The answer did not need the rest (RFC 9114 §4.1).
            self.stream.stop_sending(Code::H3_NO_ERROR);
        }
    }
}

fn fault(error: &StreamError) -> BodyError {
    match error {
        StreamError::StreamError { .. } | StreamError::HeaderTooBig { .. } => {
            BodyError::ClientProtocol("h3 message")
        }
        StreamError::RemoteTerminate { code: Code::H3_FRAME_ERROR | Code::H3_EXCESSIVE_LOAD } => {
            BodyError::ClientProtocol("h3 frames")
        }
        _ => BodyError::ClientGone,
    }
}
