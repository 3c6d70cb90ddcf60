//! What a guest says: its output, and entries of named logs. Bounded per execution by the sink.

use bytes::Bytes;

use super::door::{Event, Source};
use crate::{
    account::guest_log::{Kept, Stream, Whose},
    exchange::Exchange,
    limits::Limit,
};

/// Bytes of standard output or error.
pub fn output(exchange: &Exchange, stream: Stream, bytes: &[u8]) {
    exchange.door.cause(Source::Log, || Event::Bytes(Bytes::copy_from_slice(bytes)));
    note(exchange, exchange.log.write(whose(exchange), stream, bytes));
}

/// One entry, whole, under a name the guest gives: a log endpoint, or context and level. Its text is these parts.
pub fn entry(exchange: &Exchange, name: &str, text: &[&[u8]]) {
    exchange
        .door
        .cause(Source::Log, || Event::Bytes([name.as_bytes(), b"\0", &text.concat()].concat().into()));
    note(exchange, exchange.log.entry(whose(exchange), name, text));
}

fn whose(exchange: &Exchange) -> Whose<'_> {
    Whose { deployment: &exchange.deployment, request: exchange.id }
}

fn note(exchange: &Exchange, kept: Kept) {
    if kept == Kept::Partly {
        exchange.bill.meet(Limit::Log);
    }
}

#[cfg(test)]
mod tests {
    use artifact::manifest::AppConfig;

    use super::*;
    use crate::{limits::EXECUTION, testing};

    #[test]
    fn an_execution_that_says_too_much_has_met_its_limit() {
        let exchange = testing::exchange(AppConfig::default());
        let line = [&[b'x'; 1_000][..], b"\n"].concat();
        for _ in 0..EXECUTION.log_bytes / (1_000 + 128) {
            output(&exchange, Stream::Stdout, &line);
        }
        assert!(!exchange.bill.limits_met().has(Limit::Log));
        entry(&exchange, "a", &[&[b'x'; 1_000]]);
        assert!(exchange.bill.limits_met().has(Limit::Log));
    }
}
