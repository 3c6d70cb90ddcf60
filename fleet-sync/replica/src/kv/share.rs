//! What each tenant may have of the node's operations: waiting and under way.

use std::{collections::HashMap, sync::Arc};

use artifact::TenantName;
use parking_lot::Mutex;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use super::{OPERATIONS_PER_TENANT_MAX, WAITING_PER_TENANT_MAX};

/// Of each tenant that has operations.
#[derive(Default)]
pub(super) struct Shares(Mutex<HashMap<TenantName, Own>>);

struct Own {
    operations: usize,
    places: Arc<Semaphore>,
}

/// One operation, waiting or under way.
pub(super) struct Share<'s> {
    shares: &'s Shares,
    tenant: &'s TenantName,
    places: Arc<Semaphore>,
}

impl Shares {
    /// Counts one more operation. `None` when the tenant has too many already.
    pub(super) fn of<'s>(&'s self, tenant: &'s TenantName) -> Option<Share<'s>> {
        let mut all = self.0.lock();
        let own = all.entry(tenant.clone()).or_insert_with(|| Own {
            operations: 0,
            places: Arc::new(Semaphore::new(OPERATIONS_PER_TENANT_MAX)),
        });
        if own.operations >= OPERATIONS_PER_TENANT_MAX + WAITING_PER_TENANT_MAX {
            return None;
        }
        own.operations += 1;
        Some(Share { shares: self, tenant, places: own.places.clone() })
    }
}

impl Share<'_> {
    /// One of the tenant's places, when there is one.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.places.acquire().await
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut all = self.shares.0.lock();
        if let Some(own) = all.get_mut(self.tenant) {
            own.operations -= 1;
            if own.operations == 0 {
                all.remove(self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_has_its_share_and_leaves_the_others_theirs() {
        let shares = Shares::default();
        let (a, b): (TenantName, TenantName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let all: Vec<_> = std::iter::from_fn(|| shares.of(&a)).take(10_000).collect();
        assert_eq!(all.len(), OPERATIONS_PER_TENANT_MAX + WAITING_PER_TENANT_MAX);
        let mut places = Vec::new();
        for share in &all[..OPERATIONS_PER_TENANT_MAX] {
            places.push(share.place().await.unwrap());
        }
        assert_eq!(all[0].places.available_permits(), 0);
        let other = shares.of(&b).unwrap();
        drop(other.place().await.unwrap());
        drop((places, other));
        drop(all);
        assert!(shares.0.lock().is_empty(), "nothing is kept of tenants without operations");
        assert!(shares.of(&a).is_some());
    }
}
