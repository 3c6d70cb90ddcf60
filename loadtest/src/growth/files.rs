//! How many connections this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors beside the connections: programs, logs, sockets of the runtime.
const OTHERS: u64 = 128;

/// Raises the limit as far as it may, for this process and what it starts, and says how many connections fit.
pub fn connections_max() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    let now = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum,
        Err(_) => before,
    };
    now.unwrap_or(u64::MAX).saturating_sub(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let fit = connections_max();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(fit > 0 && fit < limit.current.unwrap_or(u64::MAX));
    }
}
