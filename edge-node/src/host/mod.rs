//! The door: everything a guest can learn of the world or cause in it passes here, once, whatever interface it speaks.
//!
//! Called by `guest/wasi` and `guest/fastly`, which only translate. One file per capability; each takes the
//! [`crate::exchange::Exchange`] (tenant, limits, bill, deadline) and knows nothing of wasm. What passes is visible to
//! a [`door::Witness`], if the exchange has one.
//!
//! | Module | One job |
//! |---|---|
//! | [`door`] | the seam: what is learned and caused, as events |
//! | [`body`], [`pipe`] | bodies from outside, and what a guest writes |
//! | [`wait`] | the first of several things |
//! | [`clock`], [`random`], [`environment`], [`client`], [`log`] | one capability each |
//! | [`geo`], [`device`] | lookups of a client's address and user agent |
//! | [`config`], [`secrets`] | what the version pins |
//! | [`held`] | what the host holds for one execution, in sum |
//! | [`kv`] | the tenant's key-value stores |
//! | [`outbound`] | requests to backends: safety, connections, limits |

pub mod body;
pub mod client;
pub mod clock;
pub mod config;
pub mod device;
pub mod door;
pub mod environment;
pub mod geo;
pub mod held;
pub mod kv;
pub mod log;
pub mod outbound;
pub mod pipe;
pub mod random;
pub mod secrets;
#[cfg(test)]
pub mod tape;
pub mod wait;

use std::sync::Arc;

use artifact::{NodeName, names::PopName};

use crate::memory::Budget;

/// What this node offers to guests: made once per process.
pub struct Host {
    /// Where it stands.
    pub site: Site,
    /// Its way to backends.
    pub outbound: outbound::Outbound,
    /// The operator's geography, if there is any.
    pub geo: Option<geo::Database>,
    /// Its way to key-value stores.
    pub kv: Arc<dyn kv::KvStore>,
    /// The memory that all of them share.
    pub memory: Budget,
}

/// Where this node stands, as guests may ask.
#[derive(Debug, Clone)]
pub struct Site {
    /// The node's name in the fleet.
    pub node: NodeName,
    /// Its POP.
    pub pop: PopName,
}
