//! Backends of all kinds, on loopback.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// What a server counts.
#[derive(Default)]
pub struct Counts {
    /// Connections taken.
    pub accepted: AtomicUsize,
    /// Connections ended.
    pub closed: AtomicUsize,
    /// Requests begun.
    pub asked: AtomicUsize,
    /// Requests for `/slow` that ended, which they do by being cancelled.
    pub cancelled: AtomicUsize,
    /// Bytes made for `/endless`.
    pub produced: AtomicUsize,
    /// Names that TLS clients asked for.
    pub asked_names: Mutex<Vec<String>>,
    /// What `/up` says.
    pub is_down: AtomicBool,
}

pub struct Server {
    pub address: SocketAddr,
    pub counts: Arc<Counts>,
}

impl Server {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// By name, so that certificates can be checked.
    pub fn https(&self) -> String {
        format!("https://backend.example:{}", self.address.port())
    }

    pub fn accepted(&self) -> usize {
        self.counts.accepted.load(SeqCst)
    }

    pub fn asked(&self) -> usize {
        self.counts.asked.load(SeqCst)
    }

    /// Takes connections and hands each to `serve`.
    async fn taking<F: Future<Output = ()> + Send + 'static>(
        ip: &str,
        serve: impl Fn(TcpStream, Arc<Counts>) -> F + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let server = Server { address, counts: counts.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counts.accepted.fetch_add(1, SeqCst);
                stream.set_nodelay(true).unwrap(); // or each window waits for a delayed acknowledgement, 40 ms
                let (served, counts) = (serve(stream, counts.clone()), counts.clone());
                tokio::spawn(async move {
                    served.await;
                    counts.closed.fetch_add(1, SeqCst);
                });
            }
        });
        server
    }

    pub async fn plain() -> Server {
        Server::plain_at("127.0.0.1").await
    }

    pub async fn plain_at(ip: &str) -> Server {
        Server::taking(ip, h1).await
    }

    /// With a certificate of `authority` for `backend.example`.
    pub async fn secure(authority: &Authority, alpn: &[&[u8]], clients: Option<&Authority>) -> Server {
        let acceptor = authority.acceptor(alpn, clients);
        Server::taking("127.0.0.1", move |stream, counts| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
                counts.asked_names.lock().push(name);
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    let service = service_fn(move |request| answer(request, counts.clone()));
                    let _ = http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                } else {
                    h1(stream, counts).await;
                }
            }
        })
        .await
    }

    /// HTTP/2 by hand: takes no byte of a request's body, answers each at once, and says this afterwards, again and
    /// again.
    pub async fn unwilling(authority: &Authority, afterwards: &'static [u8]) -> Server {
        let acceptor = authority.acceptor(&[b"h2"], None);
        Server::taking("127.0.0.1", move |stream, counts| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ = unwilling(stream, &counts, afterwards).await;
            }
        })
        .await
    }

    /// HTTP/2: says GOAWAY when it was asked something.
    pub async fn leaving(authority: &Authority) -> Server {
        let acceptor = authority.acceptor(&[b"h2"], None);
        Server::taking("127.0.0.1", move |stream, counts| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let of_answers = counts.clone();
                let service = service_fn(move |request| answer(request, of_answers.clone()));
                let builder = http2::Builder::new(TokioExecutor::new());
                let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                let is_asked = super::until("somebody asks", || counts.asked.load(SeqCst) > 0);
                tokio::select! {
                    _ = connection.as_mut() => return,
                    () = is_asked => connection.as_mut().graceful_shutdown(),
                }
                let _ = connection.await;
            }
        })
        .await
    }

    /// Reads a head, writes these bytes, and closes or holds the connection.
    pub async fn raw(says: impl Into<Bytes>, then: Then) -> Server {
        let says = says.into();
        Server::taking("127.0.0.1", move |mut stream, counts| {
            let says = says.clone();
            async move {
                while read_head(&mut stream).await {
                    counts.asked.fetch_add(1, SeqCst);
                    let _ = stream.write_all(&says).await;
                    match then {
                        Then::Close => return,
                        Then::Hold => std::future::pending().await,
                        Then::CloseAtNext => {
                            let _ = stream.read(&mut [0; 1]).await;
                            return;
                        }
                    }
                }
            }
        })
        .await
    }

    /// Reads a head, then says this again and again.
    pub async fn babbling(says: String) -> Server {
        Server::taking("127.0.0.1", move |mut stream, counts| {
            let says = says.clone();
            async move {
                read_head(&mut stream).await;
                counts.asked.fetch_add(1, SeqCst);
                while stream.write_all(says.as_bytes()).await.is_ok() {}
            }
        })
        .await
    }

    /// Takes connections and says nothing.
    pub async fn mute() -> Server {
        Server::taking("127.0.0.1", async |stream, _| {
            let _held = stream;
            std::future::pending().await
        })
        .await
    }
}

