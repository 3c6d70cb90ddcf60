//! The listeners: one TCP and one UDP socket per worker, all on one port, shared by `SO_REUSEPORT`.
//!
//! The kernel spreads TCP connections and UDP flows over them by the hash of their four-tuple. Deliberately
//! absent: steering QUIC packets by connection id; migration is off instead (see [`super::h3`]).

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::limits::{BACKLOG, TCP_UNSENT_BYTES, UDP_BUFFER_BYTES};

/// Attempts to find a port that is free for both TCP and UDP when any port will do.
const PORT_ATTEMPTS_MAX: usize = 32;

/// A worker's sockets.
#[derive(Debug)]
pub struct Pair {
    /// For h1 and h2.
    pub tcp: TcpListener,
    /// For h3, on the same port.
    pub udp: UdpSocket,
}

/// The sockets could not be had.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address} ({transport}): is another program, or another node, using that port?")]
pub struct BindError {
    address: SocketAddr,
    transport: &'static str,
    #[source]
    cause: io::Error,
}

/// Binds a TCP and UDP pair per worker. With port 0 the kernel picks the TCP port and UDP follows.
pub fn bind_pairs(address: SocketAddr, workers: usize) -> Result<Vec<Pair>, BindError> {
    for attempt in 1.. {
        match try_bind_pairs(address, workers) {
            Err(error)
                if address.port() == 0
                    && error.cause.kind() == io::ErrorKind::AddrInUse
                    && attempt < PORT_ATTEMPTS_MAX => {}
            done => return done,
        }
    }
    unreachable!("the last attempt returns")
}

fn try_bind_pairs(address: SocketAddr, workers: usize) -> Result<Vec<Pair>, BindError> {
    let tcp = bind_tcp(address, workers)?;
    let Some(first) = tcp.first() else { return Ok(Vec::new()) };
    let address = first.local_addr().map_err(|cause| BindError { address, transport: "TCP", cause })?;
    let fail = |cause| BindError { address, transport: "UDP", cause };
    refuse_shared(address, Type::DGRAM, Protocol::UDP).map_err(fail)?;
    tcp.into_iter().map(|tcp| Ok(Pair { tcp, udp: udp_socket(address).map_err(fail)? })).collect()
}

/// Binds a TCP listener per worker, for plaintext HTTP.
pub fn bind_tcp(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |cause| BindError { address, transport: "TCP", cause };
    refuse_shared(address, Type::STREAM, Protocol::TCP).map_err(fail)?;
    let mut listeners = Vec::with_capacity(workers);
    let mut address = address;
    for _ in 0..workers {
        let listener = tcp_socket(address).map_err(fail)?;
        address = listener.local_addr().map_err(fail)?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// With `SO_REUSEPORT` two nodes of one user would silently share a port. A first bind without it tells.
fn refuse_shared(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if protocol == Protocol::TCP {
        // So that connections of a stopped process in TIME_WAIT are no reason to refuse.
        probe.set_reuse_address(true)?;
    }
    probe.bind(&address.into())
}

fn tcp_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted connections have it too. Without it the system takes megabytes of an answer, and asks for more only when a third
    // of them was read: a client that reads slowly, and steadily, would look stalled.
    socket.set_tcp_notsent_lowat(TCP_UNSENT_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn udp_socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Best effort: `net.core.rmem_max` may say less.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_holds_little_of_an_answer_that_was_not_sent() {
        let listener = tcp_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut accepted = listener.accept();
        while accepted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            accepted = listener.accept();
        }
        let (accepted, _) = accepted.unwrap();
        assert_eq!(socket2::SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), TCP_UNSENT_BYTES);
    }

    #[test]
    fn every_worker_has_a_pair_on_one_port_and_nobody_else_gets_it() {
        let pairs = bind_pairs("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = pairs[0].tcp.local_addr().unwrap();
        assert_ne!(address.port(), 0);
        for pair in &pairs {
            assert_eq!(pair.tcp.local_addr().unwrap(), address);
            assert_eq!(pair.udp.local_addr().unwrap(), address);
        }
        let error = bind_pairs(address, 1).unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
        drop(pairs);
        bind_pairs(address, 2).unwrap();
    }
}
