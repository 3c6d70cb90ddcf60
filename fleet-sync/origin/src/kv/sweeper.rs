//! The loop that takes expired entries out while nobody asks. What a sweep does is the store's part.

use std::{sync::Arc, time::Duration};

use super::{KvStore, Swept};

/// Pause between two looks for expired entries, when the last one found no more than a batch, or failed.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause when there is more: a million entries are gone in two minutes, and writes have most of the time between.
const PAUSE_NEXT: Duration = Duration::from_millis(100);

/// Sweeps until the store is gone.
pub(crate) async fn run(store: impl Fn() -> Option<Arc<dyn KvStore>>) {
    let mut pause = PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        let Some(kv) = store() else { return };
        pause = match kv.sweep().await {
            Ok(Swept::Some) => PAUSE_NEXT,
            Ok(Swept::All) => PAUSE,
            Err(error) => {
                tracing::warn!(%error, cause = ?error.source, "taking expired key-value entries out");
                PAUSE
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use fleet_sync_proto::kv::{Ask, Message, Said};
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;
    use crate::kv::{KvError, Once, OnceError};

    /// Says what it is told to, one sweep after the other, and notes when it was asked.
    struct Told {
        answers: Mutex<VecDeque<Result<Swept, KvError>>>,
        began: Instant,
        asked_ms: Mutex<Vec<u128>>,
    }

    #[async_trait]
    impl KvStore for Told {
        async fn ask(&self, _: Message<Ask>) -> Result<Message<Said>, KvError> {
            unreachable!("the loop only sweeps")
        }

        async fn ask_once(&self, _: Message<Ask>, _: Once) -> Result<Message<Said>, OnceError> {
            unreachable!("the loop only sweeps")
        }

        async fn stores(&self, _: &artifact::TenantName) -> Result<Vec<artifact::names::StoreName>, KvError> {
            unreachable!("the loop only sweeps")
        }

        async fn sweep(&self) -> Result<Swept, KvError> {
            self.asked_ms.lock().push(self.began.elapsed().as_millis());
            self.answers.lock().pop_front().expect("the store is gone before")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_follow_quickly_while_there_is_more_and_go_on_after_a_failure() {
        let failure = KvError { doing: "sweeping", at: "here".into(), source: "no disk".into() };
        let answers = [Ok(Swept::Some), Ok(Swept::Some), Ok(Swept::All), Err(failure), Ok(Swept::All)];
        let store = Arc::new(Told {
            answers: Mutex::new(answers.into()),
            began: Instant::now(),
            asked_ms: Mutex::new(Vec::new()),
        });
        run(|| {
            let kv: Arc<dyn KvStore> = store.clone();
            (!store.answers.lock().is_empty()).then_some(kv)
        })
        .await;
        assert_eq!(*store.asked_ms.lock(), [10_000, 10_100, 10_200, 20_200, 30_200]);
        assert_eq!(store.began.elapsed().as_millis(), 40_200, "it ends when it finds the store gone");
    }
}
