//! Native code in memory: loaded off the serving threads on first use, kept by use, bounded by bytes.
//!
//! A [`CodeSlot`] belongs to one version and holds its program or nothing; taking it is one pointer load. The
//! [`CodeCache`] fills slots (one load at a time each) and empties the least recently used when the budget is spent, so
//! that a node can hold more apps than fit its memory. What an execution uses is not emptied, and what was emptied is
//! unmapped when its last execution has ended, on a loading thread. Why it is so: docs/design/0012-density.md.
//!
//! | Module | One job |
//! |---|---|
//! | [`slot`] | a place for a program, and who waits for it |
//! | [`loading`] | the threads that load and unload, and their queues |
//! | [`resident`] | what is held, and what leaves first |

mod loading;
mod resident;
pub mod slot;
#[cfg(test)]
mod tests;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use artifact::{
    Fingerprint, Target,
    container::Container,
    nack::{Nack, NackCode},
    record::ArtifactRef,
};
use fleet_sync_replica::{BlobShelf, pick_artifact};
use tokio::runtime::Handle;

pub use self::{
    loading::{LOADS_WAITING_MAX, TENANT_LOADS_WAITING_MAX},
    resident::Bounds,
    slot::{CodeSlot, Loaded},
};
use self::{
    loading::{LoadingThreads, Queue},
    resident::Resident,
    slot::{Joined, Outcome, WAITERS_MAX},
};
use crate::{
    account::metrics::Metrics,
    generation::Deployment,
    guest::{self, Linker},
    load::{LoadError, Loader, chain},
};

/// How long a request waits for code that is being fetched and loaded, before it is answered 503.
const WAIT_MAX: Duration = Duration::from_secs(10);

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

/// Fills and empties slots.
pub struct CodeCache {
    loader: Loader,
    linker: Linker,
    shelf: BlobShelf,
    offers: Vec<(Target, Fingerprint)>,
    side: Handle,
    metrics: Arc<Metrics>,
    resident: Resident,
    threads: LoadingThreads,
}

impl CodeCache {
    /// A cache that loads on threads of its own and fetches on `side`, all apart from the serving threads.
    pub fn new(
        linker: Linker,
        loader: Loader,
        shelf: BlobShelf,
        offers: Vec<(Target, Fingerprint)>,
        side: Handle,
        bounds: Bounds,
        metrics: Arc<Metrics>,
    ) -> io::Result<CodeCache> {
        metrics.code.bytes_max.set(i64::try_from(bounds.bytes_max).unwrap_or(i64::MAX));
        metrics.code.programs_max.set(i64::try_from(bounds.programs_max).unwrap_or(i64::MAX));
        let resident = Resident::new(bounds);
        let threads = LoadingThreads::start()?;
        Ok(CodeCache { loader, linker, shelf, offers, side, metrics, resident, threads })
    }

