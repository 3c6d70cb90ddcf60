//! From the replica's view of the fleet to the generation that serves: build, load, swap.
//!
//! A release is loaded and linked before it is swapped in; one that cannot be is refused (nack) and its app goes on
//! with the version that served before. At start nothing is loaded: code comes on first use. A version is identified
//! by the rev of its record: numbers begin again when an app is deleted and made anew.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Instant, SystemTime},
};

use artifact::{
    AppId, HostName,
    nack::{Nack, NackCode},
    record::{ArtifactRef, Certificate, VersionNumber},
    seal::SecretsKey,
};
use fleet_sync_replica::{
    Activation, Activator, FleetView, NodeHealth, Pin, Report, VersionState,
    inspect::Serving,
    logs::{AppLogs, Follow},
};
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;

use crate::{
    account::live::Now,
    front::tls::{CertificateTable, SharedCertificates, certified_key},
    generation::{self, Deployment, Generation},
    host::secrets::Secrets,
    load::chain,
    node::Node,
};

/// Apps whose code is loaded at once in an activation.
const LOADS_AT_ONCE_MAX: usize = 4;
/// Apps that are swapped in together: a slow one delays at most its own group.
const GROUP_APPS: usize = 32;

/// What came of an app whose serving changed.
enum Prepared {
    /// To be swapped in.
    Ready(Arc<Deployment>),
    /// To be swapped in, although its latest code was refused.
    WithOtherCode(Arc<Deployment>, Nack),
    /// Not to be swapped in.
    Refused(Nack),
    /// The app is gone.
    Gone,
}

/// Applies activations to a node.
pub struct Activating {
    node: Arc<Node>,
    certificates: SharedCertificates,
    secrets: SecretsKey,
    started_ms: u64,
    /// The certificates in the table, so that only new ones are opened.
    opened: Mutex<HashMap<HostName, Arc<Certificate>>>,
    /// Serialises changes; readers take the published generation without it.
    change: Mutex<()>,
}

/// The purpose a certificate's key is sealed for: its first host name.
fn key_purpose(certificate: &Certificate) -> String {
    format!("tls:{}", certificate.hosts.first().map_or("", HostName::as_str))
}

/// Does it serve this version, be it with other code?
fn is_same_version(serving: &Deployment, state: &VersionState) -> bool {
    serving.state.rev == state.rev && serving.state.version == state.version
}

impl Activating {
    /// An activator over a node and its certificate table.
    pub fn new(node: Arc<Node>, certificates: SharedCertificates, secrets: SecretsKey) -> Activating {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Activating {
            node,
            certificates,
            secrets,
            started_ms: now.as_millis() as u64,
            opened: Mutex::default(),
            change: Mutex::new(()),
        }
    }

    /// Serves per app the version that was last brought up here without failing. Loads no code. An app that never was
    /// waits for its first activation, which tells whether it can be. Later code that did not come up here yet is left to
    /// the activations to come: it may be on no disk, or not be loadable.
    pub fn start(&self, view: &FleetView, pinned: &BTreeMap<AppId, Pin>) {
        let mut generation = Generation::default();
        let is_active = |id: &AppId, number: VersionNumber| {
            view.active(id).is_some_and(|active| active.version.version == number)
        };
        // Active versions last: where one has taken over a route from an app that is held back, it wins.
        for active in [false, true] {
            for (id, pin) in pinned.iter().filter(|(id, pin)| is_active(id, pin.version) == active) {
                let Some(state) = view.version(id, pin.version) else { continue };
                let came_up = pin.artifact.clone().filter(|code| self.node.code.runs(code));
                match self.deployment(state, came_up.or_else(|| self.node.code.pick(state))) {
                    Ok(deployment) => generation.insert(Arc::new(deployment)),
                    Err(nack) => tracing::error!(app = %id, version = pin.version, "not served: {nack}"),
                }
            }
        }
        self.publish(generation, view);
        self.swap_certificates(view);
    }

