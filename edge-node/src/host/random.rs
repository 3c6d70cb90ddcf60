//! Random bytes for guests: of the process's cryptographic generator, drawn in stock so that a seed costs no call.

use std::{cell::RefCell, mem};

use bytes::Bytes;
use rustls::crypto::SecureRandom;

use super::door::{Event, Fact, Source};
use crate::exchange::Exchange;

/// Bytes of one call: a seed is 32, a key 64; who wants more asks again and pays CPU for it.
pub const CALL_BYTES_MAX: usize = 64 * 1024;
/// Bytes drawn in stock per thread: 128 seeds.
const STOCK_BYTES: usize = 4 * 1024;

/// Why there are no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRandom {
    /// Over [`CALL_BYTES_MAX`].
    #[error("{0} random bytes in one call, at most {CALL_BYTES_MAX}")]
    TooMany(usize),
    /// The generator failed.
    #[error("this machine gives no random bytes")]
    Unavailable,
}

/// `length` random bytes.
pub fn bytes(exchange: &Exchange, length: usize) -> Result<Vec<u8>, NoRandom> {
    if length > CALL_BYTES_MAX {
        return Err(NoRandom::TooMany(length));
    }
    let drawn = exchange.door.learn(Source::Random, || {
        let mut target = vec![0; length];
        Drawn(fill(&mut target).map(|()| target))
    });
    drawn.0.filter(|drawn| drawn.len() == length).ok_or(NoRandom::Unavailable)
}

/// 64 random bits.
pub fn number(exchange: &Exchange) -> Result<u64, NoRandom> {
    let drawn = exchange.door.learn(Source::Random, || {
        let mut target = [0; 8];
        Number(fill(&mut target).map(|()| u64::from_ne_bytes(target)))
    });
    drawn.0.ok_or(NoRandom::Unavailable)
}

struct Stock {
    bytes: [u8; STOCK_BYTES],
    left: usize,
    generator: &'static dyn SecureRandom,
}

fn fill(target: &mut [u8]) -> Option<()> {
    thread_local! {
        static STOCK: RefCell<Stock> = RefCell::new(Stock {
            bytes: [0; STOCK_BYTES],
            left: 0,
            generator: rustls::crypto::aws_lc_rs::default_provider().secure_random,
        });
    }
    STOCK.with_borrow_mut(|stock| stock.fill(target))
}

impl Stock {
    fn fill(&mut self, target: &mut [u8]) -> Option<()> {
        if target.len() > STOCK_BYTES / 8 {
            return self.generator.fill(target).ok();
        }
        if self.left < target.len() {
            self.generator.fill(&mut self.bytes).ok()?;
            self.left = STOCK_BYTES;
        }
        let at = STOCK_BYTES - self.left;
        self.left -= target.len();
        // What was given out is not kept: no later reader of this memory learns it.
        for (given, kept) in target.iter_mut().zip(self.bytes.get_mut(at..)?) {
            *given = mem::take(kept);
        }
        Some(())
    }
}

struct Drawn(Option<Vec<u8>>);

impl Fact for Drawn {
    fn event(&self) -> Event {
        Event::Optional(self.0.as_ref().map(|bytes| Bytes::copy_from_slice(bytes)))
    }

    fn recall(event: Event) -> Option<Drawn> {
        match event {
            Event::Optional(bytes) => Some(Drawn(bytes.map(Vec::from))),
            _ => None,
        }
    }
}

struct Number(Option<u64>);

impl Fact for Number {
    fn event(&self) -> Event {
        self.0.map_or(Event::Optional(None), Event::Number)
    }

    fn recall(event: Event) -> Option<Number> {
        match event {
            Event::Number(number) => Some(Number(Some(number))),
            Event::Optional(None) => Some(Number(None)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::testing;

    #[test]
    fn draws_differ_across_a_whole_stock_and_nothing_given_is_kept() {
        let mut seen = HashSet::new();
        for _ in 0..3 * STOCK_BYTES / 32 {
            let mut seed = [0; 32];
            fill(&mut seed).unwrap();
            assert!(seen.insert(seed));
        }
        let mut stock = Stock {
            bytes: [0; STOCK_BYTES],
            left: 0,
            generator: rustls::crypto::aws_lc_rs::default_provider().secure_random,
        };
        stock.fill(&mut [0; 100]).unwrap();
        assert_eq!(stock.bytes[..100], [0; 100]);
        assert_eq!(stock.left, STOCK_BYTES - 100);
    }

    #[test]
    fn a_call_is_bounded() {
        let exchange = testing::exchange(Default::default());
        assert_eq!(bytes(&exchange, CALL_BYTES_MAX).unwrap().len(), CALL_BYTES_MAX);
        assert_eq!(bytes(&exchange, CALL_BYTES_MAX + 1), Err(NoRandom::TooMany(CALL_BYTES_MAX + 1)));
        assert_ne!(number(&exchange), number(&exchange));
    }
}
