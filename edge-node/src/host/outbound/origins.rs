//! Which of a backend's origins is asked: passive health from requests, active health from probes, and a budget for
//! asking again. Kept per node for backends of several origins or with a probe; shared by its serving threads.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use artifact::{
    TenantName,
    manifest::{
        HealthCheck,
        origin::{Origin, OriginHost},
    },
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{limits, probe::Probed, tls::Identity};

/// What tells one backend's state from another's. A new version of an app with the same origins goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// Whose it is.
    pub tenant: TenantName,
    /// Its origins in their order.
    pub origins: Vec<Origin>,
    /// What it shows and trusts.
    pub identity: Identity,
    /// The `Host` it gets instead of the request's: another host at the same address may be in another state.
    pub host: Option<String>,
    /// Whose certificate it must show.
    pub cert_host: Option<OriginHost>,
    /// Path and interval of its probe.
    pub probe: Option<(String, u32)>,
}

/// Every backend's state on this node.
#[derive(Default)]
pub struct Groups {
    kept: Mutex<HashMap<TenantName, OfTenant>>,
    /// Probing tasks now.
    pub probing: Arc<Probed>,
}

type OfTenant = HashMap<GroupKey, Arc<Group>>;

/// How an origin was found last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing speaks against it.
    Well,
    /// Passed over while another is well.
    Down,
    /// Neither asked nor probed yet.
    Unknown,
}

/// A backend's origins and its retries.
pub struct Group {
    began: Instant,
    origins: Vec<OriginState>,
    budget: Budget,
    used_ms: AtomicU64,
    /// Do later requests find it?
    pub is_kept: bool,
    /// Does a task probe it?
    pub is_probed: AtomicBool,
}

#[derive(Default)]
struct OriginState {
    /// In a row.
    failures: AtomicU32,
    /// Passed over until then, in ms of the group's age.
    down_until_ms: AtomicU64,
    /// What the last probes said.
    probed: AtomicU8,
    /// In a row.
    probe_failures: AtomicU32,
    seen: AtomicBool,
}

const PROBED_NOT: u8 = 0;
const PROBED_WELL: u8 = 1;
const PROBED_DOWN: u8 = 2;

impl Groups {
    /// A backend's state. When the tenant or the node has too many, those unused for a while are forgotten; a backend
    /// that still finds no room gets a state of its own for this request, without retries and probes: nothing counts
    /// them.
    pub fn get(&self, key: GroupKey) -> Arc<Group> {
        let mut kept = self.kept.lock();
        if let Some(group) = kept.get(&key.tenant).and_then(|own| own.get(&key)) {
            return group.clone();
        }
        let mut group = Group::new(key.origins.len(), Instant::now());
        if !has_room(&mut kept, &key.tenant) {
            group.is_kept = false;
            group.budget = Budget(AtomicU32::new(0));
            return Arc::new(group);
        }
        let group = Arc::new(group);
        kept.entry(key.tenant.clone()).or_default().insert(key, group.clone());
        group
    }
}

impl Groups {
    /// A backend's state, if a request has used it.
    pub fn known(&self, key: &GroupKey) -> Option<Arc<Group>> {
        self.kept.lock().get(&key.tenant)?.get(key).cloned()
    }
}

/// Is there room for one more state of the tenant, once what is unused has gone?
fn has_room(kept: &mut HashMap<TenantName, OfTenant>, tenant: &TenantName) -> bool {
    if let Some(own) = kept.get_mut(tenant)
        && own.len() >= limits::GROUPS_PER_TENANT_MAX
    {
        own.retain(|_, group| !group.is_unused());
    }
    if all(kept) >= limits::GROUPS_MAX {
        kept.retain(|_, own| {
            own.retain(|_, group| !group.is_unused());
            !own.is_empty()
        });
    }
    let own = kept.get(tenant).map_or(0, HashMap::len);
    own < limits::GROUPS_PER_TENANT_MAX && all(kept) < limits::GROUPS_MAX
}

fn all(kept: &HashMap<TenantName, OfTenant>) -> usize {
    kept.values().map(HashMap::len).sum()
}

impl Group {
    fn new(origins: usize, began: Instant) -> Group {
        Group {
            began,
            origins: (0..origins).map(|_| OriginState::default()).collect(),
            budget: Budget::default(),
            used_ms: AtomicU64::new(0),
            is_kept: true,
            is_probed: AtomicBool::new(false),
        }
    }

