//! From the serving threads, where guests ask, to the side runtime, where the connection to the control plane lives.
//!
//! One queue that never makes a serving thread wait: what does not fit is refused. Bounded in number and in the bytes
//! of values, because every guest of the node may write at once.

use std::{collections::HashMap, sync::Arc};

use artifact::TenantName;
use fleet_sync_replica::{
    KvClient,
    kv::wire::{Ask, Message},
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{Answer, Arrived, KvError, KvStore};
use crate::host::held::Arrivals;

/// Operations handed over and not yet begun. The side runtime takes them out as fast as it can spawn.
const QUEUE_MAX: usize = 1_024;
/// Bytes of values that guests are writing.
const WRITING_BYTES_MAX: usize = 256 << 20;
/// Of them, of one tenant: a quarter, so that one tenant cannot take the node's.
const WRITING_PER_TENANT_BYTES_MAX: usize = WRITING_BYTES_MAX / 4;

/// The stores of a fleet.
pub struct RemoteKv {
    jobs: mpsc::Sender<Job>,
    writing: Arc<Writing>,
}

/// Bytes on their way, of each tenant that writes.
#[derive(Default)]
struct Writing(Mutex<HashMap<TenantName, usize>>);

/// The right to have some of them.
struct Room {
    writing: Arc<Writing>,
    tenant: TenantName,
    bytes: usize,
}

struct Job {
    ask: Message<Ask>,
    arrivals: Arrivals,
    answer: oneshot::Sender<Result<Arrived, KvError>>,
    room: Option<Room>,
}

impl Writing {
    /// Room for a value, if there is some.
    fn room(self: &Arc<Self>, tenant: &TenantName, bytes: usize) -> Option<Room> {
        let mut of_tenants = self.0.lock();
        let all: usize = of_tenants.values().sum();
        let own = of_tenants.get(tenant).copied().unwrap_or_default();
        if own.saturating_add(bytes) > WRITING_PER_TENANT_BYTES_MAX
            || all.saturating_add(bytes) > WRITING_BYTES_MAX
        {
            return None;
        }
        of_tenants.insert(tenant.clone(), own + bytes);
        Some(Room { writing: self.clone(), tenant: tenant.clone(), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut of_tenants = self.writing.0.lock();
        if let Some(own) = of_tenants.get_mut(&self.tenant) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                of_tenants.remove(&self.tenant);
            }
        }
    }
}

impl RemoteKv {
    /// Asks through `client` on the runtime `side`. Ends when it is dropped and what was begun is done.
    pub fn start(client: KvClient, side: &Handle) -> RemoteKv {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_MAX);
        side.spawn(async move {
            while let Some(Job { ask, arrivals, answer, room }) = queue.recv().await {
                let client = client.clone();
                // As many as the client lets wait; it answers the others at once.
                tokio::spawn(async move {
                    let said = client.ask(ask).await.map_err(KvError::from);
                    let said = Arrived::count(said, &arrivals);
                    drop(room);
                    let _guest_may_be_gone = answer.send(said);
                });
            }
        });
        RemoteKv { jobs, writing: Arc::default() }
    }
}

impl KvStore for RemoteKv {
    fn ask(&self, ask: Message<Ask>, arrivals: Arrivals) -> Answer {
        let busy = || -> Answer { Box::pin(std::future::ready(Err(KvError::Busy))) };
        let room = match ask.value.len() {
            0 => None,
            bytes => match self.writing.room(&ask.head.space().tenant, bytes) {
                None => return busy(),
                room => room,
            },
        };
        let (answer, said) = oneshot::channel();
        if self.jobs.try_send(Job { ask, arrivals, answer, room }).is_err() {
            return busy();
        }
        let gone = || KvError::NoAnswer("the node is stopping".to_owned());
        Box::pin(async move { said.await.unwrap_or_else(|_| Err(gone())) })
    }
}

/// No stores at all: for a node that stands alone, such as one that is measured.
pub struct Away;

impl KvStore for Away {
    fn ask(&self, _: Message<Ask>, _: Arrivals) -> Answer {
        let why = "this node has no control plane, which keeps the key-value stores".to_owned();
        Box::pin(std::future::ready(Err(KvError::Away(why))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_writes_its_share_and_leaves_the_others_theirs() {
        const LARGE: usize = 8 << 20;
        let writing = Arc::new(Writing::default());
        let tenant = |name: &str| name.parse::<TenantName>().unwrap();
        let fill = |name: &str| -> Vec<Room> {
            std::iter::from_fn(|| writing.room(&tenant(name), LARGE)).take(100).collect()
        };
        let a = fill("a");
        assert_eq!(a.len(), WRITING_PER_TENANT_BYTES_MAX / LARGE);
        let others = ["b", "c", "d"].map(fill);
        assert!(others.iter().all(|rooms| rooms.len() == a.len()));
        assert!(writing.room(&tenant("e"), 1).is_none(), "the node's is used up");
        drop((a, others));
        assert!(writing.0.lock().is_empty());
    }
}
