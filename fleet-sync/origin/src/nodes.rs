//! What nodes say now: applied revs, failures, reports; and what follows for a release.

use std::collections::BTreeMap;

use artifact::{
    Fingerprint, NodeName, Target,
    nack::{Nack, NackCode},
    names::PopName,
    record::{Rev, UnixMs},
};
use fleet_sync_proto::{
    Ack, Hello, Report,
    wire::{FAILED_MAX, ResetReason},
};
use parking_lot::Mutex;
use rpds::RedBlackTreeSetSync;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::clock::now_ms;

/// A node that was heard of this recently is expected back: it restarts, or we did. Later it is offline, and a deploy
/// does not wait for it.
const EXPECTED_BACK_MS: u64 = 45_000;

/// A node as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub node: NodeName,
    /// Its POP.
    pub pop: PopName,
    /// Is a stream open?
    pub connected: bool,
    /// Last rev it has made durable and offered to its server.
    pub applied_rev: Rev,
    /// Revs whose object it does not serve, with the reason.
    pub failed: BTreeMap<Rev, Nack>,
    /// What it runs, best level last.
    pub targets: Vec<(Target, Fingerprint)>,
    /// `host:port` of its https listener.
    pub serving: Option<String>,
    /// Its software version.
    pub software: String,
    /// When it last said anything, by this machine's clock; 0 when never.
    pub last_seen_ms: UnixMs,
    /// May it never connect again?
    pub revoked: bool,
    /// Its last report, while connected.
    #[serde(skip)]
    pub report: Option<Report>,
}

/// How far the fleet is with one rev. Revoked nodes do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Convergence {
    /// Which rev.
    pub rev: Rev,
    /// All nodes.
    pub nodes: usize,
    /// Nodes that have it and did not refuse it.
    pub active: usize,
    /// Nodes that have it and refused it, and nodes that follow another log than ours.
    pub failed: Vec<FailedNode>,
    /// Nodes that do not have it yet, connected or not.
    pub lagging: Vec<LaggingNode>,
}

/// See [`Convergence::failed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedNode {
    /// Which.
    pub node: NodeName,
    /// Where.
    pub pop: PopName,
    /// Why, for machines.
    pub code: NackCode,
    /// Why, for people.
    pub detail: String,
}

/// See [`Convergence::lagging`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaggingNode {
    /// Which.
    pub node: NodeName,
    /// Where.
    pub pop: PopName,
    /// How far it is.
    pub applied_rev: Rev,
    /// Is a stream open?
    pub connected: bool,
    /// Is an answer to be expected: connected, or heard of within the last 45 s?
    #[serde(skip)]
    pub expected: bool,
}

/// What one node last said of one release. Cheaper to have than a [`NodeStatus`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAnswer {
    /// Which node.
    pub node: NodeName,
    /// Is a stream open?
    pub connected: bool,
    /// How far it is; 0 when it never acknowledged anything.
    pub applied_rev: Rev,
    /// Why it does not serve what was released.
    pub failed: Option<Nack>,
    /// It fails at so many releases that it does not name them all.
    pub names_not_all: bool,
}

impl Convergence {
    /// Has every node answered that is expected to? An offline node may lag for ever.
    pub fn is_settled(&self) -> bool {
        !self.lagging.iter().any(|node| node.expected)
    }
}

/// What is kept about a node across restarts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sighting {
    pub node: NodeName,
    pub pop: PopName,
    #[serde(default)]
    pub applied_rev: Rev,
    #[serde(default)]
    pub failed: BTreeMap<Rev, Nack>,
    #[serde(default)]
    pub targets: Vec<(Target, Fingerprint)>,
    #[serde(default)]
    pub serving: Option<String>,
    #[serde(default)]
    pub software: String,
    #[serde(default)]
    pub last_seen_ms: UnixMs,
    /// Why the node is not on our log: it is ahead of it, or its chain differs. Until it acknowledges something of ours.
    #[serde(default)]
    pub off_log: Option<String>,
}

impl Sighting {
    /// A node that has just enrolled.
    pub(crate) fn new(node: NodeName, pop: PopName) -> Sighting {
        Sighting {
            node,
            pop,
            applied_rev: 0,
            failed: BTreeMap::new(),
            targets: Vec::new(),
            serving: None,
            software: String::new(),
            last_seen_ms: 0,
            off_log: None,
        }
    }
}

#[derive(Debug)]
struct Entry {
    seen: Sighting,
    /// The open stream; dropping the sender ends it.
    stream: Option<(StreamId, oneshot::Sender<()>)>,
    report: Option<Report>,
    dirty: bool,
}

/// Tells the streams of one node apart.
pub(crate) type StreamId = u64;

/// All nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    entries: Mutex<BTreeMap<NodeName, Entry>>,
    /// Counts changes that a waiter for convergence cares about; also the source of stream ids.
    changes: watch::Sender<u64>,
}

