//! The sync listener: TLS 1.3 with ALPN `h2`, and five paths.
//!
//! accept → handshake → who is it → path → answer. A client certificate is optional to TLS, because enrolment comes
//! before the first one; every other path asks for it, and asks the view whether the node was revoked. Every wait has
//! a limit here. Absent on purpose: HTTP/1, other clients than nodes.

mod blobs;
mod enrol;
mod kv;
mod stream;
mod tls;

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use artifact::NodeName;
use bytes::Bytes;
use fleet_sync_proto::{
    enrol::{BLOBS_PATH, ENROL_PATH, RENEW_PATH, Refusal, STREAM_PATH},
    kv::KV_PATH,
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

pub(crate) use kv::INCOMING_KIB_MAX as KV_INCOMING_KIB_MAX;

use crate::{
    ca::{self, Identity},
    clock::now_ms,
    origin::{Origin, OriginError},
};

/// Open connections: a stream, a bulk and a key-value connection for each of 1,300 nodes. One more waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 4_096;
/// Open connections without a client certificate, and how long each may live: enrolling is one request.
const STRANGERS_MAX: usize = 64;
const STRANGER_LIFE_MAX: Duration = Duration::from_secs(15);
/// Time for TLS and the connection preface.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Quiet time before an HTTP/2 ping, and time for its answer: a dead peer is noticed within 25 s.
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_ANSWER_MAX: Duration = Duration::from_secs(10);
/// A stream, a few blobs, a renewal, or the key-value operations that a node has under way at once.
const STREAMS_PER_CONNECTION_MAX: u32 = 32;
/// Receive windows of whoever is not known yet.
const STRANGER_WINDOW_BYTES: u32 = 256 * 1024;
/// Receive windows of a node, for key-value writes: a value of 8 MiB from 200 ms away takes 2 s of round trips, four at
/// once no more than that, and small ones pass between them.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// What hyper may buffer for one HTTP/2 stream to a slow node.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Request headers.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// At shutdown, connections get this long to end.
const GRACE: Duration = Duration::from_secs(2);
/// After a failed accept (no file descriptors left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Origin {
    /// Serves nodes until `shutdown` resolves, then ends the streams and gives connections two seconds.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), OriginError> {
        let acceptor = TlsAcceptor::from(Arc::new(tls::server_config(&self)?));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = async {
                let permit = room.clone().acquire_owned().await.expect("this semaphore is never closed");
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((socket, peer)) => {
                    let (origin, acceptor, stopping) = (self.clone(), acceptor.clone(), stopping.clone());
                    let strangers = strangers.clone();
                    connections.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = connection(origin, acceptor, strangers, socket, stopping).await {
                            tracing::debug!(%peer, error = %error, "a sync connection ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(error = %error, "accepting a sync connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        stop.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, ended).await;
        connections.shutdown().await;
        if let Err(error) = self.roster.keep(self.nodes.take_dirty()).await {
            tracing::warn!(error = %error, "writing node sightings down");
        }
        Ok(())
    }
}

/// Resolves when the origin stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: stopped as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}

type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    origin: Arc<Origin>,
    acceptor: TlsAcceptor,
    strangers: Arc<Semaphore>,
    socket: TcpStream,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    socket.set_nodelay(true)?;
    let tls = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(socket)).await??;
    let session = tls.get_ref().1;
    if session.alpn_protocol() != Some(b"h2") {
        return Err("the client does not speak h2".into());
    }
    let peer = session.peer_certificates().and_then(|chain| ca::identity(chain.first()?));
    // Whoever is nobody yet takes no room from nodes, neither in number nor in time.
    let stranger = match &peer {
        Some(_) => None,
        None => Some(strangers.try_acquire().map_err(|_| "too many connections without a certificate")?),
    };
    let life_over = async {
        match stranger {
            Some(_) => tokio::time::sleep(STRANGER_LIFE_MAX).await,
            None => std::future::pending().await,
        }
    };
    let (stream_window, connection_window) = match &peer {
        Some(_) => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
        None => (STRANGER_WINDOW_BYTES, STRANGER_WINDOW_BYTES),
    };
    let large = Arc::new(Semaphore::new(kv::LARGE_PER_CONNECTION_MAX));
    let service = hyper::service::service_fn({
        let stopping = stopping.clone();
        move |request| {
            let (origin, peer, stopping, large) =
                (origin.clone(), peer.clone(), stopping.clone(), large.clone());
            async move { Ok::<_, Infallible>(answer(origin, peer, request, stopping, &large).await) }
        }
    });
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_ANSWER_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    let served = http.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(served);
    tokio::select! {
        done = &mut served => return Ok(done?),
        () = life_over => return Err("a connection without a certificate lived its 15 s".into()),
        () = stopped(&mut stopping) => served.as_mut().graceful_shutdown(),
    }
    Ok(served.await?)
}

/// The paths of the listener.
async fn answer(
    origin: Arc<Origin>,
    peer: Option<Identity>,
    request: Request<Incoming>,
    stopping: watch::Receiver<bool>,
    large: &Semaphore,
) -> Response<Body> {
    let path = request.uri().path();
    let done = match (request.method(), path) {
        (&Method::POST, ENROL_PATH) => enrol::enrol(&origin, request).await,
        (&Method::POST, RENEW_PATH) => match known(&origin, peer, Expired::MayRenew) {
            Ok(node) => enrol::renew(&origin, &node, request).await,
            Err(refused) => Err(refused),
        },
        (&Method::POST, STREAM_PATH) => known(&origin, peer, Expired::IsRefused)
            .map(|node| stream::open(origin.clone(), node, request, stopping)),
        (&Method::POST, KV_PATH) => match known(&origin, peer, Expired::IsRefused) {
            Ok(_) => kv::ask(&origin, request, large).await,
            Err(refused) => Err(refused),
        },
        (&Method::GET, path) if path.starts_with(BLOBS_PATH) => {
            match known(&origin, peer, Expired::IsRefused) {
                Ok(_) => blobs::get(&origin, &path[BLOBS_PATH.len()..], request.headers()).await,
                Err(refused) => Err(refused),
            }
        }
        _ => Err(Refused::new(StatusCode::NOT_FOUND, "there is no such path")),
    };
    done.unwrap_or_else(Refused::into_response)
}

#[derive(Clone, Copy, PartialEq)]
enum Expired {
    MayRenew,
    IsRefused,
}

/// The node that speaks, if it may.
fn known(origin: &Origin, peer: Option<Identity>, expired: Expired) -> Result<NodeName, Refused> {
    let Some(Identity { node, not_after_ms }) = peer else {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "no node certificate: enrol with a join token first",
        ));
    };
    if !origin.nodes.knows(&node) || origin.is_revoked(&node) {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "this node may not connect: enrol it again with a new join token",
        ));
    }
    if expired == Expired::IsRefused && not_after_ms <= now_ms() {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "the node's certificate has expired: renew it, and look at its clock",
        ));
    }
    Ok(node)
}

/// A refusal that the client is told.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    error: String,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Refused {
        Refused { status, error: error.into() }
    }

    /// Our fault; the client learns no more than that.
    pub(crate) fn internal(doing: &'static str, error: &(dyn std::error::Error + 'static)) -> Refused {
        tracing::error!(error, "{doing}");
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "the origin failed; see its log")
    }

    fn into_response(self) -> Response<Body> {
        let mut response = json(&Refusal { error: self.error });
        *response.status_mut() = self.status;
        response
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("the answers of this module have only string keys");
    let mut response = Response::new(whole(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
