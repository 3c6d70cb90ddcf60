//! Programs for the edge: a function that answers a request, built as a standard `wasi:http` 0.2 component.
//!
//! ```
//! use skerry::{Request, Response, Result};
//!
//! #[skerry::handler]
//! fn handle(req: Request) -> Result<Response> {
//!     Ok(Response::text(format!("Hello from {}\n", req.path())))
//! }
//!
//! # use skerry::testing;
//! let answer = testing::answer(handle, Request::get("http://app.example/x")?);
//! assert_eq!(answer.text(), "Hello from /x\n");
//! # Ok::<(), skerry::Error>(())
//! ```
//!
//! Build it as a library for wasm (`[lib]` with `crate-type = ["cdylib"]`):
//!
//! ```text
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! The guide is `docs/sdk-rust.md` in Skerry's repository. One file per capability:
//!
//! | Module or function | What for |
//! |---|---|
//! | [`Request`], [`Response`], [`Body`] | what comes, what goes, and what either carries, whole or piece by piece |
//! | [`Router`], [`Next`] | paths with parameters, and what stands before and after handlers |
//! | [`fetch`](fn@fetch), [`join_all`], [`join`](fn@join) | requests to backends, several at once |
//! | [`kv`], [`config`], [`secrets`], [`env`](mod@env) | stored entries, settings, who and where this program is |
//! | [`client`], [`geo`], [`device`] | who asked, from where, with what |
//! | [`log`], [`time`], [`random`], [`Url`] | the rest |
//! | [`block_on`] | awaiting in a handler that is not `async` |
//! | [`testing`] | all of it in memory, for `cargo test` |
//!
//! A component imports only what its program calls: one that only speaks HTTP runs wherever `wasi:http` does. [`kv`] and
//! [`config`] need a host that has them (Skerry, Spin, wasmtime with `-S keyvalue` or `-S config`); [`client`], [`geo`],
//! [`device`] and [`secrets`] are Skerry's own, since WASI 0.2 has no interface for them.

#[cfg(all(target_family = "wasm", not(all(target_os = "wasi", target_env = "p2"))))]
compile_error!("skerry makes components: build with `--target wasm32-wasip2`");

mod body;
pub mod client;
pub mod config;
pub mod device;
pub mod env;
mod error;
mod executor;
pub mod fetch;
pub mod geo;
mod handler;
mod headers;
mod join;
#[cfg(feature = "json")]
pub mod json;
pub mod kv;
pub mod log;
mod percent;
mod query;
pub mod random;
mod request;
mod response;
mod router;
pub mod secrets;
mod sys;
#[cfg(not(target_os = "wasi"))]
pub mod testing;
pub mod time;
mod url;

/// Makes a function the one that answers requests: the component's `wasi:http/incoming-handler`.
///
/// The function takes a [`Request`] and returns a [`Response`], a [`Result`] of one, or anything else that
/// [`IntoResponse`] covers; it may be `async`. There is one in a program. Natively the attribute does nothing but check
/// the types.
///
/// ```
/// #[skerry::handler]
/// async fn handle(mut req: skerry::Request) -> skerry::Result<String> {
///     Ok(req.text().await?.to_uppercase())
/// }
/// ```
pub use skerry_macros::handler;

pub use self::{
    body::{BODY_BYTES_MAX, Body, BodyError, Writer},
    error::Error,
    executor::block_on,
    fetch::fetch,
    handler::{Handler, IntoResponse},
    join::{join, join_all},
    query::Query,
    request::Request,
    response::Response,
    router::{Next, Router},
    url::{BadUrl, Url},
};
pub use bytes::Bytes;
pub use http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

/// What handlers return: by default a [`Response`], else an [`Error`], which is answered with its status and logged.
pub type Result<T = Response, E = Error> = std::result::Result<T, E>;

/// What the expansion of [`handler`] calls. No part of the interface.
#[doc(hidden)]
pub mod __private {
    #[cfg(not(target_os = "wasi"))]
    pub use crate::handler::check;
    #[cfg(target_os = "wasi")]
    pub use crate::sys::{
        export::{Guest, IncomingRequest, ResponseOutparam, export, wasip2},
        serve,
    };
}

/// The component's export, on wasm.
#[cfg(target_os = "wasi")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($handler:ident) => {
        const _: () = {
            struct Component;
            impl $crate::__private::Guest for Component {
                fn handle(
                    request: $crate::__private::IncomingRequest,
                    out: $crate::__private::ResponseOutparam,
                ) {
                    $crate::__private::serve($handler, request, out);
                }
            }
    $crate::__private::export!(Component with_types_in $crate::__private::wasip2);
        };
    };
}

/// The same check of types where there is nothing to export.
#[cfg(not(target_os = "wasi"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($handler:ident) => {
        const _: fn() = || $crate::__private::check($handler);
    };
}

/// The guide's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/sdk-rust.md")]
struct Guide;

/// What is no handler does not compile.
///
/// ```compile_fail
/// #[skerry::handler(route)]
/// fn handle(_: skerry::Request) -> skerry::Response { skerry::Response::text("") }
/// ```
///
/// ```compile_fail
/// #[skerry::handler]
/// struct Handle;
/// ```
///
/// ```compile_fail
/// mod of_a_program {
///     #[skerry::handler]
///     pub fn main(_: skerry::Request) -> skerry::Response { skerry::Response::text("") }
/// }
/// ```
///
/// ```compile_fail
/// #[skerry::handler]
/// fn handle<T>(_: skerry::Request) -> skerry::Response { skerry::Response::text("") }
/// ```
///
/// ```compile_fail
/// #[skerry::handler]
/// fn handle(_: skerry::Request) -> u8 { 0 }
/// ```
#[cfg(doctest)]
struct Misuse;
