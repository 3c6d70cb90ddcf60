//! A host → addresses that may be connected to.
//!
//! Each name is looked up once at a time for each tenant, whoever of it waits, and the answer is used for a few seconds,
//! by all tenants. Whoever connects gets addresses and never a name, so that nothing is looked up a second time after the check.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
};

use artifact::{HostName, TenantName, manifest::origin::OriginHost};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{FetchError, address::Policy, limits, share::Turns};

/// The addresses of a name, in the order they should be tried.
pub type Addresses = Arc<[IpAddr]>;

type Answer = Result<Addresses, FetchError>;

/// Asks the system, or in tests says what the test wants.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of a name that is none of `localhost`'s.
    fn lookup(&self, name: HostName) -> Pin<Box<dyn Future<Output = Answer> + Send>>;
}

/// `getaddrinfo`, on a thread of the runtime's blocking pool.
pub struct System;

impl Lookup for System {
    fn lookup(&self, name: HostName) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found = found.map_err(|_| FetchError::DnsError)?;
            let addresses: Addresses = found.map(|address| address.ip()).collect();
            if addresses.is_empty() { Err(FetchError::DnsError) } else { Ok(addresses) }
        })
    }
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

struct Shared {
    lookup: Box<dyn Lookup>,
    policy: Policy,
    /// For all tenants.
    known: Mutex<HashMap<HostName, Answered>>,
    /// Of the node, shared among tenants.
    turns: Turns,
    /// Of each tenant that has lookups under way or waiting.
    asked: Mutex<HashMap<TenantName, Asked>>,
}

/// An answer, and until when it is good.
type Answered = (Answer, Instant);

/// Where an answer will come.
type Coming = watch::Receiver<Option<Answer>>;

impl Resolver {
    /// A resolver that gives out only what `policy` permits.
    pub fn new(lookup: Box<dyn Lookup>, policy: Policy) -> Resolver {
        let turns = Turns::new(limits::LOOKUPS_AT_ONCE_MAX);
        Resolver(Arc::new(Shared { lookup, policy, known: Mutex::default(), turns, asked: Mutex::default() }))
    }

    /// The addresses of a host that may be connected to: at least one, at most [`limits::ADDRESSES_MAX`]. A lookup is
    /// on the tenant's account: names that answer slowly must not keep others from theirs.
    pub async fn addresses(&self, tenant: &TenantName, host: &OriginHost) -> Result<Vec<IpAddr>, FetchError> {
        let permitted = |all: &[IpAddr]| {
            let permitted = all.iter().filter(|address| self.0.policy.permits(**address));
            let permitted: Vec<IpAddr> = permitted.copied().collect();
            if permitted.is_empty() { Err(FetchError::AddressRefused) } else { Ok(permitted) }
        };
        let found = match host {
            OriginHost::Address(address) => permitted(&[*address])?,
            // RFC 6761 §6.3: these are this machine, whatever a server says.
            OriginHost::Name(name) if is_localhost(name) => {
                permitted(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])?
            }
            OriginHost::Name(name) => permitted(&self.answer(tenant, name).await?)?,
        };
        Ok(both_families(found))
    }

    async fn answer(&self, tenant: &TenantName, name: &HostName) -> Answer {
        let mut coming = match self.known_or_ask(tenant, name) {
            Ok(answer) => return answer,
            Err(coming) => coming,
        };
        // Fails when the asking task went down with its runtime.
        let answer = coming.wait_for(Option::is_some).await.map_err(|_| FetchError::DnsError)?;
        answer.clone().unwrap_or(Err(FetchError::DnsError))
    }

    /// An answer, or where it will come.
    fn known_or_ask(&self, tenant: &TenantName, name: &HostName) -> Result<Answer, Coming> {
        if let Some(answer) = self.0.known(name) {
            return Ok(answer);
        }
        let mut asked = self.0.asked.lock();
        let own = asked.entry(tenant.clone()).or_default();
        // Has an error when the asking task went down with its runtime.
        if let Some(coming) = own.names.get(name).filter(|coming| coming.has_changed().is_ok()) {
            return Err(coming.clone());
        }
        if own.lookups >= limits::LOOKUPS_WAITING_PER_TENANT_MAX {
            return Ok(Err(FetchError::DnsTimeout));
        }
        own.lookups += 1;
        let (tell, coming) = watch::channel(None);
        own.names.insert(name.clone(), coming.clone());
        let asking = Asking { shared: self.0.clone(), tenant: tenant.clone(), name: name.clone(), tell };
        drop(asked); // a task that cannot be started is dropped here, and then locks it
        // In a task of its own: a waiter that gives up must not end the lookup for the others.
        tokio::spawn(asking.look_up());
        Err(coming)
    }
}

