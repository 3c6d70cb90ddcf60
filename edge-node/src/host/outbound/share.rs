//! Places that all tenants share: connections to backends, lookups, TLS settings.
//!
//! One rule instead of a part for each: **a tenant may have at most a third of what is left**. Alone it gets a quarter of
//! all; n that want all they can get end at 1/(n + 3) each, and three times such a part is still there for those who come.
//! Of 8,192 places taken one tenant after the other, each with all it can get, the 29th still gets one. Nobody is told to
//! give back: places come free by themselves, and the pool closes idle connections for others ([`super::pool`]).

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use artifact::TenantName;
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A tenant that has this part of what is left gets no more: with 3, one tenant alone gets a quarter of all.
const LEFT_PER_OWN: usize = 3;

/// See the module.
pub struct Share {
    max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// Of the tenants that have any.
    of_tenants: HashMap<TenantName, usize>,
}

impl Share {
    /// So many places.
    pub fn new(max: usize) -> Share {
        Share { max, state: Mutex::default() }
    }

    /// Takes a place, if the tenant may have one more.
    pub fn take(&self, tenant: &TenantName) -> bool {
        let mut state = self.state.lock();
        let left = self.max.saturating_sub(state.taken);
        let own = state.of_tenants.get(tenant).copied().unwrap_or(0);
        if own.saturating_mul(LEFT_PER_OWN) >= left {
            return false;
        }
        state.taken += 1;
        state.add(tenant);
        true
    }

    /// Gives a place back.
    pub fn give(&self, tenant: &TenantName) {
        let mut state = self.state.lock();
        state.taken = state.taken.saturating_sub(1);
        state.remove(tenant);
    }

    /// The place of one is another's from now on.
    pub fn pass(&self, from: &TenantName, to: &TenantName) {
        let mut state = self.state.lock();
        state.remove(from);
        state.add(to);
    }

    /// What each has that has any.
    pub fn of_tenants(&self) -> HashMap<TenantName, usize> {
        self.state.lock().of_tenants.clone()
    }

    /// Places taken.
    pub fn taken(&self) -> usize {
        self.state.lock().taken
    }
}

impl State {
    fn add(&mut self, tenant: &TenantName) {
        match self.of_tenants.get_mut(tenant) {
            Some(own) => *own += 1,
            None => _ = self.of_tenants.insert(tenant.clone(), 1),
        }
    }

    fn remove(&mut self, tenant: &TenantName) {
        if let Entry::Occupied(mut own) = self.of_tenants.entry(tenant.clone()) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// Shared places that are waited for, in the order of those who may have one. Clones are the same places.
#[derive(Clone)]
pub struct Turns(Arc<Waited>);

struct Waited {
    share: Share,
    waiting: Mutex<VecDeque<(TenantName, oneshot::Sender<Turn>)>>,
}

/// A place, until it is dropped.
pub struct Turn {
    turns: Turns,
    tenant: TenantName,
}

impl Turns {
    /// So many places.
    pub fn new(max: usize) -> Turns {
        Turns(Arc::new(Waited { share: Share::new(max), waiting: Mutex::default() }))
    }

    /// Waits for a place. Whoever calls bounds how many wait.
    pub async fn turn(&self, tenant: &TenantName) -> Option<Turn> {
        let come = {
            // Held meanwhile, so that no place comes free unseen.
            let mut waiting = self.0.waiting.lock();
            if self.0.share.take(tenant) {
                return Some(self.taken_by(tenant.clone()));
            }
            let (go, come) = oneshot::channel();
            waiting.push_back((tenant.clone(), go));
            come
        };
        come.await.ok()
    }

    fn taken_by(&self, tenant: TenantName) -> Turn {
        Turn { turns: self.clone(), tenant }
    }

    /// Lets those in who may have a place now.
    fn let_in(&self) {
        let mut gone = Vec::new();
        let mut waiting = self.0.waiting.lock();
        waiting.retain(|(_, go)| !go.is_closed());
        let mut at = 0;
        while at < waiting.len() && self.0.share.taken() < self.0.share.max {
            if !self.0.share.take(&waiting[at].0) {
                at += 1;
            } else if let Some((tenant, go)) = waiting.remove(at) {
                gone.extend(go.send(self.taken_by(tenant)));
            }
        }
        drop(waiting);
        drop(gone); // their places come back here
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.share.give(&self.tenant);
        self.turns.let_in();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn tenant(n: usize) -> TenantName {
        format!("t{n}").parse().unwrap()
    }

    fn all_of(share: &Share, n: usize) -> usize {
        (0..).take_while(|_| share.take(&tenant(n))).count()
    }

    #[test]
    fn one_tenant_gets_a_quarter_and_many_get_something_each() {
        let share = Share::new(8_192);
        let parts: Vec<usize> = (0..100).map(|n| all_of(&share, n)).collect();
        assert_eq!(parts[..3], [2_048, 1_536, 1_152]);
        assert!(parts.iter().take(25).all(|part| *part > 0), "{parts:?}");
        assert_eq!(share.taken(), parts.iter().sum::<usize>());
        (0..parts[0]).for_each(|_| share.give(&tenant(0)));
        assert!(all_of(&share, 99) > 0, "what comes back is there for whoever has little");
        assert!(!share.of_tenants().contains_key(&tenant(0)), "who has nothing takes no memory");
    }

    #[test]
    fn tenants_that_want_all_they_can_get_end_with_equal_parts() {
        let share = Share::new(800);
        let mut own = [0; 5];
        for round in 0..4_000 {
            let n = round % own.len();
            own[n] += usize::from(share.take(&tenant(n)));
            if round % 7 == 0 && own[round % 3] > 0 {
                share.give(&tenant(round % 3)); // some come free, as they do
                own[round % 3] -= 1;
            }
        }
        assert!(own.iter().all(|own| (88..=112).contains(own)), "{own:?}: about an eighth each");
    }

    #[test]
    fn turns_go_to_those_who_may_have_one_in_their_order() {
        let turns = Turns::new(4);
        let now = |n: usize| turns.turn(&tenant(n)).now_or_never().flatten();
        let greedy = now(0).unwrap();
        let mut second = Box::pin(turns.turns_of(0));
        assert!(second.as_mut().now_or_never().is_none(), "one of three left is its part");
        let others: Vec<Turn> = (1..4).map(|n| now(n).unwrap()).collect();
        let mut late = Box::pin(turns.turns_of(9));
        assert!(late.as_mut().now_or_never().is_none(), "all are taken");
        assert!(turns.turns_of(8).now_or_never().is_none(), "waits, and gives up");
        drop(others);
        assert!(late.as_mut().now_or_never().flatten().is_some(), "past the one that has its part");
        drop(greedy);
        assert!(second.as_mut().now_or_never().flatten().is_some());
        drop(second);
        assert_eq!(turns.0.share.taken(), 0);
    }

    impl Turns {
        async fn turns_of(&self, n: usize) -> Option<Turn> {
            self.turn(&tenant(n)).await
        }
    }
}
