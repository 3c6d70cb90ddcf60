//! Prometheus series. Handles are looked up once per version, never per request, and the number of series is bounded:
//! the first [`VERSIONS_MAX`] versions have their own, later ones share `other`, and a version that is no longer served
//! gives its series back.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use artifact::{AppId, record::VersionNumber};
use fleet_sync_replica::VersionCounters;
use parking_lot::Mutex;
use prometheus::{
    Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::{
    live::{AppTail, Live},
    node_metrics::{CodeMetrics, SwapMetrics},
};
use crate::{exchange::Bill, failure::Failure, host::outbound::FetchError, limits::Limit};

/// (app, version) pairs with series of their own; eleven series each, and one per kind of failure they have had.
pub const VERSIONS_MAX: usize = 1_000;
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const VERSION_LABELS: [&str; 3] = ["tenant", "app", "version"];

/// Every series of a node.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    failures: IntCounterVec,
    limits_met: IntCounterVec,
    cpu_us: IntCounterVec,
    instantiate_us: IntCounterVec,
    instances: IntCounterVec,
    fetches: IntCounterVec,
    fetch_failures: IntCounterVec,
    memory_peak_bytes: IntGaugeVec,
    unrouted: IntCounterVec,
    /// Guests running now.
    pub in_flight: IntGauge,
    /// Native code in memory.
    pub code: CodeMetrics,
    /// Generations published.
    pub swaps: SwapMetrics,
    /// Bytes of the memory for guests that slots and executions have.
    pub guest_memory_bytes: IntGauge,
    /// All of it.
    pub guest_memory_bytes_max: IntGauge,
    /// Apps in the generation.
    pub apps: IntGauge,
    /// Last applied position of the release log.
    pub rev: IntGauge,
    /// Access-log lines dropped because the writer was behind.
    pub access_lines_dropped: IntGauge,
    /// The last lines of every app; here because a version's handles are looked up here.
    pub live: Live,
    versions: Mutex<HashMap<(AppId, VersionNumber), Weak<AppMetrics>>>,
}

/// The handles of one version.
pub struct AppMetrics {
    requests: [IntCounter; 6],
    failures: [OnceLock<IntCounter>; Failure::ALL.len()],
    all_failures: IntCounterVec,
    limits_met: [OnceLock<IntCounter>; Limit::ALL.len()],
    all_limits_met: IntCounterVec,
    cpu_us: IntCounter,
    instantiate_us: IntCounter,
    instances: IntCounter,
    fetches: IntCounter,
    fetch_failures: [OnceLock<IntCounter>; FetchError::ALL.len()],
    all_fetch_failures: IntCounterVec,
    memory_peak_bytes: IntGauge,
    labels: [String; 3],
    /// Where the lines of its app are remembered.
    pub tail: Arc<AppTail>,
    own: OwnCounters,
    /// Its series were given back: requests that end later make no new ones.
    retired: AtomicBool,
}

/// What the node reports upwards for exactly this version, also where its series are shared.
#[derive(Default)]
struct OwnCounters {
    requests: AtomicU64,
    status_5xx: AtomicU64,
    guest_faults: AtomicU64,
    cpu_ns: AtomicU64,
}

