//! From the replica's view of the fleet to the generation that serves: build, load, swap.
//!
//! A release is loaded and linked before it is swapped in; one that cannot be is refused (nack) and its app goes on
//! with the version that served before. At start nothing is loaded: code comes on first use.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use artifact::{
    AppId, HostName,
    nack::Nack,
    record::{Certificate, VersionNumber},
    seal::SecretsKey,
};
use fleet_sync_replica::{Activation, Activator, FleetView, NodeHealth, Report, VersionState};
use parking_lot::Mutex;

use crate::{
    front::tls::{CertificateTable, SharedCertificates, certified_key},
    generation::{Deployment, Generation},
    load::chain,
    node::Node,
};

/// Applies activations to a node.
pub struct Activating {
    node: Arc<Node>,
    certificates: SharedCertificates,
    secrets: SecretsKey,
    started_ms: u64,
    /// Serialises changes; readers take the published generation without it.
    change: Mutex<()>,
}

/// The purpose a certificate's key is sealed for: its first host name.
fn key_purpose(certificate: &Certificate) -> String {
    format!("tls:{}", certificate.hosts.first().map_or("", HostName::as_str))
}

impl Activating {
    /// An activator over a node and its certificate table.
    pub fn new(node: Arc<Node>, certificates: SharedCertificates, secrets: SecretsKey) -> Activating {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Activating { node, certificates, secrets, started_ms: now.as_millis() as u64, change: Mutex::new(()) }
    }

    /// Serves what the view says, or per app the last version known to be good. Loads no code.
    pub fn start(&self, view: &FleetView, pinned: &BTreeMap<AppId, VersionNumber>) {
        let mut generation = Generation::default();
        for (id, app) in &view.apps {
            let active = app.active.filter(|_| !app.versions.is_empty());
            let Some(number) = active.map(|active| pinned.get(id).copied().unwrap_or(active)) else {
                continue;
            };
            let state = app.versions.get(&number).or_else(|| view.active(id));
            if let Some(state) = state {
                generation.insert(self.deployment(state));
            }
        }
        self.publish(generation, view);
        self.swap_certificates(view);
    }

    fn deployment(&self, state: &Arc<VersionState>) -> Arc<Deployment> {
        let version = &state.version;
        Arc::new(Deployment {
            id: version.id.clone(),
            version: version.version,
            lane: version.lane,
            wasm: version.wasm,
            config: version.config.clone(),
            state: state.clone(),
            code: Default::default(),
            metrics: self.node.metrics.version(&version.id, version.version),
        })
    }

    /// Loads one app's active version. `Ok(None)`: the app is gone.
    async fn prepare(&self, view: &FleetView, id: &AppId) -> Result<Option<Arc<Deployment>>, Nack> {
        let Some(state) = view.active(id) else { return Ok(None) };
        let serving = self.node.generation.load().deployment(id).cloned();
        if let Some(serving) = serving.filter(|serving| serving.version == state.version.version) {
            // Nothing new, as for every app at start: its code is loaded when it is first asked for.
            if serving.state == *state {
                return Ok(Some(serving));
            }
            // More artifacts for the version that serves change nothing about what runs.
            let deployment = Arc::new(Deployment {
                id: serving.id.clone(),
                config: serving.config.clone(),
                state: state.clone(),
                code: serving.code.share(),
                metrics: serving.metrics.clone(),
                ..*serving
            });
            return self.checked(deployment).await.map(Some);
        }
        self.checked(self.deployment(state)).await.map(Some)
    }

    async fn checked(&self, deployment: Arc<Deployment>) -> Result<Arc<Deployment>, Nack> {
        match self.node.code.get(&deployment).await {
            Ok(_) => Ok(deployment),
            Err(error) => {
                tracing::error!(app = %deployment.id, version = deployment.version, "not activated: {}", chain(&error));
                Err(error.nack())
            }
        }
    }

    fn publish(&self, generation: Generation, view: &FleetView) {
        self.node.metrics.apps.set(generation.deployments().count() as i64);
        self.node.metrics.rev.set(view.rev as i64);
        self.node.generation.store(Arc::new(generation));
    }

    fn swap_certificates(&self, view: &FleetView) {
        let mut table = CertificateTable::default();
        for (host, certificate) in &view.certificates {
            match self.open(certificate) {
                Ok(key) => table.insert(host.clone(), key),
                Err(why) => tracing::error!(%host, "the certificate is unusable: {why}"),
            }
        }
        self.certificates.store(Arc::new(table));
    }

    fn open(&self, certificate: &Certificate) -> Result<Arc<rustls::sign::CertifiedKey>, String> {
        let key = self
            .secrets
            .open(&key_purpose(certificate), &certificate.key)
            .map_err(|error| error.to_string())?;
        certified_key(certificate.chain_pem.as_bytes(), &key).map_err(|error| chain(&error))
    }
}

#[async_trait::async_trait]
impl Activator for Activating {
    async fn activate(&self, activation: Activation) -> Vec<(AppId, Nack)> {
        let Activation { view, changed, certificates_changed, .. } = activation;
        let mut refused = Vec::new();
        let mut ready = Vec::new();
        for id in changed {
            match self.prepare(&view, &id).await {
                Ok(deployment) => ready.push((id, deployment)),
                Err(nack) => refused.push((id, nack)),
            }
        }
        let _one_at_a_time = self.change.lock();
        // Certificates first: a new host must not be routed before its handshake can succeed.
        if certificates_changed {
            self.swap_certificates(&view);
        }
        let mut generation = Generation::clone(&self.node.generation.load());
        for (id, deployment) in ready {
            let before = generation.deployment(&id).cloned();
            let after = deployment.as_ref().map(|deployment| deployment.version);
            match deployment {
                Some(deployment) => generation.insert(deployment),
                None => drop(generation.remove(&id)),
            }
            if let Some(before) = before.filter(|before| Some(before.version) != after) {
                self.node.metrics.retire(&id, before.version);
            }
        }
        self.publish(generation, &view);
        refused
    }

    fn report(&self) -> Report {
        let generation = self.node.generation.load();
        let counters = generation.deployments().map(|d| d.metrics.report(&d.id, d.version));
        self.node.metrics.in_flight.set(self.node.executions.running() as i64);
        self.node.metrics.access_lines_dropped.set(self.node.access_log.dropped() as i64);
        Report {
            apps: counters.filter(|counters| counters.requests > 0).collect(),
            apps_dropped: 0,
            health: NodeHealth {
                started_ms: self.started_ms,
                apps: generation.deployments().count() as u64,
                code_bytes: self.node.code.bytes(),
                in_flight: self.node.executions.running() as u64,
            },
        }
        .bounded()
    }
}
