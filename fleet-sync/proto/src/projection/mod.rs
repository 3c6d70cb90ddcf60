//! What the release log says now. A pure function of the records: every reader that applied the same records holds
//! the same view, whatever the order of batches, restarts or repeats on the way.
//!
//! Relies on `artifact::record` for the codec. Absent on purpose: signatures (the follower's work) and the decision
//! what to publish (the control plane's). Rules, numbered as in docs/design/0003-release-log.md:
//!
//! 4. `apply` takes the next rev or refuses; nothing is guessed over a gap.
//! 5. A record that cannot be used (unknown critical kind, unreadable body, release of a version that is not there,
//!    a host name of another tenant) leaves its object as it was. The cursor moves on: it must, or one bad record
//!    would stop the fleet. See [`ApplyError::Refused`].
//! 6. Host names: see [`claims`].

pub mod claims;
pub mod keys;

use std::sync::Arc;

use artifact::{
    AppId, Digest, Fingerprint, HostName, NodeName, Profile, Target,
    nack::{Nack, NackCode},
    record::{
        ArtifactRef, ArtifactSet, Body, Certificate, Epoch, RawRecord, Record, RecordError, Rev, UnixMs,
        Version, VersionNumber,
    },
};
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use serde::Deserialize;

pub use claims::{ClaimConflict, HostState};
pub use keys::CompilerKeys;

use crate::wire::Position;

/// Answered idempotency keys remembered: at 1.2 deploys/s more than two hours, and about 1 MB.
pub const REQUESTS_KEPT_MAX: usize = 10_000;
/// Versions of one app in the view. Older ones that are not active leave it (their records stay in the log), so an
/// app deployed every minute cannot grow every node's memory without end.
pub const VERSIONS_KEPT_MAX: usize = 256;
/// Artifacts of one version: five targets of six engines, each with the code before it. The oldest leave first.
pub const ARTIFACTS_KEPT_MAX: usize = 64;

/// Deleted apps whose next version number is remembered. Beyond it some start again at 1; records' revs never repeat.
pub const DELETED_KEPT_MAX: usize = 10_000;

/// The fleet's state at one rev. Cloning shares everything.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// Last applied rev; 0 before the first record.
    pub rev: Rev,
    /// Term of that record.
    pub epoch: Epoch,
    /// Chain value after it.
    pub chain: Chain,
    /// Every app.
    pub apps: RedBlackTreeMapSync<AppId, AppState>,
    /// Every host name that belongs to a tenant.
    pub hosts: RedBlackTreeMapSync<HostName, HostState>,
    /// The certificate to answer with, by exact host name.
    pub certificates: RedBlackTreeMapSync<HostName, Arc<Certificate>>,
    /// Nodes that may not connect again.
    pub revoked: RedBlackTreeSetSync<NodeName>,
    /// Which compiler keys the log knows, and what they said of each other.
    pub compiler_keys: CompilerKeys,
    /// Next version number of apps that were deleted, at most [`DELETED_KEPT_MAX`].
    deleted: RedBlackTreeMapSync<AppId, VersionNumber>,
    requests: RedBlackTreeMapSync<String, Rev>,
    request_order: RedBlackTreeMapSync<Rev, String>,
}

/// A chain value; the default is the one before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub Digest);

impl Default for Chain {
    fn default() -> Chain {
        Chain(Digest::ZERO)
    }
}

/// One app.
#[derive(Debug, Clone, Default)]
pub struct AppState {
    /// Its versions, at most [`VERSIONS_KEPT_MAX`].
    pub versions: RedBlackTreeMapSync<VersionNumber, Arc<VersionState>>,
    /// The version that answers for it.
    pub active: Option<VersionNumber>,
    /// Rev of the release that made it so; 0 before the first.
    pub release_rev: Rev,
}

/// One version and the native code that exists for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionState {
    /// What the user meant.
    pub version: Version,
    /// Native code, oldest first: for each (target, profile, fingerprint) the latest, and the one that it replaced. Nodes that
    /// cannot load the latest go on with that.
    pub artifacts: Vec<ArtifactRef>,
    /// Rev of its record.
    pub rev: Rev,
    /// When it was written, by the writer's clock.
    pub time_ms: UnixMs,
}

/// What one record, or several, changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Apps whose serving changed: released, deleted, or given native code for the active version. No repeats.
    pub changed: Vec<AppId>,
    /// A certificate came or went.
    pub certificates_changed: bool,
}

