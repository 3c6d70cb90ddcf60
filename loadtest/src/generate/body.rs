//! What is sent as a request's body, and how fast; how fast an answer is taken.

use std::time::Duration;

use bytes::Bytes;

use super::scenario::{Pace, Scenario};

/// Every byte of every body.
pub const FILL: u8 = b'x';
const PIECE_BYTES: usize = 64 << 10;
/// Between the drops of a slow body.
const PAUSE: Duration = Duration::from_millis(100);

static PIECE: [u8; PIECE_BYTES] = [FILL; PIECE_BYTES];

/// At most this many bytes of a body, and at most a piece.
pub fn piece(bytes: u64) -> Bytes {
    Bytes::from_static(&PIECE[..bytes.min(PIECE_BYTES as u64) as usize])
}

/// Between two pieces; a body that is not slow has none.
pub fn pause(scenario: &Scenario) -> Option<Duration> {
    let Pace::SlowBody { bytes_per_second } = scenario.pace else { return None };
    // Slower than ten bytes a second is one byte at a time.
    Some(if bytes_per_second >= 10 { PAUSE } else { Duration::from_secs(1) / bytes_per_second as u32 })
}

/// Of one piece.
pub fn piece_bytes(scenario: &Scenario) -> u64 {
    match scenario.pace {
        Pace::SlowBody { bytes_per_second } => (bytes_per_second / 10).max(1),
        Pace::Normal | Pace::Bursty { .. } | Pace::SlowReader { .. } => PIECE_BYTES as u64,
    }
}

/// Of a client that takes its answers slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    bytes_per_second: u64,
}

impl Reading {
    /// What waits for such a client on its own side, before the target has to hold it: the kernel alone would take
    /// megabytes. QUIC and HTTP/2 take it as the window of a stream.
    pub const BUFFER_BYTES: u32 = 16 << 10;

    pub fn of(scenario: &Scenario) -> Option<Reading> {
        match scenario.pace {
            Pace::SlowReader { bytes_per_second } => Some(Reading { bytes_per_second }),
            Pace::Normal | Pace::SlowBody { .. } | Pace::Bursty { .. } => None,
        }
    }

    /// Taken at once.
    pub fn piece_bytes(self) -> usize {
        (self.bytes_per_second / 10).max(1) as usize
    }

    /// Returns when so many bytes were to be taken.
    pub async fn took(self, bytes: usize) {
        tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)).await;
    }
}