/// What a tenant asks now.
#[derive(Default)]
struct Asked {
    /// Where answers come. By tenant: the turn that a lookup waits for is a part of its tenant's, and nobody else is to
    /// wait for that.
    names: HashMap<HostName, Coming>,
    /// Lookups under way or waiting, with those that come too late.
    lookups: usize,
}

/// A lookup that counts as one of its tenant's.
struct Asking {
    shared: Arc<Shared>,
    tenant: TenantName,
    name: HostName,
    tell: watch::Sender<Option<Answer>>,
}

impl Asking {
    async fn look_up(self) {
        let until = Instant::now() + limits::LOOKUP_TIMEOUT;
        // A turn that does not come says nothing of the name: that is not remembered for others.
        let _turn = match timeout_at(until, self.shared.turns.turn(&self.tenant)).await {
            Ok(Some(turn)) => turn,
            Ok(None) => return self.answered(Err(FetchError::DnsError)),
            Err(_late) => return self.answered(Err(FetchError::DnsTimeout)),
        };
        if let Some(answer) = self.shared.known(&self.name) {
            return self.answered(answer); // another tenant was faster
        }
        let mut lookup = self.shared.lookup.lookup(self.name.clone());
        let answer = match timeout_at(until, lookup.as_mut()).await {
            Ok(answer) => answer,
            Err(_late) => {
                self.answered(Err(FetchError::DnsTimeout));
                // Its thread is still blocked, so its turn is still taken; and late is better than never.
                lookup.await
            }
        };
        self.shared.remember(self.name.clone(), answer.clone());
        self.answered(answer);
    }

    /// Tells those who wait. Who asks from here on asks anew.
    fn answered(&self, answer: Answer) {
        self.tell.send_replace(Some(answer));
        self.forget(&mut self.shared.asked.lock());
    }

    fn forget(&self, asked: &mut HashMap<TenantName, Asked>) {
        let Some(own) = asked.get_mut(&self.tenant) else { return };
        if own.names.get(&self.name).is_some_and(|coming| coming.same_channel(&self.tell.subscribe())) {
            own.names.remove(&self.name);
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut asked = self.shared.asked.lock();
        self.forget(&mut asked);
        if let Entry::Occupied(mut own) = asked.entry(self.tenant.clone()) {
            own.get_mut().lookups = own.get().lookups.saturating_sub(1);
            if own.get().lookups == 0 {
                own.remove();
            }
        }
    }
}

impl Shared {
    fn known(&self, name: &HostName) -> Option<Answer> {
        let known = self.known.lock();
        known.get(name).filter(|(_, until)| Instant::now() < *until).map(|(answer, _)| answer.clone())
    }

    fn remember(&self, name: HostName, answer: Answer) {
        let age = if answer.is_ok() { limits::LOOKUP_AGE_MAX } else { limits::LOOKUP_FAILURE_AGE_MAX };
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= limits::LOOKUPS_KEPT_MAX && !known.contains_key(&name) {
            make_room(&mut known, now);
        }
        known.insert(name, (answer, now + age));
    }
}

/// Forgets what is old, or else any answer.
fn make_room(known: &mut HashMap<HostName, Answered>, now: Instant) {
    known.retain(|_, (_, until)| now < *until);
    if known.len() >= limits::LOOKUPS_KEPT_MAX
        && let Some(any) = known.keys().next().cloned()
    {
        known.remove(&any);
    }
}

fn is_localhost(name: &HostName) -> bool {
    name.as_str().rsplit('.').next() == Some("localhost")
}

/// The families in turn (RFC 8305 §4), beginning with the one the resolver put first, cut to what is tried.
fn both_families(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (mut ours, mut others): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    ours.truncate(limits::ADDRESSES_MAX);
    others.truncate(limits::ADDRESSES_MAX);
    let mut in_turn = Vec::with_capacity(limits::ADDRESSES_MAX);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    while in_turn.len() < limits::ADDRESSES_MAX {
        let before = in_turn.len();
        in_turn.extend(ours.next());
        in_turn.extend(others.next());
        if in_turn.len() == before {
            break;
        }
    }
    in_turn.truncate(limits::ADDRESSES_MAX);
    in_turn
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use artifact::manifest::origin::Origin;

    use super::*;

    /// Answers like a resolver that takes every spelling, and counts who asks.
    struct Gullible(Arc<AtomicUsize>, Vec<IpAddr>);

    impl Lookup for Gullible {
        fn lookup(&self, _: HostName) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            self.0.fetch_add(1, SeqCst);
            let addresses: Addresses = self.1.clone().into();
            Box::pin(async move { Ok(addresses) })
        }
    }

    fn gullible(answer: &[&str], policy: Policy) -> (Resolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = answer.iter().map(|text| text.parse().unwrap()).collect();
        (Resolver::new(Box::new(Gullible(asked.clone(), answer)), policy), asked)
    }

