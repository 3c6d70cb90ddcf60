//! A backend that a guest made for itself: what a manifest says of a backend, and what only guests say.

use std::time::Duration;

use artifact::{
    manifest::{Backend, origin::OriginHost},
    secrets::SecretValue,
};
use rustls::{CipherSuite, ProtocolVersion};

use super::limits;

/// See the module.
#[derive(Default)]
pub struct Made {
    /// All that a manifest could say, too. Its key is not the secret that this names, but the next.
    pub backend: Backend,
    /// The key of its client certificate, PEM.
    pub client_key: Option<SecretValue>,
    /// How TLS is narrowed.
    pub narrowing: Narrowing,
    /// How its connections are made and kept.
    pub keeping: Keeping,
}

impl From<Backend> for Made {
    fn from(backend: Backend) -> Made {
        Made { backend, ..Made::default() }
    }
}

/// What a guest wants less of TLS than there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// The one version it may be.
    pub version: Option<ProtocolVersion>,
    /// Of TLS 1.2, the suites that may be used.
    pub suites: Option<Vec<CipherSuite>>,
    /// The name its certificate must have, where it is not the one that is asked for.
    pub certificate_of: Option<OriginHost>,
}

/// How connections to one backend are made and kept, within the bounds of [`limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Keeping {
    /// May another request have a connection that served one?
    pub is_pooled: bool,
    /// How long it may be idle.
    pub idle_max: Duration,
    /// Idle connections of one thread.
    pub idle_connections_max: usize,
    /// How often it may be used again; for ever when absent.
    pub reuses_max: Option<u32>,
    /// How old it may be when it is used again; of any age when absent.
    pub age_max: Option<Duration>,
    /// Are addresses of version 4 tried first?
    pub prefers_ipv4: bool,
    /// TCP's own probes of a silent peer.
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// See [`Keeping::tcp_keepalive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpKeepalive {
    /// Silence before the first probe.
    pub after: Duration,
    /// Time from one probe to the next.
    pub interval: Duration,
    /// Lost probes that end a connection.
    pub probes: u32,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping {
            is_pooled: true,
            idle_max: limits::IDLE_TIMEOUT,
            idle_connections_max: limits::IDLE_PER_ORIGIN_MAX,
            reuses_max: None,
            age_max: None,
            prefers_ipv4: false,
            tcp_keepalive: None,
        }
    }
}
