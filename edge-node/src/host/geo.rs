//! Where an address is: what the app's manifest says of it, else what the operator's database does.
//!
//! The answer is a JSON object in the form that programs made for Fastly Compute read (`fastly_geo::lookup`), or none:
//! for an address of a private, reserved or local network, one the database does not know, and on a node without a
//! database. [`Place`] is the same with types.

mod countries;
mod database;
mod place;

use std::net::IpAddr;

use bytes::Bytes;

pub use self::{
    database::{BadDatabase, Database},
    place::Place,
};
use super::door::{Event, Fact, Source};
use crate::exchange::Exchange;

/// Where an address is, as JSON text. A field the manifest or the database does not name has the value of
/// [`Place::default`].
pub fn lookup(exchange: &Exchange, address: IpAddr) -> Option<Bytes> {
    let address = address.to_canonical();
    exchange.door.learn(Source::Lookup, || Answer(located(exchange, address))).0
}

fn located(exchange: &Exchange, address: IpAddr) -> Option<Bytes> {
    if let Some(own) = exchange.deployment.config.geo.get(&address) {
        return place::complete(own);
    }
    if is_nowhere(address) {
        return None;
    }
    let place = exchange.host.geo.as_ref()?.place(address)?;
    Some(place.json())
}

/// Addresses that stand for no place: local, private, reserved (RFC 6890), multicast.
fn is_nowhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || matches!((a, b), (0, _) | (100, 64..=127) | (198, 18..=19) | (224.., _))
        }
        IpAddr::V6(v6) => {
            let [a, b, ..] = v6.segments();
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || matches!((a, b), (0xfc00..=0xfdff | 0xfe80..=0xfeff, _) | (0x2001, 0x0db8))
        }
    }
}

/// A looked-up text, of this module and of [`super::device`].
pub(super) struct Answer(pub Option<Bytes>);

impl Fact for Answer {
    fn event(&self) -> Event {
        Event::Optional(self.0.clone())
    }

    fn recall(event: Event) -> Option<Answer> {
        match event {
            Event::Optional(text) => Some(Answer(text)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod encode;
#[cfg(test)]
mod tests;
