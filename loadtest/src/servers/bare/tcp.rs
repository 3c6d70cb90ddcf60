//! hyper and nothing else: accept → handshake → ALPN → the same answer to everybody.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use edge_node::front::{limits, tls::ALPN_H2};
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::spawn_local,
};
use tokio_rustls::TlsAcceptor;

/// Serves one thread's connections for as long as the process lives.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    body: Bytes,
) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let (stream, _) = listener.accept().await?;
        spawn_local(connection(stream, acceptor.clone(), body.clone()));
    }
}

/// A client that goes away is not an error worth a word.
async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, body: Bytes) {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else { return h1(stream, body).await };
    let Ok(stream) = acceptor.accept(stream).await else { return };
    match stream.get_ref().1.alpn_protocol() == Some(ALPN_H2) {
        true => h2(stream, body).await,
        false => h1(stream, body).await,
    }
}

async fn h1(stream: impl AsyncRead + AsyncWrite + Unpin, body: Bytes) {
    let service = service_fn(|_: Request<Incoming>| {
        let answer = answer(&body);
        async { Ok::<_, Infallible>(answer) }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// As many streams as a node admits, or a client would ask differently.
async fn h2(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, body: Bytes) {
    let service = service_fn(move |_: Request<Incoming>| {
        let answer = answer(&body);
        async { Ok::<_, Infallible>(answer) }
    });
    let _ = http2::Builder::new(LocalTasks)
        .max_concurrent_streams(limits::STREAMS_PER_CONNECTION_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(body: &Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.clone()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Runs h2 streams as tasks of this thread.
#[derive(Clone, Copy)]
struct LocalTasks;

impl<F: Future<Output: 'static> + 'static> Executor<F> for LocalTasks {
    fn execute(&self, stream: F) {
        spawn_local(stream);
    }
}
