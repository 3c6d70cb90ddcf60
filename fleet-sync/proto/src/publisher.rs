//! The origin's side of one stream, as a state machine.
//!
//! Hello → compare chains → send what follows, at most [`WINDOW_BATCHES`] unacknowledged → heartbeat when idle. The
//! node's position is the only truth: a repeated hello starts over from it. The shell reads the log, signs the
//! checkpoints and moves the frames. Absent on purpose: what a node does with records, and other nodes.

use artifact::record::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RawRecord, Rev, UnixMs};
use artifact::{Digest, checkpoint::Checkpoint};

use crate::{
    follower::TAKEN_MS_MAX,
    inspect::{Inspect, Inspected},
    logs::{FOLLOW_RENEWAL_MS, Follow, Logs},
    projection::RecordHead,
    wire::{Ack, Hello, Position, Report, ResetReason, ToOrigin},
};

/// Batches sent and not acknowledged. With a node that stops reading, this and no more lies in buffers (16 MiB).
pub const WINDOW_BATCHES: usize = 4;
/// Quiet time after which the head is signed and sent again, ms: ~500 bytes, 17 B/s a node.
pub const HEARTBEAT_MS: u64 = 30_000;
/// A connected node that does not introduce itself is cut after this, ms.
pub const HELLO_MS_MAX: u64 = 10_000;
/// A node that does not acknowledge a batch for this long is cut, ms, and catches up when it comes back. Longer than
/// a node's own limits for fetching and activating together.
pub const ACK_MS_MAX: u64 = 180_000;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The node sent something.
    Message(ToOrigin),
    /// The log's head is now this. Lower ones are ignored.
    Head(Position),
    /// The answer to [`Output::Read`].
    Records {
        /// As asked.
        after: Rev,
        /// Chain value at `after`; `None` when the log does not reach that far.
        chain: Option<Digest>,
        /// The records that follow, dense, within the limits of a batch.
        records: Vec<RawRecord>,
    },
    /// These apps, and no others, are listened to from now on.
    Follow(Follow),
    /// The node is being told that its last [`Output::Told`] was taken.
    LogsTaken,
    /// Somebody wants to know what the node serves.
    Inspect(Inspect),
    /// Time has passed. At least once a second.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// The node introduced itself. Check the name against its certificate.
    Identified(Hello),
    /// Read records after this rev, at most `BATCH_RECORDS_MAX` and `BATCH_BYTES_MAX`, and the chain value there.
    Read {
        /// Read from here.
        after: Rev,
    },
    /// Sign the checkpoint and send both.
    Batch {
        /// The records.
        records: Vec<RawRecord>,
        /// The position after the last of them.
        checkpoint: Checkpoint,
    },
    /// Sign and send.
    Heartbeat(Checkpoint),
    /// Sign and send: the node cannot follow.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The head.
        checkpoint: Checkpoint,
    },
    /// The node dealt with everything up to a rev. Only of a node whose position was found in the log: what a node ahead
    /// of it or beside it says is not about our revs.
    Acked(Ack),
    /// The node reported.
    Reported(Report),
    /// Send: which apps are listened to.
    Follow(Follow),
    /// The node told lines. Hand them to who listens, without waiting for anybody, then send that they were taken.
    Told(Logs),
    /// Send: what does the node serve of this app?
    Inspect(Inspect),
    /// The node said what it serves.
    Inspected(Inspected),
    /// Close the stream.
    Cut(Cut),
}

/// Which apps are listened to is sent again only after this, ms, and then with the next tick: listeners that come and go in a
/// crowd are one message to each node and not one each.
const FOLLOW_PAUSE_MS: u64 = 250;

/// Why a stream is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// No hello within [`HELLO_MS_MAX`].
    #[error("the node did not introduce itself")]
    NoHello,
    /// No ack within [`ACK_MS_MAX`].
    #[error("the node does not acknowledge: it is cut and catches up when it comes back")]
    Slow,
    /// It acknowledged what it was not sent, spoke before its hello, or told lines before the last ones were taken.
    #[error("the node broke the protocol")]
    Protocol,
    /// The log that was read does not end in its own head.
    #[error("the log's records do not lead to its head: restore it from a copy")]
    LogBroken,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing heard yet.
    Silent,
    /// A hello came; the log is being read to compare its chain.
    Checking(Position),
    /// Sending.
    Following,
    /// Told to reset; only heartbeats from here on.
    Reset,
}