impl Metrics {
    /// A fresh registry.
    pub fn new() -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let class = ["tenant", "app", "version", "status"];
        let code = ["tenant", "app", "version", "code"];
        let counters = |name, help, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let memory_peak_bytes = IntGaugeVec::new(
            Opts::new("skerry_memory_peak_bytes", "Largest linear memory of one execution so far."),
            &VERSION_LABELS,
        )?;
        registry.register(Box::new(memory_peak_bytes.clone()))?;
        Ok(Metrics {
            requests: counters(
                "skerry_requests_total",
                "Requests that reached an app, by status class.",
                &class,
            )?,
            failures: counters(
                "skerry_failures_total",
                "Requests answered by the node for their app, by code.",
                &code,
            )?,
            limits_met: counters(
                "skerry_limits_met_total",
                "Executions that met a limit, by its name.",
                &["tenant", "app", "version", "limit"],
            )?,
            cpu_us: counters("skerry_cpu_microseconds_total", "CPU time of executions.", &VERSION_LABELS)?,
            instantiate_us: counters(
                "skerry_instantiate_microseconds_total",
                "Time to make stores and instances.",
                &VERSION_LABELS,
            )?,
            instances: counters("skerry_instances_total", "Instances made.", &VERSION_LABELS)?,
            fetches: counters("skerry_fetches_total", "Requests sent by guests.", &VERSION_LABELS)?,
            fetch_failures: counters(
                "skerry_fetch_failures_total",
                "Requests of guests that got no response, by code.",
                &code,
            )?,
            unrouted: counters("skerry_unrouted_total", "Requests that reached no app, by code.", &["code"])?,
            in_flight: gauge("skerry_executions_in_flight", "Guests running now.")?,
            code: CodeMetrics::new(&registry)?,
            swaps: SwapMetrics::new(&registry)?,
            guest_memory_bytes: gauge(
                "skerry_guest_memory_bytes",
                "Bytes of the memory for guests that slots and executions have.",
            )?,
            guest_memory_bytes_max: gauge("skerry_guest_memory_bytes_max", "Bytes of memory for guests.")?,
            apps: gauge("skerry_apps", "Apps this node answers for.")?,
            rev: gauge("skerry_rev", "Last applied position of the release log.")?,
            access_lines_dropped: gauge("skerry_access_lines_dropped", "Access-log lines dropped so far.")?,
            live: Live::default(),
            memory_peak_bytes,
            registry,
            versions: Mutex::default(),
        })
    }

    /// The handles of a version; shared ones when there are too many.
    pub fn version(&self, id: &AppId, version: VersionNumber) -> Arc<AppMetrics> {
        let entry = (id.clone(), version);
        let mut versions = self.versions.lock();
        if let Some(known) = versions.get(&entry).and_then(Weak::upgrade) {
            return known;
        }
        let own = versions.contains_key(&entry) || versions.len() < VERSIONS_MAX;
        let labels = match own {
            true => [id.tenant.to_string(), id.app.to_string(), version.to_string()],
            false => ["other".into(), "other".into(), "0".into()],
        };
        let [tenant, app, number] = &labels;
        let of = |counters: &IntCounterVec| counters.with_label_values(&[tenant, app, number]);
        let handles = Arc::new(AppMetrics {
            requests: CLASSES.map(|class| self.requests.with_label_values(&[tenant, app, number, class])),
            failures: Default::default(),
            all_failures: self.failures.clone(),
            limits_met: Default::default(),
            all_limits_met: self.limits_met.clone(),
            cpu_us: of(&self.cpu_us),
            instantiate_us: of(&self.instantiate_us),
            instances: of(&self.instances),
            fetches: of(&self.fetches),
            fetch_failures: Default::default(),
            all_fetch_failures: self.fetch_failures.clone(),
            memory_peak_bytes: self.memory_peak_bytes.with_label_values(&[tenant, app, number]),
            tail: self.live.app(id),
            own: OwnCounters::default(),
            retired: AtomicBool::new(false),
            labels,
        });
        if own {
            versions.insert(entry, Arc::downgrade(&handles));
        }
        handles
    }

    /// Gives back the series of a version that is no longer served.
    pub fn retire(&self, id: &AppId, version: VersionNumber) {
        let Some(handles) = self.versions.lock().remove(&(id.clone(), version)) else { return };
        if let Some(handles) = handles.upgrade() {
            handles.retired.store(true, Relaxed);
        }
        let (tenant, app, version) = (id.tenant.as_str(), id.app.as_str(), version.to_string());
        let labels = [tenant, app, version.as_str()];
        // Absent series are fine: a version may never have answered.
        for class in CLASSES {
            let _ = self.requests.remove_label_values(&[tenant, app, version.as_str(), class]);
        }
        for failure in Failure::ALL {
            let _ = self.failures.remove_label_values(&[tenant, app, version.as_str(), failure.code()]);
        }
        for limit in Limit::ALL {
            let _ = self.limits_met.remove_label_values(&[tenant, app, version.as_str(), limit.name()]);
        }
        for error in FetchError::ALL {
            let _ = self.fetch_failures.remove_label_values(&[tenant, app, version.as_str(), error.code()]);
        }
        for counters in [&self.cpu_us, &self.instantiate_us, &self.instances, &self.fetches] {
            let _ = counters.remove_label_values(&labels);
        }
        let _ = self.memory_peak_bytes.remove_label_values(&labels);
    }

    /// Counts a request that reached no app.
    pub fn unrouted(&self, failure: Failure) {
        self.unrouted.with_label_values(&[failure.code()]).inc();
    }

    /// The exposition text (Prometheus text format 0.0.4).
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Encoding fails only for duplicate or nameless families, which `new` would have refused.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

