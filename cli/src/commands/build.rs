//! `skerry build`, `skerry test`, `skerry publish`: a project's own commands, and a deploy of what they made.

use std::path::PathBuf;

use serde::Serialize;

use super::deploy;
use crate::{
    api::Api,
    args::{Build, Publish, Test},
    build::{Aim, Recipe},
    error::Result,
    output::Output,
    up::Stop,
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
    let built = recipe.make(Aim::Release, &Stop::listen()?)?;
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
    Recipe::require(&args.folder)?.test(&Stop::listen()?)
}

/// `skerry publish [FOLDER]`: what `build` and then `deploy` do.
pub fn publish(api: &Api, args: &Publish, output: Output) -> Result<()> {
    let stop = Stop::listen()?;
    let built = Recipe::require(&args.folder)?.make(Aim::Release, &stop)?;
    if let Some(took) = built.took {
        eprintln!("built in {:.1} s: {}", took.as_secs_f64(), built.what());
    }
    stop.ends_the_process("stopped; the deploy may still land: see `skerry status`");
    deploy::run(api, &args.deploy(), output)
}