/// The origin's side of one stream.
#[derive(Debug)]
pub struct Publisher {
    head: Position,
    phase: Phase,
    /// Position after the last record sent.
    sent: Position,
    /// A read is outstanding, after this rev.
    reading: Option<Rev>,
    /// An ack that came while the node's position was being compared; the newest replaces those before it.
    held: Option<Ack>,
    /// Last rev of each unacknowledged batch, oldest first.
    unacked: Vec<Rev>,
    /// When the oldest of them was sent, or the last ack came.
    waiting_since_ms: UnixMs,
    opened_ms: UnixMs,
    last_sent_ms: UnixMs,
    followed: Follow,
    followed_sent_ms: UnixMs,
    /// It changed soon after it was sent, and waits for the next tick.
    is_follow_due: bool,
    /// Lines were told, and their node was not told yet that they were taken.
    telling_since_ms: Option<UnixMs>,
}

impl Publisher {
    /// A stream that was just opened, over a log with this head.
    pub fn new(now_ms: UnixMs, head: Position) -> Publisher {
        Publisher {
            head,
            phase: Phase::Silent,
            sent: Position::START,
            reading: None,
            held: None,
            unacked: Vec::new(),
            waiting_since_ms: now_ms,
            opened_ms: now_ms,
            last_sent_ms: now_ms,
            followed: Follow::default(),
            followed_sent_ms: now_ms,
            is_follow_due: false,
            telling_since_ms: None,
        }
    }

    /// Last rev sent on this stream.
    pub fn sent(&self) -> Rev {
        self.sent.rev
    }

