//! CPU time of this process's threads, by the beginning of their name.

use std::fs;

use anyhow::Context as _;

/// Nanoseconds on a CPU, of all threads whose name begins so.
pub fn cpu_ns(name: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    let mut found = false;
    for task in fs::read_dir("/proc/self/task").context("listing this process's threads")? {
        let path = task?.path();
        // One that has ended meanwhile is none.
        let Ok(comm) = fs::read_to_string(path.join("comm")) else { continue };
        if !comm.starts_with(name) {
            continue;
        }
        let stat = fs::read_to_string(path.join("schedstat"))
            .with_context(|| format!("reading the CPU time of the thread {}", comm.trim()))?;
        let ns = stat.split(' ').next().and_then(|ns| ns.trim().parse::<u64>().ok());
        sum += ns.with_context(|| format!("reading the CPU time of the thread {}: {stat:?}", comm.trim()))?;
        found = true;
    }
    anyhow::ensure!(found, "this process has no thread whose name begins with {name:?}");
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_and_one_that_is_not_there_is_an_error() {
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