    /// The deployment's program, from memory or loaded now.
    pub async fn get(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        urgency: Urgency,
    ) -> Result<Arc<Loaded>, Arc<CodeError>> {
        if let Some(loaded) = deployment.code.take() {
            return Ok(loaded);
        }
        // Whoever gives up waiting does not stop the load: others may wait for it.
        let landing = match deployment.code.join(&deployment.state) {
            Joined::Landed(outcome) => return outcome,
            Joined::Waiting(landing) => landing,
            Joined::First(landing) => {
                if let Err(refused) = self.enqueue(deployment, urgency, Attempt::First) {
                    self.land(deployment, Err(refused));
                }
                landing
            }
        };
        match tokio::time::timeout(WAIT_MAX, landing).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CodeError::Interrupted.into()),
            Err(_) => Err(CodeError::Timeout.into()),
        }
    }

    fn enqueue(
        self: &Arc<Self>,
        deployment: &Arc<Deployment>,
        urgency: Urgency,
        attempt: Attempt,
    ) -> Result<(), CodeError> {
        // Made only if there is room: one that is dropped tells those who wait that it was interrupted.
        let load = || -> loading::Load {
            let flight = Flight { cache: self.clone(), deployment: deployment.clone(), landed: false };
            Box::new(move || flight.load(urgency, attempt))
        };
        let queue = match urgency {
            Urgency::Request => Queue::Requests(deployment.id.tenant.clone()),
            Urgency::Release => Queue::Releases,
        };
        self.threads.enqueue(queue, load).map_err(|_| CodeError::Busy)
    }

    /// The artifact that is on this node's disk, loaded and linked: from the copy that needs no decompressing if it is
    /// there and right, else from the container, which is given back then: see [`CodeCache::keep_copy`].
    fn load_local(&self, deployment: &Deployment) -> Result<(Loaded, Option<Packed>), LocalError> {
        let artifact = self.artifact(deployment)?;
        let begun = Instant::now();
        if let Some(unpacked) = self.shelf.read_unpacked(artifact) {
            match self.link(&unpacked, deployment) {
                Ok((loaded, _)) => return Ok((self.loaded_since(begun, loaded), None)),
                // Torn by a crash, or damaged: the container tells.
                Err(LoadError::Container(_) | LoadError::Verify(_)) => self.shelf.forget_unpacked(artifact),
                // What is right and finds no descriptor or memory would not find it a second time.
                Err(error) => return Err(CodeError::Load(error).into()),
            }
        }
        let container = self.shelf.read(artifact).map_err(|_| LocalError::Absent)?;
        let container = container.ok_or(LocalError::Absent)?;
        let (loaded, native_bytes) = self.link(&container, deployment).map_err(CodeError::Load)?;
        Ok((self.loaded_since(begun, loaded), Some(Packed { container, native_bytes })))
    }

    /// Leaves an unpacked copy for the loads to come.
    fn keep_copy(&self, deployment: &Deployment, packed: &Packed) {
        let Ok(artifact) = self.artifact(deployment) else { return };
        let unpack = || Container::decode(&packed.container).ok()?.unpack(packed.native_bytes).ok();
        if let Err(error) = self.shelf.keep_unpacked(artifact, packed.native_bytes, unpack) {
            tracing::warn!("keeping an unpacked copy of {}: {error}; it loads more slowly", artifact.blob);
        }
    }

    fn loaded_since(&self, begun: Instant, loaded: Loaded) -> Loaded {
        self.metrics.code.load_seconds.observe(begun.elapsed().as_secs_f64());
        loaded
    }

    /// Verifies, maps and links. With the size of the native code.
    fn link(&self, container: &[u8], deployment: &Deployment) -> Result<(Loaded, u64), LoadError> {
        let mapped = self.loader.load(container, deployment.wasm)?;
        let (size, weight) = (mapped.statement.size, guest::weight(&mapped.code));
        let program = self.linker.link(mapped.code).map_err(LoadError::Link)?;
        Ok((Loaded::new(program, weight, resident::footprint(size), self.threads.unloading()), size))
    }

    fn artifact<'a>(&self, deployment: &'a Deployment) -> Result<&'a ArtifactRef, CodeError> {
        pick_artifact(&deployment.state, &self.offers).ok_or(CodeError::NoArtifact)
    }

    /// Would both be answered by the same native code? Then it need not be loaded twice.
    pub fn is_same(&self, one: &Deployment, other: &Deployment) -> bool {
        let artifacts = (self.artifact(one).ok(), self.artifact(other).ok());
        matches!(artifacts, (Some(one), Some(other)) if one.blob == other.blob)
            && (one.wasm, one.lane) == (other.wasm, other.lane)
    }

    /// Ends a load: the program has its place, or everybody who waits learns why not.
    fn land(&self, deployment: &Arc<Deployment>, outcome: Result<Loaded, CodeError>) {
        let slot = &deployment.code;
        let outcome: Outcome = match outcome {
            Ok(loaded) => self.resident.admit(slot, loaded).map_err(Arc::new),
            Err(error) => Err(Arc::new(error)),
        };
        let code = &self.metrics.code;
        if outcome.is_err() {
            code.load_failures.inc();
        }
        slot.land(&deployment.state, &outcome);
        // After the waiters were told: unmapping what had to leave is nothing they wait for.
        code.evictions.inc_by(self.resident.let_go());
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

/// How often the artifact was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    /// It was fetched, or found whole, in between.
    Second,
}

/// A container that was loaded well.
struct Packed {
    container: Vec<u8>,
    native_bytes: u64,
}

/// Why the disk's copy was not loaded.
enum LocalError {
    /// It is not there.
    Absent,
    Code(CodeError),
}

impl From<CodeError> for LocalError {
    fn from(error: CodeError) -> LocalError {
        LocalError::Code(error)
    }
}

/// A load under way. Dropped half-way, as by a panic, it tells those who wait.
struct Flight {
    cache: Arc<CodeCache>,
    deployment: Arc<Deployment>,
    landed: bool,
}

impl Flight {
    fn load(self, urgency: Urgency, attempt: Attempt) {
        match self.cache.load_local(&self.deployment) {
            Ok((loaded, packed)) => {
                let (cache, deployment) = (self.cache.clone(), self.deployment.clone());
                self.land(Ok(loaded));
                // Nobody waits for this.
                packed.into_iter().for_each(|packed| cache.keep_copy(&deployment, &packed));
            }
            Err(LocalError::Code(error)) if attempt == Attempt::Second || !error.may_be_the_disks() => {
                self.land(Err(error));
            }
            Err(LocalError::Absent | LocalError::Code(_)) if attempt == Attempt::First => {
                let side = self.cache.side.clone();
                side.spawn(self.fetch(urgency));
            }
            Err(_) => {
                let detail = "the blob went away between fetching and loading".to_owned();
                self.land(Err(CodeError::Fetch(Nack { code: NackCode::FetchTimeout, detail })));
            }
        }
    }

    /// Makes sure that the blob is there and whole, fetching it if need be, and loads once more.
    async fn fetch(mut self, urgency: Urgency) {
        let fetched = match self.cache.artifact(&self.deployment) {
            Ok(artifact) => self.cache.shelf.ensure(artifact).await,
            Err(error) => return self.land(Err(error)),
        };
        if let Err(error) = fetched {
            return self.land(Err(CodeError::Fetch(error.nack())));
        }
        match self.cache.enqueue(&self.deployment, urgency, Attempt::Second) {
            Ok(()) => self.landed = true, // by the one that was queued
            Err(error) => self.land(Err(error)),
        }
    }

    fn land(mut self, outcome: Result<Loaded, CodeError>) {
        self.cache.land(&self.deployment, outcome);
        self.landed = true; // not before: those who wait must be told even by a panic
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.land(&self.deployment, Err(CodeError::Interrupted));
        }
    }
}

impl CodeError {
    /// Could damage on the disk be the reason, which another copy would mend?
    fn may_be_the_disks(&self) -> bool {
        matches!(self, CodeError::Load(LoadError::Container(_) | LoadError::Verify(_)))
    }
}
