//! Going down without dropping a request: accepting stops first, connections finish what they have begun and
//! tell their clients to go elsewhere, a deadline ends the wait.
//!
//! A value to hold: [`Drain`] by whoever decides, [`Draining`] by every listener. Deliberately absent: readiness,
//! which is the node's to flip before it starts a drain.

use std::{future, time::Duration};

use tokio::{sync::watch, time::Instant};

/// Starts the drain.
#[derive(Debug)]
pub struct Drain(watch::Sender<Option<Instant>>);

/// Sees the drain.
#[derive(Debug, Clone)]
pub struct Draining(watch::Receiver<Option<Instant>>);

impl Drain {
    /// A drain that has not started.
    pub fn new() -> (Drain, Draining) {
        let (sender, receiver) = watch::channel(None);
        (Drain(sender), Draining(receiver))
    }

    /// Stops accepting now and ends what is left after `grace`. Only the first call counts.
    pub fn start(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        self.0.send_if_modified(|started| {
            let first = started.is_none();
            started.get_or_insert(deadline);
            first
        });
    }
}

impl Draining {
    /// Waits for the start and returns the deadline. Never returns when the [`Drain`] was dropped unused: a
    /// lost handle must not stop a node.
    pub async fn started(&mut self) -> Instant {
        let seen = self.0.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline);
        match seen {
            Some(deadline) => deadline,
            None => future::pending().await,
        }
    }
}
