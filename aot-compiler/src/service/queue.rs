//! Who is next: a bounded queue, fair between labels. Pure: no clock, no tasks.
//!
//! The next job is of the label with the fewest running jobs; among equals, labels take turns. A job that turns out to be long
//! gives its slot to others and goes on beside them, but a label never runs more jobs than there are slots, long ones
//! included. So a tenant that floods the queue with bombs delays another's first job until its own are long, and still
//! gets every idle slot.

use std::collections::{HashMap, VecDeque};

/// The queue has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For anybody.
    Queue,
    /// For this label.
    Label,
}

/// How much may wait and run.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Jobs that run at once, long ones not counted; also the most that one label runs, long ones counted.
    pub running_max: usize,
    /// Long jobs that run beside these.
    pub long_max: usize,
    /// Jobs that wait, of all labels.
    pub waiting_max: usize,
    /// Jobs that wait, of one label.
    pub waiting_per_label_max: usize,
}

/// Jobs that wait, and the count of those that run.
#[derive(Debug, Clone)]
pub struct Queue<T> {
    limits: QueueLimits,
    /// Labels with waiting jobs, in the order of their turns.
    turns: VecDeque<(String, VecDeque<T>)>,
    waiting: usize,
    /// Running jobs by label, long ones too; no zeros, so it is bounded by `running_max` and `long_max`.
    running: HashMap<String, usize>,
    /// Those that gave their slots to others.
    long: usize,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(limits: QueueLimits) -> Queue<T> {
        Queue { limits, turns: VecDeque::new(), waiting: 0, running: HashMap::new(), long: 0 }
    }

    /// Adds a job at the end of its label's line.
    pub fn push(&mut self, label: &str, job: T) -> Result<(), Full> {
        if self.waiting >= self.limits.waiting_max {
            return Err(Full::Queue);
        }
        match self.turns.iter_mut().find(|(other, _)| other == label) {
            Some((_, line)) if line.len() >= self.limits.waiting_per_label_max => return Err(Full::Label),
            Some((_, line)) => line.push_back(job),
            None => self.turns.push_back((label.to_owned(), VecDeque::from([job]))),
        }
        self.waiting += 1;
        Ok(())
    }

    /// Takes the next job to run, if one waits and there is room. Pair it with [`Queue::finished`].
    pub fn start(&mut self) -> Option<(String, T)> {
        if self.running() - self.long >= self.limits.running_max {
            return None;
        }
        let running_of = |label: &String| self.running.get(label).copied().unwrap_or(0);
        // `min_by_key` answers the first of equals: the one whose turn it is.
        let (at, (label, _)) =
            self.turns.iter().enumerate().min_by_key(|(_, (label, _))| running_of(label))?;
        if running_of(label) >= self.limits.running_max {
            return None;
        }
        let (label, mut line) = self.turns.remove(at)?;
        let job = line.pop_front()?;
        self.waiting -= 1;
        if !line.is_empty() {
            self.turns.push_back((label.clone(), line));
        }
        *self.running.entry(label.clone()).or_default() += 1;
        Some((label, job))
    }

    /// The jobs that wait, in the order in which they would be started if none came and none ended: who is next now, and after whom.
    pub fn order(&self) -> Vec<(&str, &T)> {
        let mut counts: Vec<usize> =
            self.turns.iter().map(|(label, _)| self.running.get(label).copied().unwrap_or(0)).collect();
        let mut lines: Vec<_> =
            self.turns.iter().map(|(label, line)| (label.as_str(), line.iter())).collect();
        // Positions in `turns`, in the order of their turns: whoever had one goes behind the others, as in `start`.
        let mut turns: Vec<usize> = (0..lines.len()).collect();
        let mut order = Vec::with_capacity(self.waiting);
        while let Some(turn) = (0..turns.len()).min_by_key(|turn| counts[turns[*turn]]) {
            let at = turns.remove(turn);
            if let Some(job) = lines[at].1.next() {
                order.push((lines[at].0, job));
                counts[at] += 1;
                turns.push(at);
            }
        }
        order
    }

    /// A started job turned out to be long. May it go on without its slot?
    pub fn lengthened(&mut self) -> bool {
        let may = self.long < self.limits.long_max;
        self.long += usize::from(may);
        may
    }

