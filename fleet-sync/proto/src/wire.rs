//! The messages of the stream between a node and the origin (docs/design/0004-sync-protocol.md).
//!
//! The node dials out and speaks first. Everything is cumulative and idempotent: repeating any message is harmless.
//! A message type from a newer peer reads as `Unknown` and is skipped. Absent on purpose: artifact bytes, which
//! travel by ranged GET on a connection of their own.

use std::collections::BTreeMap;

use artifact::{
    AppId, Digest, Fingerprint, NodeName, Target,
    dsse::Envelope,
    nack::Nack,
    names::PopName,
    record::{Epoch, RawRecord, Rev, UnixMs, VersionNumber},
};
use serde::{Deserialize, Serialize};

use crate::{
    inspect::{Inspect, Inspected},
    logs::{Follow, Logs},
};

/// Version of this protocol. A new one must still read the old one.
pub const PROTOCOL: u32 = 1;
/// Most failed revs a node reports: the newest.
pub const FAILED_MAX: usize = 256;
/// Longest detail of a nack, in bytes.
pub const NACK_DETAIL_BYTES_MAX: usize = 1024;
/// Most (app, version) counters in one report.
pub const REPORT_APPS_MAX: usize = 2_000;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Term of the record at `rev`; 0 before the first.
    pub epoch: Epoch,
    /// Position; 0 before the first.
    pub rev: Rev,
    /// Chain value after it.
    pub chain: Digest,
}

impl Position {
    /// Before the first record.
    pub const START: Position = Position { epoch: 0, rev: 0, chain: Digest::ZERO };
}

/// What a node sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToOrigin {
    /// First on every stream; again whenever the node wants to be sent everything after its position.
    Hello(Hello),
    /// Everything up to a rev has been dealt with.
    Ack(Ack),
    /// Counters and health.
    Report(Report),
    /// Lines of apps that somebody listens to.
    Logs(Logs),
    /// What it serves of an app, as it was asked.
    Inspected(Inspected),
    /// From a newer node.
    #[serde(other)]
    Unknown,
}

/// What the origin sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNode {
    /// The next records, and the signed head after the last of them.
    Batch {
        /// Dense, in order; at most `BATCH_RECORDS_MAX` and `BATCH_BYTES_MAX`.
        records: Vec<RawRecord>,
        /// Position after the last record.
        checkpoint: Envelope,
    },
    /// The log's head, signed again while nothing happens.
    Heartbeat {
        /// The head.
        checkpoint: Envelope,
    },
    /// The node is not on the origin's log: it is ahead of it, or its chain differs. The node keeps serving what it
    /// has, applies nothing, alarms, and asks again at the slowest pace; people must decide which side is right.
    Reset {
        /// Which of the two.
        reason: ResetReason,
        /// The origin's head.
        checkpoint: Envelope,
    },
    /// Which apps somebody listens to. The node tells their lines for [`crate::logs::FOLLOW_MS`].
    Follow(Follow),
    /// Lines have arrived: the node may tell more.
    LogsTaken {
        /// [`Logs::number`].
        number: u64,
    },
    /// What does the node serve of this app? To be answered at once.
    Inspect(Inspect),
    /// From a newer origin.
    #[serde(other)]
    Unknown,
}

/// Why a node cannot follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// Its rev is above the log's: the log was restored from an old copy, or lost its tail.
    Ahead,
    /// Its chain value is not the log's at that rev.
    Diverged,
}

/// See [`ToOrigin::Hello`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the node.
    pub protocol: u32,
    /// Must be the name in its certificate.
    pub node: NodeName,
    /// Its POP.
    pub pop: PopName,
    /// What it has made durable.
    #[serde(flatten)]
    pub position: Position,
    /// Targets it runs with its engine's fingerprint for each, best level last.
    #[serde(deserialize_with = "artifact::target::known_only")]
    pub targets: Vec<(Target, Fingerprint)>,
    /// `host:port` of its https listener, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<String>,
    /// Its software version, for people.
    #[serde(default)]
    pub software: String,
}

/// See [`ToOrigin::Ack`]. Cumulative: the newest replaces all before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Last rev that is durable on the node and was offered to its activator.
    pub rev: Rev,
    /// Revs whose object is *now* not what the log says, with the reason. Its app serves its last good version.
    /// At most [`FAILED_MAX`], the newest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "pairs")]
    pub failed: BTreeMap<Rev, Nack>,
}

/// See [`ToOrigin::Report`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Per app and version; at most [`REPORT_APPS_MAX`], the busiest.
    #[serde(default)]
    pub apps: Vec<VersionCounters>,
    /// Entries left out because of the limit.
    #[serde(default)]
    pub apps_dropped: u64,
    /// The node as a whole.
    #[serde(default)]
    pub health: NodeHealth,
}

/// Counters of one version on one node, cumulative since the node's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionCounters {
    /// The app.
    #[serde(flatten)]
    pub id: AppId,
    /// Its version.
    pub version: VersionNumber,
    /// Requests answered.
    pub requests: u64,
    /// Of them with a status of 500 and above.
    pub status_5xx: u64,
    /// Guest traps and exits without an answer.
    #[serde(default)]
    pub guest_faults: u64,
    /// CPU time of its executions, µs.
    #[serde(default)]
    pub cpu_us: u64,
}

