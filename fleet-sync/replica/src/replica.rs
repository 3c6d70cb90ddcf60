//! The replica: what a node knows of the fleet, whether or not anyone else is alive.

use std::{collections::BTreeMap, future::Future, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use artifact::{
    AppId, Fingerprint, NodeName, Target,
    keys::{Compiler, Trusted},
    names::PopName,
    record::Rev,
    seal::SecretsKey,
};
use fleet_sync_proto::FleetView;
use parking_lot::{Mutex, RwLock};

use crate::{
    activator::Activator,
    enrol::{self, EnrolError},
    follow,
    identity::{Identity, IdentityError},
    kv::KvClient,
    shelf::BlobShelf,
    store::{Loaded, Pin, Pins, Store, StoreError},
    trust::Trust,
};

/// What a replica needs.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// `host:port` of the control plane's sync listener.
    pub control: String,
    /// Holds `identity.json`, `replica.sqlite`, `blobs/`. Made when missing.
    pub data_dir: PathBuf,
    /// Used only while there is no identity.
    pub join_token: Option<String>,
    /// Targets this node runs with its engine's fingerprint for each, best level last.
    pub targets: Vec<(Target, Fingerprint)>,
    /// `host:port` of the node's https listener, told upwards.
    pub serving: Option<String>,
    /// The node's software version, told upwards.
    pub software: String,
}

/// The replica could not be opened or run.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The data directory.
    #[error("making the data directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Who the node is.
    #[error("reading this node's identity")]
    Identity(#[from] IdentityError),
    /// What the node knows.
    #[error("opening what this node knows of the fleet")]
    Store(#[from] StoreError),
    /// It has not enrolled.
    #[error("this node has no identity: enrol it with a join token first")]
    NotEnrolled,
    /// The applier ended: what it was given contradicts what it holds, which is our bug. What is served goes on.
    #[error("applying the release log stopped: restart the node; if it happens again, remove replica.sqlite")]
    ApplierEnded,
}

/// How following goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Is a stream open?
    pub connected: bool,
    /// Without a fresh checkpoint for 15 minutes: serving the last good state.
    pub stale: bool,
    /// Last durable rev.
    pub applied_rev: Rev,
    /// Highest rev a signed checkpoint told of.
    pub head_rev: Rev,
    /// Apps whose active version this node does not serve.
    pub failed: usize,
    /// The last alarm, for people.
    pub alarm: Option<String>,
}

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ReplicaConfig,
    pub(crate) store: Store,
    pub(crate) shelf: BlobShelf,
    kv: KvClient,
    pub(crate) status: Mutex<ReplicaStatus>,
    pub(crate) renewing: tokio::sync::Mutex<()>,
    /// As loaded; taken by the run loop.
    pub(crate) loaded: Mutex<Option<Loaded>>,
    view: RwLock<FleetView>,
    pinned: RwLock<Pins>,
    identity: Arc<RwLock<Option<Identity>>>,
    trust: Trust,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("node", &self.node()).finish_non_exhaustive()
    }
}

impl Replica {
    /// Opens the data directory and rebuilds what the node knew. Needs nobody else.
    pub fn open(config: ReplicaConfig) -> Result<Replica, ReplicaError> {
        let directory = |path: &PathBuf| {
            crate::files::make_private_dir(path)
                .map_err(|source| ReplicaError::Directory { path: path.clone(), source })
        };
        directory(&config.data_dir)?;
        let identity = Arc::new(RwLock::new(Identity::load(&config.data_dir)?));
        let (store, loaded) = Store::open(&config.data_dir.join("replica.sqlite"))?;
        let blobs = config.data_dir.join("blobs");
        directory(&blobs)?;
        let shelf = BlobShelf::open(blobs.clone(), config.control.clone(), identity.clone())
            .map_err(|source| ReplicaError::Directory { path: blobs, source })?;
        let kv = KvClient::new(config.control.clone(), identity.clone());
        let status = ReplicaStatus {
            applied_rev: loaded.view.rev,
            head_rev: loaded.highest.map_or(0, |highest| highest.rev),
            failed: loaded.failures.len(),
            ..ReplicaStatus::default()
        };
        let trust = Trust::default();
        trust.derive(identity.read().as_ref(), &loaded.view);
        let inner = Inner {
            trust,
            store,
            shelf,
            kv,
            status: Mutex::new(status),
            renewing: tokio::sync::Mutex::new(()),
            view: RwLock::new(loaded.view.clone()),
            pinned: RwLock::new(loaded.pins.clone()),
            loaded: Mutex::new(Some(loaded)),
            identity,
            config,
        };
        Ok(Replica { inner: Arc::new(inner) })
    }

    /// Gets an identity with the join token, unless the node has one. One attempt; see
    /// [`EnrolError::is_worth_retrying`].
    pub async fn enrol(&self) -> Result<(), EnrolError> {
        if self.inner.identity().is_some() {
            return Ok(());
        }
        let config = &self.inner.config;
        let token = config.join_token.as_deref().ok_or(EnrolError::NoToken)?;
        let identity = enrol::enrol(&config.control, token, &config.data_dir).await?;
        tracing::info!(node = %identity.node, pop = %identity.pop, "enrolled");
        self.inner.set_identity(identity);
        Ok(())
    }

    /// The node's name and POP, once enrolled.
    pub fn node(&self) -> Option<(NodeName, PopName)> {
        self.inner.identity().map(|identity| (identity.node, identity.pop))
    }

    /// The fleet's state as this node durably knows it. Cheap.
    pub fn view(&self) -> FleetView {
        self.inner.view.read().clone()
    }

