//! Runs what `spec-suite` compiled and signed: the scripts of WebAssembly's test suite, and random modules.
//!
//! Every module comes through [`node_load`]: signature, target, fingerprint and digest are checked, and the sealed
//! descriptor that was checked is mapped, as on a node. The engine has the node's settings ([`engine::node`]).
//! Deliberately absent: a compiler, so that this program can be built for, and show the code of, any architecture.

pub mod clock;
pub mod code;
pub mod plan;
pub mod script;
pub mod smith;
mod spectest;
mod values;