/// A record was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Not the next one. The view is unchanged: ask again from its rev.
    #[error("record {found} does not follow rev {applied}")]
    Gap {
        /// The view's rev.
        applied: Rev,
        /// The record's.
        found: Rev,
    },
    /// From an older term than the record before it. The view is unchanged.
    #[error("record {rev} is of epoch {found}, after one of epoch {applied}")]
    EpochStale {
        /// The record.
        rev: Rev,
        /// The view's epoch.
        applied: Epoch,
        /// The record's.
        found: Epoch,
    },
    /// Not even rev and epoch are readable. The view is unchanged.
    #[error("reading the record after rev {applied}")]
    Unreadable {
        /// The view's rev.
        applied: Rev,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Rule 5: the cursor moved on, the record's object is as it was.
    #[error("record {rev} was not applied: {nack}")]
    Refused {
        /// The record.
        rev: Rev,
        /// What to report upwards.
        nack: Nack,
    },
}

impl ApplyError {
    /// Did the view take the record's rev nevertheless?
    pub fn moved_on(&self) -> bool {
        matches!(self, ApplyError::Refused { .. })
    }

    /// What a node reports upwards.
    pub fn nack(&self) -> Nack {
        let code = match self {
            ApplyError::Refused { nack, .. } => return nack.clone(),
            ApplyError::Gap { .. } => NackCode::ChainBreak,
            ApplyError::EpochStale { .. } => NackCode::EpochStale,
            ApplyError::Unreadable { .. } => NackCode::Internal,
        };
        Nack { code, detail: self.to_string() }
    }
}

impl Applied {
    /// Adds what a later record changed.
    pub fn merge(&mut self, later: Applied) {
        for id in later.changed {
            if !self.changed.contains(&id) {
                self.changed.push(id);
            }
        }
        self.certificates_changed |= later.certificates_changed;
    }

    fn app(id: AppId) -> Applied {
        Applied { changed: vec![id], certificates_changed: false }
    }
}

/// The part of a record that every reader of every age understands.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct RecordHead {
    pub rev: Rev,
    pub epoch: Epoch,
}

impl RecordHead {
    pub(crate) fn of(raw: &RawRecord) -> Result<RecordHead, RecordError> {
        serde_json::from_str(raw.text()).map_err(|error| RecordError::Malformed(error.to_string()))
    }
}

impl FleetView {
    /// The view before the first record.
    pub fn new() -> FleetView {
        FleetView::default()
    }

