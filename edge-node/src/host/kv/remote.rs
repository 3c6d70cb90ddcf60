//! From the serving threads, where guests ask, to the side runtime, where the connection to the control plane lives.
//!
//! One queue that never makes a serving thread wait: what does not fit is refused. Bounded in number and in the bytes
//! of values, because every guest of the node may write at once.

use std::sync::Arc;

use fleet_sync_replica::{
    KvClient,
    kv::wire::{Ask, Message, Said},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};

use super::{Answer, KvError, KvStore};

/// Operations handed over and not yet begun. The side runtime takes them out as fast as it can spawn.
const QUEUE_MAX: usize = 1_024;
/// Bytes of values that guests are writing, in KiB so that a semaphore can count them: 256 MiB.
const WRITING_KIB_MAX: usize = 256 * 1024;

/// The stores of a fleet.
pub struct RemoteKv {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

struct Job {
    ask: Message<Ask>,
    answer: oneshot::Sender<Result<Message<Said>, KvError>>,
    room: OwnedSemaphorePermit,
}

impl RemoteKv {
    /// Asks through `client` on the runtime `side`. Ends when it is dropped and what was begun is done.
    pub fn start(client: KvClient, side: &Handle) -> RemoteKv {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE_MAX);
        side.spawn(async move {
            while let Some(Job { ask, answer, room }) = queue.recv().await {
                let client = client.clone();
                // As many as the client lets wait; it answers the others at once.
                tokio::spawn(async move {
                    let said = client.ask(ask).await.map_err(KvError::from);
                    drop(room);
                    let _guest_may_be_gone = answer.send(said);
                });
            }
        });
        RemoteKv { jobs, room: Arc::new(Semaphore::new(WRITING_KIB_MAX)) }
    }
}

impl KvStore for RemoteKv {
    fn ask(&self, ask: Message<Ask>) -> Answer {
        let busy = || -> Answer { Box::pin(std::future::ready(Err(KvError::Busy))) };
        let kib = u32::try_from(ask.value.len() / 1024 + 1).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(kib) else { return busy() };
        let (answer, said) = oneshot::channel();
        if self.jobs.try_send(Job { ask, answer, room }).is_err() {
            return busy();
        }
        let gone = || KvError::NoAnswer("the node is stopping".to_owned());
        Box::pin(async move { said.await.unwrap_or_else(|_| Err(gone())) })
    }
}

/// No stores at all: for a node that stands alone, such as one that is measured.
pub struct Away;

impl KvStore for Away {
    fn ask(&self, _: Message<Ask>) -> Answer {
        let why = "this node has no control plane, which keeps the key-value stores".to_owned();
        Box::pin(std::future::ready(Err(KvError::Away(why))))
    }
}
