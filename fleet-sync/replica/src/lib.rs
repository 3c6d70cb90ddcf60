//! A node's side of fleet-sync: enrol, follow, fetch, verify, keep, report.
//!
//! Relied on by `edge-node`, which serves what is handed to its [`Activator`]. Everything a node needs to serve lies in
//! its data directory: with the control plane dead, after its own restart, [`Replica::view`], [`Replica::pinned`],
//! [`Replica::secrets_key`] and [`BlobShelf::get`] answer as before. Deliberately absent: loading native code and
//! checking its statement (the node's work, at every load), and compiling.
//!
//! | Module | One job |
//! |---|---|
//! | [`replica`] | [`Replica`]: open, what is known, run |
//! | `trust` | whose code it believes now |
//! | [`activator`] | the seam to the server |
//! | `identity`, `enrol`, `dial`, `kept` | who this node is; how it became that; mTLS |
//! | `store` | `replica.sqlite`: records, cursor, pins, failures |
//! | [`shelf`] | artifacts on disk, fetched when missing |
//! | `applier` | one batch after another: apply, prefetch, persist, activate |
//! | [`kv`] | [`KvClient`]: tenants' key-value stores, which the origin keeps |
//! | `link`, `follow` | one stream; the loop around the follower |

pub mod activator;
mod applier;
mod clock;
mod dial;
mod enrol;
mod files;
mod follow;
mod identity;
mod kept;
pub mod kv;
mod link;
mod prefetch;
mod renewal;
pub mod replica;
pub mod shelf;
mod store;
mod trust;

pub use activator::{Activation, Activator};
pub use enrol::EnrolError;
pub use fleet_sync_proto::{
    AppState, FleetView, HostState, NodeHealth, Report, VersionCounters, VersionState, inspect, logs,
    pick_artifact, runnable_artifacts,
};
pub use kv::{KvAskError, KvClient};
pub use replica::{Replica, ReplicaConfig, ReplicaError, ReplicaStatus};
pub use shelf::{BlobShelf, FetchError};
pub use store::Pin;
