//! A node's side of the stream, as a state machine.
//!
//! Dial → hello from the durable position → verify each batch against the signed checkpoint and the chain → hand it
//! to the shell → acknowledge what the shell made durable. Relies on the release keys it was given. Absent on purpose:
//! what records mean ([`crate::projection`]), fetching, disks, sockets, clocks.
//!
//! Rules, numbered as in docs/design/0004-sync-protocol.md:
//!
//! 1. Nothing is believed without a release key's signature: a batch counts only if its records lead, by the chain,
//!    to its checkpoint.
//! 2. A gap or a chain break is never guessed over: the node asks again from its position, and dials anew if that
//!    does not help.
//! 3. The highest (epoch, rev) ever seen is durable and binding. A lower heartbeat is refused; records beyond it
//!    may not come from an older epoch; records up to it must have its chain value there.
//! 4. A heartbeat counts as fresh only if it was signed later than every one before it, so a replayed one buys
//!    nothing. After [`STALE_MS`] without a fresh one the node is stale: it keeps serving, and says so.

use std::collections::BTreeMap;

use artifact::{
    checkpoint::{Checkpoint, CheckpointError},
    dsse::Envelope,
    keys::{Release, Trusted},
    nack::Nack,
    record::{BATCH_RECORDS_MAX, RECORD_BYTES_MAX, RawRecord, Rev, UnixMs},
};

use crate::{
    backoff::Backoff,
    inspect::Inspect,
    logs::{AppLogs, Follow, Logs},
    projection::RecordHead,
    publisher::{HEARTBEAT_MS, WINDOW_BATCHES},
    wire::{Ack, Hello, Position, Report, ResetReason, ToNode, ToOrigin},
};

/// Without a fresh checkpoint for this long a node is stale, ms.
pub const STALE_MS: u64 = 15 * 60 * 1000;
/// A stream that is silent for this long is given up, ms: three heartbeats.
pub const SILENCE_MS_MAX: u64 = 3 * HEARTBEAT_MS;
/// Lines that were not taken for this long may be told again, ms. An origin that follows apps of a thousand nodes takes 8 s.
pub const TAKEN_MS_MAX: u64 = 30_000;
/// A dial that has not led to a stream within this is given up, ms.
pub const CONNECT_MS_MAX: u64 = 20_000;
/// Verified batches handed to the shell and not yet applied. The publisher's window, twice: once again after a repeated hello.
pub const PENDING_BATCHES_MAX: usize = 2 * WINDOW_BATCHES;
/// Asking again without any progress, before dialling anew.
const ASKED_AGAIN_MAX: u32 = 3;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The stream is open.
    Connected,
    /// The stream, or the attempt to open it, has failed or ended. `random` is any random number.
    Disconnected {
        /// For the jitter of the next attempt.
        random: u64,
    },
    /// The origin sent something.
    Message(ToNode),
    /// A batch is durable and was offered to the activator; or, with the same position, the failures changed.
    Applied {
        /// The durable position.
        position: Position,
        /// All present failures.
        failed: BTreeMap<Rev, Nack>,
    },
    /// Counters to send upwards; dropped while not connected.
    Report(Report),
    /// Lines of followed apps to send upwards; dropped unless [`Follower::may_tell`].
    Logs(Vec<AppLogs>),
    /// Time has passed. At least once a second.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a stream.
    Connect,
    /// Close it; answer with [`Input::Disconnected`] once it is gone.
    Disconnect,
    /// Send a message.
    Send(ToOrigin),
    /// Apply the records, in order of these outputs; answer each with [`Input::Applied`].
    Apply(Batch),
    /// The highest checkpoint grew: make it durable (with the next batch, or soon).
    Highest(Checkpoint),
    /// From now on, and for [`crate::logs::FOLLOW_MS`], tell the lines of these apps and of no others.
    Follow(Follow),
    /// The last [`Input::Logs`] has arrived. Until then it may be given again.
    LogsTaken,
    /// Say what is served of this app; send the answer, or leave it where there is no room.
    Inspect(Inspect),
    /// Tell people.
    Alarm(Alarm),
}

/// Records that are proven to be the log's next ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Dense, starting right after the batch before.
    pub records: Vec<RawRecord>,
    /// Position after the last of them.
    pub end: Position,
}

