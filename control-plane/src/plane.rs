//! What lives once per process: the parts that every request uses, and the small questions several rooms ask of them.

use std::sync::Arc;

use artifact::{AppId, Target, TenantName, manifest::AppConfig, record::ArtifactRef, seal::SecretsKey};
use fleet_sync_proto::{AppState, FleetView};
use tokio::sync::{Notify, RwLock, Semaphore};

use crate::{
    admin::{Admin, IdempotencyKey},
    compiler::CompilerClient,
    config::Config,
    fleet::Fleet,
    local_ca::LocalCa,
    places::Places,
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
    pub uploads: Places,
    /// Room for deploys under way.
    pub deploys: Places,
    /// One write at a time for each idempotency key.
    in_flight: Turns<WriteKey>,
    /// One new version at a time for each app.
    versions: Turns<AppId>,
    /// Held for reading from when bytes are kept until they have a name in the admin store; and for writing while bytes that
    /// lost their last name are dropped. Never for long: whoever waits to write keeps all others waiting.
    pub sweeping: RwLock<()>,
    /// Room for values of key-value stores in memory.
    pub values: Arc<Semaphore>,
    /// Told when a request to recompile was taken.
    pub recompile_asked: Notify,
}

/// Deploys under way at once. Each may hold a program of 64 MiB while it is compiled.
pub const DEPLOYS_AT_ONCE_MAX: usize = 16;
/// Of them for one tenant. A deploy of many files reads them all, which may take as long as the disk likes.
pub const DEPLOYS_OF_TENANT_MAX: usize = DEPLOYS_AT_ONCE_MAX / 4;

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
            uploads: Places::new(upload::UPLOADS_AT_ONCE_MAX, upload::UPLOADS_OF_TENANT_MAX),
            deploys: Places::new(DEPLOYS_AT_ONCE_MAX, DEPLOYS_OF_TENANT_MAX),
            in_flight: Turns::default(),
            versions: Turns::default(),
            sweeping: RwLock::new(()),
            values: Arc::new(Semaphore::new(VALUES_AT_ONCE_MAX)),
            recompile_asked: Notify::new(),
        }
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
