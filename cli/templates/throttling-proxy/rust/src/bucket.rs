//! A bucket of requests that fills up again steadily, kept as one number: when it will be full.
//!
//! (The generic cell rate algorithm: no counter to reset, and no burst of twice the limit where two windows meet.)

/// How many requests fit, and how long an empty bucket takes to be full.
pub struct Bucket {
    requests: u64,
    full_ms: u64,
}

/// What came of taking a request.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// There was one; so many are left.
    Yes { left: u64 },
    /// The bucket is empty; there is one after so long.
    No { wait_ms: u64 },
}

impl Bucket {
    pub fn new(requests: u64, full_ms: u64) -> Bucket {
        Bucket { requests, full_ms }
    }

    /// Takes one request: the bucket's next state and what came of it. A state is the time, in ms, when it is full.
    pub fn take(&self, full_at: u64, now: u64) -> (u64, Taken) {
        // One that says it is full in days was kept under another limit.
        let full_at = full_at.clamp(now, now + self.full_ms);
        let one = (self.full_ms / self.requests).max(1);
        let next = full_at + one;
        if next > now + self.full_ms {
            return (
                full_at,
                Taken::No {
                    wait_ms: next - now - self.full_ms,
                },
            );
        }
        (
            next,
            Taken::Yes {
                left: (now + self.full_ms - next) / one,
            },
        )
    }
}

/// A stored state; a new client's bucket is full.
pub fn read(entry: Option<&[u8]>) -> u64 {
    entry
        .and_then(|text| str::from_utf8(text).ok()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_up_again() {
        let bucket = Bucket::new(3, 3_000);
        let mut state = 0;
        let mut take = |now| {
            let (next, taken) = bucket.take(state, now);
            state = next;
            taken
        };
        let left = [2, 1, 0].map(|left| Taken::Yes { left });
        assert_eq!([take(10_000), take(10_000), take(10_000)], left);
        assert_eq!(take(10_200), Taken::No { wait_ms: 800 });
        assert_eq!(take(11_000), Taken::Yes { left: 0 });
        assert_eq!(take(60_000), Taken::Yes { left: 2 });
    }

    #[test]
    fn a_state_of_another_limit_or_none_locks_nobody_out_for_long() {
        let bucket = Bucket::new(1, 1_000);
        assert_eq!(
            bucket.take(u64::MAX, 5_000),
            (6_000, Taken::No { wait_ms: 1_000 })
        );
        assert_eq!(
            (read(None), read(Some(b"x")), read(Some(b"12"))),
            (0, 0, 12)
        );
    }
}
