//! Native code in memory: loaded off the serving threads on first use, kept by use, bounded by bytes.
//!
//! A [`CodeSlot`] belongs to one version and has a place for each worker, since each has an engine of its own; a place holds
//! that worker's program or nothing, and taking it is one pointer load. The [`CodeCache`] fills places (one load at a time
//! each) and empties the least recently used when the budget is spent, so that a node can hold more apps than fit its
//! memory. What an execution uses is not emptied, and what was emptied is unmapped when its last execution has ended, on a
//! loading thread. The native code itself lies in memory once, whichever workers map it. Why it is so:
//! docs/design/0012-density.md, 0014-engines.md.
//!
//! | Module | One job |
//! |---|---|
//! | [`slot`] | places for programs, and who waits for them |
//! | [`file`] | the memory file behind a version's programs |
//! | [`loaded`] | a program in memory, counted until it is unmapped |
//! | [`flight`] | one load, from its queue to those who wait for it |
//! | [`loading`] | the threads that load and unload, and their queues |
//! | [`resident`] | what is held, and what leaves first |
//! | [`pins`] | what waiting executions of one tenant may hold |

mod file;
mod flight;
mod loaded;
mod loading;
mod pins;
mod resident;
pub mod slot;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

use artifact::{
    Fingerprint, Profile, Target, TenantName,
    container::Container,
    nack::{Nack, NackCode},
    record::ArtifactRef,
};
use fleet_sync_replica::{BlobShelf, VersionState, pick_artifact, runnable_artifacts};
use futures_util::{StreamExt as _, stream};
use tokio::runtime::Handle;

use self::{
    file::CodeFile,
    flight::{Flight, LocalError, Packed},
    loading::LoadingThreads,
    pins::Pins,
    resident::Resident,
    slot::{Joined, Outcome, Place, WAITERS_MAX},
};
pub use self::{
    loaded::Loaded,
    loading::{LOADS_WAITING_MAX, TENANT_LOADS_WAITING_MAX},
    pins::{Holding, TooMuchHeld},
    resident::Bounds,
    slot::CodeSlot,
};
use crate::{
    account::metrics::Metrics,
    generation::Deployment,
    guest::{self, Linker, Run},
    load::{self, LoadError, Loader, chain},
};

/// How long a request waits for code that is being fetched and loaded, before it is answered 503.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Code that is tried instead of a version's latest.
const OTHERS_MAX: usize = 3;
/// Further workers whose programs are loaded at once for one release: queues are for those of all apps.
const WORKERS_AT_ONCE_MAX: usize = 2;

/// Who waits for a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A request.
    Request,
    /// A release that is to be brought up: nobody is served by it yet, so it must not take a core from those who are.
    Release,
}

/// Why a deployment has no code.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// No artifact was made for this machine and engine.
    #[error("no artifact for this processor and engine; recompiling the app makes one")]
    NoArtifact,
    /// Its blob could not be had.
    #[error("fetching the artifact: {0}")]
    Fetch(Nack),
    /// It was refused.
    #[error("loading the artifact")]
    Load(#[from] LoadError),
    /// It took too long.
    #[error("the artifact was not loaded within {WAIT_MAX:?}")]
    Timeout,
    /// Too many wait for it already.
    #[error("{WAITERS_MAX} requests wait for this code already")]
    Crowded,
    /// Too many loads wait on this node, or too many of this tenant.
    #[error(
        "too many loads wait already: {LOADS_WAITING_MAX} on this node or {TENANT_LOADS_WAITING_MAX} of this tenant"
    )]
    Busy,
    /// All that is in memory is in use.
    #[error("running programs take all of code_bytes_max; raise it")]
    NoRoom,
    /// The load died.
    #[error("loading the artifact was interrupted")]
    Interrupted,
}

impl CodeError {
    /// What the node reports upwards.
    pub fn nack(&self) -> Nack {
        let code = match self {
            CodeError::NoArtifact => NackCode::Compat,
            CodeError::Fetch(nack) => return nack.clone(),
            CodeError::Load(error) => return error.nack(),
            CodeError::Timeout | CodeError::Crowded | CodeError::Busy => NackCode::FetchTimeout,
            CodeError::NoRoom => NackCode::NoSpace,
            CodeError::Interrupted => NackCode::Internal,
        };
        Nack { code, detail: chain(self) }
    }
}

/// Fills and empties places.
pub struct CodeCache {
    loader: Loader,
    /// Of each worker.
    linkers: Vec<Linker>,
    shelf: BlobShelf,
    offers: Vec<(Target, Fingerprint)>,
    side: Handle,
    metrics: Arc<Metrics>,
    resident: Resident,
    pins: Arc<Pins>,
    shares_max: usize,
    threads: LoadingThreads,
}