impl AppMetrics {
    /// Counts one request. `status` 0: the client was gone before the response.
    pub fn count(&self, status: u16, failure: Option<Failure>, bill: &Bill) {
        self.requests[usize::from(status / 100).min(5)].inc();
        self.cpu_us.inc_by(bill.cpu_ns() / 1_000);
        self.own.requests.fetch_add(1, Relaxed);
        self.own.cpu_ns.fetch_add(bill.cpu_ns(), Relaxed);
        if bill.instantiate_ns() > 0 {
            self.instances.inc();
            self.instantiate_us.inc_by(bill.instantiate_ns().div_ceil(1_000));
        }
        let peak = bill.memory_peak_bytes() as i64;
        if peak > self.memory_peak_bytes.get() {
            self.memory_peak_bytes.set(peak);
        }
        if status >= 500 {
            self.own.status_5xx.fetch_add(1, Relaxed);
        }
        if let Some(failure) = failure {
            self.count_failure(failure);
        }
        for limit in bill.limits_met().iter() {
            self.count_limit(limit);
        }
    }

    fn count_limit(&self, limit: Limit) {
        if self.retired.load(Relaxed) {
            return;
        }
        let [tenant, app, version] = &self.labels;
        let counter = self.limits_met[limit as usize]
            .get_or_init(|| self.all_limits_met.with_label_values(&[tenant, app, version, limit.name()]));
        counter.inc();
    }

    fn count_failure(&self, failure: Failure) {
        if failure.is_guests_fault() {
            self.own.guest_faults.fetch_add(1, Relaxed);
        }
        if self.retired.load(Relaxed) {
            return;
        }
        let [tenant, app, version] = &self.labels;
        let counter = self.failures[failure as usize]
            .get_or_init(|| self.all_failures.with_label_values(&[tenant, app, version, failure.code()]));
        counter.inc();
    }

    /// Counts a request that the guest sent, and why it got no response.
    pub fn fetched(&self, error: Option<FetchError>) {
        self.fetches.inc();
        let Some(error) = error else { return };
        if self.retired.load(Relaxed) {
            return;
        }
        let [tenant, app, version] = &self.labels;
        if let Some(counter) = self.fetch_failures.get(error.index()) {
            let new = || self.all_fetch_failures.with_label_values(&[tenant, app, version, error.code()]);
            counter.get_or_init(new).inc();
        }
    }

    /// Requests that guests sent so far.
    pub fn fetches(&self) -> u64 {
        self.fetches.get()
    }

    /// Was anything counted yet?
    pub fn has_requests(&self) -> bool {
        self.own.requests.load(Relaxed) > 0
    }

