//! What processes have used, and the machine as a whole, from `/proc`.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// Of some processes, all their threads included, since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// In user mode and in the kernel; told in ticks of 10 ms.
    pub cpu: Duration,
    /// Context switches of the threads that live, by their own wish or not.
    pub switches: u64,
    /// What they hold now: VmRSS.
    pub rss_kib: u64,
    /// The most they held: VmHWM.
    pub peak_kib: u64,
}

/// Of the whole machine since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Machine {
    /// By anybody.
    pub busy: Duration,
    /// Taken away by the machine's own host.
    pub stolen: Duration,
}

impl Usage {
    /// Of these. One that has gone is an error: its CPU would be missing.
    pub fn of(pids: &[u32]) -> anyhow::Result<Usage> {
        let mut sum = Usage::default();
        for pid in pids {
            let one = one(*pid).with_context(|| format!("reading what process {pid} has used"))?;
            sum.cpu += one.cpu;
            sum.switches += one.switches;
            sum.rss_kib += one.rss_kib;
            sum.peak_kib += one.peak_kib;
        }
        Ok(sum)
    }
}

impl Machine {
    pub fn now() -> anyhow::Result<Machine> {
        let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        machine(&text).context("reading /proc/stat")
    }
}

fn one(pid: u32) -> anyhow::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).context("its stat has no CPU time")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread may end between the two.
        switches += fs::read_to_string(thread.path().join("status")).map_or(0, |text| switched(&text));
    }
    Ok(Usage {
        cpu: time(ticks),
        switches,
        rss_kib: field(&status, "VmRSS").unwrap_or(0),
        peak_kib: field(&status, "VmHWM").unwrap_or(0),
    })
}

/// A tick is 10 ms on every Linux we know; asked for all the same.
fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64)
}

/// utime and stime, the fields 14 and 15; the second field is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

fn switched(status: &str) -> u64 {
    ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
        .iter()
        .filter_map(|name| field(status, name))
        .sum()
}

/// A line `name: number`, with or without a unit.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal.
fn machine(stat: &str) -> Option<Machine> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
    Some(Machine { busy: time(user + nice + system + irq + softirq), stolen: time(steal) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_in_a_stat_line_may_hold_anything() {
        let line = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 123 45 6 7 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(line), Some(168));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn status_lines_are_found_by_their_whole_name() {
        let status = "VmPeak:\t  999 kB\nVmHWM:\t  2048 kB\nVmRSS:\t    1024 kB\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "VmHWM"), Some(2048));
        assert_eq!(field(status, "VmRSS"), Some(1024));
        assert_eq!(field(status, "Vm"), None);
        assert_eq!(switched(status), 12);
    }

    #[test]
    fn idle_and_waiting_are_not_busy_and_stolen_is_apart() {
        let found = machine("cpu  100 10 50 9000 800 5 5 30 0 0\ncpu0 1 2 3 4\n").unwrap();
        assert_eq!(found, Machine { busy: time(170), stolen: time(30) });
        assert_eq!(machine("cpu  100 10"), None);
        assert_eq!(machine(""), None);
    }

    #[test]
    fn this_process_is_read_with_all_its_threads() {
        let busy = std::thread::spawn(|| {
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(100) {}
        });
        let before = Usage::of(&[std::process::id()]).unwrap();
        busy.join().unwrap();
        let after = Usage::of(&[std::process::id()]).unwrap();
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(after.rss_kib > 0 && after.peak_kib >= after.rss_kib, "{after:?}");
        assert!(Machine::now().unwrap().busy > Duration::ZERO);
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
