//! quinn and h3 and nothing else.

use std::{net::UdpSocket, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use tokio::task::spawn_local;

/// Serves one thread's connections for as long as the process lives.
pub async fn serve(socket: UdpSocket, config: quinn::ServerConfig, body: Bytes) -> anyhow::Result<()> {
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
    while let Some(incoming) = endpoint.accept().await {
        let body = body.clone();
        spawn_local(async move {
            // A client that goes away is not an error worth a word.
            let _ = connection(incoming, body).await;
        });
    }
    Ok(())
}

async fn connection(incoming: Incoming, body: Bytes) -> anyhow::Result<()> {
    let quic = h3_quinn::Connection::new(incoming.await?);
    let mut http = h3::server::builder().send_grease(false).build(quic).await?;
    while let Some(resolver) = http.accept().await? {
        let body = body.clone();
        spawn_local(async move {
            let _ = request(resolver, body).await;
        });
    }
    Ok(())
}

async fn request(
    resolver: h3::server::RequestResolver<h3_quinn::Connection, Bytes>,
    body: Bytes,
) -> anyhow::Result<()> {
    let (_request, mut stream) = resolver.resolve_request().await?;
    let mut head = Response::new(());
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    head.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    stream.send_response(head).await?;
    stream.send_data(body).await?;
    stream.finish().await?;
    Ok(())
}
