//! Which artifact and static files an app needs here, and having them before it is activated. Retries live here too: each app that waits for
//! bytes has its own back-off.

use std::{collections::BTreeMap, time::Duration};

use artifact::{
    AppId,
    assets::IndexRef,
    nack::{Nack, NackCode},
    record::{ArtifactRef, Rev},
};
use fleet_sync_proto::{FleetView, pick_artifact};
use futures_util::{StreamExt as _, stream};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    clock,
    replica::Inner,
    shelf::{BlobShelf, FetchError},
};

/// How long a batch waits for the artifacts of its apps; those that take longer follow in the background, so that
/// one large artifact does not hold a rollback back.
const PREFETCH_MAX: Duration = Duration::from_secs(10);
/// Artifacts asked for at once; the shelf lets fewer through.
const PREFETCHES_MAX: usize = 16;
/// First and longest delay between background attempts, each drawn evenly from half to the whole of it.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_MAX: u64 = 60_000;

/// What one app needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Need {
    /// Nothing: the app is gone, or has no active version.
    Nothing,
    /// These.
    Blobs(Wanted),
    /// There is none for this node yet.
    NoneFits(Nack),
}

/// What must be on the disk before an app is activated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Of its program, if it has one.
    artifact: Option<ArtifactRef>,
    /// Of its static files, if it has any.
    assets: Option<IndexRef>,
}

impl Wanted {
    /// Is all of it here? Says nothing of its bytes.
    pub(crate) fn is_on(&self, shelf: &BlobShelf) -> bool {
        self.artifact.as_ref().is_none_or(|artifact| shelf.has(artifact))
            && self.assets.as_ref().is_none_or(|assets| shelf.has_assets(assets))
    }

    async fn ensure_on(&self, shelf: &BlobShelf) -> Result<(), FetchError> {
        if let Some(artifact) = &self.artifact {
            shelf.ensure(artifact).await?;
        }
        match &self.assets {
            Some(assets) => shelf.ensure_assets(assets).await,
            None => Ok(()),
        }
    }
}

/// What of an app is meant, for a person.
impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.artifact, &self.assets) {
            (Some(artifact), None) => write!(f, "blob {}", artifact.blob),
            (Some(artifact), Some(at)) => write!(f, "blob {} or static files {}", artifact.blob, at.index),
            (None, Some(at)) => write!(f, "static files {}", at.index),
            (None, None) => f.write_str("nothing"),
        }
    }
}

pub(crate) fn need(replica: &Inner, view: &FleetView, id: &AppId) -> Need {
    let Some(version) = view.active(id) else { return Need::Nothing };
    let assets = version.version.assets;
    if !version.version.has_program() {
        return Need::Blobs(Wanted { artifact: None, assets });
    }
    match pick_artifact(version, &replica.config.targets) {
        Some(artifact) => Need::Blobs(Wanted { artifact: Some(artifact.clone()), assets }),
        None => {
            let targets: Vec<&str> = replica.config.targets.iter().map(|(target, _)| target.name()).collect();
            let detail = format!(
                "version {} has no artifact for this node's engine on {}: recompile the app",
                version.version.version,
                targets.join(", ")
            );
            Need::NoneFits(Nack { code: NackCode::Compat, detail })
        }
    }
}

/// Apps whose artifact is here, and why the others' is not.
pub(crate) async fn prefetch(
    replica: &Inner,
    view: &FleetView,
    changed: &[AppId],
) -> (Vec<AppId>, Vec<(AppId, Nack)>) {
    let deadline = Instant::now() + PREFETCH_MAX;
    let fetch = |id: AppId| async move {
        let outcome = match need(replica, view, &id) {
            Need::Nothing => Ok(()),
            Need::NoneFits(nack) => Err(nack),
            Need::Blobs(wanted) => {
                match tokio::time::timeout_at(deadline, wanted.ensure_on(&replica.shelf)).await {
                    Ok(done) => done.map_err(|error| error.nack()),
                    Err(_) => {
                        let detail = format!("{wanted}: still on the way; retrying");
                        Err(Nack { code: NackCode::FetchTimeout, detail })
                    }
                }
            }
        };
        (id, outcome)
    };
    let mut outcomes = stream::iter(changed.to_vec()).map(fetch).buffer_unordered(PREFETCHES_MAX);
    let (mut here, mut missing) = (Vec::new(), Vec::new());
    while let Some((id, outcome)) = outcomes.next().await {
        match outcome {
            Ok(()) => here.push(id),
            Err(nack) => missing.push((id, nack)),
        }
    }
    (here, missing)
}

