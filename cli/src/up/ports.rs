//! Is an address free? Asked before anything is started, because a clear answer there beats a log file later.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use crate::error::{Error, Result};

/// Refuses an address that somebody else has, naming the option that chooses another.
pub fn require_free(address: SocketAddr, option: &str, with_udp: bool) -> Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let tcp = TcpListener::bind(address).map(drop);
    let both = if with_udp { tcp.and_then(|()| UdpSocket::bind(address).map(drop)) } else { tcp };
    both.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Error::Fleet(format!(
            "{address} is taken by another process; choose another address with {option} ADDR (port 0 picks a free one)"
        )),
        _ => Error::io(format!("listening on {address} ({option})"))(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_refused_with_the_option_that_cures_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let message = require_free(taken.local_addr().unwrap(), "--https", true).unwrap_err().to_string();
        assert!(message.contains("--https"), "{message}");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(require_free(udp.local_addr().unwrap(), "--https", true).is_err());
        assert!(require_free("127.0.0.1:0".parse().unwrap(), "--https", true).is_ok());
    }
}
