//! The host, as thin as it can be: the same functions over WIT bindings and, natively, over [`testing`](crate::testing)'s
//! world in memory. Everything else in this crate is written once, over this.
//!
//! Relied on: a thread of its own for each instance, which wasm has and tests have. Absent: anything an app calls.

#[cfg(not(target_os = "wasi"))]
mod native;
#[cfg(target_os = "wasi")]
mod wasi;

#[cfg(not(target_os = "wasi"))]
pub(crate) use self::native::*;
#[cfg(target_os = "wasi")]
pub use self::wasi::*;
