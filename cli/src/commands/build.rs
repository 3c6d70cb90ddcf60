//! `skerry build`, `skerry test`, `skerry publish`: a project's own commands, and a deploy of what they made.

use std::path::PathBuf;

use serde::Serialize;

use super::deploy;
use crate::{
    api::Api,
    args::{Build, Publish, Test},
    build::Recipe,
    error::Result,
    output::Output,
};

/// The result's JSON form.
#[derive(Serialize)]
struct Report {
    app: String,
    /// Null when the app is static files alone.
    component: Option<PathBuf>,
    bytes: Option<u64>,
    /// Null when the manifest names no command.
    build_ms: Option<u64>,
}

/// `skerry build [FOLDER]`.
pub fn build(args: &Build, output: Output) -> Result<()> {
    let recipe = Recipe::require(&args.folder)?;
    let built = recipe.make()?;
    let (component, bytes) = built.program.clone().unzip();
    let build_ms = built.took.map(|took| took.as_millis() as u64);
    let report = Report { app: recipe.name.to_string(), component, bytes, build_ms };
    output.print(&report, || match built.took {
        Some(took) => format!("{}: {}, built in {:.1} s", recipe.name, built.what(), took.as_secs_f64()),
        None => {
            format!(
                "{}: {}; nothing to build: skerry.toml names no [build] command",
                recipe.name,
                built.what()
            )
        }
    })
}

/// `skerry test [FOLDER]`.
pub fn test(args: &Test) -> Result<()> {
    Recipe::require(&args.folder)?.test()
}

/// `skerry publish [FOLDER]`: what `build` and then `deploy` do.
pub fn publish(api: &Api, args: &Publish, output: Output) -> Result<()> {
    let built = Recipe::require(&args.folder)?.make()?;
    if let Some(took) = built.took {
        eprintln!("built in {:.1} s: {}", took.as_secs_f64(), built.what());
    }
    deploy::run(api, &args.deploy(), output)
}
