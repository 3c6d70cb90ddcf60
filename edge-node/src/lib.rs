//! The POP node: terminates TLS and QUIC and answers every request with a fresh, isolated instance.
//!
//! Entry points: [`run::run`] starts a node from its configuration; [`serve`] is the request path, read it first.
//! Deliberately absent: a compiler. Native code comes signed, through [`load`], the one room with `unsafe` and a crate of its own.
//!
//! | Room | Job |
//! |---|---|
//! | [`front`] | sockets, TLS, h1, h2, h3 → requests |
//! | [`serve`] | a request's way, as a list |
//! | [`exchange`], [`failure`], [`meter`] | one request: identity, limits, bill; what else can happen to it |
//! | [`guest`] | the two guest interfaces and what drives them |
//! | [`lane`] | the serving thread, and the thread for guests that take longer |
//! | [`limits`], [`memory`] | what one execution may use, and all of them together |
//! | [`host`] | the door: every effect a guest can have, under both interfaces |
//! | [`generation`], [`activate`] | what is deployed, and how that changes |
//! | [`code`], [`load`] | native code: kept by use, loaded only if verified |
//! | [`account`], [`admin`] | metrics and logs |
//! | [`node`], [`worker`], [`machine`], [`config`], [`run`] | the process |

pub mod account;
pub mod activate;
pub mod admin;
pub mod assets;
pub mod code;
pub mod config;
pub mod exchange;
pub mod failure;
pub mod front;
pub mod generation;
pub mod guest;
pub mod host;
pub mod lane;
pub mod limits;
pub mod machine;
pub mod memory;
pub mod meter;
pub mod node;
pub mod run;
pub mod serve;
#[cfg(test)]
mod testing;
pub mod worker;

/// Signed containers into mapped code. A crate of its own, so that what proves compiled code (`spec/runner`) loads it by the
/// same checks without the rest of a node.
pub use node_load as load;

/// What a node allocates with: an execution takes 1 to 5 % less with mimalloc than with glibc (docs/benchmarks.md).
pub use mimalloc::MiMalloc as Allocator;
