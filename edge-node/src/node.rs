//! The node: what lives as long as the process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use arc_swap::ArcSwap;

use crate::{
    account::{access_log::AccessLog, metrics::Metrics},
    code::CodeCache,
    exchange::Site,
    generation::Generation,
};

/// See the module.
pub struct Node {
    /// Its name and POP.
    pub site: Arc<Site>,
    /// The picture requests are routed by; swapped by the activator.
    pub generation: ArcSwap<Generation>,
    /// Native code.
    pub code: Arc<CodeCache>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// One line per request.
    pub access_log: AccessLog,
    /// Admission: guests running now, and how many may.
    pub executions: Executions,
}

/// Counts executions and bounds them by the pool's size, so that a full pool is an answer and not an error.
pub struct Executions {
    running: AtomicUsize,
    max: usize,
}

/// One running execution.
pub struct Permit(Arc<Node>);

impl Executions {
    /// At most `max` at once.
    pub fn new(max: usize) -> Executions {
        Executions { running: AtomicUsize::new(0), max }
    }

    /// Executions running now.
    pub fn running(&self) -> usize {
        self.running.load(Relaxed)
    }
}

impl Node {
    /// Room for one more execution, or none.
    pub fn admit(self: &Arc<Node>) -> Option<Permit> {
        let Executions { running, max } = &self.executions;
        if running.fetch_add(1, Relaxed) >= *max {
            running.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.executions.running.fetch_sub(1, Relaxed);
    }
}
