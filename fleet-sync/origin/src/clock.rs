//! The wall clock, read in one place. Nothing is ordered by it: it dates records, certificates and sightings.

use std::time::{SystemTime, UNIX_EPOCH};

use artifact::record::UnixMs;

pub(crate) fn now_ms() -> UnixMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as UnixMs)
}
