//! Who a host name belongs to, and which app answers under which path of it.
//!
//! Two notions, because they end at different times:
//!
//! - **Belonging** (host name → tenant) starts with the first *version* that names the host and lasts as long as any
//!   version in the view names it, active or not. A rollback can bring any of them back, so a name given to another
//!   tenant in the meantime would make that rollback impossible, or worse, possible. It ends with the deletion of the
//!   tenant's last app that names the host (or when that app's last version naming it is pruned as too old).
//! - **Claims** ((host name, path prefix) → app) come from *active* versions alone: an app may publish a version with
//!   new routes before it releases it, and an inactive version must not block a neighbour of the same tenant.
//!   So a claim is checked twice: for the version being published, and again at each release, rollbacks included.
//!
//! A record names its hosts explicitly: "no hosts means `<app>.<domain>`" is resolved by the control plane before
//! writing, because nodes do not know the domain. A version without hosts belongs nowhere and claims nothing.

use artifact::{AppId, HostName, TenantName, manifest::AppConfig};
use rpds::RedBlackTreeMapSync;

use super::FleetView;

/// One host name in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// Whom it belongs to.
    pub tenant: TenantName,
    /// Path prefix ([`claim_path`] form) → the app that answers. Only active versions. May be empty.
    pub claims: RedBlackTreeMapSync<String, AppId>,
    /// Apps with versions that name the host, and how many.
    holders: RedBlackTreeMapSync<AppId, usize>,
}

impl HostState {
    /// Apps with versions that name the host, active or not.
    pub fn holders(&self) -> impl Iterator<Item = &AppId> {
        self.holders.keys()
    }
}

/// The routes of a version are somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimConflict {
    /// The host name belongs to another tenant. Which one is nobody's business.
    #[error("the host name {host} belongs to another tenant: choose another name")]
    OtherTenant {
        /// The name.
        host: HostName,
    },
    /// Another app of the same tenant answers there.
    #[error(
        "{host}{path_prefix} is answered by the app {app}: choose another path prefix or delete that app"
    )]
    OtherApp {
        /// The host name.
        host: HostName,
        /// The path prefix.
        path_prefix: String,
        /// Who answers.
        app: AppId,
    },
}

/// The form a path prefix is claimed in: prefixes match at segment boundaries, so `/api` and `/api/` are one claim.
pub fn claim_path(path_prefix: &str) -> &str {
    match path_prefix.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    }
}

impl FleetView {
    /// May `id` publish and release a version with this configuration?
    pub fn check_claim(&self, id: &AppId, config: &AppConfig) -> Result<(), ClaimConflict> {
        self.check_owner(id, &config.hosts)?;
        let path_prefix = claim_path(&config.path_prefix);
        for host in &config.hosts {
            let holder = self.hosts.get(host).and_then(|state| state.claims.get(path_prefix));
            if let Some(app) = holder.filter(|holder| *holder != id) {
                let (host, app, path_prefix) = (host.clone(), app.clone(), path_prefix.to_owned());
                return Err(ClaimConflict::OtherApp { host, path_prefix, app });
            }
        }
        Ok(())
    }

    pub(super) fn check_owner(&self, id: &AppId, hosts: &[HostName]) -> Result<(), ClaimConflict> {
        let foreign = |host: &&HostName| self.hosts.get(*host).is_some_and(|state| state.tenant != id.tenant);
        match hosts.iter().find(foreign) {
            Some(host) => Err(ClaimConflict::OtherTenant { host: host.clone() }),
            None => Ok(()),
        }
    }

    /// A version of `id` that names these hosts has come.
    pub(super) fn hold(&mut self, id: &AppId, hosts: &[HostName]) {
        for host in hosts {
            let known = self.hosts.get(host).cloned();
            let mut state = known.unwrap_or_else(|| HostState {
                tenant: id.tenant.clone(),
                claims: Default::default(),
                holders: Default::default(),
            });
            let versions = state.holders.get(id).copied().unwrap_or(0);
            state.holders.insert_mut(id.clone(), versions + 1);
            self.hosts.insert_mut(host.clone(), state);
        }
    }

    /// A version of `id` that named these hosts has gone. True when a certificate went with them.
    pub(super) fn let_go(&mut self, id: &AppId, hosts: &[HostName]) -> bool {
        let mut certificate_gone = false;
        for host in hosts {
            let Some(state) = self.hosts.get_mut(host) else { continue };
            match state.holders.get_mut(id) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(state.holders.remove_mut(id)),
            }
            if state.holders.is_empty() {
                self.hosts.remove_mut(host);
                certificate_gone |= self.certificates.remove_mut(host);
            }
        }
        certificate_gone
    }

    pub(super) fn claim(&mut self, id: &AppId, config: &AppConfig) {
        for host in &config.hosts {
            if let Some(state) = self.hosts.get_mut(host) {
                state.claims.insert_mut(claim_path(&config.path_prefix).to_owned(), id.clone());
            }
        }
    }

    pub(super) fn unclaim(&mut self, id: &AppId, config: &AppConfig) {
        let path_prefix = claim_path(&config.path_prefix);
        for host in &config.hosts {
            if let Some(state) = self.hosts.get_mut(host)
                && state.claims.get(path_prefix) == Some(id)
            {
                state.claims.remove_mut(path_prefix);
            }
        }
    }
}