/// How a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// When the process started, by its clock.
    #[serde(default)]
    pub started_ms: UnixMs,
    /// Apps it serves.
    #[serde(default)]
    pub apps: u64,
    /// Bytes of native code in memory.
    #[serde(default)]
    pub code_bytes: u64,
    /// Requests being answered.
    #[serde(default)]
    pub in_flight: u64,
}

impl Ack {
    /// Brings details and number within their limits.
    pub fn bounded(mut self) -> Ack {
        while self.failed.len() > FAILED_MAX {
            self.failed.pop_first();
        }
        for nack in self.failed.values_mut() {
            nack.detail.truncate(nack.detail.floor_char_boundary(NACK_DETAIL_BYTES_MAX));
        }
        self
    }
}

impl Report {
    /// Keeps the busiest entries within the limit and counts the rest.
    pub fn bounded(mut self) -> Report {
        if self.apps.len() > REPORT_APPS_MAX {
            self.apps.sort_by_key(|counters| std::cmp::Reverse(counters.requests));
            self.apps_dropped += (self.apps.len() - REPORT_APPS_MAX) as u64;
            self.apps.truncate(REPORT_APPS_MAX);
        }
        self
    }
}

/// A map as a list of pairs. JSON has only string keys, and serde does not turn those back into numbers inside a
/// tagged enum.
mod pairs {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(
        map: &BTreeMap<Rev, Nack>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Rev, Nack>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use artifact::{Lane, Profile, checkpoint::Checkpoint, keys::SecretKey, nack::NackCode};

    use super::*;
    use crate::inspect::Serving;

    fn read_back<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(message: T) {
        let mut decoder = crate::frame::FrameDecoder::new(10_000);
        decoder.push(&crate::frame::encode(&message, 10_000).unwrap());
        assert_eq!(decoder.next::<T>().unwrap(), Some(message));
    }

    #[test]
    fn every_message_is_read_back_as_it_was_written() {
        let id = AppId { tenant: "t".parse().unwrap(), app: "a".parse().unwrap() };
        let asked = id.clone();
        read_back(ToOrigin::Hello(Hello {
            protocol: PROTOCOL,
            node: "fra1-1".parse().unwrap(),
            pop: "fra1".parse().unwrap(),
            position: Position { epoch: 1, rev: u64::MAX, chain: Digest::of(b"x") },
            targets: vec![(Target::X86_64V3, Fingerprint(Digest::ZERO))],
            serving: Some("127.0.0.1:443".into()),
            software: "0.1.0".into(),
        }));
        let nack = Nack { code: NackCode::Compat, detail: "why".into() };
        read_back(ToOrigin::Ack(Ack { rev: 9, failed: BTreeMap::from([(7, nack.clone()), (9, nack)]) }));
        read_back(ToOrigin::Ack(Ack::default()));
        let counters =
            VersionCounters { id, version: 3, requests: 1, status_5xx: 2, guest_faults: 3, cpu_us: u64::MAX };
        let health = NodeHealth { started_ms: 1, apps: 2, code_bytes: 3, in_flight: 4 };
        let serving = Serving { version: 3, version_rev: u64::MAX, code: Some(Digest::of(b"native")) };
        read_back(ToOrigin::Inspected(Inspected { number: u64::MAX, serving: Some(serving) }));
        read_back(ToOrigin::Inspected(Inspected { number: 1, serving: None }));
        read_back(ToNode::Inspect(Inspect { number: 1, id: asked }));
        read_back(ToOrigin::Report(Report { apps: vec![counters], apps_dropped: 5, health }));

        let at = Checkpoint { epoch: 1, rev: 2, chain: Digest::ZERO, time_ms: 3 };
        let checkpoint = at.sign(&SecretKey::from_seed([1; 32]));
        let text = format!("{{\"quotes\":\"{}\",\"lane\":\"{}\"}}", Profile::Serve, Lane::Wasi);
        let records = vec![RawRecord::from_text(text).unwrap()];
        read_back(ToNode::Batch { records, checkpoint: checkpoint.clone() });
        read_back(ToNode::Heartbeat { checkpoint: checkpoint.clone() });
        read_back(ToNode::Reset { reason: ResetReason::Diverged, checkpoint });
    }

    #[test]
    fn a_message_from_tomorrow_reads_as_unknown() {
        assert_eq!(
            serde_json::from_str::<ToNode>(r#"{"type":"dance","to":"music"}"#).unwrap(),
            ToNode::Unknown
        );
        assert_eq!(serde_json::from_str::<ToOrigin>(r#"{"type":"sing"}"#).unwrap(), ToOrigin::Unknown);
    }

    #[test]
    fn acks_keep_their_limits() {
        let nack = Nack { code: NackCode::LoadFail, detail: "é".repeat(NACK_DETAIL_BYTES_MAX) };
        let failed = (1..=FAILED_MAX as u64 + 9).map(|rev| (rev, nack.clone())).collect();
        let ack = Ack { rev: 999, failed }.bounded();
        assert_eq!((ack.failed.len(), *ack.failed.keys().next().unwrap()), (FAILED_MAX, 10));
        assert!(ack.failed.values().all(|nack| nack.detail.len() <= NACK_DETAIL_BYTES_MAX));
        assert!(crate::frame::encode(&ToOrigin::Ack(ack), crate::frame::TO_ORIGIN_BYTES_MAX).is_ok());
    }
}
