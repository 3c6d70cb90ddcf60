//! What travels between machines, and how it is encoded, signed and checked.
//!
//! Relied on by every room, so that compiler, control plane, node and CLI cannot disagree. Deliberately
//! absent: I/O, async, clocks, randomness. Bytes, keys, nonces and times come in as arguments.
//!
//! | Module | One job |
//! |---|---|
//! | [`digest`] | sha-256 as a type |
//! | [`target`] | what native code is made for: target, profile, fingerprint, lane |
//! | [`names`] | tenant, app and host names, store names and keys, validated once |
//! | [`dsse`], [`keys`] | signatures: the envelope, and which key may sign what |
//! | [`key_change`], [`keyring`] | how a compiler key comes to be trusted by another's word, and stops being so |
//! | [`statement`] | what the compiler says of an artifact, and the only way to a [`statement::VerifiedArtifact`] |
//! | [`container`] | statement and compressed artifact as one blob |
//! | [`manifest`] | what an app asks for: `skerry.toml` and the part of it that a version pins |
//! | [`record`], [`checkpoint`] | the release log: hash-chained records, signed heads |
//! | [`nack`] | why a node refused a record |
//! | [`seal`] | secrets and TLS keys at rest |
//! | [`secrets`] | an app's secrets: where one is, sealed in a version, opened |
//! | [`visible`] | text of strangers, safe to be looked at |
//! | [`assets`] | static files: the index that names them |
//! | [`compile`] | the wire between control plane and compiler service |

pub mod assets;
pub mod checkpoint;
pub mod compile;
pub mod container;
pub mod digest;
pub mod dsse;
pub mod key_change;
pub mod keyring;
pub mod keys;
pub mod manifest;
pub mod nack;
pub mod names;
pub mod record;
pub mod seal;
pub mod secrets;
pub mod statement;
pub mod target;
pub mod visible;

pub use digest::Digest;
pub use names::{AppId, AppName, HostName, NodeName, TenantName};
pub use target::{Fingerprint, Lane, Profile, Target};