    /// Takes one input; gives what to do, in order.
    pub fn handle(&mut self, now_ms: UnixMs, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Message(ToOrigin::Hello(hello)) => self.hello(now_ms, hello, &mut out),
            Input::Message(ToOrigin::Ack(ack)) => self.ack(now_ms, ack, &mut out),
            Input::Message(ToOrigin::Report(report)) => out.push(Output::Reported(report)),
            Input::Message(ToOrigin::Logs(logs)) => self.told(now_ms, logs, &mut out),
            Input::Message(ToOrigin::Inspected(inspected)) => out.push(Output::Inspected(inspected)),
            // A node that has not introduced itself is not counted as one that could answer.
            Input::Inspect(inspect) if self.phase != Phase::Silent => out.push(Output::Inspect(inspect)),
            Input::Inspect(_) => {}
            Input::LogsTaken => self.telling_since_ms = None,
            Input::Message(ToOrigin::Unknown) => {}
            Input::Follow(follow) => {
                self.followed = follow;
                match now_ms.saturating_sub(self.followed_sent_ms) < FOLLOW_PAUSE_MS {
                    true => self.is_follow_due = true,
                    false => self.follow(now_ms, &mut out),
                }
            }
            Input::Head(head) if head.rev > self.head.rev => self.head = head,
            Input::Head(_) => {}
            Input::Records { after, chain, records } => self.records(now_ms, after, chain, records, &mut out),
            Input::Tick => self.tick(now_ms, &mut out),
        }
        self.read_on(&mut out);
        out
    }

    fn hello(&mut self, now_ms: UnixMs, hello: Hello, out: &mut Vec<Output>) {
        self.phase = Phase::Checking(hello.position);
        self.sent = hello.position;
        self.unacked.clear();
        self.held = None;
        // Always asked anew, so that an answer to an older read cannot be taken for this one.
        self.reading = None;
        out.push(Output::Identified(hello));
        if !self.followed.apps.is_empty() {
            self.follow(now_ms, out);
        }
    }

    /// Never counts as a heartbeat: nothing in it is signed.
    fn follow(&mut self, now_ms: UnixMs, out: &mut Vec<Output>) {
        if self.phase != Phase::Silent {
            (self.followed_sent_ms, self.is_follow_due) = (now_ms, false);
            out.push(Output::Follow(self.followed.clone()));
        }
    }

    /// One message on its way at a time, as a node promises: more would be work that no pace of ours holds back. A node
    /// tells another one when the first was not taken for long.
    fn told(&mut self, now_ms: UnixMs, logs: Logs, out: &mut Vec<Output>) {
        let is_early =
            self.telling_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) < TAKEN_MS_MAX / 2);
        if self.phase == Phase::Silent || is_early {
            return out.push(Output::Cut(Cut::Protocol));
        }
        self.telling_since_ms = Some(now_ms);
        out.push(Output::Told(logs.bounded()));
    }

    fn ack(&mut self, now_ms: UnixMs, ack: Ack, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Silent => return out.push(Output::Cut(Cut::Protocol)),
            Phase::Following if ack.rev > self.sent.rev => return out.push(Output::Cut(Cut::Protocol)),
            Phase::Checking(_) => return self.held = Some(ack),
            // Of another log than ours: its rev would count as having what it never saw.
            Phase::Reset => return,
            Phase::Following => {}
        }
        self.unacked.retain(|rev| *rev > ack.rev);
        self.waiting_since_ms = now_ms;
        out.push(Output::Acked(ack.bounded()));
    }

    fn records(
        &mut self,
        now_ms: UnixMs,
        after: Rev,
        chain: Option<Digest>,
        records: Vec<RawRecord>,
        out: &mut Vec<Output>,
    ) {
        if self.reading != Some(after) {
            return; // the answer to a read that a new hello made void
        }
        self.reading = None;
        if let Phase::Checking(position) = self.phase {
            let reason = match chain {
                None => Some(ResetReason::Ahead),
                Some(chain) if chain != position.chain => Some(ResetReason::Diverged),
                Some(_) => None,
            };
            if let Some(reason) = reason {
                (self.phase, self.held) = (Phase::Reset, None);
                self.last_sent_ms = now_ms;
                return out.push(Output::Reset { reason, checkpoint: checkpoint(self.head, now_ms) });
            }
            self.phase = Phase::Following;
            if let Some(held) = self.held.take() {
                // The chain was compared at the hello's rev and no further.
                let ack = Ack { rev: held.rev.min(position.rev), ..held };
                out.push(Output::Acked(ack.bounded()));
            }
            if records.is_empty() {
                // The node learns at once that it is current, and that the origin is alive.
                self.last_sent_ms = now_ms;
                return out.push(Output::Heartbeat(checkpoint(self.head, now_ms)));
            }
        }
        if records.is_empty() {
            return;
        }
        let Some(end) = follow(self.sent, &records) else { return out.push(Output::Cut(Cut::LogBroken)) };
        if end.rev == self.head.rev && end != self.head {
            return out.push(Output::Cut(Cut::LogBroken));
        }
        if end.rev > self.head.rev {
            self.head = end; // the log grew between the notice and the read
        }
        if self.unacked.is_empty() {
            self.waiting_since_ms = now_ms;
        }
        self.sent = end;
        self.unacked.push(end.rev);
        self.last_sent_ms = now_ms;
        out.push(Output::Batch { records, checkpoint: checkpoint(end, now_ms) });
    }

    fn tick(&mut self, now_ms: UnixMs, out: &mut Vec<Output>) {
        let passed = |since: UnixMs, limit: u64| now_ms.saturating_sub(since) >= limit;
        match self.phase {
            Phase::Silent if passed(self.opened_ms, HELLO_MS_MAX) => out.push(Output::Cut(Cut::NoHello)),
            Phase::Silent => {}
            _ if !self.unacked.is_empty() && passed(self.waiting_since_ms, ACK_MS_MAX) => {
                out.push(Output::Cut(Cut::Slow));
            }
            _ if passed(self.last_sent_ms, HEARTBEAT_MS) => {
                self.last_sent_ms = now_ms;
                out.push(Output::Heartbeat(checkpoint(self.head, now_ms)));
            }
            _ => {}
        }
        let is_old = !self.followed.apps.is_empty() && passed(self.followed_sent_ms, FOLLOW_RENEWAL_MS);
        if self.is_follow_due || is_old {
            self.follow(now_ms, out);
        }
    }

    fn read_on(&mut self, out: &mut Vec<Output>) {
        let wanted = match self.phase {
            Phase::Checking(_) => true,
            Phase::Following => self.sent.rev < self.head.rev && self.unacked.len() < WINDOW_BATCHES,
            Phase::Silent | Phase::Reset => false,
        };
        if wanted && self.reading.is_none() {
            self.reading = Some(self.sent.rev);
            out.push(Output::Read { after: self.sent.rev });
        }
    }
}

/// The longest prefix of `records` that fits one batch. For the shells that answer [`Output::Read`].
pub fn batch_len<'a>(records: impl IntoIterator<Item = &'a RawRecord>) -> usize {
    let mut bytes = 0;
    let fits = |raw: &&RawRecord| {
        bytes += raw.text().len();
        bytes <= BATCH_BYTES_MAX
    };
    records.into_iter().take(BATCH_RECORDS_MAX).take_while(fits).count()
}

fn checkpoint(at: Position, time_ms: UnixMs) -> Checkpoint {
    Checkpoint { epoch: at.epoch, rev: at.rev, chain: at.chain, time_ms }
}

/// Where these records lead from `start`, or `None` when they do not follow it.
pub fn follow(start: Position, records: &[RawRecord]) -> Option<Position> {
    records.iter().try_fold(start, |at, raw| {
        let head = RecordHead::of(raw).ok()?;
        let follows = head.rev == at.rev + 1 && head.epoch >= at.epoch;
        follows.then(|| Position { epoch: head.epoch, rev: head.rev, chain: raw.chain(at.chain) })
    })
}

#[cfg(test)]
mod tests;
