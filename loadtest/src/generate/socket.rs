//! A TCP connection, with or without TLS.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{body::Reading, link::Plan, scenario::Protocol};

/// For TCP, and for a handshake.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// The error says which step failed.
    pub async fn connect(plan: &Plan) -> Result<Socket, String> {
        let stream = timeout(CONNECT_TIME_MAX, tcp(plan))
            .await
            .map_err(|_| "connecting: no answer in time".to_owned())?
            .map_err(|error| format!("connecting: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("connecting: {error}"))?;
        if plan.new_connection_each {
            // Closed with a reset: else the ports of this machine are used up by connections in TIME_WAIT.
            let _ = stream.set_zero_linger();
        }
        match &plan.tls {
            None => Ok(Socket::Plain(stream)),
            Some((config, name)) => handshake(stream, config, name, plan.protocol).await,
        }
    }
}

/// The size of a buffer has to be set before it connects: it is the window that the target is offered.
async fn tcp(plan: &Plan) -> io::Result<TcpStream> {
    let socket = match plan.address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if plan.reading.is_some() {
        socket.set_recv_buffer_size(Reading::BUFFER_BYTES)?;
    }
    socket.connect(plan.address).await
}

async fn handshake(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
    protocol: Protocol,
) -> Result<Socket, String> {
    let connecting = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
    let stream = timeout(CONNECT_TIME_MAX, connecting)
        .await
        .map_err(|_| "TLS handshake: no answer in time".to_owned())?
        .map_err(|error| format!("TLS handshake: {}", told(&error)))?;
    // A server without ALPN speaks HTTP/1.1.
    if protocol == Protocol::H2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("TLS handshake: the target does not speak HTTP/2".to_owned());
    }
    Ok(Socket::Tls(Box::new(stream)))
}

/// rustls names the byte that it did not expect; a person wants to know what that means.
fn told(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
            "the target does not speak TLS on this port".to_owned()
        }
        _ => error.to_string(),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
