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

/// Did the request come over TLS?
pub fn is_secure(exchange: &Exchange) -> bool {
    exchange.door.learn(Source::Request, || Secure(exchange.connection.tls.is_some())).0
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
