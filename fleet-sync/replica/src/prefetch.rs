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

/// How long a batch waits for the bytes of its apps: most are here by then, and come up together. Those that take longer follow in
/// the background and come up alone, so that nothing slow holds a rollback back.
const PREFETCH_MAX: Duration = Duration::from_millis(500);
/// How long what is acknowledged waits for those, before they are said to have failed for now.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Apps without missing files that are fetched at once, and as many with; the shelf lets fewer through.
const PREFETCHES_MAX: usize = 16;
/// First and longest delay between background attempts, each drawn evenly from half to the whole of it.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_MAX: u64 = 60_000;
/// When an attempt is looked at again for which there was no place.
const FULL_PAUSE: Duration = Duration::from_millis(500);

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

    /// Are files to be fetched? There may be thousands of them.
    fn lacks_files(&self, shelf: &BlobShelf) -> bool {
        self.assets.as_ref().is_some_and(|assets| !shelf.has_assets(assets))
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

/// What a batch's apps have when it is applied.
#[derive(Default)]
pub(crate) struct Prefetched {
    /// All they need.
    pub here: Vec<AppId>,
    /// Not all, for this reason.
    pub missing: Vec<(AppId, Nack)>,
    /// It is on its way still.
    pub late: Vec<AppId>,
}

/// Fetches what changed apps need, for as long as a batch may wait.
pub(crate) async fn prefetch(replica: &Inner, view: &FleetView, changed: &[AppId]) -> Prefetched {
    let deadline = Instant::now() + PREFETCH_MAX;
    let mut fetched = Prefetched::default();
    let (mut quick, mut slow) = (Vec::new(), Vec::new());
    for id in changed {
        match need(replica, view, id) {
            Need::Nothing => fetched.here.push(id.clone()),
            Need::NoneFits(nack) => fetched.missing.push((id.clone(), nack)),
            Need::Blobs(wanted) if wanted.lacks_files(&replica.shelf) => slow.push((id.clone(), wanted)),
            Need::Blobs(wanted) => quick.push((id.clone(), wanted)),
        }
    }
    let fetch = |(id, wanted): (AppId, Wanted)| async move {
        let outcome = tokio::time::timeout_at(deadline, wanted.ensure_on(&replica.shelf)).await;
        (id, outcome)
    };
    // Sites do not stand before the others.
    let quick = stream::iter(quick).map(fetch).buffer_unordered(PREFETCHES_MAX);
    let slow = stream::iter(slow).map(fetch).buffer_unordered(PREFETCHES_MAX);
    let mut outcomes = stream::select(quick, slow);
    while let Some((id, outcome)) = outcomes.next().await {
        match outcome {
            Ok(Ok(())) => fetched.here.push(id),
            Ok(Err(error)) => fetched.missing.push((id, error.nack())),
            Err(_) => fetched.late.push(id),
        }
    }
    fetched
}

/// An app's bytes took longer than [`PATIENCE`].
pub(crate) fn still_on_the_way(replica: &Inner, view: &FleetView, id: &AppId) -> Nack {
    let what = match need(replica, view, id) {
        Need::Blobs(wanted) => wanted.to_string(),
        Need::Nothing | Need::NoneFits(_) => "what it needs".to_owned(),
    };
    Nack { code: NackCode::FetchTimeout, detail: format!("{what}: still on the way; retrying") }
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
    /// Of apps with files that are missing: they leave room for the others.
    running_with_files: JoinSet<Fetched>,
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
    /// What it was for: there may be other code for the version by now.
    pub wanted: Wanted,
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

    /// Tries now, what was late in its batch.
    pub(crate) fn begin(&mut self, id: AppId) {
        self.waiting.insert(id, Waiting { delay_ms: RETRY_MS_MIN / 2, due: Some(Instant::now()) });
    }

    /// It came up, changed or went away.
    pub(crate) fn forget(&mut self, id: &AppId) {
        self.waiting.remove(id);
    }

    /// When the next attempt is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|waiting| waiting.due).min()
    }

    /// Starts what is due.
    pub(crate) fn start_due(&mut self, replica: &Inner, view: &FleetView) {
        let now = Instant::now();
        let mut gone = Vec::new();
        for (id, waiting) in &mut self.waiting {
            if waiting.due.is_none_or(|due| due > now) {
                continue;
            }
            match (need(replica, view, id), view.active(id)) {
                (Need::Blobs(wanted), Some(version)) => {
                    let running = match wanted.lacks_files(&replica.shelf) {
                        true => &mut self.running_with_files,
                        false => &mut self.running,
                    };
                    if running.len() >= PREFETCHES_MAX {
                        waiting.due = Some(now + FULL_PAUSE);
                        continue;
                    }
                    waiting.due = None;
                    running.spawn(attempt(replica.shelf.clone(), id.clone(), version.rev, wanted));
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
            let ended = tokio::select! {
                Some(ended) = self.running.join_next() => ended,
                Some(ended) = self.running_with_files.join_next() => ended,
                else => std::future::pending().await,
            };
            match ended {
                Ok(fetched) => return fetched,
                Err(error) => tracing::error!(error = %error, "an attempt to fetch an artifact died"),
            }
        }
    }
}

async fn attempt(shelf: BlobShelf, id: AppId, version_rev: Rev, wanted: Wanted) -> Fetched {
    let outcome = wanted.ensure_on(&shelf).await.map_err(|error| error.nack());
    Fetched { id, version_rev, wanted, outcome }
}