/// Something people should look at. The node goes on serving.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Alarm {
    /// A checkpoint not signed by a trusted release key.
    #[error(
        "refused a checkpoint of the origin: if the release key was changed on purpose, enrol this node again"
    )]
    BadCheckpoint(#[source] CheckpointError),
    /// Rule 3.
    #[error(
        "refused a checkpoint of (epoch {}, rev {}), below or beside the highest seen (epoch {}, rev {}): \
         an old copy of the log, a replay, or two control planes at work",
        refused.epoch, refused.rev, highest.epoch, highest.rev
    )]
    Regression {
        /// What was offered.
        refused: Checkpoint,
        /// What binds.
        highest: Checkpoint,
    },
    /// Rule 2.
    #[error("the origin's records do not follow rev {applied}; asking again")]
    Broken {
        /// The node's position.
        applied: Rev,
    },
    /// The origin says that this node is on another log.
    #[error(
        "the origin's log is not the one this node followed ({reason:?}): restore the log, or remove this node's replica.sqlite to take the new one"
    )]
    Reset {
        /// Ahead or diverged.
        reason: ResetReason,
    },
    /// Rule 4.
    #[error("no fresh checkpoint for 15 minutes: stale, serving the last good state")]
    Stale,
    /// It came back.
    #[error("fresh again")]
    Fresh,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Link {
    Down {
        dial_at_ms: UnixMs,
    },
    Dialling {
        since_ms: UnixMs,
    },
    Up {
        heard_ms: UnixMs,
    },
    /// A disconnect was asked for and has not been answered.
    Closing,
}

/// Who a node is, for its hello.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The hello to send; its position is filled in.
    pub hello: Hello,
    /// Keys that may sign the log.
    pub trusted: Trusted<Release>,
}

/// A node's side of the stream.
#[derive(Debug)]
pub struct Follower {
    identity: Identity,
    /// Durable.
    applied: Position,
    /// Verified and handed out.
    received: Position,
    pending_batches: usize,
    /// Highest checkpoint seen. Durable by [`Output::Highest`].
    highest: Option<Checkpoint>,
    failed: BTreeMap<Rev, Nack>,
    link: Link,
    backoff: Backoff,
    asked_again: u32,
    /// Receive position at the last heartbeat that was ahead of it, to notice that nothing comes.
    behind_at: Option<Rev>,
    fresh_ms: UnixMs,
    stale: bool,
    /// Messages with lines that were sent.
    told: u64,
    /// When the last of them was sent, if it has not been taken: no other is sent, so that at most one stands before an ack.
    telling_since_ms: Option<UnixMs>,
}

impl Follower {
    /// A follower at its durable state. `highest` is what [`Output::Highest`] last gave.
    pub fn new(
        now_ms: UnixMs,
        identity: Identity,
        applied: Position,
        highest: Option<Checkpoint>,
    ) -> Follower {
        Follower {
            identity,
            applied,
            received: applied,
            pending_batches: 0,
            highest,
            failed: BTreeMap::new(),
            link: Link::Down { dial_at_ms: now_ms },
            backoff: Backoff::default(),
            asked_again: 0,
            behind_at: None,
            fresh_ms: now_ms,
            stale: false,
            told: 0,
            telling_since_ms: None,
        }
    }

    /// Is a stream open?
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Rule 4.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// May lines of followed apps be sent now?
    pub fn may_tell(&self) -> bool {
        self.is_connected() && self.telling_since_ms.is_none()
    }

