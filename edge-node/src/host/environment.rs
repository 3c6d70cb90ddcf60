//! Who and where a guest is: its app, its version, its request, its node.

use std::fmt::Write as _;

use bytes::Bytes;

use super::door::{Event, Fact, Source};
use crate::exchange::Exchange;

/// Bytes of an ordinary identity: a request's id has 32, the five names up to 20 each.
const USUAL_BYTES: usize = 160;

/// See the module. In one text, because every program of some SDKs asks for it: one name a line, none of which can hold
/// a line end, in the order of [`Names`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(String);

/// What an identity is made of. Names without the node's own are the deployment's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Names<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The app.
    pub app: &'a str,
    /// Its version's number.
    pub version: &'a str,
    /// The request's id, as in the access log.
    pub request: &'a str,
    /// The node.
    pub node: &'a str,
    /// Its POP.
    pub pop: &'a str,
}

/// The identity of this execution.
pub fn identity(exchange: &Exchange) -> Identity {
    exchange.door.learn(Source::Request, || {
        let (deployment, site) = (&exchange.deployment, &exchange.host.site);
        let (id, version) = (&deployment.id, deployment.version);
        let mut text = String::with_capacity(USUAL_BYTES);
        // Writing to a string does not fail.
        let _ = write!(text, "{}\n{}\n{version}\n{}\n", id.tenant, id.app, exchange.id);
        let _ = write!(text, "{}\n{}", site.node, site.pop);
        Identity(text)
    })
}

impl Identity {
    /// Its names.
    pub fn names(&self) -> Names<'_> {
        let mut lines = self.0.split('\n');
        let mut next = || lines.next().unwrap_or_default();
        Names { tenant: next(), app: next(), version: next(), request: next(), node: next(), pop: next() }
    }
}

impl Fact for Identity {
    fn event(&self) -> Event {
        Event::Bytes(self.0.clone().into())
    }

    fn recall(event: Event) -> Option<Identity> {
        let Event::Bytes(bytes) = event else { return None };
        let text = String::from_utf8(Bytes::into(bytes)).ok()?;
        (text.split('\n').count() == 6).then_some(Identity(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let exchange = testing::exchange(Default::default());
        let identity = identity(&exchange);
        let (deployment, site) = (&exchange.deployment, &exchange.host.site);
        let expected = [
            deployment.id.tenant.to_string(),
            deployment.id.app.to_string(),
            deployment.version.to_string(),
            exchange.id.to_string(),
            site.node.to_string(),
            site.pop.to_string(),
        ];
        let Names { tenant, app, version, request, node, pop } = identity.names();
        assert_eq!([tenant, app, version, request, node, pop], expected.each_ref().map(String::as_str));
        assert_eq!(Identity::recall(identity.event()), Some(identity.clone()));
        assert_eq!(Identity::recall(Event::Bytes(Bytes::from_static(b"a\nb"))), None);
    }
}
