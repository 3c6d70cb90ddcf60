//! Addresses → a connection: TCP to the very address that was checked, TLS, and which HTTP it speaks.

use std::{io, net::SocketAddr};

use artifact::{
    TenantName,
    manifest::origin::{Origin, OriginHost},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::TlsConnector;

use super::{
    FetchError, limits,
    made::{Keeping, TcpKeepalive},
    resolve::Resolver,
    tls::{Tls, server_name},
};
use crate::front::tls::ALPN_H2;

/// A stream of bytes, encrypted or not.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection to an origin.
pub struct Connected {
    /// Its bytes.
    pub stream: Box<dyn Io>,
    /// The address it goes to.
    pub peer: SocketAddr,
    /// Was HTTP/2 chosen?
    pub is_h2: bool,
}

/// How an https origin is spoken to.
pub struct Secure<'a> {
    /// Settings.
    pub tls: &'a Tls,
    /// The name its certificate must have instead of its host.
    pub cert_host: Option<&'a OriginHost>,
}

/// Connects, TLS included, until `until`. `secure` is there for an https origin.
pub async fn connect(
    resolver: &Resolver,
    tenant: &TenantName,
    origin: &Origin,
    secure: Option<Secure<'_>>,
    keeping: Keeping,
    until: Instant,
) -> Result<Connected, FetchError> {
    let addresses = timeout_at(until, resolver.addresses(tenant, &origin.host)).await;
    let addresses = addresses.unwrap_or(Err(FetchError::DnsTimeout))?;
    let mut addresses: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, origin.port)).collect();
    if keeping.prefers_ipv4 {
        addresses.sort_by_key(SocketAddr::is_ipv6);
    }
    let connected = async {
        let (tcp, peer) = dial(&addresses, keeping.tcp_keepalive).await?;
        match secure {
            Some(secure) => handshake(tcp, peer, origin, secure).await,
            None => Ok(Connected { stream: Box::new(tcp), peer, is_h2: false }),
        }
    };
    timeout_at(until, connected).await.unwrap_or(Err(FetchError::ConnectionTimeout))
}

async fn handshake(
    tcp: TcpStream,
    peer: SocketAddr,
    origin: &Origin,
    secure: Secure<'_>,
) -> Result<Connected, FetchError> {
    let name = server_name(secure.cert_host.unwrap_or(&origin.host))?;
    let handshake = TlsConnector::from(secure.tls.config.clone()).connect(name, tcp);
    let stream = handshake.await.map_err(|error| handshake_fault(&error))?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    Ok(Connected { stream: Box::new(stream), peer, is_h2 })
}

/// The first address that takes the connection. The next one is tried when one fails or takes its time (RFC 8305).
async fn dial(
    addresses: &[SocketAddr],
    keepalive: Option<TcpKeepalive>,
) -> Result<(TcpStream, SocketAddr), FetchError> {
    let mut attempts = FuturesUnordered::new();
    let mut fault = FetchError::Unreachable;
    for next in addresses.iter().copied() {
        attempts.push(attempt(next, keepalive));
        tokio::select! {
            biased;
            Some(done) = attempts.next() => match done {
                Ok(connected) => return Ok(connected),
                Err(error) => fault = error,
            },
            () = sleep(limits::ATTEMPT_DELAY) => {}
        }
    }
    while let Some(done) = attempts.next().await {
        match done {
            Ok(connected) => return Ok(connected),
            Err(error) => fault = error,
        }
    }
    Err(fault)
}

async fn attempt(
    address: SocketAddr,
    keepalive: Option<TcpKeepalive>,
) -> Result<(TcpStream, SocketAddr), FetchError> {
    let stream = TcpStream::connect(address).await.map_err(|error| dial_fault(&error))?;
    // A head that waits for the acknowledgement of the one before would wait for the peer's timer, 40 ms.
    stream.set_nodelay(true).map_err(|error| dial_fault(&error))?;
    if let Some(TcpKeepalive { after, interval, probes }) = keepalive {
        let keepalive = socket2::TcpKeepalive::new().with_time(after).with_interval(interval);
        let socket = socket2::SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive.with_retries(probes)).map_err(|error| dial_fault(&error))?;
    }
    Ok((stream, address))
}

fn dial_fault(error: &io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FetchError::ConnectionRefused,
        io::ErrorKind::TimedOut => FetchError::ConnectionTimeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => FetchError::ConnectionTerminated,
        _ => FetchError::Unreachable,
    }
}

fn handshake_fault(error: &io::Error) -> FetchError {
    tls_fault(error).unwrap_or(match error.kind() {
        io::ErrorKind::TimedOut => FetchError::ConnectionTimeout,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => FetchError::ConnectionTerminated,
        _ => FetchError::TlsProtocol,
    })
}

/// What TLS has to say of an I/O error, if it comes from there.
pub fn tls_fault(error: &io::Error) -> Option<FetchError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Some(FetchError::TlsCertificate)
        }
        rustls::Error::AlertReceived(alert) => Some(FetchError::TlsAlert((*alert).into())),
        _ => Some(FetchError::TlsProtocol),
    }
}
