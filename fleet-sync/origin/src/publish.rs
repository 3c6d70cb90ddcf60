//! Publishing: decide under the writer lock → encode → try on a copy of the view → append durably → show and push.
//!
//! The lock makes decisions atomic: the closure sees exactly the state its records will follow, so version numbers
//! and host names need no second check.

use artifact::record::{BATCH_RECORDS_MAX, Body, RawRecord, Record, RecordError, Rev};
use fleet_sync_proto::{ApplyError, FleetView};

use crate::{
    clock::now_ms,
    log::{AppendError, LogError},
    origin::Origin,
};

/// Longest idempotency key, in bytes.
pub const REQUEST_KEY_BYTES_MAX: usize = 256;
/// Most records of one publish; a batch's worth.
pub const PUBLISH_RECORDS_MAX: usize = BATCH_RECORDS_MAX;

/// Records that are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The last record's rev: the one to wait for and to show people. 0 when nothing was ever published under it.
    pub rev: Rev,
    /// Revs of all records, in order. Of a repeated request only the last is known.
    pub revs: Vec<Rev>,
    /// Was this request answered before? Then nothing was written now.
    pub repeated: bool,
}

/// Nothing was published, except where said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum PublishError<E> {
    /// The closure's own refusal.
    #[error(transparent)]
    Refused(E),
    /// The closure's records cannot be applied: our bug, caught before it reached the log.
    #[error("refused to publish records that no node could apply")]
    Inapplicable(#[source] ApplyError),
    /// A record too large to travel.
    #[error("refused to publish a record: make the app's configuration smaller")]
    Record(#[from] RecordError),
    /// No records, too many, or of an unknown kind.
    #[error("refused to publish {0}")]
    Shape(&'static str),
    /// The log did not take them. After [`AppendError::Unavailable`] they may nevertheless be there: asking again
    /// with the same request key tells.
    #[error("publishing to the release log")]
    Append(#[from] AppendError),
    /// The log could not be read back after an earlier failure.
    #[error("reading the release log before publishing")]
    Log(#[from] LogError),
}

impl Origin {
    /// Publishes what `decide` makes of the present view, all or nothing, durable on return; nodes are told at once.
    ///
    /// `request_key` is the idempotency key, scoped by the caller (`<tenant>/<key>`), at most
    /// [`REQUEST_KEY_BYTES_MAX`]. A key that was answered before gives that answer without calling `decide`.
    pub async fn publish<E, F>(
        &self,
        actor: &str,
        request_key: Option<String>,
        decide: F,
    ) -> Result<Published, PublishError<E>>
    where
        F: FnOnce(&FleetView) -> Result<Vec<Body>, E>,
    {
        if request_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > REQUEST_KEY_BYTES_MAX) {
            return Err(PublishError::Shape("under a request key that is empty or over 256 bytes"));
        }
        let mut writer = self.writer.lock().await;
        if writer.unsure {
            self.reload().await?;
            writer.unsure = false;
        }
        let view = self.view();
        if let Some(rev) = request_key.as_deref().and_then(|key| view.request(key)) {
            return Ok(Published { rev, revs: vec![rev], repeated: true });
        }
        let bodies = decide(&view).map_err(PublishError::Refused)?;
        let records = encode(&view, writer.epoch, actor, request_key, bodies)?;
        let mut next = view.clone();
        for raw in &records {
            next.apply(raw).map_err(PublishError::Inapplicable)?;
        }
        // From here on a caller that goes away must not leave the memory behind the disk: `unsure` is cleared
        // only when both agree again.
        writer.unsure = true;
        match self.log.append(writer.epoch, view.rev, &records).await {
            Ok(_) => {}
            Err(error) => {
                // A conflict is an append of ours that was given up by its caller and landed late.
                writer.unsure = matches!(error, AppendError::Unavailable(_) | AppendError::Conflict { .. });
                return Err(error.into());
            }
        }
        self.show(next, &records);
        writer.unsure = false;
        let revs: Vec<Rev> = (view.rev + 1..=view.rev + records.len() as Rev).collect();
        Ok(Published { rev: revs.last().copied().unwrap_or(view.rev), revs, repeated: false })
    }
}

/// The records' exact texts. The request key stands on the last one only: it is the one that answers.
fn encode<E>(
    view: &FleetView,
    epoch: u64,
    actor: &str,
    request_key: Option<String>,
    bodies: Vec<Body>,
) -> Result<Vec<RawRecord>, PublishError<E>> {
    if bodies.is_empty() {
        return Err(PublishError::Shape("nothing"));
    }
    if bodies.len() > PUBLISH_RECORDS_MAX {
        return Err(PublishError::Shape("more than 512 records at once"));
    }
    let last = bodies.len() - 1;
    let time_ms = now_ms();
    let mut records = Vec::with_capacity(bodies.len());
    for (at, body) in bodies.into_iter().enumerate() {
        let critical = match &body {
            Body::Unknown => return Err(PublishError::Shape("a record of unknown kind")),
            Body::EpochStart { .. } => false,
            // A node of an earlier release goes on with the keys it has, and refuses what others sign.
            Body::KeyChange { .. } => false,
            // A node that skipped one of these would serve something else than the log says.
            Body::Version(_)
            | Body::ArtifactSet(_)
            | Body::Release { .. }
            | Body::AppDeleted { .. }
            | Body::Certificate(_)
            | Body::NodeRevoked { .. } => true,
        };
        let request = request_key.clone().filter(|_| at == last);
        let rev = view.rev + 1 + at as Rev;
        let record = Record { rev, epoch, time_ms, actor: actor.to_owned(), request, critical, body };
        records.push(RawRecord::encode(&record)?);
    }
    Ok(records)
}
