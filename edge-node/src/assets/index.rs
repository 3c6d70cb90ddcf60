//! The index of one version: read once for all who wait for it, to its end whoever of them goes away, and not again while
//! somebody has it, be there room for it in the cache or not.

use std::sync::{Arc, Weak};

use artifact::assets::AssetIndex;
use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Unavailable;

/// What a read of it gives.
pub type Outcome = Result<Arc<AssetIndex>, Unavailable>;

/// That of a read under way; an error where it broke off.
pub type Flight = Shared<oneshot::Receiver<Outcome>>;

/// See the module.
#[derive(Default)]
pub struct SharedIndex(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// By whoever answers with it now.
    held: Weak<AssetIndex>,
    flight: Option<Flight>,
}

/// How the index is had.
pub enum Had {
    /// Somebody has it.
    Here(Arc<AssetIndex>),
    /// Somebody reads it.
    Reading(Flight),
    /// The asker is to read it, and to tell the others here.
    Read(Landing, Flight),
}

impl SharedIndex {
    /// The index, or who reads it. `cached` is asked between two reads, so that none is begun when one has just ended.
    pub fn have(&self, cached: impl FnOnce() -> Option<Arc<AssetIndex>>) -> Had {
        let mut state = self.0.lock();
        if let Some(index) = state.held.upgrade().or_else(cached) {
            return Had::Here(index);
        }
        if let Some(flight) = &state.flight {
            return Had::Reading(flight.clone());
        }
        let (tell, told) = oneshot::channel();
        let flight = told.shared();
        state.flight = Some(flight.clone());
        Had::Read(Landing { state: self.0.clone(), tell: Some(tell) }, flight)
    }
}

/// Tells all who wait. Dropped without a word, as by a panic, it lets the next one read again.
pub struct Landing {
    state: Arc<Mutex<State>>,
    tell: Option<oneshot::Sender<Outcome>>,
}

impl Landing {
    /// The read has ended.
    pub fn land(mut self, outcome: Outcome) {
        if let Ok(index) = &outcome {
            self.state.lock().held = Arc::downgrade(index);
        }
        if let Some(tell) = self.tell.take() {
            self.state.lock().flight = None;
            let _ = tell.send(outcome); // all who waited may be gone
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.tell.is_some() {
            self.state.lock().flight = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Arc<AssetIndex> {
        Arc::new(AssetIndex::new(Default::default()).unwrap())
    }

    fn to_read(shared: &SharedIndex) -> (Landing, Flight) {
        match shared.have(|| None) {
            Had::Read(landing, flight) => (landing, flight),
            Had::Here(_) | Had::Reading(_) => panic!("somebody else has it or reads it"),
        }
    }

    #[tokio::test]
    async fn one_reads_for_all_and_nobody_again_while_one_has_it() {
        let shared = SharedIndex::default();
        let (landing, first) = to_read(&shared);
        let Had::Reading(second) = shared.have(|| None) else { panic!("it is being read") };
        drop(first);
        landing.land(Ok(index()));
        let had = second.await.unwrap().ok().unwrap();
        assert!(matches!(shared.have(|| None), Had::Here(again) if Arc::ptr_eq(&again, &had)));
        drop(had);
        assert!(matches!(shared.have(|| Some(index())), Had::Here(_)));
        drop(to_read(&shared));
    }

    #[tokio::test]
    async fn a_read_that_failed_or_broke_off_is_begun_again() {
        let shared = SharedIndex::default();
        let (landing, flight) = to_read(&shared);
        drop(landing);
        assert!(flight.await.is_err());
        let (landing, flight) = to_read(&shared);
        landing.land(Err(Unavailable));
        assert!(flight.await.unwrap().is_err());
        drop(to_read(&shared));
    }
}
