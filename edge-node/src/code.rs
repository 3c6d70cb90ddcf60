//! Native code in memory: loaded off the serving threads on first use, kept by use, bounded by bytes.
//!
//! A [`CodeSlot`] belongs to one version and holds its program or nothing; taking it is one pointer load. The
//! [`CodeCache`] fills slots (one load at a time each), counts their bytes and empties the least recently used when
//! the budget is spent, so that a node can hold more apps than fit its memory.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use artifact::{
    Fingerprint, Target,
    nack::{Nack, NackCode},
};
use fleet_sync_replica::{BlobShelf, VersionState, pick_artifact};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use wasmtime::Engine;

use crate::{
    account::metrics::Metrics,
    generation::Deployment,
    guest::{self, Program},
    load::{LoadError, Loader, chain},
    meter,
};

/// How long a request waits for code that is being fetched and loaded, before it is answered 503.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Requests that may wait for one program at once; more are answered 503 at once.
const WAITERS_MAX: usize = 64;
/// A failed load is not tried again for this long: whoever comes meanwhile gets its error.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// A place for one version's program.
#[derive(Default)]
pub struct CodeSlot {
    program: ArcSwapOption<Loaded>,
    last_used_ms: AtomicU64,
    waiters: AtomicUsize,
    /// Held while loading; the last failure.
    loading: tokio::sync::Mutex<Option<Failed>>,
}

/// A load that failed: when, and of which picture of the version. Another picture may have the artifact it lacked.
struct Failed {
    when: Instant,
    state: Arc<VersionState>,
    error: Arc<CodeError>,
}

impl Failed {
    fn still_counts(&self, deployment: &Deployment) -> bool {
        self.when.elapsed() < FAILURE_KEPT && Arc::ptr_eq(&self.state, &deployment.state)
    }
}

impl CodeSlot {
    /// Is the program in memory?
    pub fn is_loaded(&self) -> bool {
        self.program.load().is_some()
    }
}

/// One of a slot's waiters.
struct Waiter(Arc<CodeSlot>);

impl Waiter {
    fn enter(slot: &Arc<CodeSlot>) -> Option<Waiter> {
        let waiter = Waiter(slot.clone());
        (slot.waiters.fetch_add(1, Relaxed) < WAITERS_MAX).then_some(waiter)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Relaxed);
    }
}

/// A program and the memory its code takes.
pub struct Loaded {
    /// The program.
    pub program: Program,
    /// Shares of the pool that one execution takes: [`crate::guest::weight`].
    pub weight: usize,
    bytes: u64,
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
    /// The loading task died.
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
            CodeError::Timeout | CodeError::Crowded => NackCode::FetchTimeout,
            CodeError::Interrupted => NackCode::Internal,
        };
        Nack { code, detail: chain(self) }
    }
}

/// Fills and empties slots.
pub struct CodeCache {
    engine: Engine,
    loader: Loader,
    shelf: BlobShelf,
    offers: Vec<(Target, Fingerprint)>,
    side: Handle,
    bytes_max: u64,
    metrics: Arc<Metrics>,
    resident: Mutex<Resident>,
}

#[derive(Default)]
struct Resident {
    bytes: u64,
    slots: Vec<(Weak<CodeSlot>, u64)>,
}

impl CodeCache {
    /// A cache that loads on `side`, a runtime apart from the serving threads.
    pub fn new(
        engine: Engine,
        loader: Loader,
        shelf: BlobShelf,
        offers: Vec<(Target, Fingerprint)>,
        side: Handle,
        bytes_max: u64,
        metrics: Arc<Metrics>,
    ) -> CodeCache {
        CodeCache { engine, loader, shelf, offers, side, bytes_max, metrics, resident: Mutex::default() }
    }

    /// The deployment's program, from memory or loaded now.
    pub async fn get(self: &Arc<Self>, deployment: &Arc<Deployment>) -> Result<Arc<Loaded>, Arc<CodeError>> {
        let slot = &deployment.code;
        slot.last_used_ms.store(meter::now_ns() / 1_000_000, Relaxed);
        if let Some(loaded) = &*slot.program.load() {
            return Ok(loaded.clone());
        }
        let waiter = Waiter::enter(slot).ok_or(CodeError::Crowded)?;
        let (cache, deployment) = (self.clone(), deployment.clone());
        // A task of its own: a request that gives up must not stop a load that others wait for.
        let load = self.side.spawn(async move {
            let _waiter = waiter;
            cache.fill(&deployment).await
        });
        match tokio::time::timeout(WAIT_MAX, load).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(_)) => Err(CodeError::Interrupted.into()),
            Err(_) => Err(CodeError::Timeout.into()),
        }
    }

    /// Loads the program unless somebody else just did, or just failed to. Runs on the side runtime.
    async fn fill(&self, deployment: &Arc<Deployment>) -> Result<Arc<Loaded>, Arc<CodeError>> {
        let slot = &deployment.code;
        let mut failed = slot.loading.lock().await;
        if let Some(loaded) = slot.program.load_full() {
            return Ok(loaded);
        }
        if let Some(failed) = failed.as_ref().filter(|failed| failed.still_counts(deployment)) {
            return Err(failed.error.clone());
        }
        match self.load(deployment).await {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                slot.program.store(Some(loaded.clone()));
                self.admit(slot, loaded.bytes);
                *failed = None;
                Ok(loaded)
            }
            Err(error) => {
                let error = Arc::new(error);
                let state = deployment.state.clone();
                *failed = Some(Failed { when: Instant::now(), state, error: error.clone() });
                Err(error)
            }
        }
    }

    async fn load(&self, deployment: &Deployment) -> Result<Loaded, CodeError> {
        let artifact = pick_artifact(&deployment.state, &self.offers).ok_or(CodeError::NoArtifact)?;
        let container = self.shelf.get(artifact).await.map_err(|error| CodeError::Fetch(error.nack()))?;
        let (loader, engine, wasm) = (self.loader.clone(), self.engine.clone(), deployment.wasm);
        let load = tokio::task::spawn_blocking(move || {
            let mapped = loader.load(&container, wasm)?;
            let bytes = mapped.statement.size;
            let weight = guest::weight(&mapped.code);
            let program = Program::link(&engine, mapped.code).map_err(LoadError::Link)?;
            Ok::<_, LoadError>(Loaded { program, weight, bytes })
        });
        Ok(load.await.map_err(|_| CodeError::Interrupted)??)
    }

    /// Counts a filled slot and empties others until the budget holds. The newest always stays.
    fn admit(&self, slot: &Arc<CodeSlot>, bytes: u64) {
        let mut resident = self.resident.lock();
        resident.slots.retain(|(held, _)| held.strong_count() > 0);
        resident.slots.push((Arc::downgrade(slot), bytes));
        resident.bytes = resident.slots.iter().map(|(_, bytes)| bytes).sum();
        while resident.bytes > self.bytes_max && resident.slots.len() > 1 {
            let newest = resident.slots.len() - 1;
            let last_used =
                |held: &Weak<CodeSlot>| held.upgrade().map_or(0, |held| held.last_used_ms.load(Relaxed));
            let oldest = (0..newest).min_by_key(|at| last_used(&resident.slots[*at].0));
            let Some(at) = oldest else { break };
            let (held, bytes) = resident.slots.remove(at);
            resident.bytes -= bytes;
            if let Some(held) = held.upgrade() {
                held.program.store(None);
            }
        }
        self.metrics.code_bytes.set(resident.bytes as i64);
    }

    /// Bytes of code in memory.
    pub fn bytes(&self) -> u64 {
        self.resident.lock().bytes
    }
}