    /// The counters reported to the control plane.
    pub fn report(&self, id: &AppId, version: VersionNumber) -> VersionCounters {
        VersionCounters {
            id: id.clone(),
            version,
            requests: self.own.requests.load(Relaxed),
            status_5xx: self.own.status_5xx.load(Relaxed),
            guest_faults: self.own.guest_faults.load(Relaxed),
            cpu_us: self.own.cpu_ns.load(Relaxed) / 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(app: &str) -> AppId {
        AppId { tenant: "default".parse().unwrap(), app: app.parse().unwrap() }
    }

    fn render(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render()).unwrap()
    }

    #[test]
    fn a_request_is_counted_under_its_app_and_version() {
        let metrics = Metrics::new().unwrap();
        let version = metrics.version(&id("hello"), 3);
        version.count(200, None, &Bill::default());
        let bill = Bill::default();
        bill.meet(Limit::Cpu);
        bill.meet(Limit::Log);
        version.count(504, Some(Failure::CpuLimit), &bill);
        let text = render(&metrics);
        for line in [
            r#"skerry_requests_total{app="hello",status="2xx",tenant="default",version="3"} 1"#,
            r#"skerry_requests_total{app="hello",status="5xx",tenant="default",version="3"} 1"#,
            r#"skerry_failures_total{app="hello",code="cpu_limit",tenant="default",version="3"} 1"#,
            r#"skerry_limits_met_total{app="hello",limit="cpu",tenant="default",version="3"} 1"#,
            r#"skerry_limits_met_total{app="hello",limit="log",tenant="default",version="3"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let report = version.report(&id("hello"), 3);
        assert_eq!((report.requests, report.status_5xx, report.guest_faults), (2, 1, 1));
    }

    #[test]
    fn series_are_bounded_and_given_back() {
        let metrics = Metrics::new().unwrap();
        let held: Vec<_> =
            (0..=VERSIONS_MAX as u64).map(|number| metrics.version(&id("a"), number)).collect();
        held.iter().for_each(|version| version.count(200, None, &Bill::default()));
        let of_app =
            |text: &str| text.lines().filter(|l| l.starts_with("skerry_instances_total{app=\"a\"")).count();
        let text = render(&metrics);
        assert_eq!(of_app(&text), VERSIONS_MAX);
        assert!(
            text.contains(r#"skerry_requests_total{app="other",status="2xx",tenant="other",version="0"} 1"#)
        );
        metrics.retire(&id("a"), 0);
        assert_eq!(of_app(&render(&metrics)), VERSIONS_MAX - 1);
        metrics.version(&id("b"), 1);
        assert!(render(&metrics).contains(r#"skerry_instances_total{app="b""#));
        held[0].count(500, Some(Failure::GuestTrap), &Bill::default());
        assert!(!render(&metrics).contains(r#"code="guest_trap",tenant="default",version="0""#), "retired");
    }

    #[test]
    fn a_guests_requests_are_counted_with_what_became_of_them() {
        let metrics = Metrics::new().unwrap();
        let version = metrics.version(&id("hello"), 1);
        version.fetched(None);
        FetchError::ALL.into_iter().for_each(|error| version.fetched(Some(error)));
        let text = render(&metrics);
        let fetches = FetchError::ALL.len() + 1;
        let all = format!(r#"skerry_fetches_total{{app="hello",tenant="default",version="1"}} {fetches}"#);
        assert!(text.contains(&all), "{text}");
        for error in FetchError::ALL {
            let code = error.code();
            let line = format!(
                r#"skerry_fetch_failures_total{{app="hello",code="{code}",tenant="default",version="1"}} 1"#
            );
            assert!(text.contains(&line), "{line}");
        }
        metrics.retire(&id("hello"), 1);
        assert!(!render(&metrics).contains("skerry_fetch_failures_total{"));
    }

    #[test]
    fn the_nodes_own_failures_are_no_guest_faults() {
        let metrics = Metrics::new().unwrap();
        let version = metrics.version(&id("hello"), 1);
        version.count(503, Some(Failure::NoRoom), &Bill::default());
        assert_eq!(version.report(&id("hello"), 1).guest_faults, 0);
        assert!(Arc::ptr_eq(&version, &metrics.version(&id("hello"), 1)), "one set of handles a version");
    }
}
