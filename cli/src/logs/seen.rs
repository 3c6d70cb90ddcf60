//! Which lines of which node were seen already, by the numbers they carry. Lines of one message come by their times, not by
//! their numbers, and some numbers never come: those of lines that were lost, or are too old.

use std::collections::{BTreeSet, HashMap};

use super::line::Line;

/// Numbers that are remembered one by one, beyond which all before the lowest count as seen: two messages of a node have as
/// many lines.
const AHEAD_MAX: usize = 1_024;

/// What was seen of each node.
#[derive(Debug, Default)]
pub struct Seen(HashMap<String, Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    run: u64,
    /// All before this one.
    floor: u64,
    /// And these.
    ahead: BTreeSet<u64>,
}

impl Seen {
    /// Is this line new? It is not, afterwards. Lines without a number are always new.
    pub fn is_new(&mut self, line: &Line) -> bool {
        let (Some(node), Some(run), Some(seq)) = (&line.node, line.run, line.seq) else { return true };
        let numbers = self.0.entry(node.clone()).or_default();
        if run != numbers.run {
            *numbers = Numbers { run, ..Numbers::default() };
        }
        numbers.is_new(seq)
    }
}

impl Numbers {
    fn is_new(&mut self, seq: u64) -> bool {
        if seq < self.floor || !self.ahead.insert(seq) {
            return false;
        }
        while self.ahead.first() == Some(&self.floor) || self.ahead.len() > AHEAD_MAX {
            let Some(lowest) = self.ahead.pop_first() else { break };
            self.floor = lowest.saturating_add(1);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: u64, seq: u64) -> Line {
        let json = format!(r#"{{"kind":"again","node":"fra1-1","run":{run},"seq":{seq}}}"#);
        Line::parse(&json).unwrap()
    }

    #[test]
    fn each_line_is_new_once_in_whatever_order_they_come() {
        let mut seen = Seen::default();
        let order = [5, 7, 6, 0, 5, 6, 7, 8];
        let new: Vec<bool> = order.map(|seq| seen.is_new(&line(1, seq))).into();
        assert_eq!(new, [true, true, true, true, false, false, false, true]);
        assert!(seen.is_new(&line(2, 5)), "the node was started again");
        assert!(seen.is_new(&line(1, 5)) && !seen.is_new(&line(1, 5)), "and its clock was set back");
    }

    #[test]
    fn little_is_kept_also_where_numbers_are_missing() {
        let mut seen = Seen::default();
        for seq in (1..20_000).step_by(2) {
            assert!(seen.is_new(&line(1, seq)) && !seen.is_new(&line(1, seq)));
        }
        assert!(seen.0["fra1-1"].ahead.len() <= AHEAD_MAX);
        assert!(seen.is_new(&line(1, u64::MAX)) && !seen.is_new(&line(1, 1)));
    }
}
