//! Which lines of which node were seen already, by the numbers they carry. Lines of one message come by their times, not by
//! their numbers, and some numbers never come: those of lines that were lost, or are too old.

use std::collections::{BTreeSet, HashMap};

use super::line::{Line, Said};

/// Numbers that are remembered one by one, beyond which all before the lowest count as seen: two messages of a node have as
/// many lines.
const AHEAD_MAX: usize = 1_024;

/// What was seen of each node.
#[derive(Debug, Default)]
pub struct Seen(HashMap<String, Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    run: u64,
    /// After the highest that came or was said to have been before.
    next: u64,
    /// All before this one.
    floor: u64,
    /// And these.
    ahead: BTreeSet<u64>,
}

impl Seen {
    /// Lines that a node had between what came of it before and where it begins to tell now: nobody tells them any more.
    pub fn missed(&mut self, line: &Line) -> u64 {
        let Said::From { since } = line.said else { return 0 };
        let (Some(node), Some(run), Some(seq)) = (&line.node, line.run, line.seq) else { return 0 };
        let numbers = self.0.entry(node.clone()).or_default();
        let is_known = numbers.run == run;
        if !is_known {
            *numbers = Numbers { run, ..Numbers::default() };
        }
        let missed = if is_known { since.saturating_sub(numbers.next) } else { 0 };
        numbers.next = numbers.next.max(seq);
        missed
    }

    /// Is this line new? It is not, afterwards. Lines without a number are always new.
    pub fn is_new(&mut self, line: &Line) -> bool {
        if matches!(line.said, Said::From { .. }) {
            return true;
        }
        let (Some(node), Some(run), Some(seq)) = (&line.node, line.run, line.seq) else { return true };
        let numbers = self.0.entry(node.clone()).or_default();
        if run != numbers.run {
            *numbers = Numbers { run, ..Numbers::default() };
        }
        numbers.next = numbers.next.max(seq.saturating_add(1));
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
    fn what_nobody_told_between_two_streams_is_counted() {
        let from = |run: u64, since: u64, seq: u64| {
            let json =
                format!(r#"{{"kind":"from","node":"fra1-1","run":{run},"seq":{seq},"since":{since}}}"#);
            Line::parse(&json).unwrap()
        };
        let mut seen = Seen::default();
        assert_eq!(seen.missed(&from(1, 50, 60)), 0, "what was before we came");
        assert!(seen.is_new(&from(1, 50, 60)) && seen.is_new(&line(1, 60)));
        assert_eq!(seen.missed(&from(1, 55, 60)), 0);
        assert_eq!(seen.missed(&from(1, 61, 61)), 0);
        assert_eq!(seen.missed(&from(1, 70, 80)), 9);
        assert_eq!(seen.missed(&from(1, 80, 80)), 0, "what is too old was not asked for");
        assert_eq!(seen.missed(&from(2, 9, 9)), 0, "another numbering");
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
