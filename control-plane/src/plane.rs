//! What lives once per process: the parts that every request uses, and the small questions several rooms ask of them.

use std::{collections::HashMap, sync::Arc};

use artifact::{AppId, Target, TenantName, manifest::AppConfig, record::ArtifactRef, seal::SecretsKey};
use fleet_sync_proto::{AppState, FleetView};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, RwLock, Semaphore, SemaphorePermit};

use crate::{
    admin::{Admin, IdempotencyKey},
    compiler::CompilerClient,
    config::Config,
    fleet::Fleet,
    local_ca::LocalCa,
    turns::{Turn, Turns},
    upload,
};

/// The control plane's parts, each made once at start.
pub struct Plane {
    /// What the operator stated.
    pub config: Config,
    /// Tenants, tokens, uploads, audit.
    pub admin: Admin,
    /// Release log, blobs and nodes.
    pub fleet: Fleet,
    /// Client of the compiler service; never its key.
    pub compiler: Arc<CompilerClient>,
    /// Mints certificates for host names.
    pub ca: Arc<LocalCa>,
    /// Seals their keys to the fleet.
    pub secrets: SecretsKey,
    /// Room for uploads in memory.
    uploads: Semaphore,
    /// Of it each tenant's share, for tenants that upload or wait.
    tenant_uploads: Mutex<HashMap<TenantName, Arc<Semaphore>>>,
    /// Room for deploys under way.
    pub deploys: Semaphore,
    /// One write at a time for each idempotency key.
    in_flight: Turns<WriteKey>,
    /// One new version at a time for each app.
    versions: Turns<AppId>,
    /// Held for reading from when bytes are kept, or looked at, until they have a name in the admin store; and for writing
    /// while bytes that lost their last name are dropped.
    pub sweeping: RwLock<()>,
    /// Room for values of key-value stores in memory.
    pub values: Arc<Semaphore>,
}

/// Deploys under way at once. Each may hold a program of 64 MiB while it is compiled.
pub const DEPLOYS_AT_ONCE_MAX: usize = 16;

/// Values of 8 MiB that requests bring or get at once: 128 MiB.
const VALUES_AT_ONCE_MAX: usize = 16;

pub(crate) type WriteKey = (TenantName, IdempotencyKey);

impl Plane {
    /// Puts the parts together.
    pub fn new(
        config: Config,
        admin: Admin,
        fleet: Fleet,
        compiler: Arc<CompilerClient>,
        ca: Arc<LocalCa>,
        secrets: SecretsKey,
    ) -> Plane {
        Plane {
            config,
            admin,
            fleet,
            compiler,
            ca,
            secrets,
            uploads: Semaphore::new(upload::UPLOADS_AT_ONCE_MAX),
            tenant_uploads: Mutex::new(HashMap::new()),
            deploys: Semaphore::new(DEPLOYS_AT_ONCE_MAX),
            in_flight: Turns::default(),
            versions: Turns::default(),
            sweeping: RwLock::new(()),
            values: Arc::new(Semaphore::new(VALUES_AT_ONCE_MAX)),
        }
    }

    /// Waits for a place of the tenant, then for one of all.
    pub async fn upload_place(&self, tenant: &TenantName) -> UploadPlace<'_> {
        let own = {
            let mut tenants = self.tenant_uploads.lock();
            // Whoever waits or uploads holds the tenant's semaphore; the others are forgotten here.
            tenants.retain(|_, places| Arc::strong_count(places) > 1);
            let fresh = || Arc::new(Semaphore::new(upload::UPLOADS_OF_TENANT_MAX));
            Arc::clone(tenants.entry(tenant.clone()).or_insert_with(fresh))
        };
        let own = own.acquire_owned().await.expect("this semaphore is never closed");
        let all = self.uploads.acquire().await.expect("this semaphore is never closed");
        UploadPlace { _own: own, _all: all }
    }

    /// Where an app answers, as URLs.
    pub fn urls(&self, config: &AppConfig) -> Vec<String> {
        let port = match self.config.public_https_port.or_else(|| self.fleet.https_port()) {
            None | Some(443) => String::new(),
            Some(port) => format!(":{port}"),
        };
        config.hosts.iter().map(|host| format!("https://{host}{port}{}", config.path_prefix)).collect()
    }

    /// Waits until no other write with this key is under way.
    pub async fn only_one(&self, tenant: &TenantName, key: &IdempotencyKey) -> Turn<'_, WriteKey> {
        self.in_flight.turn((tenant.clone(), key.clone())).await
    }

    /// Waits until nobody else makes a version of this app. Between reading its secrets and publishing what pins them
    /// no other version may come, or it would bring older values back.
    pub async fn version_turn(&self, id: &AppId) -> Turn<'_, AppId> {
        self.versions.turn(id.clone()).await
    }
}

/// The right to hold one upload in memory.
pub struct UploadPlace<'p> {
    _own: OwnedSemaphorePermit,
    _all: SemaphorePermit<'p>,
}

/// A tenant's apps, by name.
pub fn apps_of<'v>(
    view: &'v FleetView,
    tenant: &'v TenantName,
) -> impl Iterator<Item = (&'v AppId, &'v AppState)> {
    view.apps.iter().filter(move |(id, _)| id.tenant == *tenant)
}

/// What native code exists for, each once, in the order of [`Target::ALL`].
pub fn targets(artifacts: &[ArtifactRef]) -> Vec<Target> {
    Target::ALL.into_iter().filter(|target| artifacts.iter().any(|held| held.target == *target)).collect()
}
