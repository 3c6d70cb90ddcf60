//! What one listener has heard of an app, as a state machine: which lines are new to it, which are missing, and those that
//! wait for it to read them. Time comes with the lines; who calls it, and how the reader is woken, is the shell's.
//!
//! A reader that is slow loses lines, never anybody else's: beyond [`WAITING_BYTES_MAX`] new ones are counted instead of
//! kept, until half of that is read.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use artifact::{NodeName, names::PopName};

use super::{AppLogs, LogLine, Said, UnixUs};

/// Bytes of lines that wait for one reader, as [`LogLine::bytes`] counts them: sixteen full messages.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// Something for the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A line of a node.
    Line {
        /// Which, by its certificate.
        node: NodeName,
        /// Where that is.
        pop: PopName,
        /// Names the numbering ([`AppLogs::run`]).
        run: u64,
        /// Its number there.
        seq: u64,
        /// The line, shared by all who heard it.
        line: Arc<LogLine>,
    },
    /// Where a node begins to tell. Of its numbers before `seq` nothing comes any more: those from `since` on were not asked
    /// for, and those before `since` that somebody has not heard before are lost to it.
    From {
        /// Which.
        node: NodeName,
        /// Where that is.
        pop: PopName,
        /// Names the numbering.
        run: u64,
        /// Number of the first line that is told.
        seq: u64,
        /// Number of the first line that the node had.
        since: u64,
    },
    /// Lines that a node lost before it could tell them.
    Lost {
        /// Which.
        node: NodeName,
        /// Where that is.
        pop: PopName,
        /// Numbering, and number of the last of them, where they are missing among what it remembers: who heard of them
        /// before knows it by that.
        at: Option<(u64, u64)>,
        /// How many.
        lines: u64,
    },
    /// Lines that this reader was too slow for.
    Slow {
        /// How many.
        lines: u64,
    },
}

/// What a node told of an app, made ready once for all who listen to it.
#[derive(Debug)]
pub struct Lines {
    asked: u64,
    run: u64,
    first: u64,
    /// Number of the line after the last.
    end: u64,
    caught_up: bool,
    /// Numbers missing between the lines, each by the number behind it.
    gaps: Vec<(u64, u64)>,
    /// With their numbers, by their times: a request's last line and its end reach a node's memory by two ways.
    lines: Vec<(u64, Arc<LogLine>)>,
}

impl From<AppLogs> for Lines {
    fn from(logs: AppLogs) -> Lines {
        let AppLogs { id: _, asked, run, first, lines, gaps, caught_up } = logs;
        let (mut next, mut gaps_left) = (first, gaps.into_iter().peekable());
        let (mut numbered, mut gaps) = (Vec::with_capacity(lines.len()), Vec::new());
        for (at, line) in lines.into_iter().enumerate() {
            while let Some((_, missing)) = gaps_left.next_if(|(before, _)| *before <= at) {
                next = next.saturating_add(missing);
                gaps.push((next, missing));
            }
            numbered.push((next, Arc::new(line)));
            next = next.saturating_add(1);
        }
        let (end, mut lines) = (next, numbered);
        lines.sort_by_key(|(_, line)| line.time_us);
        Lines { asked, run, first, end, caught_up, gaps, lines }
    }
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    asked: u64,
    /// Of what was remembered, older lines than this are of no interest.
    since_us: UnixUs,
    nodes: BTreeMap<NodeName, Cursor>,
    waiting: VecDeque<Heard>,
    waiting_bytes: usize,
    full: bool,
    /// Not kept since `full`.
    unheard: u64,
}

/// How far one node is told.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    run: u64,
    /// Number of the line that comes next.
    next: u64,
    caught_up: bool,
}

impl Listener {
    /// One that asked under this number, which is higher than any before it.
    pub fn new(asked: u64, since_us: UnixUs) -> Listener {
        Listener {
            asked,
            since_us,
            nodes: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            full: false,
            unheard: 0,
        }
    }

    /// The number it asked under.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Has this node told everything that it remembered when this listener came?
    pub fn has_all_of(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(|cursor| cursor.caught_up)
    }