    /// A version as it will serve. Secrets that do not open are refused here: a program that was promised a key must
    /// not run without it.
    fn deployment(
        &self,
        state: &Arc<VersionState>,
        artifact: Option<ArtifactRef>,
    ) -> Result<Deployment, Nack> {
        let version = &state.version;
        let secrets = Secrets::open(&self.secrets, &version.id, &version.secrets)
            .map_err(|error| Nack { code: NackCode::LoadFail, detail: chain(&error) })?;
        Ok(Deployment {
            id: version.id.clone(),
            version: version.version,
            lane: version.lane,
            wasm: version.wasm,
            allow: generation::allow(&version.config),
            config: version.config.clone(),
            state: state.clone(),
            artifact,
            site: self.node.files.site(version)?,
            secrets: Arc::new(secrets),
            code: Default::default(),
            metrics: self.node.metrics.version(&version.id, version.version),
            standing: Default::default(),
        })
    }

    /// Loads one app's active version.
    async fn prepare(&self, view: &FleetView, id: &AppId) -> Prepared {
        let Some(state) = view.active(id) else { return Prepared::Gone };
        let serving = self.node.generation.load().deployment(id).cloned();
        let latest = self.node.code.pick(state);
        // Nothing new, as for most apps at start: its code is loaded when it is first asked for.
        if let Some(serving) = serving.as_ref().filter(|serving| serving.state == *state)
            && serving.artifact == latest
        {
            return Prepared::Ready(serving.clone());
        }
        let refused = match self.bring_up(state, latest.clone(), serving.as_deref()).await {
            Ok(deployment) => return Prepared::Ready(deployment),
            Err(nack) => nack,
        };
        // What serves this version goes on. Otherwise the code that the latest replaced, or that of a lower level, is better than
        // none, or than a version that nobody asked for.
        let serves = serving.as_ref().is_some_and(|serving| is_same_version(serving, state));
        let others = if serves { Vec::new() } else { self.node.code.others(state) };
        for other in others {
            if let Ok(deployment) = self.bring_up(state, Some(other), serving.as_deref()).await {
                tracing::warn!(app = %id, "the latest code is refused, other code serves: {refused}");
                return Prepared::WithOtherCode(deployment, refused);
            }
        }
        if serving.is_none_or(|serving| serving.version != state.version.version) {
            self.node.metrics.retire(id, state.version.version); // its series were made for nothing
        }
        Prepared::Refused(refused)
    }

    /// A version with this code, loaded, so that requests wait for nothing. More artifacts for the version that serves leave what
    /// runs; other code is loaded beside it, and requests go on with the old until it is there.
    async fn bring_up(
        &self,
        state: &Arc<VersionState>,
        artifact: Option<ArtifactRef>,
        serving: Option<&Deployment>,
    ) -> Result<Arc<Deployment>, Nack> {
        let mut deployment = match serving.filter(|serving| is_same_version(serving, state)) {
            Some(serving) => serving.with(state.clone(), artifact),
            None => self.deployment(state, artifact)?,
        };
        // Other settings, same program: what is loaded serves both.
        if let Some(serving) = serving.filter(|serving| serving.has_code_of(&deployment)) {
            deployment.code = serving.code.clone();
        }
        let deployment = Arc::new(deployment);
        if !deployment.state.version.has_program() {
            return Ok(deployment); // its files are on the disk, or it would not have been offered
        }
        let Deployment { id, version, .. } = &*deployment;
        self.node.code.bring_up(&deployment, serving).await.map_err(|error| {
            tracing::error!(app = %id, version, "not activated: {}", chain(&error));
            error.nack()
        })?;
        Ok(deployment)
    }

    /// Swaps in what is ready: one pointer.
    fn swap(&self, view: &FleetView, ready: Vec<(AppId, Option<Arc<Deployment>>)>) {
        let _one_at_a_time = self.change.lock();
        let begun = Instant::now();
        let mut generation = Generation::clone(&self.node.generation.load());
        let mut left = Vec::with_capacity(ready.len());
        for (id, deployment) in ready {
            let before = generation.deployment(&id).cloned();
            let after = deployment.as_ref().map(|deployment| deployment.version);
            match deployment {
                Some(deployment) => generation.insert(deployment),
                None => drop(generation.remove(&id)),
            }
            left.extend(before.filter(|before| Some(before.version) != after));
        }
        self.publish(generation, view);
        self.node.metrics.swaps.count(begun.elapsed());
        left.into_iter().for_each(|before| self.node.metrics.retire(&before.id, before.version));
    }

    fn publish(&self, generation: Generation, view: &FleetView) {
        self.node.metrics.apps.set(generation.len() as i64);
        self.node.metrics.rev.set(view.rev as i64);
        self.node.generation.store(Arc::new(generation));
    }

