//! One batch after another: apply to a copy of the view → prefetch → persist records and cursor → activate → persist
//! what came up → tell the follower, which acknowledges.
//!
//! An app whose bytes are late comes up alone, and neither its batch nor the next ones wait for it with what they activate. They
//! wait with what they tell: an acknowledged app serves, or is said to have failed, and one that is slow is neither. Positions
//! are told in their order.
//!
//! A task of its own, so that heartbeats and rollbacks' arrival do not wait for disks and artifacts. Killed between any two
//! steps it starts again at [`Applier::boot`], which offers everything to the activator anew.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use artifact::{
    AppId,
    checkpoint::Checkpoint,
    nack::{Nack, NackCode},
    record::Rev,
};
use fleet_sync_proto::{Applied, FleetView, Position, follower::Batch, pick_artifact, wire::FAILED_MAX};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    activator::{Activation, Activator},
    prefetch::{self, Fetched, Need, PATIENCE, Prefetched, Retries},
    replica::Inner,
    store::{Failure, Failures, Loaded, Pin, Pins, StoreError},
};

/// An activation that takes longer is given up, as if every app had failed.
const ACTIVATE_MAX: Duration = Duration::from_secs(60);
/// After the disk refused a write, before the next try. The batch is not acknowledged meanwhile.
const DISK_PAUSE: Duration = Duration::from_secs(2);

/// What the follower hands over.
#[derive(Debug)]
pub(crate) enum Work {
    Batch(Batch),
    Highest(Checkpoint),
}

/// What the follower is told.
#[derive(Debug)]
pub(crate) struct Done {
    pub position: Position,
    pub failed: BTreeMap<Rev, Nack>,
}

/// An app that batches wait for before they are told.
struct Late {
    /// The first of them.
    end: Rev,
    /// And for how long.
    until: Instant,
}

/// A batch the follower proved does not follow from what is held here: a bug, not a peer's fault.
struct Contradiction;

pub(crate) struct Applier {
    replica: Arc<Inner>,
    activator: Arc<dyn Activator>,
    view: FleetView,
    highest: Option<Checkpoint>,
    pins: Pins,
    failures: Failures,
    retries: Retries,
    late: BTreeMap<AppId, Late>,
    /// What the follower was told, and what it will be; at most as many as it lets be under way.
    told: Position,
    untold: VecDeque<Position>,
    done: mpsc::Sender<Done>,
}

impl Applier {
    pub(crate) fn new(
        replica: Arc<Inner>,
        activator: Arc<dyn Activator>,
        loaded: Loaded,
        done: mpsc::Sender<Done>,
    ) -> Applier {
        let Loaded { view, highest, pins, failures } = loaded;
        let told = view.position();
        let (retries, late, untold) = Default::default();
        Applier { replica, activator, view, highest, pins, failures, retries, late, told, untold, done }
    }

    /// Works until the follower is gone, or until a batch contradicts what is held.
    pub(crate) async fn run(mut self, mut work: mpsc::Receiver<Work>) {
        self.boot().await;
        loop {
            let until = self.late.values().map(|late| late.until).min();
            let due = self.retries.next_due().into_iter().chain(until).min();
            tokio::select! {
                next = work.recv() => match next {
                    Some(Work::Batch(batch)) => {
                        if self.batch(batch).await.is_err() {
                            return;
                        }
                    }
                    Some(Work::Highest(checkpoint)) => self.raise(checkpoint).await,
                    None => return,
                },
                fetched = self.retries.ended() => self.fetched(fetched).await,
                () = sleep_until(due) => {}
            }
            self.give_up_waiting().await;
            self.retries.start_due(&self.replica, &self.view);
        }
    }

    /// For apps that are late for too long. Their attempts go on.
    async fn give_up_waiting(&mut self) {
        let now = Instant::now();
        let over: Vec<AppId> =
            self.late.iter().filter(|(_, late)| late.until <= now).map(|(id, _)| id.clone()).collect();
        if over.is_empty() {
            return;
        }
        for id in over {
            self.late.remove(&id);
            let nack = prefetch::still_on_the_way(&self.replica, &self.view, &id);
            tracing::warn!(app = %id, %nack, "an app stays at its last good version");
            self.fails(id, nack);
        }
        self.keep_and_tell(Vec::new()).await;
    }

