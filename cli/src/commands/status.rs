//! `skerry status [APP]`: of one app, its versions and where it is live; of the fleet, its nodes and apps.

use std::time::Duration;

use artifact::AppName;
use serde::Serialize;

use super::{convergence::Waited, node};
use crate::{
    api::{Api, AppDetail, AppSummary, Convergence, NodeSummary},
    args::Status,
    error::{Error, Result},
    here,
    output::{Output, table},
};

#[derive(Serialize)]
struct AppStatus {
    #[serde(flatten)]
    detail: AppDetail,
    convergence: Convergence,
}

#[derive(Serialize)]
struct FleetStatus {
    apps: Vec<AppSummary>,
    /// Absent when the token may not see nodes.
    nodes: Option<Vec<NodeSummary>>,
}

/// Prints the status; exit code 0 whatever it says, because asking worked.
pub fn run(api: &Api, args: &Status, output: Output) -> Result<()> {
    match args.app.clone().or_else(here::app_if_any).filter(|_| !args.fleet) {
        Some(app) => of_app(api, &app, output),
        None => of_fleet(api, output),
    }
}

fn of_app(api: &Api, app: &AppName, output: Output) -> Result<()> {
    let detail = api.app(app)?;
    let convergence = api.convergence(app, detail.summary.rev, Duration::ZERO)?;
    let status = AppStatus { detail, convergence };
    output.print(&status, || status.text())
}

fn of_fleet(api: &Api, output: Output) -> Result<()> {
    let apps = api.apps()?;
    // A tenant's token sees its apps, not the machines.
    let nodes = match api.nodes() {
        Ok(nodes) => Some(nodes),
        Err(Error::Rejected { .. }) => None,
        Err(error) => return Err(error),
    };
    let status = FleetStatus { apps, nodes };
    output.print(&status, || {
        let count = match status.apps.len() {
            1 => "1 app".to_owned(),
            n => format!("{n} apps"),
        };
        match &status.nodes {
            Some(nodes) => format!("{count}; nodes:\n{}", node::table_of(nodes)),
            None => count,
        }
    })
}

impl AppStatus {
    fn text(&self) -> String {
        let AppSummary { app, active_version, rev, urls, .. } = &self.detail.summary;
        let Convergence { nodes, active, .. } = &self.convergence;
        let version = active_version.map_or_else(|| "no version".to_owned(), |version| format!("v{version}"));
        let mut text = format!("{app} {version} (rev {rev}) is live on {active} of {nodes} nodes");
        for url in urls {
            text.push_str(&format!("\n  {url}"));
        }
        text.push_str(&Waited::stragglers_of(&self.convergence));
        let head = ["VERSION", "LANE", "WASM", "BYTES", "TARGETS"].map(str::to_owned).to_vec();
        let rows = self.detail.versions.iter().map(|version| {
            let mark = if version.active { "* " } else { "  " };
            let wasm = version.wasm.chars().take(12).collect();
            let number = format!("{mark}v{}", version.version);
            vec![
                number,
                version.lane.clone(),
                wasm,
                version.wasm_bytes.to_string(),
                version.targets.join(" "),
            ]
        });
        format!("{text}\n{}", table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))
    }
}
