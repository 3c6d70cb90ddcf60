//! The origin: one process's hold on the release log, the view built from it, and what nodes say.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use artifact::{
    AppId, NodeName,
    checkpoint::Checkpoint,
    keys::{Compiler, PublicKey, Release, SecretKey},
    names::PopName,
    record::{BATCH_RECORDS_MAX, Body, Epoch, RawRecord, Record, Rev, UnixMs},
    seal::SecretsKey,
};
use fleet_sync_proto::{FleetView, Position};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};

use crate::{
    blobs::{BlobStore, LocalBlobs},
    ca::{CaError, FleetCa},
    clock::now_ms,
    inspect::Inspections,
    kv::{KvError, KvQuotas, KvStore, SqliteKv, sweeper},
    listen::{ListenError, Listeners, Listening},
    log::{AppendError, LogBatch, LogError, LogStore, SqliteLog},
    nodes::{Convergence, NodeAnswer, NodeStatus, Nodes},
    publish::{PublishError, Published},
    roster::{IssuedToken, Roster, RosterError},
    signer::Signer,
    tail::Tail,
};

/// The lease on the log. A restart of the same `who` takes over at once, another one waits it out.
const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is renewed: three tries before it ends.
const LEASE_RENEWAL: Duration = Duration::from_millis(1_500);
/// How often node sightings are written down.
const SIGHTINGS_KEPT: Duration = Duration::from_secs(5);
/// Key-value operations of nodes at once. Each may hold 8 MiB twice, asked and said.
const KV_AT_ONCE_MAX: usize = 32;
/// Longest life of a join token.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What an origin needs.
#[derive(Debug)]
pub struct OriginConfig {
    /// Holds `log.sqlite`, `fleet.sqlite`, `kv.sqlite`, `blobs/`, `fleet-ca.pem`, `fleet-ca.key`. Made when missing.
    pub data_dir: PathBuf,
    /// Signs checkpoints. Its public half is what nodes pin at enrolment.
    pub release_key: SecretKey<Release>,
    /// Compiler keys that the operator told of. Those that the log does not know are noted there; the keys trusted now are
    /// [`FleetView::compiler_keys`]'s.
    pub compiler_keys: Vec<PublicKey<Compiler>>,
    /// Opens sealed secrets; given to nodes when they enrol.
    pub secrets_key: SecretsKey,
    /// Names and addresses under which nodes reach the sync listener, for its certificate.
    pub sync_names: Vec<String>,
    /// What a tenant may have in its key-value stores.
    pub kv_quotas: KvQuotas,
    /// This control plane's name in the log's lease. Two processes of one name fence each other.
    pub who: String,
}

