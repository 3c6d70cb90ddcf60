//! One consistent picture of the fleet: which host and path belong to which version of which app.
//!
//! A generation is immutable and swapped by pointer; a request takes one at its start and sees no other. Its maps are
//! persistent (shared structure), so that a deploy in a fleet of 100,000 apps costs one path of the tree. Code is not
//! in it: a [`Deployment`] holds a place for code that is loaded on first use and may be evicted ([`crate::code`]).

use std::sync::Arc;

use artifact::{
    AppId, Digest, HostName, Lane,
    manifest::{AppConfig, Limits},
    record::{ArtifactRef, VersionNumber},
};
use fleet_sync_replica::VersionState;
use http::HeaderValue;
use rpds::HashTrieMapSync;

use crate::{
    account::metrics::AppMetrics, assets::Site, code::CodeSlot, host::secrets::Secrets, lane::Standing,
};

/// A version of an app, as this node serves it.
pub struct Deployment {
    /// The app.
    pub id: AppId,
    /// Its version.
    pub version: VersionNumber,
    /// The interface it speaks.
    pub lane: Lane,
    /// The program its code is made from.
    pub wasm: Digest,
    /// Routes, bindings and limits.
    pub config: AppConfig,
    /// The value of `Allow`, if it answers some methods only: see [`allow`].
    pub allow: Option<HeaderValue>,
    /// The version as the log has it.
    pub state: Arc<VersionState>,
    /// Its native code on this node: the latest of the log, or what came up before that. None where none was made.
    pub artifact: Option<ArtifactRef>,
    /// Its static files, if it has any.
    pub site: Option<Arc<Site>>,
    /// Its secrets, opened.
    pub secrets: Arc<Secrets>,
    /// Its code, once loaded. Shared with a later picture of the same version.
    pub code: Arc<CodeSlot>,
    /// Its counters, looked up once.
    pub metrics: Arc<AppMetrics>,
    /// How its executions behaved lately. Shared with a later picture of the same version.
    pub standing: Arc<Standing>,
}

impl Deployment {
    /// The limits of one execution.
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// The same version in a later picture of it, with code that is not loaded yet.
    pub fn with(&self, state: Arc<VersionState>, artifact: Option<ArtifactRef>) -> Deployment {
        Deployment {
            id: self.id.clone(),
            version: self.version,
            lane: self.lane,
            wasm: self.wasm,
            config: self.config.clone(),
            allow: self.allow.clone(),
            state,
            artifact,
            site: self.site.clone(),
            secrets: self.secrets.clone(),
            code: Default::default(),
            metrics: self.metrics.clone(),
            standing: self.standing.clone(),
        }
    }
}

/// What `Allow` says of an app that answers some methods only. Made once for each deployment: anybody may ask for a method
/// that is not answered, as often as they like.
pub fn allow(config: &AppConfig) -> Option<HeaderValue> {
    let methods = config.methods.as_ref()?;
    HeaderValue::from_maybe_shared(bytes::Bytes::from(methods.join(", "))).ok()
}

/// The routes of one host name, longest prefix first.
#[derive(Clone, Default)]
struct HostRoutes {
    routes: Vec<Arc<Deployment>>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Generation {
    hosts: HashTrieMapSync<HostName, HostRoutes>,
    deployments: HashTrieMapSync<AppId, Arc<Deployment>>,
}

impl Generation {
    /// The deployment that answers `path` on `host`: the longest matching prefix.
    pub fn route(&self, host: &HostName, path: &str) -> Option<&Arc<Deployment>> {
        let routes = &self.hosts.get(host)?.routes;
        routes.iter().find(|deployment| prefix_matches(&deployment.config.path_prefix, path))
    }

    /// What serves an app now.
    pub fn deployment(&self, id: &AppId) -> Option<&Arc<Deployment>> {
        self.deployments.get(id)
    }

    /// How many apps it serves.
    pub fn len(&self) -> usize {
        self.deployments.size()
    }

    /// True when it serves none.
    pub fn is_empty(&self) -> bool {
        self.deployments.is_empty()
    }

    /// Every deployment.
    pub fn deployments(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.deployments.values()
    }

    /// Puts a deployment in the place of what served its app before. Its routes are its own from now on: the log lets
    /// only one app claim a host and prefix, so whoever still holds one is an app that was held back at an older
    /// version, and has lost it.
    pub fn insert(&mut self, deployment: Arc<Deployment>) {
        self.remove(&deployment.id);
        for host in &deployment.config.hosts {
            let mut entry = self.hosts.get(host).cloned().unwrap_or_default();
            let prefix = &deployment.config.path_prefix;
            entry.routes.retain(|other| bare(&other.config.path_prefix) != bare(prefix));
            let length = prefix.len();
            let at = entry.routes.partition_point(|other| other.config.path_prefix.len() >= length);
            entry.routes.insert(at, deployment.clone());
            self.hosts.insert_mut(host.clone(), entry);
        }
        self.deployments.insert_mut(deployment.id.clone(), deployment);
    }