    /// A request begins: the order to ask the origins in, those that are down last.
    pub fn begin(&self) -> Vec<usize> {
        self.used_ms.store(self.now_ms(), Relaxed);
        self.budget.deposit();
        let all = 0..self.origins.len();
        let (well, down): (Vec<_>, Vec<_>) = all.partition(|at| self.health(*at) != Health::Down);
        well.into_iter().chain(down).collect()
    }

    /// May a request be sent once more?
    pub fn may_retry(&self) -> bool {
        self.budget.withdraw()
    }

    /// What is known of an origin.
    pub fn health(&self, at: usize) -> Health {
        let Some(origin) = self.origins.get(at) else { return Health::Unknown };
        let by_requests = self.now_ms() < origin.down_until_ms.load(Relaxed);
        match origin.probed.load(Relaxed) {
            PROBED_DOWN => Health::Down,
            _ if by_requests => Health::Down,
            PROBED_WELL => Health::Well,
            _ if origin.seen.load(Relaxed) => Health::Well,
            _ => Health::Unknown,
        }
    }

    /// How the backend is found as a whole: as its best origin.
    pub fn best(&self) -> Health {
        let found: Vec<Health> = (0..self.origins.len()).map(|at| self.health(at)).collect();
        let best = [Health::Well, Health::Unknown].into_iter().find(|health| found.contains(health));
        best.unwrap_or(Health::Down)
    }

    /// An origin answered a request.
    pub fn answered(&self, at: usize) {
        if let Some(origin) = self.origins.get(at) {
            origin.seen.store(true, Relaxed);
            origin.failures.store(0, Relaxed);
            origin.down_until_ms.store(0, Relaxed);
        }
    }

    /// An origin failed a request.
    pub fn failed(&self, at: usize) {
        let Some(origin) = self.origins.get(at) else { return };
        origin.seen.store(true, Relaxed);
        let failures = origin.failures.fetch_add(1, Relaxed).saturating_add(1);
        if failures >= limits::FAILURES_TO_DOWN {
            // One less than enough: when its time is over, one more failure suffices.
            origin.failures.store(limits::FAILURES_TO_DOWN - 1, Relaxed);
            let until = self.now_ms().saturating_add(limits::DOWN_FOR.as_millis() as u64);
            origin.down_until_ms.store(until, Relaxed);
        }
    }

    /// A probe of an origin ended. One good probe suffices, for what requests found too.
    pub fn probed(&self, at: usize, well: bool) {
        let Some(origin) = self.origins.get(at) else { return };
        if !well {
            if origin.probe_failures.fetch_add(1, Relaxed).saturating_add(1) >= limits::PROBES_TO_DOWN {
                origin.probed.store(PROBED_DOWN, Relaxed);
            }
        } else {
            origin.probed.store(PROBED_WELL, Relaxed);
            origin.probe_failures.store(0, Relaxed);
            origin.failures.store(0, Relaxed);
            origin.down_until_ms.store(0, Relaxed);
        }
    }

    /// Nobody probes it any more: requests alone decide again.
    pub fn unprobed(&self) {
        self.origins.iter().for_each(|origin| origin.probed.store(PROBED_NOT, Relaxed));
        self.is_probed.store(false, Relaxed);
    }

    /// Has no request used it for long enough that it is not worth a probe?
    pub fn is_unused(&self) -> bool {
        let unused = self.now_ms().saturating_sub(self.used_ms.load(Relaxed));
        Duration::from_millis(unused) > limits::PROBED_UNUSED_MAX
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// Retries as a part of requests: each request saves a part of one, up to a few.
struct Budget(AtomicU32);

/// What one retry takes, in hundredths.
const RETRY_COST: u32 = 100;

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicU32::new(limits::RETRIES_SAVED_MAX * RETRY_COST))
    }
}

impl Budget {
    fn deposit(&self) {
        let most = limits::RETRIES_SAVED_MAX * RETRY_COST;
        let _ =
            self.0.fetch_update(Relaxed, Relaxed, |saved| Some((saved + limits::RETRY_PERCENT).min(most)));
    }

    fn withdraw(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |saved| saved.checked_sub(RETRY_COST)).is_ok()
    }
}

