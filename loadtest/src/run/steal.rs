//! CPU time that other machines on the same hardware took.

use std::fs;

/// Of the whole machine since it started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    all: u64,
    stolen: u64,
}

impl Ticks {
    /// Now; nothing where the kernel does not tell.
    pub fn now() -> Option<Ticks> {
        Ticks::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    fn parse(text: &str) -> Option<Ticks> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        Some(Ticks { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// The stolen share of what came since.
    pub fn share_since(before: Option<Ticks>) -> f64 {
        let (Some(before), Some(now)) = (before, Ticks::now()) else { return 0.0 };
        let all = now.all.saturating_sub(before.all).max(1);
        now.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eighth_number_is_steal() {
        let text = "cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(Ticks::parse(text), Some(Ticks { all: 36, stolen: 8 }));
        assert_eq!(Ticks::parse("cpu  1 2 3\n"), None);
    }
}