impl Nodes {
    /// Nodes as they were last seen. `head` is the log's: revs above it are of a log that is no longer ours (a copy of it
    /// was restored), and must not count as having what will be published under them.
    pub(crate) fn new(seen: Vec<Sighting>, head: Rev) -> Nodes {
        let entry = |mut seen: Sighting| {
            if seen.applied_rev > head {
                seen.off_log = Some(off_log(ResetReason::Ahead, seen.applied_rev, head));
                seen.applied_rev = head;
            }
            (seen.node.clone(), Entry { seen, stream: None, report: None, dirty: false })
        };
        Nodes { entries: Mutex::new(seen.into_iter().map(entry).collect()), changes: watch::Sender::new(0) }
    }

    pub(crate) fn knows(&self, node: &NodeName) -> bool {
        self.entries.lock().contains_key(node)
    }

    pub(crate) fn add(&self, node: NodeName, pop: PopName) {
        let seen = Sighting { last_seen_ms: now_ms(), ..Sighting::new(node.clone(), pop) };
        let fresh = || Entry { seen, stream: None, report: None, dirty: true };
        self.entries.lock().entry(node).or_insert_with(fresh);
        self.note_change();
    }

    /// A stream of the node has opened. The receiver resolves when another one takes its place. `None`: unknown node.
    pub(crate) fn connected(&self, hello: &Hello) -> Option<(StreamId, oneshot::Receiver<()>)> {
        let mut entries = self.entries.lock();
        let entry = entries.get_mut(&hello.node)?;
        let (cut, was_cut) = oneshot::channel();
        let id = self.note_change();
        if entry.stream.replace((id, cut)).is_some() {
            // A restart looks like this; so does a copied identity.
            tracing::warn!(node = %hello.node, "a second stream of this node; the first is closed");
        }
        self.introduce(entry, hello);
        Some((id, was_cut))
    }

    /// The node said hello again on its open stream.
    pub(crate) fn reintroduced(&self, hello: &Hello) {
        if let Some(entry) = self.entries.lock().get_mut(&hello.node) {
            self.introduce(entry, hello);
        }
        self.note_change();
    }

    fn introduce(&self, entry: &mut Entry, hello: &Hello) {
        // Never higher from a hello alone: only the ack that follows it says what failed on the way.
        entry.seen.applied_rev = entry.seen.applied_rev.min(hello.position.rev);
        entry.seen.targets.clone_from(&hello.targets);
        entry.seen.serving.clone_from(&hello.serving);
        entry.seen.software.clone_from(&hello.software);
        entry.seen.last_seen_ms = now_ms();
        entry.dirty = true;
    }

    /// The stream has ended. Another one of the same node may be open meanwhile.
    pub(crate) fn disconnected(&self, node: &NodeName, id: StreamId) {
        if let Some(entry) = self.entries.lock().get_mut(node)
            && entry.stream.as_ref().is_some_and(|(open, _)| *open == id)
        {
            (entry.stream, entry.report) = (None, None);
        }
        self.note_change();
    }

    pub(crate) fn acked(&self, node: &NodeName, ack: Ack) {
        if let Some(entry) = self.entries.lock().get_mut(node) {
            (entry.seen.applied_rev, entry.seen.failed) = (ack.rev, ack.failed);
            entry.seen.off_log = None;
            entry.seen.last_seen_ms = now_ms();
            entry.dirty = true;
        }
        self.note_change();
    }

    /// The node was told to reset: nothing it has counts, until it acknowledges something of this log.
    pub(crate) fn left_log(&self, node: &NodeName, reason: ResetReason, at: Rev, head: Rev) {
        if let Some(entry) = self.entries.lock().get_mut(node) {
            entry.seen.off_log = Some(off_log(reason, at, head));
            entry.seen.applied_rev = entry.seen.applied_rev.min(head);
            entry.dirty = true;
        }
        self.note_change();
    }

    pub(crate) fn reported(&self, node: &NodeName, report: Report) {
        if let Some(entry) = self.entries.lock().get_mut(node) {
            entry.seen.last_seen_ms = now_ms();
            entry.report = Some(report);
        }
    }

    /// The POP that a node enrolled for, whatever it says of itself.
    pub(crate) fn pop(&self, node: &NodeName) -> Option<PopName> {
        self.entries.lock().get(node).map(|entry| entry.seen.pop.clone())
    }

