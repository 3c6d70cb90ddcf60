//! What a guest says: its output, and entries of named logs. Bounded per execution by the sink.

use bytes::Bytes;

use super::door::{Event, Source};
use crate::{account::guest_log::Stream, exchange::Exchange};

/// Bytes of standard output or error.
pub fn output(exchange: &Exchange, stream: Stream, bytes: &[u8]) {
    exchange.door.cause(Source::Log, || Event::Bytes(Bytes::copy_from_slice(bytes)));
    exchange.log.write(stream, bytes);
}

/// One entry, whole, under a name the guest gives: a log endpoint, or context and level.
pub fn entry(exchange: &Exchange, name: &str, text: &[u8]) {
    exchange.door.cause(Source::Log, || Event::Bytes([name.as_bytes(), b"\0", text].concat().into()));
    exchange.log.entry(name, text);
}
