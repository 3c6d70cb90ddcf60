//! How a command ends that made a new version of a program that was there already: like a deploy, when the nodes serve it.

use artifact::AppName;
use serde::Serialize;

use super::convergence::{self, Waited};
use crate::{
    api::{Api, Deployed},
    args::Waiting,
    error::Result,
    output::Progress,
};

/// A new version, and how far it has come. Also the JSON form.
#[derive(Debug, Serialize)]
pub struct Released {
    #[serde(flatten)]
    pub deployed: Deployed,
    /// Absent with `--no-wait`.
    #[serde(flatten)]
    pub waited: Option<Waited>,
}

impl Released {
    /// Waits for the nodes, unless told not to.
    pub fn watch(api: &Api, app: &AppName, deployed: Deployed, waiting: &Waiting) -> Result<Released> {
        if waiting.no_wait {
            return Ok(Released { deployed, waited: None });
        }
        let progress = Progress::start(format!("{app}: waiting for the nodes"));
        let waited = convergence::wait(api, app, deployed.rev, waiting.timeout, &progress)?;
        Ok(Released { deployed, waited: Some(waited) })
    }

    /// For a person.
    pub fn text(&self) -> String {
        let Deployed { app, version, rev, publish_ms, .. } = &self.deployed;
        match &self.waited {
            Some(Waited { convergence, .. }) if convergence.active == 0 => {
                format!("{app} v{version} is durable, but no node serves it yet (publish {publish_ms} ms)")
            }
            Some(Waited { active_ms, convergence, .. }) => format!(
                "{app} v{version} is live on {} of {} nodes (publish {publish_ms} ms, active {active_ms} ms)",
                convergence.active, convergence.nodes
            ),
            None => format!("{app} v{version} is durable at rev {rev} (publish {publish_ms} ms)"),
        }
    }

    /// The command's end: success only if every node serves it.
    pub fn verdict(&self) -> Result<()> {
        let Deployed { app, version, .. } = &self.deployed;
        self.waited.as_ref().map_or(Ok(()), |waited| waited.verdict(&format!("{app} v{version}")))
    }
}