/// The probe of a backend, if it has one.
pub fn probe_of(health: Option<&HealthCheck>) -> Option<(String, u32)> {
    health.map(|health| (health.path.clone(), health.interval_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_fails_is_passed_over_for_a_while() {
        let group = Group::new(3, Instant::now());
        assert_eq!((group.begin(), group.health(0)), (vec![0, 1, 2], Health::Unknown));
        for _ in 0..limits::FAILURES_TO_DOWN {
            assert_ne!(group.health(0), Health::Down);
            group.failed(0);
        }
        assert_eq!((group.begin(), group.health(0)), (vec![1, 2, 0], Health::Down));
        group.answered(0);
        assert_eq!((group.begin(), group.health(0)), (vec![0, 1, 2], Health::Well));
        // One success in between, and the count begins again.
        (0..limits::FAILURES_TO_DOWN - 1).for_each(|_| group.failed(1));
        group.answered(1);
        group.failed(1);
        assert_eq!(group.health(1), Health::Well);
        group.failed(99); // none of ours
    }

    #[test]
    fn what_was_down_comes_back_and_goes_at_the_first_failure() {
        let past = Instant::now().checked_sub(limits::DOWN_FOR * 2).unwrap();
        let group = Group::new(1, past);
        (0..limits::FAILURES_TO_DOWN).for_each(|_| group.failed(0));
        assert_eq!(group.health(0), Health::Down);
        group.origins[0].down_until_ms.store(1, Relaxed); // its time is over
        assert_eq!(group.health(0), Health::Well);
        group.failed(0);
        assert_eq!(group.health(0), Health::Down);
    }

    #[test]
    fn probes_decide_while_there_are_some() {
        let group = Group::new(2, Instant::now());
        group.probed(0, false);
        assert_eq!(group.begin(), [0, 1], "one lost probe says little");
        group.probed(0, false);
        assert_eq!(group.begin(), [1, 0]);
        group.answered(0);
        assert_eq!(group.health(0), Health::Down, "until a probe finds it well");
        (0..limits::FAILURES_TO_DOWN).for_each(|_| group.failed(0));
        group.probed(0, true);
        assert_eq!((group.begin(), group.health(0)), (vec![0, 1], Health::Well));
        (0..limits::PROBES_TO_DOWN).for_each(|_| group.probed(1, false));
        assert_eq!(group.health(1), Health::Down);
        group.unprobed();
        assert_eq!(group.health(1), Health::Unknown);
    }

    #[test]
    fn retries_are_a_part_of_requests() {
        let group = Group::new(1, Instant::now());
        let retried = |requests: u32| {
            (0..requests)
                .filter(|_| {
                    group.begin();
                    group.may_retry()
                })
                .count() as u32
        };
        let burst = limits::RETRIES_SAVED_MAX;
        let first = retried(100);
        assert!((burst + 18..=burst + 20).contains(&first), "{first}");
        let second = retried(1_000);
        assert!((198..=202).contains(&second), "{second}");
    }

    #[test]
    fn states_are_shared_and_bounded() {
        let groups = Groups::default();
        let key = |port: u16| GroupKey {
            tenant: "default".parse().unwrap(),
            origins: vec![Origin::parse(&format!("http://a.example:{port}")).unwrap()],
            identity: None,
            host: None,
            cert_host: None,
            probe: None,
        };
        assert!(Arc::ptr_eq(&groups.get(key(1)), &groups.get(key(1))));
        let other = GroupKey { tenant: "other".parse().unwrap(), ..key(1) };
        assert!(!Arc::ptr_eq(&groups.get(key(1)), &groups.get(other)));
        let hosted = GroupKey { host: Some("b.example".into()), ..key(1) };
        assert!(!Arc::ptr_eq(&groups.get(key(1)), &groups.get(hosted)), "another host is another backend");
        let certified = GroupKey { cert_host: Some(OriginHost::parse("b.example").unwrap()), ..key(1) };
        assert!(!Arc::ptr_eq(&groups.get(key(1)), &groups.get(certified)));

        for tenant in ["default", "a", "b", "c", "d"] {
            for port in 1..=u16::try_from(limits::GROUPS_PER_TENANT_MAX + 10).unwrap() {
                groups.get(GroupKey { tenant: tenant.parse().unwrap(), ..key(port) });
            }
        }
        let kept = groups.kept.lock();
        assert_eq!(kept[&key(1).tenant].len(), limits::GROUPS_PER_TENANT_MAX);
        assert_eq!(all(&kept), limits::GROUPS_MAX);
        drop(kept);
        let unkept = groups.get(key(60_000));
        unkept.begin();
        assert!(!unkept.is_kept && !unkept.may_retry(), "nobody counts what it would retry");
    }
}
