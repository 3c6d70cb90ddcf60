//! What the serving threads of a node did: from `/proc`, by the scheduler's own clock.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// The name that every serving thread's name begins with.
const NAME: &str = "serve-";

/// Of all serving threads together, since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// Nanoseconds on a core.
    pub cpu_ns: u64,
    /// Nanoseconds they could have run and had no core.
    pub waited_ns: u64,
}

impl Times {
    /// Of a process, until now.
    pub fn of(pid: u32) -> anyhow::Result<Times> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("finding the node's threads")?;
        let mut all = Times::default();
        for task in tasks.flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.starts_with(NAME) {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let one = parse(&text).context("reading the times of a serving thread")?;
                all.cpu_ns += one.cpu_ns;
                all.waited_ns += one.waited_ns;
            }
        }
        Ok(all)
    }

    /// From an earlier look to this one.
    pub fn since(self, earlier: Times) -> Times {
        Times {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}

/// The first two fields of `schedstat`.
fn parse(text: &str) -> Option<Times> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some(Times { cpu_ns: fields.next()?.ok()?, waited_ns: fields.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedulers_line_is_read() {
        assert_eq!(parse("120 30 4\n"), Some(Times { cpu_ns: 120, waited_ns: 30 }));
        assert_eq!(parse("120"), None);
    }
}
