//! `skerry build`, `skerry test`, `skerry publish`: a project's own commands, and a deploy of what they made.

use std::path::PathBuf;

use serde::Serialize;

use super::deploy;
use crate::{
    api::Api,
    args::{Build, Publish, Test},
    build::{Built, Recipe, size},
    error::Result,
    output::Output,
};

#[derive(Serialize)]
struct Report {
    app: String,
    component: PathBuf,
    bytes: u64,
    /// Null when the manifest names no command.
    build_ms: Option<u64>,
}

/// `skerry build [FOLDER]`.
pub fn build(args: &Build, output: Output) -> Result<()> {
    let recipe = Recipe::require(&args.folder)?;
    let Built { component, bytes, took } = recipe.make()?;
    let build_ms = took.map(|took| took.as_millis() as u64);
    let report = Report { app: recipe.name.to_string(), component, bytes, build_ms };
    output.print(&report, || report.text())
}

/// `skerry test [FOLDER]`.
pub fn test(args: &Test) -> Result<()> {
    Recipe::require(&args.folder)?.test()
}

/// `skerry publish [FOLDER]`: what `build` and then `deploy` do.
pub fn publish(api: &Api, args: &Publish, output: Output) -> Result<()> {
    let Built { component, bytes, took } = Recipe::require(&args.folder)?.make()?;
    if let Some(took) = took {
        eprintln!("built {} ({}) in {:.1} s", component.display(), size(bytes), took.as_secs_f64());
    }
    deploy::run(api, &args.deploy(), output)
}

impl Report {
    fn text(&self) -> String {
        let what = format!("{}: {}, {}", self.app, self.component.display(), size(self.bytes));
        match self.build_ms {
            Some(ms) => format!("{what}, built in {:.1} s", ms as f64 / 1e3),
            None => format!("{what}; nothing to build: skerry.toml names no [build] command"),
        }
    }
}