/// What a raw server does after its answer.
#[derive(Clone, Copy)]
pub enum Then {
    Close,
    Hold,
    /// Looks as if it kept the connection, and closes it at the first byte of the next request.
    CloseAtNext,
}

/// An address that nobody listens at.
pub fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// See [`Server::unwilling`].
async fn unwilling(
    mut stream: tokio_rustls::server::TlsStream<TcpStream>,
    counts: &Counts,
    afterwards: &[u8],
) -> std::io::Result<()> {
    const PREFACE_BYTES: usize = 24;
    const NO_WINDOW: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    const ACKNOWLEDGED: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    stream.read_exact(&mut [0; PREFACE_BYTES]).await?;
    stream.write_all(&NO_WINDOW).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [_, high, low, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
        stream.read_exact(&mut payload).await?;
        match (kind, flags & 1) {
            (1, _) => {
                counts.asked.fetch_add(1, SeqCst);
                let ok = [&[0, 0, 1, 1, 5][..], &id, &[0x88]].concat(); // all of it, the last of the stream: 200
                stream.write_all(&ok).await?;
                while !afterwards.is_empty() {
                    stream.write_all(afterwards).await?;
                    stream.flush().await?;
                    counts.produced.fetch_add(afterwards.len(), SeqCst);
                }
            }
            (4, 0) => stream.write_all(&ACKNOWLEDGED).await?,
            (6, 0) => stream.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &payload].concat()).await?,
            _ => {}
        }
        stream.flush().await?;
    }
}

async fn read_head(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0; 1]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.extend_from_slice(&byte),
            _ => return false,
        }
    }
    true
}

async fn h1(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    counts: Arc<Counts>,
) {
    let service = service_fn(move |request| answer(request, counts.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

type Answer = UnsyncBoxBody<Bytes, hyper::Error>;

fn text(text: impl Into<Bytes>) -> Answer {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Counts that a request was given up.
struct Cancelled(Arc<Counts>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, SeqCst);
    }
}

async fn answer(request: Request<Incoming>, counts: Arc<Counts>) -> Result<Response<Answer>, Infallible> {
    counts.asked.fetch_add(1, SeqCst);
    let mut response = Response::new(text("hello"));
    match request.uri().path() {
        "/echo" => {
            if let Some(trailer) = request.headers().get("trailer") {
                response.headers_mut().insert("trailer", trailer.clone());
            }
            *response.body_mut() = request.into_body().boxed_unsync();
        }
        "/seen" => *response.body_mut() = text(describe(&request)),
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            let frames = [Ok(Frame::data(Bytes::from_static(b"1"))), Ok(Frame::trailers(trailers))];
            *response.body_mut() = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
            response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
        }
        "/slow" => {
            let _cancelled = Cancelled(counts);
            std::future::pending::<()>().await;
        }
        "/halves" => {
            let frames = futures_util::stream::unfold(["half", "half"].iter(), |mut halves| async {
                let half = halves.next()?;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                Some((Ok(Frame::data(Bytes::from_static(half.as_bytes()))), halves))
            });
            *response.body_mut() = StreamBody::new(frames).boxed_unsync();
        }
        "/stall" => {
            let _ = request;
            *response.body_mut() = Stall(Some(Bytes::from_static(b"some"))).boxed_unsync();
        }
        "/endless" => *response.body_mut() = Endless(counts).boxed_unsync(),
        "/nothing" => *response.body_mut() = Empty::new().map_err(|never| match never {}).boxed_unsync(),
        "/up" if counts.is_down.load(SeqCst) => {
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE
        }
        _ => {}
    }
    Ok(response)
}

/// The head of a request as the backend got it.
fn describe(request: &Request<Incoming>) -> String {
    let authority = match request.version() {
        Version::HTTP_2 => request.uri().authority().map(ToString::to_string),
        _ => request.headers().get("host").map(|host| host.to_str().unwrap().to_owned()),
    };
    let mut lines = vec![format!("{:?} {} {}", request.version(), request.method(), request.uri().path())];
    lines.push(format!("authority: {}", authority.unwrap_or_default()));
    lines
        .extend(request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
    lines.join("\n")
}

/// A piece, then nothing for ever.
struct Stall(Option<Bytes>);

impl Body for Stall {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
    }
}

/// Bytes for ever, counted as they are pulled.
struct Endless(Arc<Counts>);

impl Body for Endless {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        const PIECE: &[u8] = &[b'x'; 64 * 1024];
        self.0.produced.fetch_add(PIECE.len(), SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}

/// A certificate authority of a test.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// TLS with a certificate for `backend.example`, for clients of `clients` alone.
    fn acceptor(&self, alpn: &[&[u8]], clients: Option<&Authority>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let (chain, key) = self.issue("backend.example");
        let chain = rustls_pki_types::CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(vec![chain], key).unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Certificate and key for a name, PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}
