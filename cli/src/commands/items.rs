//! Values that a project brings along beside its version: put into their stores before the deploy that needs them.

use std::collections::BTreeMap;

use artifact::{
    AppName,
    names::{KvKey, NameError, SecretName, StoreName},
    secrets::SecretValue,
};

use super::idempotency_key;
use crate::{
    api::{Api, KvPut},
    error::{Error, Result},
    import::items::{KvItem, Put, SecretItem},
};

/// Code of the refusal that tells that an entry is there already.
const PRECONDITION: &str = "precondition_failed";
/// Code of the refusal that a token of one app gets for a store that no active version of the app declares.
const FORBIDDEN: &str = "forbidden";

/// Sets the app's secrets: before the version that pins their values.
pub fn put_secrets(api: &Api, app: &AppName, secrets: &[SecretItem]) -> Result<()> {
    let there = match secrets.is_empty() {
        true => Vec::new(),
        false => api.secrets(app)?,
    };
    for item in secrets {
        let SecretItem { store, key, value, put } = item;
        let is_set = there.iter().any(|secret| {
            secret["name"] == key.as_str()
                && secret["store"].as_str() == store.as_deref()
                && !secret["set_ms"].is_null()
        });
        let shown = store.as_ref().map_or_else(|| key.clone(), |store| format!("{store}/{key}"));
        if is_set && *put == Put::IfAbsent {
            eprintln!("secret {shown}: it has a value, which stays");
            continue;
        }
        let store: Option<StoreName> = store.as_deref().map(str::parse).transpose().map_err(name)?;
        let key: SecretName = key.parse().map_err(name)?;
        let value = SecretValue::new(value.clone());
        api.set_secret(app, store.as_ref(), &key, &value, &idempotency_key()?)?;
        eprintln!("secret {shown}: set");
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
        let (new, old) = counts.entry(store).or_default();
        let store: StoreName = store.parse().map_err(name)?;
        let key: KvKey = key.parse().map_err(name)?;
        let mode = match put {
            Put::Always => "overwrite",
            Put::IfAbsent => "add",
        };
        let entry = KvPut { value, metadata: metadata.as_deref(), ttl_ms: None, if_generation: None, mode };
        match api.kv_put(&store, &key, &entry, &idempotency_key()?) {
            Ok(_) => *new += 1,
            Err(Error::Rejected { code, .. }) if code == PRECONDITION => *old += 1,
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

fn name(error: NameError) -> Error {
    Error::Usage(error.to_string())
}
