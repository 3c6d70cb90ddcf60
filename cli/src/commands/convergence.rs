//! Waiting until the fleet has followed, and the truth about it: who serves, who refused, who lags.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use artifact::AppName;
use serde::Serialize;

use crate::{
    api::{Api, Convergence},
    error::{Error, Result},
    exit::Exit,
    output::Progress,
};

/// Longest single long poll; the control plane allows 30 s.
const POLL_MS_MAX: u64 = 10_000;
/// Pause between polls that came back at once, because all that is missing is nodes that are not connected.
const POLL_PAUSE_MS: u64 = 200;
/// How long to wait for nodes that are not connected: a node that restarts is back in this time, one that is gone
/// must not hold up every deploy for the whole timeout.
const DISCONNECTED_S_MAX: u64 = 5;

/// How a change has spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Every node serves it.
    Live,
    /// Some nodes refused it, and no answer is missing.
    Refused,
    /// Some nodes have not answered in time.
    TimedOut,
}

impl Spread {
    fn of(convergence: &Convergence) -> Spread {
        if !convergence.lagging.is_empty() || convergence.nodes == 0 {
            Spread::TimedOut
        } else if !convergence.failed.is_empty() {
            Spread::Refused
        } else {
            Spread::Live
        }
    }
}

/// What is known after waiting.
#[derive(Debug, Clone, Serialize)]
pub struct Waited {
    /// The verdict.
    pub outcome: Spread,
    /// Time from the durable change to the last node's answer, or to giving up, in ms.
    pub active_ms: u64,
    /// Who is where.
    pub convergence: Convergence,
}

/// Waits until every node has answered for `rev`, at most `timeout`.
pub fn wait(api: &Api, app: &AppName, rev: u64, timeout: Duration, progress: &Progress) -> Result<Waited> {
    let start = Instant::now();
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let convergence = api.convergence(app, rev, left.min(Duration::from_millis(POLL_MS_MAX)))?;
        let (outcome, elapsed) = (Spread::of(&convergence), start.elapsed());
        let only_disconnected = convergence.lagging.iter().all(|node| !node.connected);
        let patience = if only_disconnected && convergence.nodes > 0 {
            timeout.min(Duration::from_secs(DISCONNECTED_S_MAX))
        } else {
            timeout
        };
        if outcome != Spread::TimedOut || elapsed >= patience {
            return Ok(Waited { outcome, active_ms: elapsed.as_millis() as u64, convergence });
        }
        progress.now(format!("{app}: {} of {} nodes", convergence.active, convergence.nodes));
        thread::sleep(Duration::from_millis(POLL_PAUSE_MS).min(left));
    }
}

impl Waited {
    /// A line for each node that refused or lags.
    pub fn stragglers_of(convergence: &Convergence) -> String {
        let mut text = String::new();
        for node in &convergence.failed {
            let _ = write!(text, "\n  {} ({}) refused: {}: {}", node.node, node.pop, node.code, node.detail);
        }
        for node in &convergence.lagging {
            let state = if node.connected { "connected" } else { "not connected" };
            let _ =
                write!(text, "\n  {} ({}) lags: at rev {}, {state}", node.node, node.pop, node.applied_rev);
        }
        if convergence.nodes == 0 {
            text.push_str("\n  no node has joined; see `skerry node token create`");
        }
        text
    }

    /// The command's end: success only if every node serves it.
    pub fn verdict(&self, what: &str) -> Result<()> {
        let Convergence { nodes, active, rev, .. } = &self.convergence;
        match self.outcome {
            Spread::Live => Ok(()),
            Spread::Refused => {
                let message = format!(
                    "{what} is durable (rev {rev}) but was refused by nodes; {active} of {nodes} serve it"
                );
                Err(Error::Outcome(
                    format!("{message}{}", Waited::stragglers_of(&self.convergence)),
                    Exit::Rejected,
                ))
            }
            Spread::TimedOut => {
                let seconds = self.active_ms as f64 / 1000.0;
                let message = format!(
                    "{what} is durable (rev {rev}) but after {seconds:.1} s only {active} of {nodes} nodes serve it"
                );
                Err(Error::Outcome(
                    format!("{message}{}", Waited::stragglers_of(&self.convergence)),
                    Exit::TimedOut,
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Failed, Lagging};

    fn waited(nodes: u64, active: u64, failed: &[&str], lagging: &[&str]) -> Waited {
        let failed = failed.iter().map(|node| Failed {
            node: node.to_string(),
            pop: "fra1".into(),
            code: "DIGEST_MISMATCH".into(),
            detail: "sha-256".into(),
        });
        let lagging = lagging.iter().map(|node| Lagging {
            node: node.to_string(),
            pop: "syd1".into(),
            applied_rev: 4,
            connected: false,
        });
        let convergence =
            Convergence { rev: 7, nodes, active, failed: failed.collect(), lagging: lagging.collect() };
        Waited { outcome: Spread::of(&convergence), active_ms: 30_000, convergence }
    }

    #[test]
    fn live_refused_and_lagging_have_their_exit_codes() {
        assert!(waited(2, 2, &[], &[]).verdict("hello v1").is_ok());
        let exit = |waited: Waited| waited.verdict("hello v1").unwrap_err().exit();
        assert_eq!(exit(waited(1, 0, &["a"], &[])), Exit::Rejected);
        assert_eq!(exit(waited(2, 0, &["a"], &["b"])), Exit::TimedOut);
        assert_eq!(exit(waited(2, 1, &[], &["b"])), Exit::TimedOut);
        assert_eq!(exit(waited(0, 0, &[], &[])), Exit::TimedOut);
    }

    #[test]
    fn refusals_and_laggards_are_named() {
        let report = waited(3, 1, &["fra1-1"], &["syd1-1"]).verdict("hello v2").unwrap_err().report();
        assert_eq!(
            report,
            "error: hello v2 is durable (rev 7) but after 30.0 s only 1 of 3 nodes serve it\n  \
             fra1-1 (fra1) refused: DIGEST_MISMATCH: sha-256\n  syd1-1 (syd1) lags: at rev 4, not connected"
        );
    }
}