    /// A node told lines of the app.
    pub fn hear(&mut self, node: &NodeName, pop: &PopName, logs: &Lines) {
        // Told for somebody who came earlier: it comes again, with all before it.
        if logs.asked < self.asked {
            return;
        }
        let fresh = Cursor { run: logs.run, next: logs.first, caught_up: false };
        let before = match self.nodes.get(node) {
            Some(cursor) if cursor.run == logs.run => *cursor,
            // After the node was started again all is new, also where its clock was set back. One stream of a node keeps the
            // order, so nothing comes late.
            Some(cursor) => Cursor { caught_up: cursor.caught_up, ..fresh },
            None => fresh,
        };
        let is_fresh = self.nodes.get(node).is_none_or(|cursor| cursor.run != logs.run);
        if logs.first > before.next {
            let lines = logs.first - before.next;
            self.keep(Heard::Lost { node: node.clone(), pop: pop.clone(), at: None, lines });
        }
        let gaps = || logs.gaps.iter().filter(|(behind, _)| *behind > before.next);
        if let Some((behind, _)) = gaps().next_back() {
            let lines = gaps().fold(0_u64, |lines, (_, missing)| lines.saturating_add(*missing));
            let at = Some((logs.run, behind.saturating_sub(1)));
            self.keep(Heard::Lost { node: node.clone(), pop: pop.clone(), at, lines });
        }
        let since_us = if before.caught_up { 0 } else { self.since_us };
        let is_wanted = |line: &LogLine| line.time_us >= since_us;
        let lines = || logs.lines.iter().filter(|(seq, _)| *seq >= before.next);
        let old_end =
            lines().filter(|(_, line)| !is_wanted(line)).map(|(seq, _)| seq.saturating_add(1)).max();
        if is_fresh || old_end.is_some() {
            let (node, pop, run) = (node.clone(), pop.clone(), logs.run);
            let seq = old_end.unwrap_or(before.next);
            self.keep(Heard::From { node, pop, run, seq, since: before.next });
        }
        for (seq, line) in lines() {
            if is_wanted(line) {
                let line = line.clone();
                self.keep(Heard::Line {
                    node: node.clone(),
                    pop: pop.clone(),
                    run: logs.run,
                    seq: *seq,
                    line,
                });
            }
        }
        let caught_up = before.caught_up || logs.caught_up;
        let after = Cursor { run: logs.run, next: before.next.max(logs.end), caught_up };
        self.nodes.insert(node.clone(), after);
    }

    /// The next for the reader, or `None` when nothing waits.
    pub fn take(&mut self) -> Option<Heard> {
        let Some(heard) = self.waiting.pop_front() else {
            let lines = std::mem::take(&mut self.unheard);
            self.full = false;
            return (lines > 0).then_some(Heard::Slow { lines });
        };
        self.waiting_bytes -= bytes(&heard);
        Some(heard)
    }

    fn keep(&mut self, heard: Heard) {
        self.full &= self.waiting_bytes > WAITING_BYTES_MAX / 2;
        self.full |= self.waiting_bytes + bytes(&heard) > WAITING_BYTES_MAX;
        if self.full {
            let lines = match &heard {
                Heard::Line { line, .. } => match line.said {
                    Said::Dropped { lines } => lines,
                    _ => 1,
                },
                Heard::From { .. } => 0,
                Heard::Lost { lines, .. } | Heard::Slow { lines } => *lines,
            };
            self.unheard = self.unheard.saturating_add(lines);
            return;
        }
        let lines = std::mem::take(&mut self.unheard);
        if lines > 0 {
            self.push(Heard::Slow { lines });
        }
        self.push(heard);
    }

    fn push(&mut self, heard: Heard) {
        self.waiting_bytes += bytes(&heard);
        self.waiting.push_back(heard);
    }
}

