//! Active health: a small request to each origin of a backend, again and again while requests use the backend.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use artifact::manifest::origin::{Origin, OriginHost, Scheme};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode, Uri, header, uri::Authority};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared,
    connect::{Connected, Secure, connect},
    limits,
    origins::Group,
    pool::Room,
    tls::Tls,
};

/// What is asked, of whom.
pub struct Probe {
    pub origins: Vec<Origin>,
    pub tls: Option<Tls>,
    pub cert_host: Option<OriginHost>,
    pub authority: Authority,
    pub path: String,
    pub interval: Duration,
    /// Counts as one of the tenant's connections.
    pub _room: Room,
}

/// Counts a probing task, and says so when it ends, however it ends.
pub struct Probing {
    group: Arc<Group>,
    all: Arc<AtomicU32>,
}

impl Probing {
    /// The right to probe a backend that nobody probes yet.
    pub fn begin(group: &Arc<Group>, all: &Arc<AtomicU32>) -> Option<Probing> {
        if group.is_probed.swap(true, Relaxed) {
            return None;
        }
        let probing = Probing { group: group.clone(), all: all.clone() };
        (all.fetch_add(1, Relaxed) < limits::PROBED_MAX as u32).then_some(probing)
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
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
        let Ok(connected) = connect(&shared.resolver, origin, secure, until).await else { return false };
        let status = timeout_at(until, self.ask(connected)).await;
        matches!(status, Ok(Some(status)) if status.is_success())
    }

    async fn ask(&self, connected: Connected) -> Option<StatusCode> {
        let io = TokioIo::new(connected.stream);
        let request = Request::get(self.uri(connected.is_h2)?).header(header::USER_AGENT, "skerry-health");
        let response = if connected.is_h2 {
            let request = request.body(Empty::<Bytes>::new()).ok()?;
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.ok()?;
            tokio::select! {
                response = sender.send_request(request) => response,
                _ = connection => return None,
            }
        } else {
            let request = request.header(header::HOST, self.authority.as_str());
            let request = request.body(Empty::<Bytes>::new()).ok()?;
            let (mut sender, connection) = http1::handshake(io).await.ok()?;
            tokio::select! {
                response = sender.send_request(request) => response,
                _ = connection => return None,
            }
        };
        Some(response.ok()?.status())
    }

    fn uri(&self, is_h2: bool) -> Option<Uri> {
        if !is_h2 {
            return self.path.parse().ok();
        }
        let uri = Uri::builder().scheme("https").authority(self.authority.clone());
        uri.path_and_query(self.path.as_str()).build().ok()
    }
}