impl CodeCache {
    /// A cache for workers with these linkers, that loads on threads of its own and fetches on `side`, all apart from the
    /// serving threads.
    pub fn new(
        linkers: Vec<Linker>,
        loader: Loader,
        shelf: BlobShelf,
        offers: Vec<(Target, Fingerprint)>,
        side: Handle,
        bounds: Bounds,
        metrics: Arc<Metrics>,
    ) -> io::Result<CodeCache> {
        metrics.code.bytes_max.set(i64::try_from(bounds.bytes_max).unwrap_or(i64::MAX));
        metrics.code.programs_max.set(i64::try_from(bounds.programs_max).unwrap_or(i64::MAX));
        let (resident, pins) = (Resident::new(bounds), Arc::new(Pins::new(bounds)));
        let (threads, shares_max) = (LoadingThreads::start()?, bounds.shares_max);
        Ok(CodeCache { loader, linkers, shelf, offers, side, metrics, resident, pins, shares_max, threads })
    }

    /// The deployment's program for a worker, from memory or loaded now.
    pub async fn get(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        worker: usize,
        urgency: Urgency,
    ) -> Result<Arc<Loaded>, Arc<CodeError>> {
        match self.place(deployment, worker).take() {
            Some(loaded) => Ok(loaded),
            None => tokio::time::timeout(WAIT_MAX, self.load(deployment, worker, urgency))
                .await
                .unwrap_or_else(|_| Err(CodeError::Timeout.into())),
        }
    }

    /// A run with the program it runs. While it waits, or from the start where it `waits` before it begins, the program counts
    /// as held by its tenant. Where that would be too much it is refused; so is, by the end of the run, one that was not when
    /// it began.
    pub fn held(&self, loaded: Arc<Loaded>, run: Run, waits: bool) -> Result<Holding, TooMuchHeld> {
        Holding::new(&self.pins, loaded, run, waits)
    }

    /// Whoever gives up waiting does not stop the load: others may wait for it.
    async fn load(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        worker: usize,
        urgency: Urgency,
    ) -> Result<Arc<Loaded>, Arc<CodeError>> {
        let place = self.place(deployment, worker);
        loop {
            let (landing, is_anothers) = match place.join(&deployment.state, urgency) {
                Joined::Landed(outcome) => return outcome,
                Joined::Waiting(landing) => (landing, false),
                Joined::WaitingForAnother(landing) => (landing, true),
                Joined::First(landing) => {
                    Flight::begin(self, deployment, worker);
                    (landing, false)
                }
            };
            if urgency == Urgency::Request {
                self.threads.promote(flight::name(place), &deployment.id.tenant);
            }
            match landing.await {
                Ok(Err(_)) if is_anothers => {}
                Ok(outcome) => return outcome,
                Err(_) => return Err(CodeError::Interrupted.into()),
            }
        }
    }

    /// Loads what a release brings before it serves: for one worker, which shows that it can be; then for the others that have the
    /// code it replaces, so that none of their requests waits for it.
    pub async fn bring_up(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        before: Option<&Deployment>,
    ) -> Result<(), Arc<CodeError>> {
        let mut workers = before.map(|before| before.code.workers()).unwrap_or_default();
        let first = if workers.is_empty() { 0 } else { workers.remove(0) };
        self.get(deployment, first, Urgency::Release).await?;
        // What does not fit now is loaded when it is asked for.
        let loads = workers.into_iter().map(|worker| self.get(deployment, worker, Urgency::Release));
        stream::iter(loads).buffer_unordered(WORKERS_AT_ONCE_MAX).for_each(async |_| ()).await;
        Ok(())
    }

