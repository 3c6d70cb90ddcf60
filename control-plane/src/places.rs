//! Places for work that is bounded, of all tenants together and of each alone: nobody's slow work keeps the others out.

use std::{collections::HashMap, sync::Arc};

use artifact::TenantName;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// See the module.
pub struct Places {
    all: Semaphore,
    of_tenant_max: usize,
    /// Of tenants that have a place or wait for one.
    of_tenants: Mutex<HashMap<TenantName, Arc<Semaphore>>>,
}

/// One of them.
pub struct Place<'p> {
    _own: OwnedSemaphorePermit,
    _all: SemaphorePermit<'p>,
}

impl Places {
    /// So many, and of them so many for one tenant.
    pub fn new(all: usize, of_tenant_max: usize) -> Places {
        Places { all: Semaphore::new(all), of_tenant_max, of_tenants: Mutex::default() }
    }

    /// Waits for a place of the tenant, then for one of all.
    pub async fn place(&self, tenant: &TenantName) -> Place<'_> {
        let own = {
            let mut tenants = self.of_tenants.lock();
            // Whoever waits or has a place holds the tenant's semaphore; the others are forgotten here.
            tenants.retain(|_, places| Arc::strong_count(places) > 1);
            let fresh = || Arc::new(Semaphore::new(self.of_tenant_max));
            Arc::clone(tenants.entry(tenant.clone()).or_insert_with(fresh))
        };
        let own = own.acquire_owned().await.expect("this semaphore is never closed");
        let all = self.all.acquire().await.expect("this semaphore is never closed");
        Place { _own: own, _all: all }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_tenant_has_its_share_and_no_more_and_who_waits_for_it_takes_none_of_the_others() {
        let places = Places::new(3, 2);
        let [a, b, c]: [TenantName; 3] = ["a", "b", "c"].map(|name| name.parse().unwrap());
        let held = (places.place(&a).await, places.place(&a).await);
        let mut third = Box::pin(places.place(&a));
        assert!(poll!(&mut third).is_pending());
        let of_b = places.place(&b).await;
        let mut of_c = Box::pin(places.place(&c));
        assert!(poll!(&mut of_c).is_pending(), "all are taken");
        drop(of_b);
        assert!(poll!(&mut of_c).is_ready());
        drop(held);
        assert!(poll!(&mut third).is_ready());
        drop((third, of_c));
        drop(places.place(&b).await);
        assert_eq!(places.of_tenants.lock().len(), 1, "who has none is forgotten");
    }
}
