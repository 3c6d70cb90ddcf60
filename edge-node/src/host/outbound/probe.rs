//! Active health: a small request to each origin of a backend, again and again while requests use the backend.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use artifact::{
    TenantName,
    manifest::origin::{Origin, OriginHost, Scheme},
};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared,
    connect::{Connected, Secure, connect},
    limits,
    made::Keeping,
    origins::Group,
    pool::Room,
    tls::Tls,
};

/// What is asked, of whom.
pub struct Probe {
    pub tenant: TenantName,
    pub origins: Vec<Origin>,
    pub tls: Option<Tls>,
    pub cert_host: Option<OriginHost>,
    /// What it gets as `Host` instead of its own.
    pub host: Option<String>,
    pub path: String,
    pub interval: Duration,
    /// Counts as one of the tenant's connections.
    pub _room: Room,
}

/// Counts a probing task, and says so when it ends, however it ends.
pub struct Probing {
    group: Arc<Group>,
    tenant: TenantName,
    all: Arc<Probed>,
}

/// Probing tasks of this node, by the tenants that have some.
#[derive(Default)]
pub struct Probed(Mutex<HashMap<TenantName, usize>>);

impl Probed {
    /// Counts one more, if there is room.
    fn take(&self, tenant: &TenantName) -> bool {
        let mut of_tenants = self.0.lock();
        let all: usize = of_tenants.values().sum();
        let own = of_tenants.get(tenant).copied().unwrap_or_default();
        if own >= limits::PROBED_PER_TENANT_MAX || all >= limits::PROBED_MAX {
            return false;
        }
        of_tenants.insert(tenant.clone(), own + 1);
        true
    }

    fn give_back(&self, tenant: &TenantName) {
        let mut of_tenants = self.0.lock();
        if let Some(own) = of_tenants.get_mut(tenant) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                of_tenants.remove(tenant);
            }
        }
    }
}

impl Probing {
    /// The right to probe a backend that nobody probes yet, and whose state later requests find.
    pub fn begin(group: &Arc<Group>, tenant: &TenantName, all: &Arc<Probed>) -> Option<Probing> {
        if !group.is_kept || group.is_probed.swap(true, Relaxed) {
            return None;
        }
        if !all.take(tenant) {
            group.unprobed();
            return None;
        }
        Some(Probing { group: group.clone(), tenant: tenant.clone(), all: all.clone() })
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.all.give_back(&self.tenant);
        self.group.unprobed();
    }
}

/// Probes until no request has used the backend for a while.
pub async fn run(shared: Arc<Shared>, probing: Probing, probe: Probe) {
    while !probing.group.is_unused() {
        let probes = probe.origins.iter().enumerate().map(async |(at, origin)| {
            probing.group.probed(at, probe.is_well(&shared, origin).await);
        });
        join_all(probes).await;
        sleep(probe.interval).await;
    }
}

impl Probe {
    async fn is_well(&self, shared: &Shared, origin: &Origin) -> bool {
        let until = Instant::now() + limits::PROBE_TIMEOUT;
        let tls = self.tls.as_ref().filter(|_| origin.scheme == Scheme::Https);
        let secure = tls.map(|tls| Secure { tls, cert_host: self.cert_host.as_ref() });
        let Ok(connected) =
            connect(&shared.resolver, &self.tenant, origin, secure, Keeping::default(), until).await
        else {
            return false;
        };
        let status = timeout_at(until, self.ask(origin, connected)).await;
        matches!(status, Ok(Some(status)) if status.is_success())
    }

    async fn ask(&self, origin: &Origin, connected: Connected) -> Option<StatusCode> {
        let io = TokioIo::new(connected.stream);
        let host = self.host.clone().unwrap_or_else(|| origin.authority());
        let uri = if connected.is_h2 { format!("https://{host}{}", self.path) } else { self.path.clone() };
        let request = Request::get(uri).header(header::USER_AGENT, "skerry-health");
        let response = if connected.is_h2 {
            let request = request.body(Empty::<Bytes>::new()).ok()?;
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
            tokio::select! {
                response = sender.send_request(request) => response,
                _ = connection => return None,
            }
        } else {
            let request = request.header(header::HOST, host);
            let request = request.body(Empty::<Bytes>::new()).ok()?;
            let (mut sender, connection) = http1::handshake(io).await.ok()?;
            tokio::select! {
                response = sender.send_request(request) => response,
                _ = connection => return None,
            }
        };
        Some(response.ok()?.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::outbound::{
        Outbound,
        origins::{GroupKey, Health},
    };

    #[tokio::test(start_paused = true)]
    async fn a_backend_is_probed_once_and_not_when_nobody_uses_it() {
        let shared = Outbound::default().0;
        let origin = Origin::parse("http://a.example").unwrap();
        let tenant: TenantName = "default".parse().unwrap();
        let probe = Some(("/up".to_owned(), 1));
        let key = GroupKey {
            tenant: tenant.clone(),
            origins: vec![origin.clone()],
            identity: None,
            host: None,
            cert_host: None,
            probe,
        };
        let group = shared.groups.get(key);
        let all = shared.groups.probing.clone();
        let probing = Probing::begin(&group, &tenant, &all).unwrap();
        assert!(Probing::begin(&group, &tenant, &all).is_none(), "it is probed");
        assert_eq!(all.0.lock()[&tenant], 1);
        (0..limits::PROBES_TO_DOWN).for_each(|_| group.probed(0, false));
        tokio::time::advance(limits::PROBED_UNUSED_MAX * 2).await;
        let probe = Probe {
            origins: vec![origin],
            tls: None,
            cert_host: None,
            host: None,
            path: "/up".into(),
            interval: Duration::from_millis(1),
            _room: shared.pool.room(&tenant).unwrap(),
            tenant: tenant.clone(),
        };
        run(shared.clone(), probing, probe).await; // ends by itself
        assert_eq!((all.0.lock().len(), shared.pool.open()), (0, 0));
        assert_eq!(group.health(0), Health::Unknown, "what probes said is forgotten with them");
        all.0.lock().insert(tenant.clone(), limits::PROBED_PER_TENANT_MAX);
        assert!(Probing::begin(&group, &tenant, &all).is_none(), "too many of the tenant");
        all.0.lock().remove(&tenant);
        all.0.lock().insert("other".parse().unwrap(), limits::PROBED_MAX);
        assert!(Probing::begin(&group, &tenant, &all).is_none(), "too many of the node");
        all.0.lock().clear();
        assert!(Probing::begin(&group, &tenant, &all).is_some());
    }
}
