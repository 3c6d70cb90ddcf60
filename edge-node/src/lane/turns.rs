//! Whose turn it is in a slow lane: the tenant's that has had the least CPU, and among its guests the one that has
//! waited longest. With guests that use their slices up that is one tick each in turn; a guest that could not be
//! stopped in time, as in the middle of filling a whole memory, makes its tenant wait for the others to catch up.
//!
//! No threads, no clock: what a turn cost is told by whoever ran it.

use std::collections::VecDeque;

/// Tenants without guests that are remembered, so that what they had is not forgotten when they come back at once.
const REMEMBERED_MAX: usize = 256;

/// See the module. `T` names a tenant, `J` a guest.
pub(super) struct Turns<T, J> {
    tenants: Vec<Tenant<T, J>>,
    /// What the tenant whose turn was last had before it. Nobody comes in below it, so waiting saves nothing up.
    now_ns: u64,
}

struct Tenant<T, J> {
    name: T,
    ready: VecDeque<J>,
    had_ns: u64,
}

impl<T: Eq + Clone, J> Turns<T, J> {
    pub(super) fn new() -> Turns<T, J> {
        Turns { tenants: Vec::new(), now_ns: 0 }
    }

    /// A guest is ready to go on.
    pub(super) fn ready(&mut self, tenant: &T, guest: J) {
        let now_ns = self.now_ns;
        let entry = self.entry(tenant);
        if entry.ready.is_empty() {
            entry.had_ns = entry.had_ns.max(now_ns);
        }
        entry.ready.push_back(guest);
    }

    /// The guest that goes next.
    pub(super) fn next(&mut self) -> Option<J> {
        let waiting = self.tenants.iter_mut().filter(|tenant| !tenant.ready.is_empty());
        let tenant = waiting.min_by_key(|tenant| tenant.had_ns)?;
        self.now_ns = self.now_ns.max(tenant.had_ns);
        tenant.ready.pop_front()
    }

    /// What a turn cost. The tenant goes behind those who had as much.
    pub(super) fn had(&mut self, tenant: &T, ns: u64) {
        let Some(at) = self.tenants.iter().position(|entry| entry.name == *tenant) else { return };
        let mut entry = self.tenants.remove(at);
        entry.had_ns = entry.had_ns.saturating_add(ns);
        self.tenants.push(entry);
        self.forget();
    }

    /// Drops tenants that are not ready and have nothing to make up for.
    fn forget(&mut self) {
        if self.tenants.len() <= REMEMBERED_MAX {
            return;
        }
        let now_ns = self.now_ns;
        self.tenants.retain(|tenant| !tenant.ready.is_empty() || tenant.had_ns > now_ns);
        let idle = |tenant: &Tenant<T, J>| tenant.ready.is_empty();
        while self.tenants.len() > REMEMBERED_MAX {
            let Some(at) = self.tenants.iter().position(idle) else { return };
            self.tenants.remove(at);
        }
    }

    fn entry(&mut self, tenant: &T) -> &mut Tenant<T, J> {
        let at = self.tenants.iter().position(|entry| entry.name == *tenant).unwrap_or_else(|| {
            self.tenants.push(Tenant { name: tenant.clone(), ready: VecDeque::new(), had_ns: 0 });
            self.tenants.len() - 1
        });
        &mut self.tenants[at]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Runs turns that cost what `cost` says; every guest is ready again at once. Returns what each tenant had.
    fn run(guests: &[(u32, u32)], turns: usize, cost: impl Fn(u32) -> u64) -> HashMap<u32, u64> {
        let mut order = Turns::new();
        guests.iter().for_each(|guest| order.ready(&guest.0, *guest));
        let mut had = HashMap::new();
        for _ in 0..turns {
            let guest = order.next().unwrap();
            *had.entry(guest.0).or_default() += cost(guest.0);
            order.had(&guest.0, cost(guest.0));
            order.ready(&guest.0, guest);
        }
        had
    }

    #[test]
    fn a_tenant_with_many_guests_gets_no_more_than_one_with_one() {
        let guests: Vec<_> = (0..64).map(|guest| (1, guest)).chain([(2, 0)]).collect();
        assert_eq!(run(&guests, 100, |_| 1), [(1, 50), (2, 50)].into());
    }

    #[test]
    fn a_turn_that_took_long_is_made_up_for() {
        let had = run(&[(1, 0), (2, 0)], 1_000, |tenant| if tenant == 1 { 50 } else { 1 });
        assert!(had[&1].abs_diff(had[&2]) <= 50, "{had:?}");
    }

    #[test]
    fn guests_of_one_tenant_go_in_turn() {
        let mut order = Turns::new();
        for guest in [1, 2, 3] {
            order.ready(&"a", guest);
        }
        let mut went = Vec::new();
        for _ in 0..6 {
            let guest = order.next().unwrap();
            went.push(guest);
            order.had(&"a", 1);
            order.ready(&"a", guest);
        }
        assert_eq!(went, [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn who_comes_late_or_slept_is_served_soon_but_has_saved_nothing_up() {
        let mut order = Turns::new();
        order.ready(&"old", 0);
        for _ in 0..100 {
            assert_eq!(order.next(), Some(0));
            order.had(&"old", 10);
            order.ready(&"old", 0);
        }
        order.ready(&"new", 1);
        let mut firsts = Vec::new();
        for _ in 0..6 {
            let guest = order.next().unwrap();
            firsts.push(guest);
            let tenant = if guest == 0 { "old" } else { "new" };
            order.had(&tenant, 10);
            order.ready(&tenant, guest);
        }
        assert_eq!(firsts[..2], [1, 0], "at once, then in turn");
        assert_eq!(firsts.iter().filter(|guest| **guest == 1).count(), 3);
    }

    #[test]
    fn idle_tenants_are_forgotten() {
        let mut order = Turns::new();
        for tenant in 0..10 * REMEMBERED_MAX {
            order.ready(&tenant, ());
            order.next().unwrap();
            order.had(&tenant, 1);
        }
        assert!(order.tenants.len() <= REMEMBERED_MAX);
    }
}