    /// Takes an app out.
    pub fn remove(&mut self, id: &AppId) -> Option<Arc<Deployment>> {
        let deployment = self.deployments.get(id).cloned()?;
        self.deployments.remove_mut(id);
        for host in &deployment.config.hosts {
            let Some(entry) = self.hosts.get_mut(host) else { continue };
            entry.routes.retain(|other| other.id != *id);
            if entry.routes.is_empty() {
                self.hosts.remove_mut(host);
            }
        }
        Some(deployment)
    }
}

/// `/api` and `/api/` are the same claim.
fn bare(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// Does `path` lie under `prefix`? At a segment boundary: `/api` holds `/api` and `/api/x`, not `/apix`.
fn prefix_matches(prefix: &str, path: &str) -> bool {
    match path.strip_prefix(prefix) {
        Some(rest) => prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'),
        // `/api/` also answers for `/api`.
        None => prefix.strip_suffix('/').is_some_and(|bare| path == bare),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_is_made_once_and_shared() {
        let deployment = crate::testing::deployment(
            "shop",
            1,
            AppConfig { methods: Some(vec!["GET".into(), "PURGE".into()]), ..AppConfig::default() },
        );
        let of = |value: &HeaderValue| (value.to_str().unwrap().to_owned(), value.as_bytes().as_ptr());
        let (made, answered) = (deployment.allow.clone().unwrap(), deployment.allow.clone().unwrap());
        assert_eq!(of(&made).0, "GET, PURGE");
        assert_eq!(of(&made), of(&answered), "the same bytes");
        assert_eq!(allow(&AppConfig::default()), None);
    }

    #[test]
    fn prefixes_match_at_segment_boundaries() {
        for (prefix, path, matches) in [
            ("/", "/", true),
            ("/", "/anything", true),
            ("/api", "/api", true),
            ("/api", "/api/x", true),
            ("/api", "/apix", false),
            ("/api/", "/api", true),
            ("/api/", "/api/x", true),
            ("/api", "/", false),
            ("/", "*", false),
        ] {
            assert_eq!(prefix_matches(prefix, path), matches, "{prefix} {path}");
        }
    }

    fn deployment(app: &str, version: u64, hosts: &[&str], prefix: &str) -> Arc<Deployment> {
        let config = AppConfig {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            path_prefix: prefix.into(),
            ..AppConfig::default()
        };
        Arc::new(crate::testing::deployment(app, version, config))
    }

    #[test]
    fn a_route_has_one_owner_the_newest() {
        let mut generation = Generation::default();
        generation.insert(deployment("held-back", 1, &["a.example", "b.example"], "/"));
        generation.insert(deployment("new-owner", 1, &["a.example"], "/"));
        let owner = |generation: &Generation, host: &str| {
            generation.route(&host.parse().unwrap(), "/").map(|d| d.id.app.to_string()).unwrap_or_default()
        };
        assert_eq!(
            (owner(&generation, "a.example"), owner(&generation, "b.example")),
            ("new-owner".into(), "held-back".into())
        );
        generation.remove(&deployment("new-owner", 1, &[], "/").id);
        assert_eq!(owner(&generation, "a.example"), "", "what was lost does not come back by itself");
    }

    #[test]
    fn longest_prefix_wins_and_a_new_version_replaces_the_old() {
        let mut generation = Generation::default();
        generation.insert(deployment("site", 1, &["a.example"], "/"));
        generation.insert(deployment("api", 1, &["a.example"], "/api"));
        let host = "a.example".parse().unwrap();
        let app = |generation: &Generation, path: &str| {
            generation.route(&host, path).map(|d| format!("{}@{}", d.id.app, d.version))
        };
        assert_eq!(app(&generation, "/api/x").unwrap(), "api@1");
        assert_eq!(app(&generation, "/apix").unwrap(), "site@1");

        let before = generation.clone();
        generation.insert(deployment("api", 2, &["b.example"], "/"));
        assert_eq!(app(&generation, "/api/x").unwrap(), "site@1", "the new version gave up the old host");
        assert_eq!(app(&before, "/api/x").unwrap(), "api@1", "an earlier generation does not change");
        generation
            .remove(&"site".parse().map(|app| AppId { tenant: "default".parse().unwrap(), app }).unwrap());
        assert_eq!(app(&generation, "/"), None);
    }
}
