//! What a node serves of one app at this moment. Asked when somebody wants to know, because telling it of every app all
//! the time would be 200 bytes a second for each app of each node.
//!
//! A node that does not know the question skips it, and a question may be lost like any other message that nobody waits
//! for: who asks waits only so long. Absent on purpose: what the log says should be served, which the asker has.

use artifact::{
    AppId, Digest,
    record::{Rev, VersionNumber},
};
use serde::{Deserialize, Serialize};

/// The question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspect {
    /// Of this question, for its answer.
    pub number: u64,
    /// What is asked about.
    #[serde(flatten)]
    pub id: AppId,
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// [`Inspect::number`].
    pub number: u64,
    /// What answers for the app; absent when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<Serving>,
}

/// A version as a node serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// Its number.
    pub version: VersionNumber,
    /// Rev of its record: numbers begin again where an app is made anew.
    pub version_rev: Rev,
    /// sha-256 of the native code that is mapped for it, as the node checked it over the very pages it maps. Absent while
    /// none is in memory: it is loaded when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
}