fn bytes(heard: &Heard) -> usize {
    match heard {
        Heard::Line { line, .. } => line.bytes(),
        Heard::From { .. } | Heard::Lost { .. } | Heard::Slow { .. } => super::LINE_OVERHEAD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::tests::{id, line};

    fn told(asked: u64, run: u64, first: u64, texts: &[&str]) -> AppLogs {
        let lines = texts.iter().map(|text| line(text)).collect();
        AppLogs { id: id("shop"), asked, run, first, lines, gaps: vec![], caught_up: false }
    }

    fn hear(listener: &mut Listener, logs: &AppLogs) -> Vec<String> {
        listener.hear(&"fra1-1".parse().unwrap(), &"fra1".parse().unwrap(), &Lines::from(logs.clone()));
        said(listener)
    }

    fn said(listener: &mut Listener) -> Vec<String> {
        let text = |heard| match heard {
            Heard::From { seq, since, .. } => format!("from {seq} since {since}"),
            Heard::Line { line, seq, .. } => match &line.said {
                Said::Stdout { text } => format!("{seq} {text}"),
                other => panic!("{other:?}"),
            },
            Heard::Lost { lines, .. } => format!("{lines} lost"),
            Heard::Slow { lines } => format!("{lines} too many"),
        };
        std::iter::from_fn(|| listener.take()).map(text).filter(|text| !text.starts_with("from")).collect()
    }

    #[test]
    fn what_is_told_again_for_another_listener_is_not_heard_twice() {
        let mut listener = Listener::new(1, 0);
        assert_eq!(hear(&mut listener, &told(1, 5, 10, &["a", "b"])), ["10 a", "11 b"]);
        assert_eq!(hear(&mut listener, &told(2, 5, 9, &["z", "a", "b", "c"])), ["12 c"]);
        assert_eq!(hear(&mut listener, &told(2, 5, 9, &["z"])), [""; 0]);
    }

    #[test]
    fn what_was_told_before_a_listener_came_is_awaited_with_all_before_it() {
        let mut listener = Listener::new(2, 0);
        assert_eq!(hear(&mut listener, &told(1, 5, 11, &["c"])), [""; 0]);
        let mut all = told(2, 5, 9, &["a", "b", "c"]);
        all.caught_up = true;
        assert!(!listener.has_all_of(&"fra1-1".parse().unwrap()));
        assert_eq!(hear(&mut listener, &all), ["9 a", "10 b", "11 c"], "the first is no hole");
        assert!(listener.has_all_of(&"fra1-1".parse().unwrap()));
    }

    #[test]
    fn numbers_missing_between_lines_are_told_and_shift_those_behind_them() {
        let mut listener = Listener::new(1, 0);
        let logs = AppLogs { gaps: vec![(1, 4), (2, 2)], ..told(1, 5, 10, &["a", "b", "c"]) };
        assert_eq!(hear(&mut listener, &logs), ["6 lost", "10 a", "15 b", "18 c"]);
        assert_eq!(hear(&mut listener, &logs), [""; 0], "nothing twice");
        assert_eq!(hear(&mut listener, &told(1, 5, 19, &["d"])), ["19 d"]);
        // A hostile node's gaps.
        let gaps = vec![(0, u64::MAX), (0, u64::MAX), (9, 1)];
        assert_eq!(hear(&mut listener, &AppLogs { gaps, ..told(1, 6, 0, &["e"]) }).len(), 2);
    }

    #[test]
    fn a_line_is_shared_by_all_who_heard_it() {
        let lines = Lines::from(told(1, 5, 0, &["a"]));
        let (node, pop) = ("fra1-1".parse().unwrap(), "fra1".parse().unwrap());
        let heard = [0, 1].map(|_| {
            let mut listener = Listener::new(1, 0);
            listener.hear(&node, &pop, &lines);
            let heard = std::iter::from_fn(|| listener.take()).last();
            let Some(Heard::Line { line, .. }) = heard else { panic!("{heard:?}") };
            line
        });
        assert!(Arc::ptr_eq(&heard[0], &heard[1]));
    }

    #[test]
    fn a_hole_is_said_and_a_node_started_again_is_none() {
        let mut listener = Listener::new(1, 0);
        assert_eq!(hear(&mut listener, &told(1, 5, 0, &["a"])), ["0 a"]);
        assert_eq!(hear(&mut listener, &told(1, 5, 8, &["b"])), ["7 lost", "8 b"]);
        assert_eq!(hear(&mut listener, &told(1, 6, 100, &["c"])), ["100 c"]);
        assert_eq!(hear(&mut listener, &told(1, 4, 0, &["by a clock set back"])), ["0 by a clock set back"]);
        assert_eq!(hear(&mut listener, &told(1, 4, 0, &["again"])), [""; 0]);
        // A hostile node's numbers.
        assert_eq!(hear(&mut listener, &told(1, 7, u64::MAX, &["d", "e"])).len(), 2);
        assert_eq!(hear(&mut listener, &told(1, 7, 0, &["f"])), [""; 0]);
    }

    #[test]
    fn a_requests_lines_come_before_its_end_although_they_were_noted_after_it() {
        let mut logs = told(1, 5, 0, &["end", "said"]);
        logs.lines[1].time_us -= 1;
        assert_eq!(hear(&mut Listener::new(1, 0), &logs), ["1 said", "0 end"]);
    }

    #[test]
    fn of_what_is_remembered_only_the_young_is_heard_and_of_what_comes_everything() {
        let mut listener = Listener::new(1, 5_000);
        let mut logs = told(1, 5, 0, &["old", "young"]);
        logs.lines[1].time_us = 5_000;
        logs.caught_up = true;
        assert_eq!(hear(&mut listener, &logs), ["1 young"]);
        // By a clock that is late.
        assert_eq!(hear(&mut listener, &told(1, 5, 2, &["new"])), ["2 new"]);
    }

    #[test]
    fn where_a_node_begins_is_said_once_and_after_what_is_too_old() {
        let mut listener = Listener::new(1, 5_000);
        let mut froms = |logs: &AppLogs| {
            listener.hear(&"fra1-1".parse().unwrap(), &"fra1".parse().unwrap(), &Lines::from(logs.clone()));
            let from = |heard| match heard {
                Heard::From { run, seq, since, .. } => Some((run, since, seq)),
                _ => None,
            };
            std::iter::from_fn(|| listener.take()).filter_map(from).collect::<Vec<_>>()
        };
        let mut old = told(1, 5, 10, &["old", "old", "young"]);
        old.lines[2].time_us = 5_000;
        assert_eq!(froms(&old), [(5, 10, 12)]);
        assert_eq!(froms(&AppLogs { caught_up: true, ..told(1, 5, 13, &["old"]) }), [(5, 13, 14)]);
        assert_eq!(froms(&told(1, 5, 16, &["new"])), []);
        assert_eq!(froms(&told(1, 6, 3, &["of a node started again"])), [(6, 3, 3)]);
    }

    #[test]
    fn a_slow_reader_loses_lines_and_is_told_how_many_where_they_are_missing() {
        let mut listener = Listener::new(1, 0);
        let text = "x".repeat(8_000);
        let many: Vec<&str> = vec![&text; 200];
        let (node, pop) = ("fra1-1".parse().unwrap(), "fra1".parse().unwrap());
        listener.hear(&node, &pop, &told(1, 5, 0, &many).into());
        let room = WAITING_BYTES_MAX / line(&text).bytes();
        assert_eq!(listener.waiting.len(), 1 + room, "and where it begins");
        // A little room is not enough: it would be one line, then a hole, then one line.
        listener.take();
        listener.hear(&node, &pop, &told(1, 5, 200, &["not yet"]).into());
        for _ in 0..room / 2 {
            listener.take();
        }
        listener.hear(&node, &pop, &told(1, 5, 201, &["again"]).into());
        let rest = said(&mut listener);
        let missing = 200 - room + 1;
        assert_eq!(rest[rest.len() - 2..], [format!("{missing} too many"), "201 again".into()]);

        // Nothing more comes: it is told all the same.
        listener.hear(&node, &pop, &told(1, 5, 202, &many).into());
        assert_eq!(said(&mut listener).last(), Some(&format!("{} too many", 200 - room)));
        assert_eq!((listener.waiting_bytes, listener.take()), (0, None));
    }
}
