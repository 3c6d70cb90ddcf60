//! One load on its way: from its queue over the version's file to a program in its place, and to those who wait for it.

use std::{sync::Arc, time::Instant};

use artifact::nack::{Nack, NackCode};

use super::{
    CodeCache, CodeError,
    file::{Claim, CodeFile, Making, Resume},
    loaded::Loaded,
    loading::{Name, Queue},
    slot::Place,
};
use crate::generation::Deployment;

/// How often the artifact was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    /// It was fetched, or found whole, in between.
    Second,
}

/// A container that was loaded well.
pub(super) struct Packed {
    pub container: Vec<u8>,
    pub native_bytes: u64,
}

/// Why the disk's copy was not loaded.
pub(super) enum LocalError {
    /// It is not there.
    Absent,
    Code(CodeError),
}

impl From<CodeError> for LocalError {
    fn from(error: CodeError) -> LocalError {
        LocalError::Code(error)
    }
}

/// By which a load that waits is found.
pub(super) fn name(place: &Arc<Place>) -> Name {
    Arc::as_ptr(place).addr()
}

/// A load under way. Dropped half-way, as by a panic, it tells those who wait.
pub(super) struct Flight {
    cache: Arc<CodeCache>,
    deployment: Arc<Deployment>,
    worker: usize,
    landed: bool,
}

impl Flight {
    /// Begins the load that a place's first joiner has to begin.
    pub fn begin(cache: &Arc<CodeCache>, deployment: &Arc<Deployment>, worker: usize) {
        let (cache, deployment) = (cache.clone(), deployment.clone());
        Flight { cache, deployment, worker, landed: false }.enqueue(Attempt::First);
    }

    /// Hands it to the loading threads: to those for requests if one waits for it.
    fn enqueue(self, attempt: Attempt) {
        let cache = self.cache.clone();
        let queue = match self.place().is_requested() {
            true => Queue::Requests(self.deployment.id.tenant.clone()),
            false => Queue::Releases(name(self.place())),
        };
        let mut flight = Some(self);
        let queued = cache.threads.enqueue(queue, || {
            let flight = flight.take();
            Box::new(move || flight.into_iter().for_each(|flight| flight.load(attempt)))
        });
        if let (Err(_full), Some(flight)) = (queued, flight) {
            flight.land(Err(CodeError::Busy));
        }
    }

    fn place(&self) -> &Arc<Place> {
        self.cache.place(&self.deployment, self.worker)
    }

    /// On a loading thread.
    fn load(mut self, attempt: Attempt) {
        if self.place().is_abandoned() {
            self.landed = true;
            return;
        }
        // Back again: it was asked for just as it was about to leave.
        if let Some(loaded) = self.place().look() {
            self.cache.tell(&self.deployment, self.worker, Ok(loaded));
            self.landed = true;
            return;
        }
        let deployment = self.deployment.clone();
        let park = |flight: Flight| -> Resume { Box::new(move || flight.enqueue(attempt)) };
        match deployment.code.file.claim(self, park) {
            Claim::Parked => {}
            Claim::There(file, flight) => flight.link(file, Instant::now()),
            Claim::Make(making, flight) => flight.make(making, attempt),
        }
    }

    /// Makes the version's file, then the program.
    fn make(self, making: Making<'_>, attempt: Attempt) {
        let begun = Instant::now();
        match self.cache.verify_local(&self.deployment) {
            Ok((file, packed)) => {
                let (cache, deployment) = (self.cache.clone(), self.deployment.clone());
                self.link(making.made(file), begun);
                // Nobody waits for this.
                packed.into_iter().for_each(|packed| cache.keep_copy(&deployment, &packed));
            }
            Err(LocalError::Code(error)) if attempt == Attempt::Second || !error.may_be_the_disks() => {
                self.land(Err(error));
            }
            Err(LocalError::Absent | LocalError::Code(_)) if attempt == Attempt::First => {
                let side = self.cache.side.clone();
                side.spawn(self.fetch());
            }
            Err(_) => {
                let detail = "the blob went away between fetching and loading".to_owned();
                self.land(Err(CodeError::Fetch(Nack { code: NackCode::FetchTimeout, detail })));
            }
        }
    }

    /// Makes the program of a file.
    fn link(self, file: Arc<CodeFile>, begun: Instant) {
        let linked = self.cache.link(&self.deployment.id.tenant, file, self.worker);
        if linked.is_ok() {
            self.cache.metrics.code.load_seconds.observe(begun.elapsed().as_secs_f64());
        }
        self.land(linked.map_err(CodeError::Load));
    }

    /// Makes sure that the blob is there and whole, fetching it if need be, and loads once more.
    async fn fetch(self) {
        let fetched = match self.deployment.code() {
            Ok(artifact) => self.cache.shelf.ensure(artifact).await,
            Err(error) => return self.land(Err(error)),
        };
        match fetched {
            Ok(()) => self.enqueue(Attempt::Second),
            Err(error) => self.land(Err(CodeError::Fetch(error.nack()))),
        }
    }

    fn land(mut self, outcome: Result<Loaded, CodeError>) {
        self.cache.land(&self.deployment, self.worker, outcome);
        self.landed = true; // not before: those who wait must be told even by a panic
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.land(&self.deployment, self.worker, Err(CodeError::Interrupted));
        }
    }
}
