//! The sync protocol as pure state machines, and the projection of the release log that both sides share.
//!
//! Relied on by `fleet-sync/origin` (publisher) and `fleet-sync/replica` (follower), so that the two cannot disagree
//! about order, chain or limits. Deliberately absent: async, sockets, clocks, randomness, disks. Time, random numbers
//! and bytes come in as arguments; what to do comes out as values. A fleet is thus simulated in milliseconds
//! (`tests/simulation.rs`).
//!
//! | Module | One job |
//! |---|---|
//! | [`projection`] | what the log says now: apps, versions, host names, certificates, revoked nodes |
//! | [`wire`] | the messages of the stream |
//! | [`frame`] | their framing, with hard sizes |
//! | [`enrol`] | join token, enrolment and renewal: paths and bodies |
//! | [`kv`] | key-value operations: what is asked, what is said, and how both travel |
//! | [`logs`] | live logs: which apps are followed, their lines, and what one listener has heard |
//! | [`publisher`] | the origin's side of one stream |
//! | [`follower`] | the node's side |
//! | [`backoff`] | when to dial again |

pub mod backoff;
pub mod enrol;
pub mod follower;
pub mod frame;
pub mod inspect;
pub mod kv;
pub mod logs;
pub mod projection;
pub mod publisher;
pub mod wire;

pub use projection::{
    AppState, Applied, ApplyError, ClaimConflict, CompilerKeys, FleetView, HostState, VersionState,
    pick_artifact, runnable_artifacts,
};
pub use wire::{Ack, Hello, NodeHealth, Position, Report, ToNode, ToOrigin, VersionCounters};