    /// Where in the log this view stands.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, rev: self.rev, chain: self.chain.0 }
    }

    /// One app.
    pub fn app(&self, id: &AppId) -> Option<&AppState> {
        self.apps.get(id)
    }

    /// One version of an app.
    pub fn version(&self, id: &AppId, number: VersionNumber) -> Option<&Arc<VersionState>> {
        self.apps.get(id)?.versions.get(&number)
    }

    /// The version that answers for an app.
    pub fn active(&self, id: &AppId) -> Option<&Arc<VersionState>> {
        self.apps.get(id)?.active_version()
    }

    /// The number the app's next version gets. An app that is made again after its deletion goes on counting, so that
    /// nobody takes a new version for one of the deleted app.
    pub fn next_version(&self, id: &AppId) -> VersionNumber {
        self.next_of_living(id).max(self.deleted.get(id).copied().unwrap_or(1))
    }

    /// What a record must at least have. Lower than [`Self::next_version`] for an app made again: logs of earlier
    /// releases count from 1 there.
    fn next_of_living(&self, id: &AppId) -> VersionNumber {
        self.apps.get(id).and_then(|app| app.versions.last()).map_or(1, |(number, _)| number + 1)
    }

    /// The rev that answered this idempotency key, if it is one of the last [`REQUESTS_KEPT_MAX`].
    pub fn request(&self, key: &str) -> Option<Rev> {
        self.requests.get(key).copied()
    }

    /// Takes the next record (rules 4 and 5). On [`ApplyError::Refused`] the cursor has moved, on any other error the
    /// view is unchanged.
    pub fn apply(&mut self, raw: &RawRecord) -> Result<Applied, ApplyError> {
        let head =
            RecordHead::of(raw).map_err(|source| ApplyError::Unreadable { applied: self.rev, source })?;
        if head.rev != self.rev + 1 {
            return Err(ApplyError::Gap { applied: self.rev, found: head.rev });
        }
        if head.epoch < self.epoch {
            return Err(ApplyError::EpochStale { rev: head.rev, applied: self.epoch, found: head.epoch });
        }
        (self.rev, self.epoch, self.chain) = (head.rev, head.epoch, Chain(raw.chain(self.chain.0)));
        let refused = |nack| ApplyError::Refused { rev: head.rev, nack };
        let record =
            raw.decode().map_err(|error| refused(internal(format!("its body does not read: {error}"))))?;
        if let Some(key) = &record.request {
            self.remember(key.clone(), record.rev);
        }
        self.take(record).map_err(refused)
    }

    fn take(&mut self, record: Record) -> Result<Applied, Nack> {
        let (rev, time_ms) = (record.rev, record.time_ms);
        match record.body {
            Body::EpochStart { compiler_keys, .. } => {
                self.compiler_keys.tell(compiler_keys);
                Ok(Applied::default())
            }
            Body::KeyChange { change } => self.compiler_keys.take(change).map(|()| Applied::default()),
            Body::Version(version) => self.add_version(version, rev, time_ms),
            Body::ArtifactSet(set) => self.add_artifacts(set),
            Body::Release { id, version } => self.release(id, version, rev),
            Body::AppDeleted { id } => self.delete(id),
            Body::Certificate(certificate) => Ok(self.add_certificate(certificate)),
            Body::NodeRevoked { node } => {
                self.revoked.insert_mut(node);
                Ok(Applied::default())
            }
            Body::Unknown if !record.critical => Ok(Applied::default()),
            Body::Unknown => Err(Nack {
                code: NackCode::UnknownKind,
                detail: "a record kind of a newer release, not to be skipped: update this node".into(),
            }),
        }
    }

    fn add_version(&mut self, version: Version, rev: Rev, time_ms: UnixMs) -> Result<Applied, Nack> {
        let (id, number) = (version.id.clone(), version.version);
        if number < self.next_of_living(&id) {
            return Err(internal(format!(
                "version {number} of {id} is not a new one: versions are immutable"
            )));
        }
        self.check_owner(&id, &version.config.hosts).map_err(|taken| internal(taken.to_string()))?;
        self.hold(&id, &version.config.hosts);
        let mut app = self.apps.get(&id).cloned().unwrap_or_default();
        app.versions
            .insert_mut(number, Arc::new(VersionState { version, artifacts: Vec::new(), rev, time_ms }));
        let oldest = (app.versions.size() > VERSIONS_KEPT_MAX)
            .then(|| app.versions.keys().find(|number| Some(**number) != app.active).copied())
            .flatten();
        let dropped =
            oldest.and_then(|oldest| app.versions.get(&oldest).cloned().map(|dropped| (oldest, dropped)));
        if let Some((number, _)) = &dropped {
            app.versions.remove_mut(number);
        }
        self.apps.insert_mut(id.clone(), app);
        if let Some((_, dropped)) = dropped {
            let certificates_changed = self.let_go(&id, &dropped.version.config.hosts);
            return Ok(Applied { changed: Vec::new(), certificates_changed });
        }
        Ok(Applied::default())
    }

    fn add_artifacts(&mut self, set: ArtifactSet) -> Result<Applied, Nack> {
        let unknown =
            || internal(format!("artifacts for version {} of {}, which is not there", set.version, set.id));
        let app = self.apps.get_mut(&set.id).ok_or_else(unknown)?;
        let version = Arc::make_mut(app.versions.get_mut(&set.version).ok_or_else(unknown)?);
        for new in set.artifacts {
            let replaced = version.latest(&new).map(|replaced| replaced.blob);
            let told_again = replaced == Some(new.blob);
            version.artifacts.retain(|old| {
                let stays = told_again || Some(old.blob) == replaced;
                !serves_the_same(old, &new) || (stays && old.blob != new.blob)
            });
            version.artifacts.push(new);
        }
        version.forget_excess();
        let serving = app.active == Some(set.version);
        Ok(if serving { Applied::app(set.id) } else { Applied::default() })
    }

    fn release(&mut self, id: AppId, number: VersionNumber, rev: Rev) -> Result<Applied, Nack> {
        let wanted = self.version(&id, number).cloned();
        let wanted = wanted
            .ok_or_else(|| internal(format!("release of version {number} of {id}, which is not there")))?;
        self.check_claim(&id, &wanted.version.config).map_err(|taken| internal(taken.to_string()))?;
        if let Some(before) = self.active(&id).cloned() {
            self.unclaim(&id, &before.version.config);
        }
        self.claim(&id, &wanted.version.config);
        if let Some(app) = self.apps.get_mut(&id) {
            (app.active, app.release_rev) = (Some(number), rev);
        }
        Ok(Applied::app(id))
    }

    fn delete(&mut self, id: AppId) -> Result<Applied, Nack> {
        let unknown = || internal(format!("deletion of {id}, which is not there"));
        let app = self.apps.get(&id).cloned().ok_or_else(unknown)?;
        self.deleted.insert_mut(id.clone(), self.next_version(&id));
        if self.deleted.size() > DELETED_KEPT_MAX
            && let Some(some) = self.deleted.keys().find(|some| **some != id).cloned()
        {
            self.deleted.remove_mut(&some);
        }
        self.apps.remove_mut(&id);
        if let Some(active) = app.active_version() {
            self.unclaim(&id, &active.version.config);
        }
        let mut certificates_changed = false;
        for version in app.versions.values() {
            certificates_changed |= self.let_go(&id, &version.version.config.hosts);
        }
        Ok(Applied { changed: vec![id], certificates_changed })
    }

    fn add_certificate(&mut self, certificate: Certificate) -> Applied {
        let certificate = Arc::new(certificate);
        for host in &certificate.hosts {
            self.certificates.insert_mut(host.clone(), certificate.clone());
        }
        Applied { changed: Vec::new(), certificates_changed: true }
    }

    fn remember(&mut self, key: String, rev: Rev) {
        if let Some(before) = self.requests.get(&key) {
            self.request_order.remove_mut(before);
        }
        self.requests.insert_mut(key.clone(), rev);
        self.request_order.insert_mut(rev, key);
        while self.request_order.size() > REQUESTS_KEPT_MAX {
            let Some((rev, key)) = self.request_order.first().map(|(rev, key)| (*rev, key.clone())) else {
                break;
            };
            self.request_order.remove_mut(&rev);
            self.requests.remove_mut(&key);
        }
    }
}

