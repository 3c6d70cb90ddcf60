//! A small server: answers by path, counts what it saw.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Buf as _, Bytes, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::generate::{Roots, Target};

/// What the answer to `/slow` takes.
const SLOW: Duration = Duration::from_millis(100);

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub connections: AtomicU64,
    pub body_bytes: AtomicU64,
    pub hosts: Mutex<BTreeMap<String, u64>>,
    /// The first request to see it waits this long with the whole server.
    pub stall: Mutex<Option<Duration>>,
    /// Was it told to?
    pub stalled: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    H1,
    H1Tls,
    H2,
    H2Tls,
    H3,
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    certificate: String,
    over: Arc<AtomicBool>,
}

impl Server {
    pub fn start(kind: Kind) -> Server {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"h3".to_vec()];
        let (seen, over) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)));
        let (theirs, ends) = (Arc::clone(&seen), Arc::clone(&over));
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(Default::default())
                .unwrap();
            runtime.block_on(async {
                let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
                if kind == Kind::H3 {
                    let tls = QuicServerConfig::try_from(tls).unwrap();
                    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
                    let endpoint = quinn::Endpoint::server(config, any).unwrap();
                    tell.send(endpoint.local_addr().unwrap()).unwrap();
                    tokio::task::spawn_local(accept_quic(endpoint, theirs));
                } else {
                    let listener = TcpListener::bind(any).await.unwrap();
                    tell.send(listener.local_addr().unwrap()).unwrap();
                    tokio::task::spawn_local(accept(listener, kind, Arc::new(tls), theirs));
                }
                while !ends.load(Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Server { address: told.recv().unwrap(), seen, certificate: made.cert.pem(), over }
    }

    pub fn target(&self) -> Target {
        let roots = Roots::Pem(self.certificate.clone().into_bytes());
        Target { address: self.address, authority: "a.example".into(), roots }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

async fn accept(listener: TcpListener, kind: Kind, tls: Arc<rustls::ServerConfig>, seen: Arc<Seen>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        seen.connections.fetch_add(1, Relaxed);
        let (seen, tls) = (Arc::clone(&seen), TlsAcceptor::from(Arc::clone(&tls)));
        tokio::task::spawn_local(async move {
            match kind {
                Kind::H1 | Kind::H2 => serve(stream, kind, seen).await,
                _ => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, kind, seen).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, kind: Kind, seen: Arc<Seen>) {
    let service = service_fn(|request| answer(request, Arc::clone(&seen)));
    let stream = TokioIo::new(stream);
    let _ = match kind {
        Kind::H1 | Kind::H1Tls => http1::Builder::new().serve_connection(stream, service).await,
        _ => http2::Builder::new(Local).serve_connection(stream, service).await,
    };
}

#[derive(Clone)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

async fn accept_quic(endpoint: quinn::Endpoint, seen: Arc<Seen>) {
    while let Some(incoming) = endpoint.accept().await {
        let seen = Arc::clone(&seen);
        tokio::task::spawn_local(async move {
            let Ok(quic) = incoming.await else { return };
            seen.connections.fetch_add(1, Relaxed);
            let Ok(mut connection) =
                h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(quic)).await
            else {
                return;
            };
            while let Ok(Some(resolver)) = connection.accept().await {
                let seen = Arc::clone(&seen);
                tokio::task::spawn_local(async move {
                    let Ok((request, mut stream)) = resolver.resolve_request().await else { return };
                    seen.requests.fetch_add(1, Relaxed);
                    while let Ok(Some(piece)) = stream.recv_data().await {
                        seen.body_bytes.fetch_add(piece.remaining() as u64, Relaxed);
                    }
                    let _ = stream.send_response(Response::new(())).await;
                    let _ = stream.send_data(told(request.uri().path())).await;
                    let _ = stream.finish().await;
                });
            }
        });
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> io::Result<Response<Full<Bytes>>> {
    let before = seen.requests.fetch_add(1, Relaxed);
    let host = request
        .uri()
        .host()
        .map(str::to_owned)
        .or_else(|| request.headers().get("host").and_then(|host| host.to_str().ok()).map(str::to_owned));
    *seen.hosts.lock().entry(host.unwrap_or_default()).or_default() += 1;
    let stall = seen.stall.lock().take();
    if let Some(stall) = stall {
        // The whole thread, so nobody else is answered either.
        thread::sleep(stall);
    }
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    seen.body_bytes.fetch_add(body.len() as u64, Relaxed);
    if path == "/slow" {
        tokio::time::sleep(SLOW).await;
    }
    if path == "/never-after-1" && before > 0 {
        std::future::pending::<()>().await;
    }
    match path.as_str() {
        "/missing" => Ok(Response::builder().status(404).body(Full::default()).unwrap()),
        "/busy" => Ok(Response::builder().status(503).body(Full::default()).unwrap()),
        "/break-after-1" if before > 0 => Err(io::ErrorKind::BrokenPipe.into()),
        path => Ok(Response::new(Full::new(told(path)))),
    }
}

fn told(path: &str) -> Bytes {
    match path {
        "/large" => Bytes::from(vec![b'y'; 100_000]),
        _ => Bytes::from_static(b"hello"),
    }
}
