//! Putting values that cannot stand in a version: of secrets and of key-value stores, as a manifest made for another
//! platform has them.

use std::collections::{BTreeMap, BTreeSet};

use artifact::AppName;

use super::idempotency_key;
use crate::{
    api::Api,
    error::{Error, Result},
    import::items::{KvItem, Put, SecretItem},
};

/// The code of a refusal that a token of one app gets for a store no active version of the app declares.
const FORBIDDEN: &str = "forbidden";

/// Sets the app's secrets. A version pins their values, so this is before it is made.
pub fn put_secrets(api: &Api, app: &AppName, secrets: &[SecretItem]) -> Result<()> {
    let set: BTreeSet<(Option<String>, String)> =
        match secrets.iter().any(|secret| secret.put == Put::IfAbsent) {
            true => api
                .secrets(app)?
                .into_iter()
                .filter(|secret| secret.set_ms.is_some())
                .map(|s| (s.store, s.name))
                .collect(),
            false => BTreeSet::new(),
        };
    for secret in secrets {
        let SecretItem { store, key, value, put } = secret;
        let name = store.as_ref().map_or_else(|| key.clone(), |store| format!("{store}/{key}"));
        if *put == Put::IfAbsent && set.contains(&(store.clone(), key.clone())) {
            eprintln!("secret {name}: it has a value, which stays");
            continue;
        }
        api.set_secret(app, store.as_deref(), key, value, &idempotency_key()?)?;
        eprintln!("secret {name}: set");
    }
    Ok(())
}

/// What came of putting entries.
#[derive(Debug, PartialEq, Eq)]
pub enum Entries {
    /// All are there.
    Put,
    /// A token of one app reaches the stores once a version declares them.
    Later,
}

/// Puts entries of key-value stores: before the version, so that its first request finds them.
pub fn put_kv(api: &Api, entries: &[KvItem]) -> Result<Entries> {
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for KvItem { store, key, value, metadata, put } in entries {
        let only_if_absent = *put == Put::IfAbsent;
        let put = api.put_kv(store, key, value, metadata.as_deref(), only_if_absent, &idempotency_key()?);
        let (new, old) = counts.entry(store).or_default();
        match put {
            Ok(true) => *new += 1,
            Ok(false) => *old += 1,
            Err(Error::Rejected { code, .. }) if code == FORBIDDEN => return Ok(Entries::Later),
            Err(error) => return Err(error),
        }
    }
    for (store, (new, old)) in counts {
        let stay = if old == 0 { String::new() } else { format!(", {old} there already, which stay") };
        eprintln!("KV store {store}: {new} put{stay}");
    }
    Ok(Entries::Put)
}
