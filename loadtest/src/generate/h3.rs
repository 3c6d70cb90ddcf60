//! HTTP/3. A QUIC connection is shared by its streams; each slot has a handle of it.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Buf as _, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use quinn::crypto::rustls::QuicClientConfig;
use tokio::time::timeout;

use super::{
    body::{self, Reading},
    link::Plan,
    socket::CONNECT_TIME_MAX,
    tally::Answer,
};

/// A handle, and the socket that it needs.
#[derive(Clone)]
pub struct Sender {
    requests: SendRequest<OpenStreams, Bytes>,
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

/// On a UDP socket of its own, as each client has one.
pub async fn connect(plan: &Plan) -> Result<Sender, String> {
    let (config, name) = plan.tls.as_ref().ok_or("HTTP/3 needs TLS")?;
    let crypto = QuicClientConfig::try_from(Arc::clone(config)).map_err(|error| told("connecting", error))?;
    let any: SocketAddr = match plan.address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let endpoint = quinn::Endpoint::client(any).map_err(|error| told("connecting", error))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    if plan.reading.is_some() {
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(Reading::BUFFER_BYTES.into());
        config.transport_config(Arc::new(transport));
    }
    let connecting = endpoint
        .connect_with(config, plan.address, &name.to_str())
        .map_err(|error| told("connecting", error))?;
    let connection = timeout(CONNECT_TIME_MAX, connecting)
        .await
        .map_err(|_| "QUIC handshake: no answer in time".to_owned())?
        .map_err(|error| told("QUIC handshake", error))?;
    let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(connection.clone()))
        .await
        .map_err(|error| told("HTTP/3 handshake", error))?;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer is told the same.
        driver.wait_idle().await
    });
    Ok(Sender { requests, connection, _endpoint: endpoint })
}

impl Sender {
    /// One request, and its whole answer.
    pub async fn exchange(&mut self, plan: &Plan, host: usize) -> Result<Answer, String> {
        let request = plan.requests[host].clone();
        let stream = self.requests.send_request(request).await.map_err(|error| told("sending", error))?;
        let (mut sent, mut received) = stream.split();
        let body = async {
            let mut left = plan.body_bytes;
            while left > 0 {
                let bytes = body::piece(left.min(plan.piece_bytes));
                left -= bytes.len() as u64;
                sent.send_data(bytes).await.map_err(|error| told("sending", error))?;
                if let Some(pause) = plan.pause.filter(|_| left > 0) {
                    tokio::time::sleep(pause).await;
                }
            }
            sent.finish().await.map_err(|error| told("sending", error))
        };
        let answer = async {
            let head = received.recv_response().await.map_err(|error| told("answer", error))?;
            let body = async {
                let mut bytes_in = 0;
                while let Some(piece) = received.recv_data().await.map_err(|error| told("answer", error))? {
                    bytes_in += piece.remaining() as u64;
                    if let Some(reading) = plan.reading {
                        reading.took(piece.remaining()).await;
                    }
                }
                Ok::<u64, String>(bytes_in)
            };
            Ok(Answer { status: head.status().as_u16(), bytes_in: plan.take(body).await? })
        };
        tokio::try_join!(body, answer).map(|((), answer)| answer)
    }

    /// Says so to the target, which would else keep it until it is idle for long.
    pub fn close(&self) {
        self.connection.close(0x100_u32.into(), b"");
    }
}

fn told(step: &str, error: impl std::fmt::Display) -> String {
    format!("{step}: {error}")
}
