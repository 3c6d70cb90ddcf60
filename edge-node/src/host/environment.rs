//! Who and where a guest is: its app, its version, its request, its node.

use artifact::record::VersionNumber;
use bytes::Bytes;

use super::door::{Event, Fact, Source};
use crate::exchange::Exchange;

/// See the module. Names without the node's own are the deployment's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The tenant.
    pub tenant: String,
    /// The app.
    pub app: String,
    /// Its version.
    pub version: VersionNumber,
    /// The request's id, as in the access log.
    pub request: String,
    /// The node.
    pub node: String,
    /// Its POP.
    pub pop: String,
}

/// The identity of this execution.
pub fn identity(exchange: &Exchange) -> Identity {
    exchange.door.learn(Source::Request, || {
        let (deployment, site) = (&exchange.deployment, &exchange.host.site);
        Identity {
            tenant: deployment.id.tenant.to_string(),
            app: deployment.id.app.to_string(),
            version: deployment.version,
            request: exchange.id.to_string(),
            node: site.node.to_string(),
            pop: site.pop.to_string(),
        }
    })
}

impl Fact for Identity {
    fn event(&self) -> Event {
        let Identity { tenant, app, version, request, node, pop } = self;
        // None of these names can hold a line end.
        Event::Bytes(format!("{tenant}\n{app}\n{version}\n{request}\n{node}\n{pop}").into())
    }

    fn recall(event: Event) -> Option<Identity> {
        let Event::Bytes(bytes) = event else { return None };
        let text = String::from_utf8(Bytes::into(bytes)).ok()?;
        let mut lines = text.split('\n').map(str::to_owned);
        Some(Identity {
            tenant: lines.next()?,
            app: lines.next()?,
            version: lines.next()?.parse().ok()?,
            request: lines.next()?,
            node: lines.next()?,
            pop: lines.next()?,
        })
    }
}
