//! When to try again: exponential with full jitter, so that a thousand nodes cut at once do not come back at once.
//! The random number is an argument.

/// Shortest ceiling of a delay.
pub const DELAY_MS_MIN: u64 = 200;
/// Longest delay.
pub const DELAY_MS_MAX: u64 = 30_000;

/// Delays that grow with each failure and start over after a success.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// After one more failure: a delay drawn evenly from 0 to the current ceiling, which doubles from
    /// [`DELAY_MS_MIN`] to [`DELAY_MS_MAX`].
    pub fn next_ms(&mut self, random: u64) -> u64 {
        let ceiling = DELAY_MS_MIN.saturating_mul(1 << self.failures.min(20)).min(DELAY_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        random % (ceiling + 1)
    }

    /// From now on the slowest pace, until a success.
    pub fn slowest(&mut self) {
        self.failures = 20;
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_from_200_ms_to_30_s_and_start_over() {
        // The largest number that is the ceiling itself for every ceiling c: c + 1 divides random + 1.
        let mut backoff = Backoff::default();
        let mut ceilings = Vec::new();
        for _ in 0..10 {
            let ceiling = (0..=DELAY_MS_MAX).map(|random| { backoff }.next_ms(random)).max().unwrap();
            ceilings.push(ceiling);
            assert_eq!(backoff.next_ms(0), 0, "full jitter reaches down to nothing");
        }
        assert_eq!(ceilings, [200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        backoff.reset();
        assert!(backoff.next_ms(u64::MAX) <= DELAY_MS_MIN);
    }
}
