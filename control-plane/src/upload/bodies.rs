//! What one append says. Runs under the log's writer lock, so numbers and claims are decided against the very state the
//! records follow.

use std::sync::Arc;

use artifact::{
    AppId, Digest, HostName, Lane,
    assets::IndexRef,
    manifest::AppConfig,
    record::{ArtifactRef, ArtifactSet, Body, RECORD_BYTES_MAX, Version, VersionNumber},
    seal::SecretsKey,
    secrets::PinnedSecret,
};
use fleet_sync_proto::{FleetView, projection::claims::claim_path};

use super::{DeployError, Reach};
use crate::{
    clock::now_ms,
    local_ca::{LocalCa, LocalCaError},
};

/// Apps of one tenant: a node holds 100,000 apps, and no tenant should take more than a tenth of it.
pub const APPS_PER_TENANT_MAX: usize = 10_000;
/// What stands around a version in its record: rev, epoch, time, actor and request key, at most.
const ENVELOPE_BYTES: usize = 1024;

/// A release that is ready to be published.
pub struct ReleasePlan {
    /// The app.
    pub id: AppId,
    /// The program.
    pub wasm: Digest,
    /// Its size.
    pub wasm_bytes: u64,
    /// The interface it speaks.
    pub lane: Lane,
    /// Its static files.
    pub assets: Option<IndexRef>,
    /// Checked, with its hosts resolved.
    pub config: AppConfig,
    /// The values it pins.
    pub pinned: Vec<PinnedSecret>,
    /// Native code.
    pub artifacts: Vec<ArtifactRef>,
    /// Mints what is missing.
    pub ca: Arc<LocalCa>,
    /// Seals their keys.
    pub secrets: SecretsKey,
    /// Which host names the caller may use.
    pub reach: Reach,
}

impl ReleasePlan {
    /// Version, native code if there is a program, missing certificates, release.
    pub fn bodies(self, view: &FleetView) -> Result<Vec<Body>, DeployError> {
        view.check_claim(&self.id, &self.config)?;
        check_reach(view, self.reach, &self.id, &self.config)?;
        if view.app(&self.id).is_none() && apps_of_tenant(view, &self.id) >= APPS_PER_TENANT_MAX {
            return Err(DeployError::TooManyApps(self.id.tenant));
        }
        let number = view.next_version(&self.id);
        let hosts = self.config.hosts.clone();
        let certificates = certificates_for(view, &hosts, &self.ca, &self.secrets)?;
        let release = Body::Release { id: self.id.clone(), version: number };
        let mut bodies = vec![self.version(number)?];
        if self.wasm_bytes > 0 {
            bodies.push(self.artifacts(number));
        }
        bodies.extend(certificates);
        bodies.push(release);
        Ok(bodies)
    }

    fn version(&self, number: VersionNumber) -> Result<Body, DeployError> {
        let body = Body::Version(Version {
            id: self.id.clone(),
            version: number,
            wasm: self.wasm,
            wasm_bytes: self.wasm_bytes,
            lane: self.lane,
            config: self.config.clone(),
            secrets: self.pinned.clone(),
            assets: self.assets,
        });
        // The manifest's bounds are on plain bytes; JSON escapes can make six of one.
        let bytes = serde_json::to_vec(&body).map_or(usize::MAX, |text| text.len());
        if bytes > RECORD_BYTES_MAX - ENVELOPE_BYTES {
            return Err(DeployError::ConfigTooLarge(bytes));
        }
        Ok(body)
    }

    fn artifacts(self, number: VersionNumber) -> Body {
        Body::ArtifactSet(ArtifactSet { id: self.id, version: number, artifacts: self.artifacts })
    }
}

/// See [`Reach`].
pub fn check_reach(
    view: &FleetView,
    reach: Reach,
    id: &AppId,
    config: &AppConfig,
) -> Result<(), DeployError> {
    let path_prefix = claim_path(&config.path_prefix);
    let is_others = |host: &&HostName| {
        view.hosts.get(*host).is_some_and(|state| {
            state.claims.get(path_prefix) != Some(id) && state.holders().any(|holder| holder != id)
        })
    };
    match reach {
        Reach::Tenant => Ok(()),
        Reach::App => match config.hosts.iter().find(is_others) {
            Some(host) => Err(DeployError::HostOfOtherApp { host: host.clone() }),
            None => Ok(()),
        },
    }
}

/// A certificate for each of `hosts` that has none, or one that is due.
pub fn certificates_for(
    view: &FleetView,
    hosts: &[HostName],
    ca: &LocalCa,
    secrets: &SecretsKey,
) -> Result<Vec<Body>, LocalCaError> {
    let now_ms = now_ms();
    let lacking =
        hosts.iter().filter(|host| view.certificates.get(*host).is_none_or(|held| ca.is_due(held, now_ms)));
    lacking.map(|host| ca.mint(host, secrets, now_ms).map(Body::Certificate)).collect()
}

fn apps_of_tenant(view: &FleetView, id: &AppId) -> usize {
    crate::plane::apps_of(view, &id.tenant).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(config: AppConfig) -> (tempfile::TempDir, ReleasePlan) {
        let folder = tempfile::tempdir().unwrap();
        let plan = ReleasePlan {
            id: AppId { tenant: "a".parse().unwrap(), app: "shop".parse().unwrap() },
            wasm: Digest::of(b"wasm"),
            wasm_bytes: 4,
            lane: Lane::Wasi,
            assets: None,
            config,
            pinned: vec![],
            artifacts: vec![],
            ca: Arc::new(LocalCa::open(folder.path(), now_ms()).unwrap()),
            secrets: SecretsKey::from_bytes([1; 32]),
            reach: Reach::Tenant,
        };
        (folder, plan)
    }

    #[test]
    fn one_append_is_version_code_certificates_and_release_in_this_order() {
        let hosts = vec!["a.example".parse().unwrap(), "b.example".parse().unwrap()];
        let (_folder, plan) = plan(AppConfig { hosts, ..AppConfig::default() });
        let bodies = plan.bodies(&FleetView::new()).unwrap();
        assert!(matches!(&bodies[0], Body::Version(version) if version.version == 1));
        assert!(matches!(&bodies[1], Body::ArtifactSet(set) if set.version == 1));
        assert!(matches!((&bodies[2], &bodies[3]), (Body::Certificate(_), Body::Certificate(_))));
        assert!(matches!(&bodies[4], Body::Release { version: 1, .. }));
        assert_eq!(bodies.len(), 5);
    }

    #[test]
    fn configuration_that_grows_over_a_record_when_escaped_is_refused() {
        let value = "\u{1}".repeat(8 * 1024);
        let config = (0..8).map(|n| (format!("k{n}"), value.clone())).collect();
        let config = AppConfig { config, ..AppConfig::default() };
        assert!(config.mistakes().is_empty(), "within the manifest's own bounds");
        let (_folder, plan) = plan(config);
        assert!(matches!(plan.bodies(&FleetView::new()), Err(DeployError::ConfigTooLarge(_))));
    }
}
