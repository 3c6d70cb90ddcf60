//! A small server: answers by path, counts what it saw.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::generate::{Roots, Target};

/// What a server saw.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub connections: AtomicU64,
    pub body_bytes: AtomicU64,
    pub hosts: Mutex<BTreeMap<String, u64>>,
    /// The first request to see it waits this long with the whole server.
    pub stall: Mutex<Option<Duration>>,
}

pub struct Server {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// In the clear, HTTP/1.1.
    pub fn start() -> Server {
        let seen = Arc::new(Seen::default());
        let over = Arc::new(AtomicBool::new(false));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (theirs, ends) = (Arc::clone(&seen), Arc::clone(&over));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(Default::default())
                .unwrap();
            runtime.block_on(async {
                tokio::task::spawn_local(accept(TcpListener::from_std(listener).unwrap(), theirs));
                while !ends.load(Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
        Server { address, seen, over }
    }

    pub fn target(&self) -> Target {
        Target { address: self.address, authority: "a.example".into(), roots: Roots::Platform }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        seen.connections.fetch_add(1, Relaxed);
        let seen = Arc::clone(&seen);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&seen)));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> io::Result<Response<Full<Bytes>>> {
    seen.requests.fetch_add(1, Relaxed);
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
    match path.as_str() {
        "/missing" => Ok(Response::builder().status(404).body(Full::default()).unwrap()),
        "/large" => Ok(Response::new(Full::new(Bytes::from(vec![b'y'; 100_000])))),
        "/break" => Err(io::ErrorKind::BrokenPipe.into()),
        _ => Ok(Response::new(Full::new(Bytes::from_static(b"hello")))),
    }
}
