//! A server with every listener on one port, and one client for three protocols.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    account::Account,
    exchange::Responder,
    front::{
        BodyError, Connection, Drain, Handler, InboundBody, OutboundBody, Protocol,
        answer::plain,
        authority::Target,
        h3, sockets, tcp,
        tls::{self, CertificateTable},
    },
    guest::drive::drive,
};

pub const ALL: [Protocol; 3] = [Protocol::H1, Protocol::H2, Protocol::H3];

/// Runs a test as a worker runs.
pub fn local<F: Future<Output = ()>>(test: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
    });
}

/// What the tests ask for, by path.
struct Paths {
    produced: Arc<AtomicUsize>,
}

impl Handler for Paths {
    async fn handle(
        &self,
        request: Request<InboundBody>,
        connection: &Arc<Connection>,
    ) -> Response<OutboundBody> {
        let (head, body) = request.into_parts();
        let authority = match Target::of(&head, connection).authority() {
            Ok(authority) => authority,
            Err(refusal) => return plain(refusal.status(), refusal.to_string()),
        };
        if let Some(pieces) = head.uri.path().strip_prefix("/five/") {
            return five(pieces).await;
        }
        Response::new(match head.uri.path() {
            "/echo" => OutboundBody::stream(body),
            "/read" => match body.collect().await {
                Ok(read) => format!("read {}", read.to_bytes().len()).into(),
                Err(error) => return plain(http::StatusCode::IM_A_TEAPOT, format!("{error:?}")),
            },
            // A pause, so that head and first piece are on their way when it breaks.
            "/abort" => {
                OutboundBody::stream(StreamBody::new(futures_util::stream::unfold(0, |step| async move {
                    if step == 0 {
                        return Some((Ok(Frame::data(Bytes::from_static(b"some"))), 1));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some((Err(BodyError::GuestAborted), 2))
                })))
            }
            "/connection" => {
                let name = connection.tls.as_ref().unwrap().server_name.as_ref().map(|name| name.as_str());
                format!("{} {name:?} {}", connection.protocol.name(), authority.host).into()
            }
            "/endless" => OutboundBody::stream(Counter(Arc::clone(&self.produced))),
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                "slow".into()
            }
            "/never" => std::future::pending().await,
            "/panic" => panic!("on purpose"),
            _ => "full".into(),
        })
    }
}

/// The response of a guest that announces five bytes and streams these pieces.
async fn five(pieces: &str) -> Response<OutboundBody> {
    let (responder, head) = Responder::new();
    let pieces: Vec<_> = pieces.split(',').map(|piece| Bytes::from(piece.to_owned())).collect();
    let pieces = futures_util::stream::unfold(pieces.into_iter(), |mut pieces| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        pieces.next().map(|piece| (Ok(Frame::data(piece)), pieces))
    });
    let mut response = Response::new(OutboundBody::stream(StreamBody::new(pieces)));
    response.headers_mut().insert("content-length", 5.into());
    let run = Box::pin(async move {
        responder.send(response);
        Ok(())
    });
    let wall = Duration::from_secs(60);
    drive(run, head, Arc::default(), wall, Account::none(), None).await.unwrap()
}

/// Makes 64 KiB whenever asked, and counts.
#[derive(Clone)]
struct Counter(Arc<AtomicUsize>);