    /// Spellings of one's own machine, of private networks and of metadata, as a user may write them into a URL.
    /// Those of the first list must be stopped before anybody is asked, those of the second by what the answer is.
    const WITHOUT_ASKING: [&str; 75] = [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "0177.0.0.1",
        "0177.0.0.01",
        "0177.1",
        "0x7f.0.0.1",
        "0x7f.1",
        "0X7F.0X0.0X0.0X1",
        "0x7f000001",
        "0x7f.0x1",
        "127.0.0.0x1",
        "017700000001",
        "2130706433",
        "2130706433.",
        "00000000000000000177.0.0.1",
        "127.0.0.1.0",
        "4294967297",
        "256.256.256.256",
        "0",
        "0.0.0.0",
        "0x0",
        "00",
        "0.0",
        "127.127.127.127",
        "10.0.0.1",
        "10.1",
        "0xa000001",
        "012.0.0.1",
        "167772161",
        "172.16.0.1",
        "192.168.0.1",
        "192.168.1",
        "3232235521",
        "0xc0a80001",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.43518",
        "0xa9fea9fe",
        "2852039166",
        "0251.0376.0251.0376",
        "169.254.169.254.",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[0000::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[::7f00:1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "LocalHost.",
        "name.localhost",
        "a.b.localhost.",
    ];
    const NOT_EVEN_A_HOST: [&str; 14] = [
        "%31%32%37.0.0.1",
        "127%2e0.0.1",
        "localhost%00.example",
        "127.0.0.1%00",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "user@127.0.0.1",
        "a.example@127.0.0.1",
        "127.0.0.1#a.example",
        "127.0.0.1\\a.example",
        "127.0.0.1?a",
        "localhost..",
        "::1",
        "[::1]a",
    ];
    const BY_THE_ANSWER: [&str; 8] = [
        "localhost.localdomain",
        "ip6-localhost",
        "ip6-loopback",
        "127.0.0.1.nip.io",
        "localtest.me",
        "metadata.google.internal",
        "a127.0.0.1a",
        "0x7f.0.0.1.example",
    ];

    fn tenant() -> TenantName {
        "default".parse().unwrap()
    }

    #[tokio::test]
    async fn no_spelling_of_a_forbidden_address_gets_through() {
        let (resolver, asked) =
            gullible(&["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"], Policy::default());
        for host in WITHOUT_ASKING.into_iter().chain(NOT_EVEN_A_HOST) {
            for url in [format!("http://{host}"), format!("https://{host}:8443/")] {
                if let Ok(origin) = Origin::parse(&url) {
                    let refused = resolver.addresses(&tenant(), &origin.host).await;
                    assert_eq!(refused, Err(FetchError::AddressRefused), "{url} is {origin}");
                }
            }
            assert_eq!(asked.load(SeqCst), 0, "{host} was looked up");
        }
        for host in NOT_EVEN_A_HOST {
            assert!(Origin::parse(&format!("http://{host}")).is_err(), "{host}");
        }
        for (at, host) in BY_THE_ANSWER.into_iter().enumerate() {
            let origin = Origin::parse(&format!("http://{host}")).unwrap();
            assert_eq!(
                resolver.addresses(&tenant(), &origin.host).await,
                Err(FetchError::AddressRefused),
                "{host}"
            );
            assert_eq!(asked.load(SeqCst), at + 1, "{host} is a name and was looked up");
        }
    }

    #[tokio::test]
    async fn of_several_addresses_only_permitted_ones_are_given_out() {
        let (resolver, _) = gullible(&["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1"], Policy::default());
        let found =
            resolver.addresses(&tenant(), &OriginHost::parse("mixed.example").unwrap()).await.unwrap();
        assert_eq!(found, ["8.8.8.8", "2606:4700::1"].map(|text| text.parse::<IpAddr>().unwrap()));
    }

    #[tokio::test]
    async fn localhost_is_both_families_where_loopback_is_allowed() {
        let policy = Policy::allowing(vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()]);
        let (resolver, asked) = gullible(&["8.8.8.8"], policy);
        let found =
            resolver.addresses(&tenant(), &OriginHost::parse("app.localhost").unwrap()).await.unwrap();
        assert_eq!(found, ["127.0.0.1", "::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(asked.load(SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_once_for_all_who_wait_and_again_when_the_answer_is_old() {
        let (resolver, asked) = gullible(&["8.8.8.8"], Policy::default());
        let host = OriginHost::parse("a.example").unwrap();
        let tenant = tenant();
        let ask = || resolver.addresses(&tenant, &host);
        let (one, two) = tokio::join!(ask(), ask());
        assert_eq!((one.unwrap().len(), two.unwrap().len(), asked.load(SeqCst)), (1, 1, 1));
        ask().await.unwrap();
        assert_eq!(asked.load(SeqCst), 1);
        tokio::time::advance(limits::LOOKUP_AGE_MAX).await;
        ask().await.unwrap();
        assert_eq!(asked.load(SeqCst), 2);
    }

    /// Never answers for names below `slow.example`.
    struct Slow(Arc<AtomicUsize>);

    impl Lookup for Slow {
        fn lookup(&self, name: HostName) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
            if name.as_str().ends_with("slow.example") {
                self.0.fetch_add(1, SeqCst);
                return Box::pin(std::future::pending());
            }
            Box::pin(async { Ok(Addresses::from([[8, 8, 8, 8].into()])) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_of_slow_names_keeps_nobody_else_from_looking_up() {
        let hanging = Arc::new(AtomicUsize::new(0));
        let resolver = Resolver::new(Box::new(Slow(hanging.clone())), Policy::default());
        let slow = |n: usize| OriginHost::parse(&format!("n{n}.slow.example")).unwrap();
        let flood = (0..2 * limits::LOOKUPS_WAITING_PER_TENANT_MAX).map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.addresses(&tenant(), &slow(n)).await })
        });
        let flood: Vec<_> = flood.collect();
        tokio::time::sleep(limits::LOOKUP_TIMEOUT / 2).await;
        assert_eq!(hanging.load(SeqCst), limits::LOOKUPS_AT_ONCE_MAX / 4, "the part of one tenant");
        let waiting = resolver.0.asked.lock()[&tenant()].names.len();
        assert_eq!(waiting, limits::LOOKUPS_WAITING_PER_TENANT_MAX);
        let other: TenantName = "other".parse().unwrap();
        let good = OriginHost::parse("good.example").unwrap();
        assert!(resolver.addresses(&other, &good).await.is_ok());
        for refused in flood {
            assert_eq!(refused.await.unwrap(), Err(FetchError::DnsTimeout));
        }
        // Threads that are still blocked are not replaced by others.
        assert_eq!(resolver.addresses(&tenant(), &slow(9_999)).await, Err(FetchError::DnsTimeout));
        assert_eq!(hanging.load(SeqCst), limits::LOOKUPS_AT_ONCE_MAX / 4);
        assert!(!resolver.0.asked.lock().contains_key(&other), "who waits for nothing takes no memory");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_a_tenant_has_queued_resolves_for_others() {
        let resolver = Resolver::new(Box::new(Slow(Arc::default())), Policy::default());
        let (other, good) = ("other".parse().unwrap(), OriginHost::parse("good.example").unwrap());
        let mut queued = Vec::new();
        for n in 0..limits::LOOKUPS_AT_ONCE_MAX {
            let (resolver, slow) = (resolver.clone(), OriginHost::parse(&format!("n{n}.slow.example")));
            queued.push(tokio::spawn(async move { resolver.addresses(&tenant(), &slow.unwrap()).await }));
        }
        tokio::task::yield_now().await;
        // Behind those, and again when it has given up: its failure is nobody else's.
        for _ in 0..2 {
            let waits = tokio::spawn({
                let (resolver, good) = (resolver.clone(), good.clone());
                async move { resolver.addresses(&tenant(), &good).await }
            });
            let begin = Instant::now();
            tokio::time::sleep(limits::LOOKUP_TIMEOUT / 5).await;
            assert!(!waits.is_finished());
            resolver.0.known.lock().clear();
            assert!(resolver.addresses(&other, &good).await.is_ok());
            assert!(begin.elapsed() < limits::LOOKUP_TIMEOUT / 2);
            resolver.0.known.lock().clear();
            assert_eq!(waits.await.unwrap(), Err(FetchError::DnsTimeout));
            assert!(resolver.addresses(&other, &good).await.is_ok());
            resolver.0.known.lock().clear();
        }
        assert_eq!(resolver.0.asked.lock()[&tenant()].lookups, limits::LOOKUPS_AT_ONCE_MAX / 4);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (resolver, _) = gullible(&["8.8.8.8"], Policy::default());
        for n in 0..limits::LOOKUPS_KEPT_MAX + 10 {
            let name = OriginHost::parse(&format!("n{n}.example")).unwrap();
            resolver.addresses(&tenant(), &name).await.unwrap();
        }
        assert_eq!(resolver.0.known.lock().len(), limits::LOOKUPS_KEPT_MAX);
    }

    #[test]
    fn families_take_turns() {
        let all = ["1::", "2::", "3::", "4::", "5::", "1.1.1.1", "2.2.2.2"].map(|text| text.parse().unwrap());
        let order: Vec<String> = both_families(all.into()).iter().map(IpAddr::to_string).collect();
        assert_eq!(order, ["1::", "1.1.1.1", "2::", "2.2.2.2", "3::", "4::"]);
    }
}
