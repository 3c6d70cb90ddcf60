//! The wall clock and the random source, read in one place. Nothing is ordered by the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use artifact::record::UnixMs;

pub(crate) fn now_ms() -> UnixMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as UnixMs)
}

/// For jitter only. A system without randomness gets the clock's low bits, which differ enough between nodes.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| now_ms().wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