    fn place<'a>(&self, deployment: &'a Deployment, worker: usize) -> &'a Arc<Place> {
        deployment.code.place(worker, self.linkers.len())
    }

    /// Unpacked and verified: from the copy that needs no decompressing if it is there and right, else from the container,
    /// which is given back then.
    fn verify_local(&self, deployment: &Deployment) -> Result<(CodeFile, Option<Packed>), LocalError> {
        let artifact = deployment.code()?;
        if let Some(unpacked) = self.shelf.read_unpacked(artifact) {
            match self.loader.verify(&unpacked, deployment.wasm) {
                Ok(code) => return Ok((CodeFile::new(code), None)),
                // Torn by a crash, or damaged: the container tells.
                Err(LoadError::Container(_) | LoadError::Verify(_)) => self.shelf.forget_unpacked(artifact),
                // What is right and finds no descriptor or memory would not find it a second time.
                Err(error) => return Err(CodeError::Load(error).into()),
            }
        }
        let container = self.shelf.read(artifact).map_err(|_| LocalError::Absent)?;
        let container = container.ok_or(LocalError::Absent)?;
        let code = self.loader.verify(&container, deployment.wasm).map_err(CodeError::Load)?;
        let native_bytes = code.statement().size;
        Ok((CodeFile::new(code), Some(Packed { container, native_bytes })))
    }

    /// Leaves an unpacked copy for the loads to come.
    fn keep_copy(&self, deployment: &Deployment, packed: &Packed) {
        let Some(artifact) = &deployment.artifact else { return };
        let unpack = || Container::decode(&packed.container).ok()?.unpack(packed.native_bytes).ok();
        if let Err(error) = self.shelf.keep_unpacked(artifact, packed.native_bytes, unpack) {
            tracing::warn!("keeping an unpacked copy of {}: {error}; it loads more slowly", artifact.blob);
        }
    }

    /// Maps a file for a worker's engine, and links it there.
    fn link(&self, tenant: &TenantName, file: Arc<CodeFile>, worker: usize) -> Result<Loaded, LoadError> {
        // What another worker runs since before its signer was revoked is not mapped once more.
        self.loader.check_signer(&file.code)?;
        let linker = &self.linkers[worker];
        let code = load::map(linker.engine(), &file.code)?;
        let (weight, shares_max) = (guest::weight(&code), self.shares_max);
        if weight > shares_max {
            return Err(LoadError::TooHeavy { weight, shares_max });
        }
        let program = linker.link(code).map_err(LoadError::Link)?;
        Ok(Loaded::new(tenant.clone(), program, weight, file, self.threads.unloading()))
    }

    /// The latest code of a version that this machine and engine can run.
    pub fn pick(&self, state: &VersionState) -> Option<ArtifactRef> {
        pick_artifact(state, &self.offers).cloned()
    }

    /// What else of a version this machine and engine can run, the best first, a few at most.
    pub fn others(&self, state: &VersionState) -> Vec<ArtifactRef> {
        runnable_artifacts(state, &self.offers).skip(1).take(OTHERS_MAX).cloned().collect()
    }

    /// Can this machine and engine run it?
    pub fn runs(&self, artifact: &ArtifactRef) -> bool {
        artifact.profile == Profile::Serve && self.offers.contains(&(artifact.target, artifact.fingerprint))
    }

    /// Ends a load: the program has its place, or everybody who waits learns why not.
    fn land(&self, deployment: &Deployment, worker: usize, outcome: Result<Loaded, CodeError>) {
        match outcome {
            Ok(loaded) => {
                let place = self.place(deployment, worker);
                self.tell(deployment, worker, self.resident.admit(place, loaded).map_err(Arc::new));
                // After the waiters were told: unmapping what had to leave is nothing they wait for.
                self.metrics.code.evictions.inc_by(self.resident.let_go());
            }
            Err(error) => self.tell(deployment, worker, Err(Arc::new(error))),
        }
    }

    fn tell(&self, deployment: &Deployment, worker: usize, outcome: Outcome) {
        if outcome.is_err() {
            self.metrics.code.load_failures.inc();
        }
        self.place(deployment, worker).land(&deployment.state, outcome);
    }

    /// Keeps the threads that load for requests from loading, until what is returned is dropped.
    #[cfg(test)]
    pub fn keep_loading_threads_busy(&self) -> impl Sized + use<> {
        self.threads.keep_busy()
    }

    /// Memory files: a program's goes a moment after it.
    #[cfg(test)]
    pub fn files(&self) -> u64 {
        self.resident.files()
    }

    /// Bytes of code in memory.
    pub fn bytes(&self) -> u64 {
        self.resident.bytes()
    }

    /// Brings the gauges to what is true now.
    pub fn show(&self) {
        self.metrics.code.bytes.set(self.resident.bytes() as i64);
        self.metrics.code.programs.set(self.resident.programs() as i64);
        self.metrics.code.loads_waiting.set(self.threads.waiting() as i64);
    }
}

impl Deployment {
    /// Where its code is.
    fn code(&self) -> Result<&ArtifactRef, CodeError> {
        self.artifact.as_ref().ok_or(CodeError::NoArtifact)
    }

    /// Would both be answered by the same native code? Then it need not be loaded twice.
    pub fn has_code_of(&self, other: &Deployment) -> bool {
        self.artifact.is_some()
            && (&self.artifact, self.wasm, self.lane) == (&other.artifact, other.wasm, other.lane)
    }
}

impl CodeError {
    /// Could damage on the disk be the reason, which another copy would mend?
    fn may_be_the_disks(&self) -> bool {
        matches!(self, CodeError::Load(LoadError::Container(_) | LoadError::Verify(_)))
    }
}