    /// Brings the certificate table to the view's. One that cannot be used leaves the one before it in force. Only what
    /// differs is touched: the table of a node with 10,000 apps has as many names.
    fn swap_certificates(&self, view: &FleetView) {
        let mut opened = self.opened.lock();
        let mut table = CertificateTable::clone(&self.certificates.load());
        opened.retain(|host, _| {
            let stays = view.certificates.contains_key(host);
            if !stays {
                table.remove(host);
            }
            stays
        });
        for (host, certificate) in &view.certificates {
            if opened.get(host).is_some_and(|before| Arc::ptr_eq(before, certificate)) {
                continue;
            }
            match self.open(certificate) {
                Ok(key) => {
                    table.insert(host.clone(), key);
                    opened.insert(host.clone(), certificate.clone());
                }
                Err(why) => {
                    tracing::error!(%host, "the certificate is unusable, the one before it stays: {why}");
                }
            }
        }
        self.certificates.store(Arc::new(table));
    }

    fn open(&self, certificate: &Certificate) -> Result<Arc<CertifiedKey>, String> {
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
        let Activation { view, changed, certificates_changed } = activation;
        // Certificates first: a new host must not be routed before its handshake can succeed.
        if certificates_changed {
            self.swap_certificates(&view);
        }
        // Deletions need no code and wait for nobody.
        let (kept, gone): (Vec<AppId>, Vec<AppId>) =
            changed.into_iter().partition(|id| view.active(id).is_some());
        if !gone.is_empty() {
            self.swap(&view, gone.into_iter().map(|id| (id, None)).collect());
        }

        let mut refused = Vec::new();
        for group in kept.chunks(GROUP_APPS) {
            let prepared = stream::iter(group.to_vec()).map(|id| async {
                let outcome = self.prepare(&view, &id).await;
                (id, outcome)
            });
            let prepared: Vec<_> = prepared.buffer_unordered(LOADS_AT_ONCE_MAX).collect().await;
            let mut ready = Vec::with_capacity(prepared.len());
            for (id, outcome) in prepared {
                match outcome {
                    Prepared::Ready(deployment) => ready.push((id, Some(deployment))),
                    Prepared::Gone => ready.push((id, None)),
                    Prepared::Refused(nack) => refused.push((id, nack)),
                    Prepared::WithOtherCode(deployment, nack) => {
                        ready.push((id.clone(), Some(deployment)));
                        refused.push((id, nack));
                    }
                }
            }
            self.swap(&view, ready);
        }
        refused
    }

    fn report(&self) -> Report {
        let generation = self.node.generation.load();
        let asked = generation.deployments().filter(|deployment| deployment.metrics.has_requests());
        let counters = asked.map(|d| d.metrics.report(&d.id, d.version));
        let in_flight = self.node.executions.running() + self.node.files.running();
        self.node.metrics.in_flight.set(in_flight as i64);
        self.node.metrics.access_lines_dropped.set(self.node.access_log.dropped() as i64);
        Report {
            apps: counters.collect(),
            apps_dropped: 0,
            health: NodeHealth {
                started_ms: self.started_ms,
                apps: generation.len() as u64,
                code_bytes: self.node.code.bytes(),
                in_flight: in_flight as u64,
            },
        }
        .bounded()
    }

    fn inspect(&self, id: &AppId) -> Option<Serving> {
        let generation = self.node.generation.load();
        let Deployment { version, state, code, .. } = &**generation.deployment(id)?;
        Some(Serving { version: *version, version_rev: state.rev, code: code.mapped() })
    }

    fn follow(&self, follow: Follow) {
        self.node.metrics.live.follow(Now::get(), follow);
    }

    fn tick(&self) {
        self.node.metrics.live.expire(Now::get());
    }

    fn logs(&self) -> Vec<AppLogs> {
        self.node.metrics.live.tell(Now::get())
    }

    fn logs_taken(&self) {
        self.node.metrics.live.taken();
    }
}

#[cfg(test)]
mod tests {
    use artifact::{Digest, Fingerprint};

    use super::*;
    use crate::testing::{Shop, local};

    #[test]
    fn a_release_is_swapped_in_and_a_refused_one_leaves_the_one_before() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish("hello", 1, "wasi-hello");
            assert_eq!(shop.activate(&["hello"]).await, []);
            assert_eq!(shop.serves("hello"), Some((1, "wasi-hello")));