    /// Durable position.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// Takes one input; gives what to do, in order.
    pub fn handle(&mut self, now_ms: UnixMs, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Connected => {
                self.link = Link::Up { heard_ms: now_ms };
                self.asked_again = 0;
                self.behind_at = None;
                self.telling_since_ms = None;
                out.push(self.hello());
                out.push(self.ack());
            }
            Input::Disconnected { random } => {
                self.link = Link::Down { dial_at_ms: now_ms.saturating_add(self.backoff.next_ms(random)) };
            }
            Input::Message(message) => self.message(now_ms, message, &mut out),
            Input::Applied { position, failed } => self.applied_to(position, failed, &mut out),
            Input::Report(report) if self.is_connected() => {
                out.push(Output::Send(ToOrigin::Report(report.bounded())));
            }
            Input::Report(_) => {}
            Input::Logs(apps) if self.may_tell() => {
                self.told += 1;
                self.telling_since_ms = Some(now_ms);
                out.push(Output::Send(ToOrigin::Logs(Logs { number: self.told, apps }.bounded())));
            }
            Input::Logs(_) => {}
            Input::Tick => self.tick(now_ms, &mut out),
        }
        out
    }

    fn message(&mut self, now_ms: UnixMs, message: ToNode, out: &mut Vec<Output>) {
        let Link::Up { heard_ms } = &mut self.link else { return };
        *heard_ms = now_ms;
        match message {
            ToNode::Batch { records, checkpoint } => self.batch(now_ms, records, &checkpoint, out),
            ToNode::Heartbeat { checkpoint } => self.heartbeat(now_ms, &checkpoint, out),
            ToNode::Reset { reason, checkpoint } => {
                // Signed or not, the answer is the same: apply nothing, come back slowly.
                if self.open(&checkpoint, out).is_some() {
                    out.push(Output::Alarm(Alarm::Reset { reason }));
                    self.give_up_for_long(out);
                }
            }
            ToNode::Follow(follow) => out.push(Output::Follow(follow.bounded())),
            ToNode::LogsTaken { number } if number == self.told && self.telling_since_ms.is_some() => {
                self.telling_since_ms = None;
                out.push(Output::LogsTaken);
            }
            ToNode::Inspect(inspect) => out.push(Output::Inspect(inspect)),
            ToNode::LogsTaken { .. } => {} // of an earlier stream, or said twice
            ToNode::Unknown => {}
        }
    }

    fn batch(&mut self, now_ms: UnixMs, records: Vec<RawRecord>, envelope: &Envelope, out: &mut Vec<Output>) {
        let Some(checkpoint) = self.open(envelope, out) else { return };
        if self.regresses(&checkpoint) {
            return self.refuse(checkpoint, out);
        }
        let (end, fresh) = match self.verify(records, &checkpoint) {
            Verified::Next(batch) if self.pending_batches < PENDING_BATCHES_MAX => (batch.end, Some(batch)),
            Verified::Next(_) => return self.disconnect(out), // more than a publisher ever sends
            Verified::Repeat => (self.received, None),
            Verified::Broken => return self.ask_again(out),
        };
        self.backoff.reset();
        self.asked_again = 0;
        self.raise(now_ms, checkpoint, out);
        if let Some(batch) = fresh {
            self.received = end;
            self.pending_batches += 1;
            out.push(Output::Apply(batch));
        }
    }

    fn heartbeat(&mut self, now_ms: UnixMs, envelope: &Envelope, out: &mut Vec<Output>) {
        let Some(checkpoint) = self.open(envelope, out) else { return };
        let below = self.highest.is_some_and(|highest| {
            (checkpoint.epoch, checkpoint.rev) < (highest.epoch, highest.rev)
                || (checkpoint.rev == highest.rev && checkpoint.chain != highest.chain)
        });
        let beside = checkpoint.rev == self.received.rev && checkpoint.chain != self.received.chain;
        if below || beside || checkpoint.rev < self.received.rev {
            return self.refuse(checkpoint, out);
        }
        self.backoff.reset();
        self.raise(now_ms, checkpoint, out);
        out.push(self.ack());
        if checkpoint.rev == self.received.rev {
            self.behind_at = None;
        } else if self.behind_at == Some(self.received.rev) && self.pending_batches == 0 {
            self.ask_again(out);
        } else {
            self.behind_at = Some(self.received.rev);
        }
    }

    /// Rules 1 to 3 for the records of a batch.
    fn verify(&self, records: Vec<RawRecord>, checkpoint: &Checkpoint) -> Verified {
        if records.len() > BATCH_RECORDS_MAX {
            return Verified::Broken;
        }
        let mut at = self.received;
        let mut fresh = Vec::with_capacity(records.len());
        for raw in records {
            let Ok(head) = RecordHead::of(&raw) else { return Verified::Broken };
            if head.rev <= self.received.rev {
                continue;
            }
            if raw.text().len() > RECORD_BYTES_MAX || head.rev != at.rev + 1 || head.epoch < at.epoch {
                return Verified::Broken;
            }
            at = Position { epoch: head.epoch, rev: head.rev, chain: raw.chain(at.chain) };
            if self.highest.is_some_and(|highest| highest.rev == at.rev && highest.chain != at.chain) {
                return Verified::Broken;
            }
            fresh.push(raw);
        }
        if fresh.is_empty() {
            // An old batch again: nothing to learn, and its checkpoint lies below our position.
            let same = checkpoint.rev < at.rev || (checkpoint.rev == at.rev && checkpoint.chain == at.chain);
            return if same { Verified::Repeat } else { Verified::Broken };
        }
        let signed = Position { epoch: checkpoint.epoch, rev: checkpoint.rev, chain: checkpoint.chain };
        if at == signed { Verified::Next(Batch { records: fresh, end: at }) } else { Verified::Broken }
    }

    /// Rule 3 for the checkpoint of a batch. Catching up below the highest is no regression.
    fn regresses(&self, checkpoint: &Checkpoint) -> bool {
        self.highest.is_some_and(|highest| checkpoint.rev > highest.rev && checkpoint.epoch < highest.epoch)
    }

    fn applied_to(&mut self, position: Position, failed: BTreeMap<Rev, Nack>, out: &mut Vec<Output>) {
        if position.rev > self.applied.rev {
            self.applied = position;
            self.pending_batches = self.pending_batches.saturating_sub(1);
        }
        self.failed = failed;
        if self.is_connected() {
            out.push(self.ack());
        }
    }

    fn tick(&mut self, now_ms: UnixMs, out: &mut Vec<Output>) {
        match self.link {
            Link::Down { dial_at_ms } if now_ms >= dial_at_ms => {
                self.link = Link::Dialling { since_ms: now_ms };
                out.push(Output::Connect);
            }
            Link::Dialling { since_ms } if now_ms.saturating_sub(since_ms) >= CONNECT_MS_MAX => {
                self.disconnect(out)
            }
            Link::Up { heard_ms } if now_ms.saturating_sub(heard_ms) >= SILENCE_MS_MAX => {
                self.disconnect(out)
            }
            Link::Down { .. } | Link::Dialling { .. } | Link::Up { .. } | Link::Closing => {}
        }
        if self.telling_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= TAKEN_MS_MAX) {
            self.telling_since_ms = None; // told again; whoever has heard it knows by its numbers
        }
        // A clock that was set back must not keep a node fresh for ever.
        self.fresh_ms = self.fresh_ms.min(now_ms);
        if !self.stale && now_ms - self.fresh_ms >= STALE_MS {
            self.stale = true;
            out.push(Output::Alarm(Alarm::Stale));
        }
    }

    fn open(&mut self, envelope: &Envelope, out: &mut Vec<Output>) -> Option<Checkpoint> {
        match Checkpoint::open(envelope, &self.identity.trusted) {
            Ok(checkpoint) => Some(checkpoint),
            Err(error) => {
                out.push(Output::Alarm(Alarm::BadCheckpoint(error)));
                self.give_up_for_long(out);
                None
            }
        }
    }

    /// Rule 4, and rule 3's memory.
    fn raise(&mut self, now_ms: UnixMs, checkpoint: Checkpoint, out: &mut Vec<Output>) {
        let higher = self.highest.is_none_or(|h| {
            (checkpoint.epoch, checkpoint.rev, checkpoint.time_ms) > (h.epoch, h.rev, h.time_ms)
        });
        if !higher {
            return;
        }
        let grew = self.highest.is_none_or(|h| (checkpoint.epoch, checkpoint.rev) > (h.epoch, h.rev));
        self.highest = Some(checkpoint);
        self.fresh_ms = now_ms;
        if grew {
            out.push(Output::Highest(checkpoint));
        }
        if std::mem::take(&mut self.stale) {
            out.push(Output::Alarm(Alarm::Fresh));
        }
    }

    fn refuse(&mut self, refused: Checkpoint, out: &mut Vec<Output>) {
        let at = self.received;
        let own = Checkpoint { epoch: at.epoch, rev: at.rev, chain: at.chain, time_ms: 0 };
        let highest = self.highest.unwrap_or(own);
        out.push(Output::Alarm(Alarm::Regression { refused, highest }));
        self.give_up_for_long(out);
    }

    fn ask_again(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Alarm(Alarm::Broken { applied: self.applied.rev }));
        self.asked_again += 1;
        if self.asked_again > ASKED_AGAIN_MAX {
            return self.disconnect(out);
        }
        out.push(self.hello());
    }

    fn give_up_for_long(&mut self, out: &mut Vec<Output>) {
        self.backoff.slowest();
        self.disconnect(out);
    }

    fn disconnect(&mut self, out: &mut Vec<Output>) {
        self.link = Link::Closing;
        out.push(Output::Disconnect);
    }

    fn hello(&self) -> Output {
        Output::Send(ToOrigin::Hello(Hello { position: self.applied, ..self.identity.hello.clone() }))
    }

    fn ack(&self) -> Output {
        Output::Send(ToOrigin::Ack(Ack { rev: self.applied.rev, failed: self.failed.clone() }.bounded()))
    }
}

enum Verified {
    /// New records that lead to the checkpoint.
    Next(Batch),
    /// All known already.
    Repeat,
    /// A gap, a fork, or not what the checkpoint says.
    Broken,
}

#[cfg(test)]
mod tests;
