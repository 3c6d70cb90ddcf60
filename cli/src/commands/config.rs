//! `skerry config set|list|unset`.

use std::collections::BTreeMap;

use artifact::{AppName, names::StoreName};

use super::{idempotency_key, released::Released};
use crate::{
    api::Api,
    args::{AppOrEntry, Config, Waiting},
    error::{Error, Result},
    here,
    output::{Output, table},
};

/// Runs it.
pub fn run(api: &Api, command: &Config, output: Output) -> Result<()> {
    match command {
        Config::Set { entries, store, waiting } => {
            let (app, set) = set(entries)?;
            change(api, &here::app(app.as_ref())?, store.as_ref(), &set, &[], waiting, output)
        }
        Config::Unset { keys, store, waiting } => {
            let (app, keys) = unset(keys)?;
            change(api, &here::app(app.as_ref())?, store.as_ref(), &BTreeMap::new(), keys, waiting, output)
        }
        Config::List { app } => {
            let shown = api.config(&here::app(app.as_ref())?)?;
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

/// The app, if it is named, and the entries behind it.
fn set(words: &[AppOrEntry]) -> Result<(Option<AppName>, BTreeMap<String, String>)> {
    let (mut app, mut set) = (None, BTreeMap::new());
    for (at, word) in words.iter().enumerate() {
        match word {
            AppOrEntry::App(named) if at == 0 => app = Some(named.clone()),
            AppOrEntry::App(word) => {
                return Err(Error::Usage(format!("{:?} is not of the form KEY=VALUE", word.as_str())));
            }
            AppOrEntry::Entry(key, value) => drop(set.insert(key.clone(), value.clone())),
        }
    }
    if set.is_empty() {
        return Err(Error::Usage("there is nothing to set: give KEY=VALUE after the app".into()));
    }
    Ok((app, set))
}

/// The app, if there is more than a key, and the keys behind it.
fn unset(words: &[String]) -> Result<(Option<AppName>, &[String])> {
    match words {
        [app, keys @ ..] if !keys.is_empty() => {
            let app = app.parse().map_err(|error| Error::Usage(format!("{app:?}: {error}")))?;
            Ok((Some(app), keys))
        }
        keys => Ok((None, keys)),
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
