//! `skerry apps`, `skerry rollback`, `skerry app delete`.

use serde::Serialize;

use super::{
    convergence::{self, Waited},
    idempotency_key,
};
use crate::{
    api::{Api, Changed},
    args::{App, Rollback},
    error::{Error, Result},
    here,
    output::{Output, Progress, table},
};

/// `skerry apps`.
pub fn list(api: &Api, output: Output) -> Result<()> {
    let apps = api.apps()?;
    output.print(&apps, || {
        if apps.is_empty() {
            return "no apps yet; deploy one with: skerry deploy FILE.wasm".into();
        }
        let head = ["APP", "VERSION", "HOSTS"].map(str::to_owned).to_vec();
        let rows = apps.iter().map(|app| {
            let version = app.active_version.map_or_else(|| "-".to_owned(), |version| version.to_string());
            vec![app.app.clone(), version, app.hosts.join(" ")]
        });
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    })
}

#[derive(Serialize)]
struct RolledBack {
    #[serde(flatten)]
    changed: Changed,
    #[serde(flatten)]
    waited: Option<Waited>,
}

/// `skerry rollback [APP] [VERSION]`: like a deploy, it ends when the nodes serve it.
pub fn rollback(api: &Api, args: &Rollback, output: Output) -> Result<()> {
    let app = here::app(args.app.as_ref())?;
    if let (Some(word), None, None, Some(here)) =
        (&args.app, args.version, args.to, here::app_if_any().filter(|here| *here != app))
        && word.as_str().trim_start_matches('v').parse::<u64>().is_ok()
    {
        let message = format!("is {word} a version of {here}? Then: skerry rollback --to {word}");
        return Err(Error::Usage(message));
    }
    let progress = Progress::start(format!("{}: rolling back", app));
    let changed = api.rollback(&app, args.version.or(args.to), &idempotency_key()?)?;
    let waited = match args.no_wait {
        true => None,
        false => Some(convergence::wait(api, &app, changed.rev, args.timeout, &progress)?),
    };
    drop(progress);
    let version = changed.version.map_or_else(String::new, |version| format!(" v{version}"));
    let done = RolledBack { changed, waited };
    output.print(&done, || match &done.waited {
        Some(Waited { convergence, .. }) if convergence.active == 0 => {
            format!("{}{version} is durable, but no node serves it yet", app)
        }
        Some(Waited { convergence, active_ms, .. }) => format!(
            "{}{version} is live again on {} of {} nodes (active {active_ms} ms)",
            app, convergence.active, convergence.nodes
        ),
        None => format!("{}{version} is durable at rev {}", app, done.changed.rev),
    })?;
    match &done.waited {
        Some(waited) => waited.verdict(&format!("{}{version}", app)),
        None => Ok(()),
    }
}

/// `skerry app ...`.
pub fn app(api: &Api, command: &App, output: Output) -> Result<()> {
    match command {
        App::Delete { app } => {
            let changed = api.delete_app(app, &idempotency_key()?)?;
            output.print(&changed, || format!("{app} is deleted (rev {})", changed.rev))
        }
    }
}
