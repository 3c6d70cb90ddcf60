//! The [queue](super::queue) for tasks: wait for a slot, hold it while a job runs, give it back by dropping it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::queue::{Full, Queue, QueueLimits};

/// Hands out slots. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Mutex<Queue<oneshot::Sender<Slot>>>>);

/// The right to run one job, until dropped.
#[derive(Debug)]
pub struct Slot {
    gate: Gate,
    /// `None` once given back.
    label: Option<String>,
    /// Jobs that ran when this one got its slot, itself included and long ones not.
    running: usize,
    /// Others have its place, and the job goes on.
    is_long: bool,
}

impl Slot {
    /// Jobs that ran when this one got its slot, itself included; without long ones, which take what is left.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The job takes long: others get its place, if there is room for one more beside them. Have they?
    pub fn lengthen(&mut self) -> bool {
        if !self.is_long && self.gate.queue().lengthened() {
            self.is_long = true;
            self.gate.pump();
        }
        self.is_long
    }
}

impl Gate {
    /// A gate with nobody waiting.
    pub fn new(limits: QueueLimits) -> Gate {
        Gate(Arc::new(Mutex::new(Queue::new(limits))))
    }

    /// Waits for a slot. Dropping the future leaves the queue.
    pub async fn slot(&self, label: &str) -> Result<Slot, Full> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.queue();
            // Those who left make room first.
            queue.retain(|waiting| !waiting.is_closed());
            queue.push(label, sender)?;
        }
        self.pump();
        // The sender is dropped only by `retain`, after this future is gone.
        receiver.await.map_err(|_| Full::Queue)
    }

    /// Starts whatever can start.
    fn pump(&self) {
        loop {
            let (sender, slot) = {
                let mut queue = self.queue();
                let Some((label, sender)) = queue.start() else { return };
                (
                    sender,
                    Slot {
                        gate: self.clone(),
                        label: Some(label),
                        running: queue.running() - queue.long(),
                        is_long: false,
                    },
                )
            };
            if let Err(mut unwanted) = sender.send(slot) {
                // Given back here and not by its drop, which would pump again inside this loop.
                if let Some(label) = unwanted.label.take() {
                    self.queue().finished(&label, false);
                }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Slot>>> {
        // Nothing panics while it is held, and the counts would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(label) = self.label.take() {
            self.gate.queue().finished(&label, self.is_long);
            self.gate.pump();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_goes_to_the_next_when_dropped_and_skips_those_who_left() {
        let gate =
            Gate::new(QueueLimits { running_max: 1, long_max: 1, waiting_max: 3, waiting_per_label_max: 3 });
        let first = gate.slot("a").await.unwrap();
        let left = tokio::spawn({
            let gate = gate.clone();
            async move { gate.slot("a").await }
        });
        let stayed = tokio::spawn({
            let gate = gate.clone();
            async move { gate.slot("b").await }
        });
        while gate.queue().waiting() < 2 {
            tokio::task::yield_now().await;
        }
        left.abort();
        let _ = left.await;
        drop(first);
        let second = stayed.await.unwrap().unwrap();
        assert_eq!((second.running(), gate.queue().waiting()), (1, 0));
        drop(second);
        assert_eq!(gate.queue().running(), 0);

        let mut long = gate.slot("a").await.unwrap();
        assert!(long.lengthen());
        let beside = gate.slot("b").await.unwrap();
        assert_eq!((beside.running(), gate.queue().running()), (1, 2));
        drop((long, beside));
        assert_eq!(gate.queue().running(), 0);
    }
}