    /// A started job of this label has ended; it may have been one that [gave its slot away](Queue::lengthened).
    pub fn finished(&mut self, label: &str, was_long: bool) {
        self.long -= usize::from(was_long);
        if let Some(count) = self.running.get_mut(label) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(label);
            }
        }
    }

    /// Jobs that run, long ones too.
    pub fn running(&self) -> usize {
        self.running.values().sum()
    }

    /// Those of them that gave their slots away.
    pub fn long(&self) -> usize {
        self.long
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Drops waiting jobs that nobody wants any more.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        for (_, line) in &mut self.turns {
            line.retain(&wanted);
        }
        self.turns.retain(|(_, line)| !line.is_empty());
        self.waiting = self.turns.iter().map(|(_, line)| line.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(running_max: usize) -> Queue<u32> {
        Queue::new(QueueLimits { running_max, long_max: 2, waiting_max: 6, waiting_per_label_max: 4 })
    }

    fn next(queue: &mut Queue<u32>) -> Option<u32> {
        let (label, job) = queue.start()?;
        queue.finished(&label, false);
        Some(job)
    }

    #[test]
    fn labels_take_turns_and_keep_their_own_order() {
        let mut queue = queue(1);
        for (label, job) in [("flood", 1), ("flood", 2), ("flood", 3), ("a", 10), ("b", 20)] {
            queue.push(label, job).unwrap();
        }
        let order: Vec<u32> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(order, [1, 10, 20, 2, 3]);
        assert_eq!((queue.waiting(), queue.running()), (0, 0));
    }

    #[test]
    fn the_order_told_is_the_order_in_which_jobs_start() {
        let mut queue = queue(9);
        for (label, job) in [("flood", 1), ("flood", 2), ("flood", 3), ("a", 10), ("b", 20), ("a", 11)] {
            queue.push(label, job).unwrap();
        }
        for _ in 0..2 {
            let told: Vec<_> =
                queue.order().into_iter().map(|(label, job)| (label.to_owned(), *job)).collect();
            assert_eq!(told.len(), queue.waiting());
            let mut same = queue.clone();
            let started: Vec<_> = std::iter::from_fn(|| same.start()).collect();
            assert_eq!(told, started);
            queue.start().unwrap();
        }
    }

    #[test]
    fn a_label_with_running_jobs_waits_behind_one_without() {
        let mut queue = queue(2);
        for (label, job) in [("flood", 1), ("flood", 2), ("flood", 3)] {
            queue.push(label, job).unwrap();
        }
        assert_eq!(queue.start(), Some(("flood".into(), 1)));
        queue.push("quiet", 10).unwrap();
        assert_eq!(queue.start(), Some(("quiet".into(), 10)), "although the flood was there first");
        assert_eq!(queue.start(), None, "two run");
        queue.finished("quiet", false);
        assert_eq!(queue.start(), Some(("flood".into(), 2)), "alone, it gets the idle slot too");
    }

    #[test]
    fn long_jobs_make_room_for_others_and_not_for_more_of_their_label() {
        let mut queue = queue(2);
        for job in 1..4 {
            queue.push("bombs", job).unwrap();
        }
        assert_eq!([queue.start(), queue.start()].map(|started| started.unwrap().1), [1, 2]);
        assert!(queue.lengthened() && queue.lengthened());
        assert!(!queue.lengthened(), "two at most");
        assert_eq!(queue.start(), None, "bombs run two already");
        queue.push("quiet", 10).unwrap();
        assert_eq!(queue.start(), Some(("quiet".into(), 10)));
        queue.finished("quiet", false);
        queue.finished("bombs", true);
        assert_eq!(queue.start(), Some(("bombs".into(), 3)));
        assert!(queue.lengthened());
    }

    #[test]
    fn is_bounded_for_all_and_for_one_label() {
        let mut queue = queue(1);
        for job in 0..4 {
            queue.push("flood", job).unwrap();
        }
        assert_eq!(queue.push("flood", 4), Err(Full::Label));
        queue.push("a", 5).unwrap();
        queue.push("b", 6).unwrap();
        assert_eq!(queue.push("c", 7), Err(Full::Queue));
        queue.retain(|job| *job > 4);
        assert_eq!(queue.waiting(), 2);
        queue.push("c", 7).unwrap();
        assert_eq!(std::iter::from_fn(|| next(&mut queue)).collect::<Vec<_>>(), [5, 6, 7]);
    }
}
