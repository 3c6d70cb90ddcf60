//! The client as a guest may know it: addresses, and what its connection agreed on.

use std::net::IpAddr;

use bytes::Bytes;

use super::{
    door::{Event, Fact, Source},
    geo::Answer,
};
use crate::{exchange::Exchange, front::TlsInfo};

/// Its address.
pub fn peer(exchange: &Exchange) -> IpAddr {
    address(exchange, || exchange.connection.peer.ip())
}

/// The address it reached this node at.
pub fn local(exchange: &Exchange) -> IpAddr {
    address(exchange, || exchange.connection.local.ip())
}

/// A text that its TLS connection has; none without TLS.
pub fn of_tls(exchange: &Exchange, text: impl FnOnce(&TlsInfo) -> Option<String>) -> Option<Bytes> {
    let find = || exchange.connection.tls.as_ref().and_then(text).map(Bytes::from);
    exchange.door.learn(Source::Request, || Answer(find())).0
}

/// The protocol's version by its OpenSSL name.
pub fn tls_version(tls: &TlsInfo) -> Option<String> {
    match tls.version {
        rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3".to_owned()),
        rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2".to_owned()),
        _ => None,
    }
}

/// The cipher suite by its OpenSSL name.
pub fn tls_cipher(tls: &TlsInfo) -> Option<String> {
    openssl_name(tls.cipher?).map(str::to_owned)
}

/// The name it asked a certificate for.
pub fn tls_server_name(tls: &TlsInfo) -> Option<String> {
    tls.server_name.as_ref().map(ToString::to_string)
}

/// Did the request come over TLS?
pub fn is_secure(exchange: &Exchange) -> bool {
    exchange.door.learn(Source::Request, || Secure(exchange.connection.tls.is_some())).0
}

/// What OpenSSL calls the suites that rustls speaks.
pub fn openssl_name(suite: rustls::CipherSuite) -> Option<&'static str> {
    use rustls::CipherSuite as Suite;
    Some(match suite {
        Suite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        Suite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        Suite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => return None,
    })
}

fn address(exchange: &Exchange, of: impl FnOnce() -> IpAddr) -> IpAddr {
    exchange.door.learn(Source::Request, || Address(of().to_canonical())).0
}

struct Address(IpAddr);

impl Fact for Address {
    fn event(&self) -> Event {
        Event::Bytes(self.0.to_string().into())
    }

    fn recall(event: Event) -> Option<Address> {
        let Event::Bytes(text) = event else { return None };
        std::str::from_utf8(&text).ok()?.parse().ok().map(Address)
    }
}

struct Secure(bool);

impl Fact for Secure {
    fn event(&self) -> Event {
        Event::Number(u64::from(self.0))
    }

    fn recall(event: Event) -> Option<Secure> {
        match event {
            Event::Number(number) => Some(Secure(number != 0)),
            _ => None,
        }
    }
}