            shop.publish("hello", 2, "fastly-hello");
            shop.spoil("fastly-hello");
            let refused = shop.activate(&["hello"]).await;
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].1.code, NackCode::DigestMismatch, "{:?}", refused[0].1);
            assert_eq!(shop.serves("hello"), Some((1, "wasi-hello")));
            assert!(!shop.metrics().contains("version=\"2\""), "a refused version leaves no series");
        });
    }

    #[test]
    fn each_version_has_the_secrets_it_pinned_and_a_rollback_brings_them_back() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish_with_secret("hello", 1, "wasi-hello", "old", 1);
            shop.activate(&["hello"]).await;
            shop.publish_with_secret("hello", 2, "wasi-hello", "new", 1);
            shop.activate(&["hello"]).await;
            assert_eq!(shop.secret("hello").as_deref(), Some("new"));
            shop.publish_more_artifacts("hello");
            shop.activate(&["hello"]).await;
            assert_eq!(shop.secret("hello").as_deref(), Some("new"), "a recompilation changes no secret");
            shop.release("hello", 1);
            shop.activate(&["hello"]).await;
            assert_eq!(shop.secret("hello").as_deref(), Some("old"));
        });
    }

    #[test]
    fn a_secret_that_does_not_open_refuses_its_version_by_name() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish_with_secret("hello", 1, "wasi-hello", "good", 1);
            assert_eq!(shop.activate(&["hello"]).await, []);
            shop.publish_with_secret("hello", 2, "wasi-hello", "sealed by a stranger", 9);
            let refused = shop.activate(&["hello"]).await;
            assert_eq!(refused[0].1.code, NackCode::LoadFail);
            assert!(refused[0].1.detail.starts_with("the secret KEY: "), "{}", refused[0].1.detail);
            assert_eq!(
                (shop.serves("hello"), shop.secret("hello")),
                (Some((1, "wasi-hello")), Some("good".into()))
            );
            shop.start(&[("hello", 2)]);
            assert_eq!(shop.serves("hello"), None, "not served at start either");
        });
    }

    #[test]
    fn an_app_deleted_and_made_anew_under_the_same_number_is_another_app() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish("phoenix", 1, "wasi-hello");
            shop.activate(&["phoenix"]).await;
            shop.delete("phoenix");
            shop.publish("phoenix", 1, "fastly-hello");
            assert_eq!(shop.activate(&["phoenix"]).await, []);
            assert_eq!(shop.serves("phoenix"), Some((1, "fastly-hello")));
            shop.delete("phoenix");
            shop.activate(&["phoenix"]).await;
            assert_eq!(shop.serves("phoenix"), None);
        });
    }

    #[test]
    fn at_start_only_what_was_brought_up_before_serves_and_nothing_is_loaded() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        shop.publish("proven", 1, "wasi-hello");
        shop.publish("new", 1, "wasi-hello");
        shop.start(&[("proven", 1)]);
        assert_eq!(shop.serves("proven"), Some((1, "wasi-hello")));
        assert_eq!(shop.serves("new"), None);
        assert_eq!(shop.code_bytes(), 0);
    }

    #[test]
    fn a_recompiled_version_is_loaded_at_once_whatever_its_old_artifacts_failed_with() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish_without_artifacts("hello", 1, "wasi-hello");
            shop.start(&[("hello", 1)]);
            assert_eq!(shop.try_load("hello").await, Err(NackCode::Compat));
            shop.add_artifacts("hello", "wasi-hello");
            assert_eq!(shop.activate(&["hello"]).await, []);
            assert!(shop.is_loaded("hello"));
        });
    }

    #[test]
    fn other_code_for_the_version_that_serves_is_loaded_and_swapped_in_and_executions_end_on_the_old() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish("hello", 1, "wasi-hello");
            shop.activate(&["hello"]).await;
            let (first, old) = (shop.hold("hello").await, shop.serving("hello"));
            shop.publish_other_code("hello", "wasi-hello");
            assert_eq!(shop.activate(&["hello"]).await, []);
            assert_eq!(shop.serves("hello"), Some((1, "wasi-hello")), "no new version");
            assert!(shop.is_loaded("hello"), "before it serves");
            let second = shop.hold("hello").await;
            assert!(!Arc::ptr_eq(&first, &second), "the later one wins");
            // A request that took the old picture still gets the old code, also where it has to be loaded.
            let on_old = shop.node_code().get(&old, 1, crate::code::Urgency::Request).await;
            assert!(on_old.is_ok() && !Arc::ptr_eq(&second, &on_old.unwrap()));

            // Code that this node cannot take leaves what serves, and the next good one mends it.
            shop.publish_code_nobody_has("hello");
            let refused = shop.activate(&["hello"]).await;
            assert_eq!(refused.len(), 1);
            assert!(Arc::ptr_eq(&second, &shop.hold("hello").await));
            shop.publish_other_code("hello", "wasi-hello");
            assert_eq!(shop.activate(&["hello"]).await, []);
        });
    }

    #[test]
    fn a_restart_begins_with_the_code_that_came_up_and_not_with_later_code_that_it_may_not_have() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish("hello", 1, "wasi-hello");
            let came_up = shop.latest("hello");
            shop.publish_code_nobody_has("hello");
            shop.publish_code_nobody_has("hello"); // and once more: the log's view does not have it any more
            shop.start_with_code(&[("hello", 1, Some(&came_up))]);
            shop.load("hello").await;
            let old = shop.hold("hello").await;

            // It is told of the later code as at every start: a refusal, and the app goes on.
            assert_eq!(shop.activate(&["hello"]).await.len(), 1);
            assert!(Arc::ptr_eq(&old, &shop.hold("hello").await));
            // Once there is some that can be had, it is taken, although the picture of the version was known before.
            shop.publish_other_code("hello", "wasi-hello");
            shop.start_with_code(&[("hello", 1, Some(&came_up))]);
            assert_eq!(shop.activate(&["hello"]).await, []);
            assert!(!Arc::ptr_eq(&old, &shop.hold("hello").await));
            assert_eq!(shop.serving("hello").artifact, Some(shop.latest("hello")));
        });
    }

    #[test]
    fn a_pin_whose_code_is_of_another_engine_begins_with_the_latest() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish("hello", 1, "wasi-hello");
            let fingerprint = Fingerprint(Digest::of(b"the engine before"));
            let pinned = ArtifactRef { fingerprint, ..shop.latest("hello") };
            shop.start_with_code(&[("hello", 1, Some(&pinned))]);
            shop.load("hello").await;
        });
    }

    #[test]
    fn a_node_that_serves_nothing_of_a_version_takes_the_code_before_one_it_cannot_load_and_says_so() {
        let Some(mut shop) = Shop::open(u64::MAX) else { return };
        local(async {
            shop.publish("hello", 1, "wasi-hello");
            let before = shop.latest("hello");
            shop.publish_code_nobody_has("hello");
            let refused = shop.activate(&["hello"]).await;
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert_eq!(shop.serves("hello"), Some((1, "wasi-hello")));
            assert_eq!(shop.serving("hello").artifact, Some(before));
            assert!(shop.metrics().contains("version=\"1\""), "its series are there");

            // What serves stays when it is told again, and a rollback to a version finds the code before, too.
            shop.publish("hello", 2, "fastly-hello");
            assert_eq!(shop.activate(&["hello"]).await, []);
            shop.release("hello", 1);
            assert_eq!(shop.activate(&["hello"]).await.len(), 1);
            assert_eq!(shop.serves("hello"), Some((1, "wasi-hello")));
        });
    }

    #[test]
    fn code_over_the_budget_leaves_memory_least_recently_used_first_and_comes_back() {
        let Some(mut shop) = Shop::open(1) else { return };
        local(async {
            for app in ["a", "b"] {
                shop.publish(app, 1, "wasi-hello");
                shop.activate(&[app]).await;
            }
            let one = shop.code_bytes_at_rest().await;
            assert!(one > 0);
            assert_eq!((shop.is_loaded("a"), shop.is_loaded("b")), (false, true));
            shop.load("a").await;
            assert_eq!((shop.is_loaded("a"), shop.is_loaded("b")), (true, false));
            assert_eq!(shop.code_bytes_at_rest().await, one);
            // More artifacts for the same version: its code stays counted and can still be evicted.
            shop.publish_more_artifacts("a");
            shop.activate(&["a"]).await;
            assert!(shop.is_loaded("a"));
            shop.load("b").await;
            assert_eq!((shop.is_loaded("a"), shop.code_bytes_at_rest().await), (false, one));
        });
    }
}