impl VersionState {
    /// The latest code for the same machines and engine.
    pub fn latest(&self, like: &ArtifactRef) -> Option<&ArtifactRef> {
        self.artifacts.iter().rev().find(|artifact| serves_the_same(artifact, like))
    }

    /// Keeps [`ARTIFACTS_KEPT_MAX`]: what was replaced leaves first.
    fn forget_excess(&mut self) {
        while self.artifacts.len() > ARTIFACTS_KEPT_MAX {
            let is_replaced =
                |old: &ArtifactRef| self.latest(old).is_some_and(|latest| latest.blob != old.blob);
            let leaves = self.artifacts.iter().position(is_replaced).unwrap_or(0);
            self.artifacts.remove(leaves);
        }
    }
}

/// Are both for the same machines and engine?
fn serves_the_same(one: &ArtifactRef, other: &ArtifactRef) -> bool {
    (one.target, one.profile, one.fingerprint) == (other.target, other.profile, other.fingerprint)
}

impl AppState {
    /// The version that answers for the app.
    pub fn active_version(&self) -> Option<&Arc<VersionState>> {
        self.versions.get(&self.active?)
    }
}

/// The artifact a node should run: `offers` are the node's (target, fingerprint) pairs, best level last. `None` when
/// nothing fits, which a node reports as [`NackCode::Compat`].
pub fn pick_artifact<'a>(
    version: &'a VersionState,
    offers: &'a [(Target, Fingerprint)],
) -> Option<&'a ArtifactRef> {
    runnable_artifacts(version, offers).next()
}

/// Every artifact a node can run: of the best level the latest, then what it replaced, then the next level's.
pub fn runnable_artifacts<'a>(
    version: &'a VersionState,
    offers: &'a [(Target, Fingerprint)],
) -> impl Iterator<Item = &'a ArtifactRef> {
    offers.iter().rev().flat_map(|(target, fingerprint)| {
        version.artifacts.iter().rev().filter(move |artifact| {
            artifact.target == *target
                && artifact.fingerprint == *fingerprint
                && artifact.profile == Profile::Serve
        })
    })
}

fn internal(detail: String) -> Nack {
    Nack { code: NackCode::Internal, detail }
}

#[cfg(test)]
mod tests;