/// The origin could not be opened, or an operation on its own tables failed.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// A directory or file.
    #[error("{doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The release log.
    #[error("opening the release log")]
    Log(#[from] LogError),
    /// A record in the log that this release cannot take: it was written by a newer one, or damaged.
    #[error(
        "rev {rev} of the release log cannot be read: start the newer control plane that wrote it, or restore a copy"
    )]
    Record {
        /// Which.
        rev: Rev,
        /// Why.
        #[source]
        source: fleet_sync_proto::ApplyError,
    },
    /// Records, and the head that was written with them, disagree: part of the log was lost, or it was changed by hand.
    #[error(
        "the release log's records lead to rev {found}, its head says rev {head}, or their chains differ: restore log.sqlite from a copy"
    )]
    Broken {
        /// Where the records lead.
        found: Rev,
        /// What the head says.
        head: Rev,
    },
    /// The term's first record was not written.
    #[error("taking office over the release log")]
    Office(#[source] Box<PublishError<std::convert::Infallible>>),
    /// The fleet CA.
    #[error("preparing the fleet CA")]
    Ca(#[from] CaError),
    /// The list of nodes and join tokens.
    #[error("working on the list of nodes")]
    Roster(#[from] RosterError),
    /// No such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeName),
    /// A join token that would live longer than [`JOIN_TOKEN_TTL_MAX`].
    #[error("a join token lives from one second to 30 days")]
    TokenLife,
    /// Revoking a node.
    #[error("publishing the revocation")]
    Revoke(#[source] Box<PublishError<std::convert::Infallible>>),
    /// The tenants' key-value stores.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The listener's TLS.
    #[error("preparing TLS of the sync listener: are sync_names host names or addresses?")]
    Tls(#[source] rustls::Error),
}

/// See the module. Shared by everything in the process; cheap to hold.
pub struct Origin {
    pub(crate) log: Arc<dyn LogStore>,
    blobs: Arc<dyn BlobStore>,
    kv: Arc<dyn KvStore>,
    /// Room for nodes' key-value operations in memory.
    pub(crate) kv_room: Semaphore,
    /// Room for those that are on their way in, in KiB.
    pub(crate) kv_incoming: Semaphore,
    pub(crate) writer: tokio::sync::Mutex<Writer>,
    view: RwLock<FleetView>,
    tail: Mutex<Tail>,
    pub(crate) head: watch::Sender<Position>,
    /// Another process took office: nothing can be published under our epoch ever again.
    fenced: watch::Sender<bool>,
    pub(crate) signer: Signer,
    pub(crate) nodes: Nodes,
    pub(crate) listeners: Listeners,
    pub(crate) inspections: Inspections,
    pub(crate) roster: Roster,
    pub(crate) ca: FleetCa,
    pub(crate) secrets_key: SecretsKey,
    pub(crate) sync_names: Vec<String>,
}

/// Held while publishing.
pub(crate) struct Writer {
    /// Term in office.
    pub(crate) epoch: Epoch,
    /// An append whose outcome is unknown: read the log before the next.
    pub(crate) unsure: bool,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("head", &self.position()).finish_non_exhaustive()
    }
}

impl Origin {
    /// Opens the data directory with the adapters of one machine, rebuilds the view from the log and takes office.
    /// Must be called within a tokio runtime.
    pub async fn open(config: OriginConfig) -> Result<Arc<Origin>, OriginError> {
        make_directory(&config.data_dir)?;
        let blobs_dir = config.data_dir.join("blobs");
        let opened = LocalBlobs::open(&blobs_dir);
        let blobs =
            opened.map_err(|source| OriginError::File { doing: "making", path: blobs_dir, source })?;
        let log = SqliteLog::open(&config.data_dir.join("log.sqlite"))?;
        Origin::open_on(config, Arc::new(log), Arc::new(blobs)).await
    }

    /// The same over any log and blob store.
    pub async fn open_on(
        config: OriginConfig,
        log: Arc<dyn LogStore>,
        blobs: Arc<dyn BlobStore>,
    ) -> Result<Arc<Origin>, OriginError> {
        make_directory(&config.data_dir)?;
        let ca = FleetCa::open(&config.data_dir, now_ms())?;
        let roster = Roster::open(&config.data_dir.join("fleet.sqlite"))?;
        let epoch = log.lead(&config.who, LEASE).await?;
        let kv = SqliteKv::open(&config.data_dir.join("kv.sqlite"), config.kv_quotas)?;
        let rebuilt = rebuild(log.as_ref()).await?;
        let nodes = Nodes::new(roster.sightings().await?, rebuilt.view.rev);
        let origin = Arc::new(Origin {
            log,
            blobs,
            kv: Arc::new(kv),
            kv_room: Semaphore::new(KV_AT_ONCE_MAX),
            kv_incoming: Semaphore::new(crate::serve::KV_INCOMING_KIB_MAX),
            writer: tokio::sync::Mutex::new(Writer { epoch, unsure: false }),
            head: watch::Sender::new(rebuilt.view.position()),
            fenced: watch::Sender::new(false),
            view: RwLock::new(rebuilt.view),
            tail: Mutex::new(rebuilt.tail),
            signer: Signer::new(config.release_key, rebuilt.time_ms),
            nodes,
            listeners: Listeners::new(now_ms()),
            inspections: Inspections::new(),
            roster,
            ca,
            secrets_key: config.secrets_key,
            sync_names: config.sync_names,
        });
        let told = config.compiler_keys;
        let start = |view: &FleetView| {
            let compiler_keys = view.compiler_keys.unknown(&told);
            Ok(vec![Body::EpochStart { base_rev: view.rev, compiler_keys }])
        };
        let office = origin.publish("system", None, start).await;
        office.map_err(|error| OriginError::Office(Box::new(error)))?;
        tokio::spawn(keep_office(Arc::downgrade(&origin), epoch));
        let alive = Arc::downgrade(&origin);
        tokio::spawn(sweeper::run(move || alive.upgrade().map(|origin| origin.kv())));
        Ok(origin)
    }

    /// The fleet's state now. Cheap.
    pub fn view(&self) -> FleetView {
        self.view.read().clone()
    }

    /// The log's head.
    pub fn head(&self) -> Checkpoint {
        let at = self.position();
        Checkpoint { epoch: at.epoch, rev: at.rev, chain: at.chain, time_ms: now_ms() }
    }

    /// Resolves when another process has taken office over the log. This one can publish nothing any more and must be
    /// started anew; nodes keep serving what they have.
    pub async fn fenced(&self) {
        // The sender is ours, so the wait ends by its value alone.
        let _ = self.fenced.subscribe().wait_for(|fenced| *fenced).await;
    }

    /// One record, or `None` when the log does not have it. For answering a repeated request.
    pub async fn record(&self, rev: Rev) -> Result<Option<Record>, OriginError> {
        let Some(before) = rev.checked_sub(1) else { return Ok(None) };
        let Some(raw) = self.read(before).await?.records.into_iter().next() else { return Ok(None) };
        let unreadable = |source| OriginError::Record {
            rev,
            source: fleet_sync_proto::ApplyError::Unreadable { applied: before, source },
        };
        raw.decode().map(Some).map_err(unreadable)
    }

    /// The blob store.
    pub fn blobs(&self) -> Arc<dyn BlobStore> {
        self.blobs.clone()
    }

    /// The tenants' key-value stores.
    pub fn kv(&self) -> Arc<dyn KvStore> {
        self.kv.clone()
    }

    /// The public half of the release key.
    pub fn release_key(&self) -> PublicKey<Release> {
        self.signer.key().public()
    }

    /// Every node that ever enrolled.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.nodes.list(&self.view().revoked)
    }

    /// Listens to an app: what nodes remember of it from `since_ms` on, and what comes. Of the nodes of this origin alone.
    pub fn listen(self: &Arc<Origin>, app: &AppId, since_ms: UnixMs) -> Result<Listening, ListenError> {
        let number = self.listeners.join(app, since_ms)?;
        Ok(Listening::new(self.clone(), number))
    }

    /// Ends every listener, and takes no more: the process is about to stop.
    pub fn stop_listening(&self) {
        self.listeners.close();
    }

    /// How far the fleet is with a rev.
    pub fn convergence(&self, rev: Rev) -> Convergence {
        self.nodes.convergence(rev, &self.view().revoked)
    }

    /// The same, as soon as every node that is connected, or was within the last 45 s, has acked or nacked the rev;
    /// or after `wait`.
    pub async fn wait_convergence(&self, rev: Rev, wait: Duration) -> Convergence {
        let mut changes = self.nodes.changes();
        let settled = async {
            loop {
                changes.borrow_and_update();
                let now = self.convergence(rev);
                if now.is_settled() || changes.changed().await.is_err() {
                    return now;
                }
            }
        };
        match tokio::time::timeout(wait, settled).await {
            Ok(convergence) => convergence,
            Err(_) => self.convergence(rev),
        }
    }

    /// What each node last said of the release at a rev; revoked nodes are left out.
    pub fn answers(&self, release: Rev) -> Vec<NodeAnswer> {
        self.nodes.answers(release, &self.view().revoked)
    }

    /// Counts what changes in answers.
    pub fn answer_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.nodes.changes()
    }

    /// A single-use right to join, for a POP.
    pub async fn create_join_token(&self, pop: &PopName, ttl: Duration) -> Result<IssuedToken, OriginError> {
        if ttl < Duration::from_secs(1) || ttl > JOIN_TOKEN_TTL_MAX {
            return Err(OriginError::TokenLife);
        }
        let expires_ms = now_ms() + ttl.as_millis() as u64;
        Ok(self.roster.create_token(pop, self.ca.digest(), expires_ms).await?)
    }

    /// Voids a node's identity for ever: a record in the log, its stream cut, its certificate refused. Returns the rev.
    pub async fn revoke_node(&self, actor: &str, node: &NodeName) -> Result<Rev, OriginError> {
        if !self.nodes.knows(node) {
            return Err(OriginError::NoSuchNode(node.clone()));
        }
        let body = Body::NodeRevoked { node: node.clone() };
        let published: Result<Published, _> = self.publish(actor, None, |_| Ok(vec![body])).await;
        // Streams look at the view whenever the head moves, so this one ends now.
        published.map(|done| done.rev).map_err(|error| OriginError::Revoke(Box::new(error)))
    }

    pub(crate) fn position(&self) -> Position {
        *self.head.borrow()
    }

    pub(crate) fn is_revoked(&self, node: &NodeName) -> bool {
        self.view.read().revoked.contains(node)
    }

    /// One batch after a rev, from memory when it is recent.
    pub(crate) async fn read(&self, after: Rev) -> Result<LogBatch, LogError> {
        let recent = self.tail.lock().read(after);
        match recent {
            Some(batch) => Ok(batch),
            None => self.log.read(after, BATCH_RECORDS_MAX).await,
        }
    }

    /// Makes appended records visible and wakes the streams.
    pub(crate) fn show(&self, view: FleetView, records: &[RawRecord]) {
        let position = view.position();
        self.tail.lock().push(records);
        *self.view.write() = view;
        self.head.send_replace(position);
        self.nodes.note_change();
    }

    /// Takes in what the log has beyond the view, after an append of unknown outcome.
    pub(crate) async fn reload(&self) -> Result<(), LogError> {
        loop {
            let mut view = self.view();
            let batch = self.log.read(view.rev, BATCH_RECORDS_MAX).await?;
            let mut taken = Vec::with_capacity(batch.records.len());
            for raw in batch.records {
                match view.apply(&raw) {
                    Err(error) if !error.moved_on() => break,
                    Ok(_) | Err(_) => taken.push(raw),
                }
            }
            if taken.is_empty() {
                return Ok(());
            }
            self.show(view, &taken);
        }
    }
}

struct Rebuilt {
    view: FleetView,
    tail: Tail,
    time_ms: u64,
}

async fn rebuild(log: &dyn LogStore) -> Result<Rebuilt, OriginError> {
    let (mut view, mut tail, mut time_ms) = (FleetView::new(), Tail::new(Position::START), 0);
    loop {
        let batch = log.read(view.rev, BATCH_RECORDS_MAX).await?;
        if batch.records.is_empty() {
            let head = log.head().await?;
            if head != view.position() {
                return Err(OriginError::Broken { found: view.rev, head: head.rev });
            }
            return Ok(Rebuilt { view, tail, time_ms });
        }
        for raw in &batch.records {
            match view.apply(raw) {
                Ok(_) => {}
                // Refused when it was written, or of a newer release: the same as on every node.
                Err(error) if error.moved_on() => {
                    tracing::warn!(%error, "a record of the log was not applied")
                }
                Err(source) => return Err(OriginError::Record { rev: view.rev + 1, source }),
            }
            if let Ok(record) = raw.decode() {
                time_ms = time_ms.max(record.time_ms);
            }
        }
        tail.push(&batch.records);
    }
}

/// Renews the lease and writes sightings down, until the origin is gone.
async fn keep_office(origin: std::sync::Weak<Origin>, epoch: Epoch) {
    let mut renewal = tokio::time::interval(LEASE_RENEWAL);
    let mut since_kept = Duration::ZERO;
    loop {
        renewal.tick().await;
        let Some(origin) = origin.upgrade() else { return };
        match origin.log.renew(epoch, LEASE).await {
            Ok(()) => {}
            Err(error @ AppendError::Fenced { .. }) => {
                tracing::error!(error = %error, "out of office");
                origin.fenced.send_replace(true);
            }
            Err(error) => {
                tracing::error!(error = %error, "renewing the lease on the release log; publishing may be refused");
            }
        }
        // A publish whose caller went away half-way may have reached the log: nodes must not wait for the next one.
        if let Ok(mut writer) = origin.writer.try_lock()
            && writer.unsure
        {
            writer.unsure = origin.reload().await.is_err();
        }
        since_kept += LEASE_RENEWAL;
        if since_kept >= SIGHTINGS_KEPT {
            since_kept = Duration::ZERO;
            if let Err(error) = origin.roster.keep(origin.nodes.take_dirty()).await {
                tracing::warn!(error = %error, "writing node sightings down");
            }
        }
    }
}

fn make_directory(path: &Path) -> Result<(), OriginError> {
    std::fs::create_dir_all(path).map_err(|source| OriginError::File {
        doing: "making",
        path: path.into(),
        source,
    })
}