/// Can trying again help?
pub(crate) fn is_worth_retrying(code: NackCode) -> bool {
    match code {
        NackCode::FetchTimeout | NackCode::NoSpace | NackCode::DigestMismatch => true,
        // A disk that failed, or a batch whose activation took too long: the innocent of it come up alone.
        NackCode::Internal => true,
        NackCode::BadSig
        | NackCode::UnknownKey
        | NackCode::EpochStale
        | NackCode::ChainBreak
        | NackCode::Compat
        | NackCode::TooLarge
        | NackCode::LoadFail
        | NackCode::UnknownKind
        | NackCode::CrashLoop => false,
    }
}

/// Apps that wait for their artifact.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    waiting: BTreeMap<AppId, Waiting>,
    running: JoinSet<Fetched>,
}

#[derive(Debug)]
struct Waiting {
    delay_ms: u64,
    /// `None` while an attempt runs.
    due: Option<Instant>,
}

/// The end of a background attempt.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub id: AppId,
    /// Rev of the version it was for: the app may have moved on.
    pub version_rev: Rev,
    pub outcome: Result<(), Nack>,
}

impl Retries {
    /// Tries again later, later still each time.
    pub(crate) fn schedule(&mut self, id: AppId) {
        let waiting = self.waiting.entry(id).or_insert(Waiting { delay_ms: RETRY_MS_MIN / 2, due: None });
        waiting.delay_ms = (waiting.delay_ms * 2).min(RETRY_MS_MAX);
        let half = waiting.delay_ms / 2;
        let delay_ms = half + clock::random() % (half + 1);
        waiting.due = Some(Instant::now() + Duration::from_millis(delay_ms));
    }

    /// It came up, changed or went away.
    pub(crate) fn forget(&mut self, id: &AppId) {
        self.waiting.remove(id);
    }

    /// When the next attempt is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if self.running.len() >= PREFETCHES_MAX {
            return None; // the end of one of them wakes the loop
        }
        self.waiting.values().filter_map(|waiting| waiting.due).min()
    }

    /// Starts what is due.
    pub(crate) fn start_due(&mut self, replica: &Inner, view: &FleetView) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for (id, waiting) in &mut self.waiting {
            if self.running.len() >= PREFETCHES_MAX || waiting.due.is_none_or(|due| due > now) {
                continue;
            }
            match (need(replica, view, id), view.active(id)) {
                (Need::Blobs(wanted), Some(version)) => {
                    waiting.due = None;
                    self.running.spawn(attempt(replica.shelf.clone(), id.clone(), version.rev, wanted));
                }
                _ => gone.push(id.clone()),
            }
        }
        for id in gone {
            self.forget(&id);
        }
    }

    /// The next attempt that ends; pending while none runs.
    pub(crate) async fn ended(&mut self) -> Fetched {
        loop {
            match self.running.join_next().await {
                Some(Ok(fetched)) => return fetched,
                Some(Err(error)) => tracing::error!(error = %error, "an attempt to fetch an artifact died"),
                None => std::future::pending().await,
            }
        }
    }
}

async fn attempt(shelf: BlobShelf, id: AppId, version_rev: Rev, wanted: Wanted) -> Fetched {
    let outcome = wanted.ensure_on(&shelf).await.map_err(|error| error.nack());
    Fetched { id, version_rev, outcome }
}