    /// The version of each app that was last brought up here without failing, and with which code: what to serve at start,
    /// before the first activation. Always versions that are in [`Replica::view`]; its code may have left it.
    pub fn pinned(&self) -> BTreeMap<AppId, Pin> {
        self.inner.pinned.read().clone()
    }

    /// Opens sealed certificates. `None` before enrolment.
    pub fn secrets_key(&self) -> Option<SecretsKey> {
        self.inner.identity()?.secrets_key()
    }

    /// The keys that may sign artifacts, always those of [`Replica::view`]: to be loaded at each use. None before
    /// enrolment.
    pub fn compiler_keys(&self) -> Arc<ArcSwap<Trusted<Compiler>>> {
        self.inner.trust.shared()
    }

    /// Artifacts on this node's disk.
    pub fn blobs(&self) -> BlobShelf {
        self.inner.shelf.clone()
    }

    /// The tenants' key-value stores. Needs the control plane; see [`KvClient`].
    pub fn kv(&self) -> KvClient {
        self.inner.kv.clone()
    }

    /// How following goes.
    pub fn status(&self) -> ReplicaStatus {
        self.inner.status.lock().clone()
    }

    /// Follows the origin until `shutdown` resolves. First brings up everything this node knows, then applies what comes.
    /// Call it once.
    pub async fn run(
        &self,
        activator: Arc<dyn Activator>,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ReplicaError> {
        let identity = self.inner.identity().ok_or(ReplicaError::NotEnrolled)?;
        let loaded = self.inner.loaded.lock().take();
        let loaded = match loaded {
            Some(loaded) => loaded,
            None => self.inner.store.load()?, // a second run in one process
        };
        follow::run(self.inner.clone(), identity, loaded, activator, shutdown).await
    }
}

impl Inner {
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity.read().clone()
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        // Held to the end: a view that comes meanwhile must derive after this, or its keys would be lost.
        let shown = self.view.read();
        self.trust.derive(Some(&identity), &shown);
        *self.identity.write() = Some(identity);
    }

    /// Called when its records are durable, and before anything of it is activated.
    pub(crate) fn show_view(&self, view: FleetView) {
        // Keys and view change together: a renewal in between would bring back the keys of the view before.
        let mut shown = self.view.write();
        if view.compiler_keys.changes().len() != shown.compiler_keys.changes().len() {
            self.trust.derive(self.identity.read().as_ref(), &view);
        }
        self.status.lock().applied_rev = view.rev;
        *shown = view;
    }

    pub(crate) fn show_pins(&self, pins: Pins) {
        *self.pinned.write() = pins;
    }
}

#[cfg(test)]
mod tests {
    use artifact::{
        key_change::{KeyChange, Verb},
        keys::{PublicKey, SecretKey},
        record::{Body, RawRecord, Record},
    };

    use super::*;

    fn key(seed: u8) -> SecretKey<Compiler> {
        SecretKey::from_seed([seed; 32])
    }

    fn public(seed: u8) -> PublicKey<Compiler> {
        key(seed).public()
    }

    fn put(view: &mut FleetView, body: Body) {
        let rev = view.rev + 1;
        let record =
            Record { rev, epoch: 1, time_ms: 0, actor: "t".into(), request: None, critical: false, body };
        view.apply(&RawRecord::encode(&record).unwrap()).unwrap();
    }

    /// Views of a log in which key 1 endorses key 2 and revokes it.
    fn views() -> [FleetView; 3] {
        let mut view = FleetView::new();
        put(&mut view, Body::EpochStart { base_rev: 0, compiler_keys: vec![public(1)] });
        [None, Some(Verb::Endorses), Some(Verb::Revokes)].map(|verb| {
            if let Some(verb) = verb {
                let serial = view.rev;
                let change = KeyChange::sign(&key(1), verb, public(2), serial).unwrap();
                put(&mut view, Body::KeyChange { change: change.envelope().clone() });
            }
            view.clone()
        })
    }

    /// Only its keys count here.
    fn identity() -> Identity {
        Identity {
            node: "fra1-0000".parse().unwrap(),
            pop: "fra1".parse().unwrap(),
            release_keys: vec![],
            compiler_keys: vec![public(1)],
            compiler_keys_past: artifact::keyring::KeyringPast::default(),
            secrets_key: String::new(),
            ca_pem: String::new(),
            certificate_pem: String::new(),
            key_pem: String::new(),
        }
    }

    fn replica(directory: &std::path::Path) -> Replica {
        Replica::open(ReplicaConfig {
            control: "127.0.0.1:1".into(),
            data_dir: directory.to_owned(),
            join_token: None,
            targets: vec![],
            serving: None,
            software: "test".into(),
        })
        .unwrap()
    }

    #[test]
    fn a_renewal_while_keys_change_brings_no_earlier_keys_back() {
        let directory = tempfile::tempdir().unwrap();
        let replica = replica(directory.path());
        let (identity, [_, endorsed, revoked]) = (identity(), views());
        replica.inner.set_identity(identity.clone());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    replica.inner.set_identity(identity.clone());
                }
            });
            let mut stale = None;
            for round in 0..3_000 {
                for (view, is_trusted) in [(&endorsed, true), (&revoked, false)] {
                    replica.inner.show_view(view.clone());
                    if replica.compiler_keys().load().contains(&public(2)) != is_trusted {
                        stale = stale.or(Some(round));
                    }
                }
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(stale, None, "the round in which the keys were not those of the view");
        });
    }
}