impl Body for Counter {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        const PIECE: &[u8] = &[b'x'; 64 * 1024];
        self.0.fetch_add(PIECE.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub drain: Drain,
    pub produced: Arc<AtomicUsize>,
    plain: SocketAddr,
    roots: Arc<RootCertStore>,
    listeners: JoinSet<std::io::Result<()>>,
    background: JoinSet<()>,
}

impl Server {
    /// Serves `a.example` and `b.example`.
    pub fn start() -> Server {
        let mut roots = RootCertStore::empty();
        let mut table = CertificateTable::default();
        for name in ["a.example", "b.example"] {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            table
                .insert(name.parse().unwrap(), tls::certified_key(chain.as_bytes(), key.as_bytes()).unwrap());
            roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
        }
        let certificates = Arc::new(ArcSwap::from_pointee(table));
        let pair = sockets::bind_pairs("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let plain = sockets::bind_tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let (address, plain_address) = (pair.tcp.local_addr().unwrap(), plain.local_addr().unwrap());
        let (drain, draining) = Drain::new();
        let produced = Arc::new(AtomicUsize::new(0));
        let handler = Rc::new(Paths { produced: Arc::clone(&produced) });
        let mut listeners = JoinSet::new();
        let tcp = tls::tcp_config(Arc::clone(&certificates)).unwrap();
        let quic = tls::quic_config(certificates).unwrap();
        listeners.spawn_local(tcp::serve_tls(
            pair.tcp,
            tcp,
            Some(address.port()),
            Rc::clone(&handler),
            draining.clone(),
        ));
        listeners.spawn_local(h3::serve(pair.udp, quic, Rc::clone(&handler), draining.clone()));
        listeners.spawn_local(tcp::serve_plain(plain, handler, draining));
        Server {
            address,
            drain,
            produced,
            plain: plain_address,
            roots: Arc::new(roots),
            listeners,
            background: JoinSet::new(),
        }
    }

    pub fn in_background(&mut self, task: impl Future<Output = ()> + 'static) {
        self.background.spawn_local(task);
    }

    pub async fn background_done(&mut self) {
        while let Some(done) = self.background.join_next().await {
            done.unwrap();
        }
    }

    /// Waits for every listener to return.
    pub async fn stopped(&mut self) {
        while let Some(stopped) = self.listeners.join_next().await {
            stopped.unwrap().unwrap();
        }
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, protocol: Protocol, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        self.connect(protocol, "a.example").await?.send(request).await
    }

    pub async fn connect(&self, protocol: Protocol, name: &str) -> Result<Client, String> {
        match protocol {
            Protocol::H1 => {
                let stream = self.handshake(name, b"http/1.1").await?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(chain)?;
                tokio::task::spawn_local(connection);
                Ok(Client::H1(sender))
            }
            Protocol::H2 => {
                let stream = self.handshake(name, b"h2").await?;
                let (sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                        .await
                        .map_err(chain)?;
                tokio::task::spawn_local(connection);
                Ok(Client::H2(sender))
            }
            Protocol::H3 => {
                let quic = self.quic(name).await?;
                let (mut connection, sender) =
                    ::h3::client::new(h3_quinn::Connection::new(quic)).await.map_err(chain)?;
                tokio::task::spawn_local(async move { connection.wait_idle().await });
                Ok(Client::H3(sender))
            }
        }
    }

    fn client_tls(&self, alpn: &[u8]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    pub async fn handshake(&self, name: &str, alpn: &[u8]) -> Result<TlsStream<TcpStream>, String> {
        let connector = TlsConnector::from(Arc::new(self.client_tls(alpn)));
        let stream = TcpStream::connect(self.address).await.map_err(chain)?;
        connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await.map_err(chain)
    }

    pub async fn handshake_without_name(&self) -> Result<(), String> {
        let mut config = self.client_tls(b"http/1.1");
        config.enable_sni = false;
        let stream = TcpStream::connect(self.address).await.map_err(chain)?;
        let name = ServerName::try_from("a.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(chain).map(drop)
    }

    /// A bare QUIC connection.
    pub async fn quic(&self, name: &str) -> Result<quinn::Connection, String> {
        let crypto = QuicClientConfig::try_from(self.client_tls(b"h3")).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).map_err(chain)?;
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connecting = endpoint.connect_with(config, self.address, name).map_err(chain)?;
        let connected = tokio::time::timeout(Duration::from_secs(2), connecting).await.map_err(chain)?;
        connected.map_err(chain)
    }

    /// Writes bytes to a TLS h1 connection and reads to its end.
    pub async fn raw(&self, bytes: &str) -> String {
        exchange(self.handshake("a.example", b"http/1.1").await.unwrap(), bytes).await
    }

    /// The same on the plaintext listener.
    pub async fn raw_plain(&self, bytes: &str) -> String {
        exchange(TcpStream::connect(self.plain).await.unwrap(), bytes).await
    }
}

async fn exchange(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    bytes: &str,
) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

type AnyBody = UnsyncBoxBody<Bytes, String>;

pub enum Client {
    H1(hyper::client::conn::http1::SendRequest<AnyBody>),
    H2(hyper::client::conn::http2::SendRequest<AnyBody>),
    H3(::h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>),
}

fn chain(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn whole(bytes: Bytes) -> AnyBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = body.collect().await.map_err(|error| format!("reading the body: {error}"))?.to_bytes();
        Ok(Response::from_parts(head, body))
    }

    /// Sends a request and returns when the head of the answer is there.
    pub async fn begin(&mut self, mut request: Request<Bytes>) -> Result<Response<AnyBody>, String> {
        match self {
            Client::H1(sender) => {
                let host = request.uri().authority().unwrap().as_str().parse().unwrap();
                request.headers_mut().insert("host", host);
                *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
                sender.ready().await.map_err(chain)?;
                let response = sender.send_request(request.map(whole)).await.map_err(chain)?;
                Ok(response.map(|body| body.map_err(chain).boxed_unsync()))
            }
            Client::H2(sender) => {
                sender.ready().await.map_err(chain)?;
                let response = sender.send_request(request.map(whole)).await.map_err(chain)?;
                Ok(response.map(|body| body.map_err(chain).boxed_unsync()))
            }
            Client::H3(sender) => {
                let (head, body) = request.into_parts();
                let stream = sender.send_request(Request::from_parts(head, ())).await.map_err(chain)?;
                let (mut sent, mut received) = stream.split();
                tokio::spawn(async move {
                    // The server may answer without reading.
                    let _ = if body.is_empty() { Ok(()) } else { sent.send_data(body).await };
                    let _ = sent.finish().await;
                });
                let response = received.recv_response().await.map_err(chain)?;
                let pieces = futures_util::stream::unfold(Some(received), |state| async {
                    let mut received = state?;
                    match received.recv_data().await {
                        Ok(Some(mut data)) => {
                            Some((Ok(Frame::data(data.copy_to_bytes(data.remaining()))), Some(received)))
                        }
                        Ok(None) => match received.recv_trailers().await {
                            Ok(trailers) => trailers.map(|trailers| (Ok(Frame::trailers(trailers)), None)),
                            Err(error) => Some((Err(chain(error)), None)),
                        },
                        Err(error) => Some((Err(chain(error)), None)),
                    }
                });
                Ok(response.map(|()| StreamBody::new(pieces).boxed_unsync()))
            }
        }
    }

    /// Sends a body with a trailer to the echo and returns the trailers of the answer.
    pub async fn echo_trailers(&mut self) -> Result<HeaderMap, String> {
        let request = Request::post("https://a.example/echo");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        let answer = match self {
            Client::H1(_) => return Err("h1 clients send trailers only when asked".to_owned()),
            Client::H2(sender) => {
                let pieces = [Ok(Frame::data(Bytes::from_static(b"1"))), Ok(Frame::trailers(trailers))];
                let body = StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync();
                let response = sender.send_request(request.body(body).unwrap()).await.map_err(chain)?;
                response.into_body().collect().await.map_err(chain)?.trailers().cloned()
            }
            Client::H3(sender) => {
                let mut stream = sender.send_request(request.body(()).unwrap()).await.map_err(chain)?;
                stream.send_data(Bytes::from_static(b"1")).await.map_err(chain)?;
                stream.send_trailers(trailers).await.map_err(chain)?;
                stream.finish().await.map_err(chain)?;
                stream.recv_response().await.map_err(chain)?;
                while stream.recv_data().await.map_err(chain)?.is_some() {}
                stream.recv_trailers().await.map_err(chain)?
            }
        };
        answer.ok_or_else(|| "no trailers".to_owned())
    }
}
