//! The host behind WIT bindings: `wasip2` for WASI 0.2, [`drafts`] for what is no part of it yet. `unsafe` stands only in
//! [`drafts`], which `wit-bindgen` wrote.

mod answer;
mod backend;
mod client;
pub(crate) mod config;
pub(crate) mod edge;
#[allow(unsafe_code, missing_docs, clippy::all)]
#[rustfmt::skip]
mod drafts;
mod fields;
pub(crate) mod kv;
mod streams;

use std::{
    io::{Write as _, stderr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use self::answer::serve;
pub(crate) use self::{
    backend::fetch,
    client::ClientRequest,
    streams::{Sink, Stopped, pump_all},
};
pub(crate) use wasip2::io::poll::{Pollable, poll};

/// What the expansion of `#[handler]` names.
pub mod export {
    pub use wasip2::{
        self,
        exports::http::incoming_handler::Guest,
        http::{
            proxy::export,
            types::{IncomingRequest, ResponseOutparam},
        },
    };
}

/// Ready when so much time has passed.
pub(crate) fn after(time: Duration) -> Pollable {
    wasip2::clocks::monotonic_clock::subscribe_duration(nanoseconds(time))
}

/// As hosts count: 584 years are for ever.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn random(bytes: &mut [u8]) {
    bytes.copy_from_slice(&wasip2::random::random::get_random_bytes(bytes.len() as u64));
}

pub(crate) fn env(name: &str) -> Option<String> {
    wasip2::cli::environment::get_environment()
        .into_iter()
        .find(|(found, _)| found == name)
        .map(|(_, value)| value)
}

pub(crate) fn log(line: String) {
    // A host that takes no line has no log.
    let _ = stderr().write_all(line.as_bytes());
}
