//! `skerry config set|list|unset`.

use std::collections::BTreeMap;

use artifact::{AppName, names::StoreName};

use super::{idempotency_key, released::Released};
use crate::{
    api::Api,
    args::{Config, Waiting},
    error::Result,
    output::{Output, table},
};

/// Runs it.
pub fn run(api: &Api, command: &Config, output: Output) -> Result<()> {
    match command {
        Config::Set { app, entries, store, waiting } => {
            let set = entries.iter().cloned().collect();
            change(api, app, store.as_ref(), &set, &[], waiting, output)
        }
        Config::Unset { app, keys, store, waiting } => {
            change(api, app, store.as_ref(), &BTreeMap::new(), keys, waiting, output)
        }
        Config::List { app } => {
            let shown = api.config(app)?;
            output.print(&shown, || {
                let head = ["STORE", "KEY", "VALUE"].map(str::to_owned).to_vec();
                let default = shown.config.iter().map(|(key, value)| ("-", key, value));
                let named = shown.config_stores.iter().flat_map(|(store, entries)| {
                    entries.iter().map(move |(key, value)| (store.as_str(), key, value))
                });
                let rows = default.chain(named).map(|(store, key, value)| {
                    vec![store.to_owned(), key.clone(), value.escape_debug().to_string()]
                });
                table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
            })
        }
    }
}

fn change(
    api: &Api,
    app: &AppName,
    store: Option<&StoreName>,
    set: &BTreeMap<String, String>,
    unset: &[String],
    waiting: &Waiting,
    output: Output,
) -> Result<()> {
    let deployed = api.change_config(app, store, set, unset, &idempotency_key()?)?;
    let released = Released::watch(api, app, deployed, waiting)?;
    output.print(&released, || released.text())?;
    released.verdict()
}
