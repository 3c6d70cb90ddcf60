//! The [queue](super::queue) for tasks: wait for a slot, hold it while a job runs, give it back by dropping it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use artifact::{Digest, compile::Queued};
use tokio::sync::oneshot;

use super::queue::{Full, Queue, QueueLimits};

/// Hands out slots. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Mutex<Queue<Waiting>>>);

/// One task that waits.
#[derive(Debug)]
struct Waiting {
    slot: oneshot::Sender<Slot>,
    /// For what: the program.
    wasm: Digest,
}

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

    /// Waits for a slot to compile this program. Dropping the future leaves the queue.
    pub async fn slot(&self, label: &str, wasm: Digest) -> Result<Slot, Full> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.queue();
            // Those who left make room first.
            queue.retain(Waiting::is_wanted);
            queue.push(label, Waiting { slot: sender, wasm })?;
        }
        self.pump();
        // The sender is dropped only by `retain`, after this future is gone.
        receiver.await.map_err(|_| Full::Queue)
    }

    /// Where a label's compiles of a program wait.
    pub fn queued(&self, label: &str, wasm: Digest) -> Queued {
        let mut queue = self.queue();
        queue.retain(Waiting::is_wanted);
        let mut queued = Queued::default();
        for (position, (other, waiting)) in (1..).zip(queue.order()) {
            if other == label && waiting.wasm == wasm {
                queued.waiting += 1;
                queued.position = queued.position.or(Some(position));
            }
        }
        queued
    }

    /// Starts whatever can start.
    fn pump(&self) {
        loop {
            let (waiting, slot) = {
                let mut queue = self.queue();
                let Some((label, waiting)) = queue.start() else { return };
                (
                    waiting,
                    Slot {
                        gate: self.clone(),
                        label: Some(label),
                        running: queue.running() - queue.long(),
                        is_long: false,
                    },
                )
            };
            if let Err(mut unwanted) = waiting.slot.send(slot) {
                // Given back here and not by its drop, which would pump again inside this loop.
                if let Some(label) = unwanted.label.take() {
                    self.queue().finished(&label, false);
                }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Waiting>> {
        // Nothing panics while it is held, and the counts would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Does its task still wait?
    fn is_wanted(&self) -> bool {
        !self.slot.is_closed()
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
        let first = gate.slot("a", Digest::ZERO).await.unwrap();
        let left = tokio::spawn({
            let gate = gate.clone();
            async move { gate.slot("a", Digest::ZERO).await }
        });
        let stayed = tokio::spawn({
            let gate = gate.clone();
            async move { gate.slot("b", Digest::of(b"b")).await }
        });
        while gate.queue().waiting() < 2 {
            tokio::task::yield_now().await;
        }
        let (a, b) = (("a", Digest::ZERO), ("b", Digest::of(b"b")));
        let queued = |(label, wasm)| gate.queued(label, wasm);
        // "a" has one running, so "b" is the next although it came later.
        assert_eq!(queued(b), Queued { waiting: 1, position: Some(1) });
        assert_eq!(queued(a), Queued { waiting: 1, position: Some(2) });
        assert_eq!(queued(("a", b.1)), Queued::default(), "another's program");
        left.abort();
        let _ = left.await;
        assert_eq!(queued(a), Queued::default());
        drop(first);
        let second = stayed.await.unwrap().unwrap();
        assert_eq!((second.running(), gate.queue().waiting()), (1, 0));
        drop(second);
        assert_eq!(gate.queue().running(), 0);

        let mut long = gate.slot("a", Digest::ZERO).await.unwrap();
        assert!(long.lengthen());
        let beside = gate.slot("b", Digest::of(b"b")).await.unwrap();
        assert_eq!((beside.running(), gate.queue().running()), (1, 2));
        drop((long, beside));
        assert_eq!(gate.queue().running(), 0);
    }
}
