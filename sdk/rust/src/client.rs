//! Who asked. Imports `skerry:edge/client`, which a Skerry node has.
//!
//! Fields of the request say nothing of it: any client may send `x-forwarded-for`.

use std::net::{IpAddr, Ipv4Addr};

use crate::sys;

/// What a client's TLS connection agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The cipher suite by its OpenSSL name; absent where the protocol does not tell, as by HTTP/3.
    pub cipher: Option<String>,
    /// The host name that the client asked a certificate for.
    pub server_name: Option<String>,
}

/// The address the request came from. `0.0.0.0` if the host says what is none.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.client("192.0.2.7".parse().unwrap());
/// assert_eq!(skerry::client::address().to_string(), "192.0.2.7");
/// ```
pub fn address() -> IpAddr {
    sys::edge::client_address().parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// What the connection agreed on; `None` over plain HTTP.
///
/// ```
/// assert_eq!(skerry::client::tls(), None);
/// ```
pub fn tls() -> Option<Tls> {
    sys::edge::client_tls()
}
