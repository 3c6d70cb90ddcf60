//! The admin port: `/metrics` for Prometheus, `/healthz` for whoever watches. Plain HTTP/1.1; bind it to loopback or
//! a management network.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::node::Node;

/// Connections at once: a scraper, a health check and a person.
const CONNECTIONS_MAX: usize = 32;
/// Longest life of one connection.
const CONNECTION_MAX: Duration = Duration::from_secs(60);

/// Serves until dropped.
pub async fn serve(listener: TcpListener, node: Arc<Node>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to come back rather than spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| {
                let response = answer(&node, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(CONNECTION_MAX, connection).await;
        });
    }
}

fn answer(node: &Node, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => {
            node.code.show();
            node.metrics.in_flight.set((node.executions.running() + node.files.running()) as i64);
            node.metrics.guest_memory_bytes.set(node.host.memory.bytes() as i64);
            node.metrics.guest_memory_bytes_max.set(node.host.memory.bytes_max() as i64);
            node.metrics.access_lines_dropped.set(node.access_log.dropped() as i64);
            (StatusCode::OK, "text/plain; version=0.0.4", Bytes::from(node.metrics.render()))
        }
        "/healthz" => (StatusCode::OK, "text/plain", Bytes::from_static(b"ok\n")),
        _ => (StatusCode::NOT_FOUND, "text/plain", Bytes::from_static(b"here are /metrics and /healthz\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
