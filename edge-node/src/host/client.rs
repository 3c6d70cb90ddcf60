//! The client's connection, as a guest may ask about it.

use std::{fmt::Write as _, net::IpAddr};

use rustls::{CipherSuite, ProtocolVersion};

use super::door::{Event, Fact, Source};
use crate::exchange::Exchange;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address. An IPv4 address that came over an IPv6 socket is one of IPv4.
    pub address: IpAddr,
    /// The address of this node that it asked.
    pub server_address: IpAddr,
    /// How the connection is secured; `None` for plain HTTP.
    pub tls: Option<ClientTls>,
}

/// See [`Client::tls`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// The protocol's version.
    pub version: ProtocolVersion,
    /// The cipher suite, where it is known: QUIC does not tell.
    pub cipher: Option<CipherSuite>,
    /// The name it asked for.
    pub server_name: Option<String>,
}

/// All of it.
pub fn client(exchange: &Exchange) -> Client {
    exchange.door.learn(Source::Request, || {
        let connection = &exchange.connection;
        Client {
            address: connection.peer.ip().to_canonical(),
            server_address: connection.local.ip().to_canonical(),
            tls: connection.tls.as_ref().map(|tls| ClientTls {
                version: tls.version,
                cipher: tls.cipher,
                server_name: tls.server_name.as_ref().map(|name| name.as_str().to_owned()),
            }),
        }
    })
}

/// Did the request come over TLS?
pub fn is_secure(exchange: &Exchange) -> bool {
    exchange.door.learn(Source::Request, || Secure(exchange.connection.tls.is_some())).0
}

impl Fact for Client {
    fn event(&self) -> Event {
        let Client { address, server_address, tls } = self;
        let mut text = format!("{address} {server_address}");
        if let Some(ClientTls { version, cipher, server_name }) = tls {
            let cipher = cipher.map_or(0, u16::from);
            let name = server_name.as_deref().unwrap_or_default();
            let _ = write!(text, " {} {cipher} {name}", u16::from(*version));
        }
        Event::Bytes(text.into())
    }

    fn recall(event: Event) -> Option<Client> {
        let Event::Bytes(bytes) = event else { return None };
        let mut words = std::str::from_utf8(&bytes).ok()?.split(' ');
        let (address, server_address) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let tls = match words.next() {
            None => None,
            Some(version) => Some(ClientTls {
                version: ProtocolVersion::from(version.parse::<u16>().ok()?),
                cipher: Some(words.next()?.parse::<u16>().ok()?).filter(|code| *code != 0).map(Into::into),
                server_name: words.next().filter(|name| !name.is_empty()).map(str::to_owned),
            }),
        };
        Some(Client { address, server_address, tls })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recalled_is_what_was_told() {
        let tls = ClientTls {
            version: ProtocolVersion::TLSv1_3,
            cipher: Some(CipherSuite::TLS13_AES_128_GCM_SHA256),
            server_name: Some("a.example".to_owned()),
        };
        let bare = ClientTls { cipher: None, server_name: None, ..tls.clone() };
        for tls in [None, Some(tls), Some(bare)] {
            let client = Client {
                address: [192, 0, 2, 1].into(),
                server_address: "2001:db8::1".parse().unwrap(),
                tls,
            };
            assert_eq!(Client::recall(client.event()), Some(client));
        }
    }
}
