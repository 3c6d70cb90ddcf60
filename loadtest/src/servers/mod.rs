//! The servers that are compared: each a process of its own, started here and ended here.
//!
//! | Module | One job |
//! |---|---|
//! | [`bare`] | hyper, and quinn with h3, with nothing in them |

pub mod bare;

/// The name that every server is asked for.
pub const AUTHORITY: &str = "hello.localhost";