    /// Everything this node knows, brought up from what is on its disk. Nobody is asked; what is missing is fetched after.
    async fn boot(&mut self) {
        let ids: Vec<AppId> = self.view.apps.keys().cloned().collect();
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for id in ids {
            match prefetch::need(&self.replica, &self.view, &id) {
                Need::Blobs(wanted) if !wanted.is_on(&self.replica.shelf) => {
                    let detail = format!("{wanted}: not on this node's disk; fetching");
                    missing.push((id, Nack { code: NackCode::FetchTimeout, detail }));
                }
                Need::NoneFits(nack) => missing.push((id, nack)),
                Need::Blobs(_) | Need::Nothing => here.push(id),
            }
        }
        self.activate(here, missing, true).await;
    }

    async fn batch(&mut self, Batch { records, end }: Batch) -> Result<(), Contradiction> {
        let (mut next, mut changes) = (self.view.clone(), Applied::default());
        for raw in &records {
            match next.apply(raw) {
                Ok(applied) => changes.merge(applied),
                Err(error) if error.moved_on() => {
                    tracing::warn!(error = %error, "a record was refused");
                    self.fail(next.rev, Failure { id: None, nack: error.nack() });
                }
                // The follower proved rev, epoch and chain of these records from the position before them.
                Err(error) => {
                    tracing::error!(error = %error, "a verified batch does not apply");
                    return Err(Contradiction);
                }
            }
        }
        if next.position() != end {
            tracing::error!(rev = next.rev, expected = end.rev, "a verified batch leads elsewhere");
            return Err(Contradiction);
        }
        let Prefetched { here, missing, late } =
            prefetch::prefetch(&self.replica, &next, &changes.changed).await;
        while let Err(error) = self.persist(&records, end).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                rev = end.rev,
                "keeping records; trying again"
            );
            tokio::time::sleep(DISK_PAUSE).await;
        }
        self.view = next;
        self.replica.show_view(self.view.clone());
        self.untold.push_back(end);
        for id in late {
            // One that others wait for already keeps neither them nor these longer.
            let until = Instant::now() + PATIENCE;
            self.late.entry(id.clone()).or_insert(Late { end: end.rev, until });
            self.retries.begin(id);
        }
        self.activate(here, missing, changes.certificates_changed).await;
        Ok(())
    }

    async fn persist(
        &self,
        records: &[artifact::record::RawRecord],
        end: Position,
    ) -> Result<(), StoreError> {
        let (records, failures) = (records.to_vec(), self.failures.clone());
        self.replica.store.keep_records(records, end, self.highest, failures).await
    }

    async fn raise(&mut self, checkpoint: Checkpoint) {
        self.highest = Some(checkpoint);
        self.replica.status.lock().head_rev = checkpoint.rev;
        if let Err(error) = self.replica.store.keep_highest(checkpoint).await {
            tracing::error!(error = &error as &dyn std::error::Error, "keeping the highest checkpoint");
        }
    }

    async fn fetched(&mut self, Fetched { id, version_rev, wanted, outcome }: Fetched) {
        let is_the_version = self.view.active(&id).is_some_and(|active| active.rev == version_rev);
        if !is_the_version || prefetch::need(&self.replica, &self.view, &id) != Need::Blobs(wanted) {
            return; // the app has moved on, to another version or other code, which has its own attempts
        }
        match outcome {
            Ok(()) => self.activate(vec![id], Vec::new(), false).await,
            Err(nack) => self.activate(Vec::new(), vec![(id, nack)], false).await,
        }
    }

    /// Activates the apps whose artifact is here, keeps what came of it, and tells the follower.
    async fn activate(
        &mut self,
        here: Vec<AppId>,
        mut failed: Vec<(AppId, Nack)>,
        certificates_changed: bool,
    ) {
        let mut pins = Vec::new();
        if !here.is_empty() || certificates_changed {
            let refused = self.offer(here.clone(), certificates_changed).await;
            let refused_ids: BTreeSet<&AppId> = refused.iter().map(|(id, _)| id).collect();
            for id in here.iter().filter(|id| !refused_ids.contains(id)) {
                pins.push((id.clone(), self.came_up(id)));
            }
            failed.extend(refused);
        }
        for (id, nack) in failed {
            tracing::warn!(app = %id, %nack, "an app stays at its last good version");
            self.stays(id, nack);
        }
        self.keep_and_tell(pins).await;
    }

    /// Notes what came up and what did not, here and to the follower.
    async fn keep_and_tell(&mut self, pins: Vec<(AppId, Option<Pin>)>) {
        if let Err(error) = self.replica.store.keep_pins(pins, self.failures.clone()).await {
            // Served, though not noted: after a restart the app is activated again from its records.
            tracing::error!(error = &error as &dyn std::error::Error, "keeping pinned versions");
        }
        self.replica.show_pins(self.pins_in_view());
        self.replica.status.lock().failed = self.failures.len();
        let waited_for = self.late.values().map(|late| late.end).min();
        let may_be_told = |end: &Position| waited_for.is_none_or(|rev| end.rev < rev);
        if !self.untold.front().is_some_and(may_be_told) {
            return self.tell(self.told).await;
        }
        while let Some(end) = self.untold.pop_front_if(|end| may_be_told(end)) {
            self.tell(end).await;
        }
    }

    /// The follower counts batches, so each is told; what has failed after it is none of its.
    async fn tell(&mut self, position: Position) {
        self.told = position;
        let failed = self.failures.range(..=position.rev);
        let failed = failed.map(|(rev, failure)| (*rev, failure.nack.clone())).collect();
        // The follower being gone means that this task is about to end.
        let _ = self.done.send(Done { position, failed }).await;
    }

    async fn offer(&self, changed: Vec<AppId>, certificates_changed: bool) -> Vec<(AppId, Nack)> {
        let activation =
            Activation { view: self.view.clone(), changed: changed.clone(), certificates_changed };
        match tokio::time::timeout(ACTIVATE_MAX, self.activator.activate(activation)).await {
            Ok(refused) => refused,
            Err(_) => {
                let detail = "activation took longer than 60 s".to_owned();
                let nack = Nack { code: NackCode::Internal, detail };
                changed.into_iter().map(|id| (id, nack.clone())).collect()
            }
        }
    }

    /// The app serves what the log says: pin it, and forget why it did not.
    fn came_up(&mut self, id: &AppId) -> Option<Pin> {
        self.retries.forget(id);
        self.late.remove(id);
        self.failures.retain(|_, failure| failure.id.as_ref() != Some(id));
        let active = self.view.active(id);
        let pin = active.map(|active| Pin {
            version: active.version.version,
            version_rev: active.rev,
            artifact: pick_artifact(active, &self.replica.config.targets).cloned(),
        });
        match pin {
            Some(ref pin) => drop(self.pins.insert(id.clone(), pin.clone())),
            None => drop(self.pins.remove(id)),
        }
        pin
    }

    /// The app does not: note it under its release's rev, and try again where that can help.
    fn stays(&mut self, id: AppId, nack: Nack) {
        self.late.remove(&id);
        if prefetch::is_worth_retrying(nack.code) {
            self.retries.schedule(id.clone());
        } else {
            self.retries.forget(&id);
        }
        self.fails(id, nack);
    }

    fn fails(&mut self, id: AppId, nack: Nack) {
        let rev = self.view.app(&id).map_or(self.view.rev, |app| app.release_rev);
        self.fail(rev, Failure { id: Some(id), nack });
    }

    fn fail(&mut self, rev: Rev, failure: Failure) {
        self.failures.insert(rev, failure);
        while self.failures.len() > FAILED_MAX {
            self.failures.pop_first();
        }
    }

    /// Pins whose version is still in the view.
    fn pins_in_view(&self) -> Pins {
        let there = |(id, pin): &(&AppId, &Pin)| {
            self.view.version(id, pin.version).is_some_and(|version| version.rev == pin.version_rev)
        };
        self.pins.iter().filter(there).map(|(id, pin)| (id.clone(), pin.clone())).collect()
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
