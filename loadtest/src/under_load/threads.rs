//! What threads of a process did: from `/proc`, by the scheduler's own clock.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

/// The name that every serving thread of a node begins with.
pub const SERVING: &str = "serve-";
/// The name that every thread of its slow lane begins with.
pub const SLOW: &str = "slow-";

/// Of some threads together, since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Times {
    /// Nanoseconds on a core.
    pub cpu_ns: u64,
    /// Nanoseconds they could have run and had no core.
    pub waited_ns: u64,
}

impl Times {
    /// Of all threads of a process whose name begins so, until now. Some must be there.
    pub fn of(pid: u32, name: &str) -> anyhow::Result<Times> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        let (mut all, mut found) = (Times::default(), false);
        for task in tasks.with_context(|| format!("finding the threads of process {pid}"))?.flatten() {
            // One that has ended meanwhile is none.
            let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if !comm.starts_with(name) {
                continue;
            }
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let one = parse(&text);
            let one =
                one.with_context(|| format!("reading the times of the thread {}: {text:?}", comm.trim()))?;
            all.cpu_ns += one.cpu_ns;
            all.waited_ns += one.waited_ns;
            found = true;
        }
        anyhow::ensure!(found, "the process {pid} has no thread whose name begins with {name:?}");
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

    #[test]
    fn a_thread_that_works_is_seen_and_one_that_is_not_there_is_an_error() {
        let cpu_ns = |name| Times::of(std::process::id(), name).map(|times| times.cpu_ns);
        let worker = std::thread::Builder::new().name("busy-thread".into());
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let worker = worker
            .spawn(move || {
                let start = crate::counters::thread_cpu_ns();
                while crate::counters::thread_cpu_ns() - start < 5_000_000 {}
                let _ = wait.recv();
            })
            .unwrap();
        // It has its name only once it runs.
        while cpu_ns("busy-thread").unwrap_or(0) < 5_000_000 {
            std::thread::yield_now();
        }
        drop(done);
        worker.join().unwrap();
        assert!(cpu_ns("no-such-thread").is_err());
    }
}