    /// Nodes whose stream is open.
    pub(crate) fn connected_now(&self) -> Vec<(NodeName, PopName)> {
        let entries = self.entries.lock();
        let open = entries.values().filter(|entry| entry.stream.is_some());
        open.map(|entry| (entry.seen.node.clone(), entry.seen.pop.clone())).collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn note_change(&self) -> u64 {
        let mut now = 0;
        self.changes.send_modify(|count| {
            *count += 1;
            now = *count;
        });
        now
    }

    /// What has to be written down.
    pub(crate) fn take_dirty(&self) -> Vec<Sighting> {
        let mut entries = self.entries.lock();
        let dirty = |entry: &mut Entry| std::mem::take(&mut entry.dirty).then(|| entry.seen.clone());
        entries.values_mut().filter_map(dirty).collect()
    }

    pub(crate) fn list(&self, revoked: &RedBlackTreeSetSync<NodeName>) -> Vec<NodeStatus> {
        let status = |entry: &Entry| NodeStatus {
            node: entry.seen.node.clone(),
            pop: entry.seen.pop.clone(),
            connected: entry.stream.is_some(),
            applied_rev: entry.seen.applied_rev,
            failed: entry.seen.failed.clone(),
            targets: entry.seen.targets.clone(),
            serving: entry.seen.serving.clone(),
            software: entry.seen.software.clone(),
            last_seen_ms: entry.seen.last_seen_ms,
            revoked: revoked.contains(&entry.seen.node),
            report: entry.report.clone(),
        };
        self.entries.lock().values().map(status).collect()
    }

    /// What each node said of the release at a rev, revoked ones left out.
    pub(crate) fn answers(&self, release: Rev, revoked: &RedBlackTreeSetSync<NodeName>) -> Vec<NodeAnswer> {
        let answer = |entry: &Entry| NodeAnswer {
            node: entry.seen.node.clone(),
            connected: entry.stream.is_some(),
            applied_rev: entry.seen.applied_rev,
            failed: entry.seen.failed.get(&release).cloned(),
            names_not_all: entry.seen.failed.len() >= FAILED_MAX,
        };
        let entries = self.entries.lock();
        entries.values().filter(|entry| !revoked.contains(&entry.seen.node)).map(answer).collect()
    }

    pub(crate) fn convergence(&self, rev: Rev, revoked: &RedBlackTreeSetSync<NodeName>) -> Convergence {
        let mut found = Convergence { rev, nodes: 0, active: 0, failed: Vec::new(), lagging: Vec::new() };
        for entry in self.entries.lock().values().filter(|entry| !revoked.contains(&entry.seen.node)) {
            let (node, pop) = (entry.seen.node.clone(), entry.seen.pop.clone());
            found.nodes += 1;
            if let Some(detail) = entry.seen.off_log.clone() {
                found.failed.push(FailedNode { node, pop, code: NackCode::ChainBreak, detail });
            } else if entry.seen.applied_rev < rev {
                let (applied_rev, connected) = (entry.seen.applied_rev, entry.stream.is_some());
                let expected =
                    connected || now_ms().saturating_sub(entry.seen.last_seen_ms) < EXPECTED_BACK_MS;
                found.lagging.push(LaggingNode { node, pop, applied_rev, connected, expected });
            } else if let Some(Nack { code, detail }) = entry.seen.failed.get(&rev).cloned() {
                found.failed.push(FailedNode { node, pop, code, detail });
            } else {
                found.active += 1;
            }
        }
        found
    }
}

fn off_log(reason: ResetReason, at: Rev, head: Rev) -> String {
    let how = match reason {
        ResetReason::Ahead => "is ahead of the release log",
        ResetReason::Diverged => "has diverged from the release log",
    };
    format!(
        "the node is at rev {at} and {how}, which ends at rev {head}: restore the newer log, or remove the node's \
         replica.sqlite so that it starts over"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen_at(rev: Rev) -> Sighting {
        let sighting = Sighting::new("fra1-1".parse().unwrap(), "fra1".parse().unwrap());
        Sighting { applied_rev: rev, ..sighting }
    }

    fn codes(convergence: &Convergence) -> Vec<NackCode> {
        convergence.failed.iter().map(|node| node.code).collect()
    }

    #[test]
    fn a_node_that_is_off_the_log_is_failed_and_never_active_until_it_acks_ours() {
        let nodes = Nodes::new(vec![seen_at(5)], 9);
        let node = "fra1-1".parse().unwrap();
        nodes.left_log(&node, ResetReason::Diverged, 5, 9);
        for rev in [4, 20] {
            let now = nodes.convergence(rev, &Default::default());
            assert_eq!((now.active, codes(&now)), (0, vec![NackCode::ChainBreak]));
            assert!(now.failed[0].detail.contains("diverged") && now.is_settled(), "{now:?}");
        }
        nodes.acked(&node, Ack { rev: 20, ..Ack::default() });
        assert_eq!(nodes.convergence(20, &Default::default()).active, 1);
    }

    #[test]
    fn what_a_node_had_of_a_lost_log_does_not_count_after_an_old_copy_was_restored() {
        let nodes = Nodes::new(vec![seen_at(50)], 9);
        let now = nodes.convergence(12, &Default::default());
        assert_eq!((now.active, codes(&now)), (0, vec![NackCode::ChainBreak]));
        assert!(now.failed[0].detail.contains("ahead"), "{now:?}");
        assert_eq!(nodes.list(&Default::default())[0].applied_rev, 9);
    }
}
