//! Values that a project brings along beside its version: put into their stores before the deploy that needs them.

use artifact::{
    AppName,
    names::{KvKey, NameError, SecretName, StoreName},
    secrets::SecretValue,
};

use super::idempotency_key;
use crate::{
    api::{Api, KvPut},
    error::{Error, Result},
    import::items::{Items, KvItem, Put, SecretItem},
};

/// Code of the refusal that tells that an entry is there already.
const PRECONDITION: &str = "precondition_failed";

/// Puts all of them.
pub fn put(api: &Api, app: &AppName, items: &Items) -> Result<()> {
    let there = match items.secrets.is_empty() {
        true => Vec::new(),
        false => api.secrets(app)?,
    };
    for item in &items.secrets {
        let SecretItem { store, key, value, put } = item;
        let is_set = there.iter().any(|secret| {
            secret["name"] == key.as_str()
                && secret["store"].as_str() == store.as_deref()
                && !secret["set_ms"].is_null()
        });
        if is_set && *put == Put::IfAbsent {
            continue;
        }
        let store: Option<StoreName> = store.as_deref().map(str::parse).transpose().map_err(name)?;
        let key: SecretName = key.parse().map_err(name)?;
        let value = SecretValue::new(value.clone());
        api.set_secret(app, store.as_ref(), &key, &value, &idempotency_key()?)?;
    }
    for KvItem { store, key, value, metadata, put } in &items.kv {
        let store: StoreName = store.parse().map_err(name)?;
        let key: KvKey = key.parse().map_err(name)?;
        let mode = match put {
            Put::Always => "overwrite",
            Put::IfAbsent => "add",
        };
        let entry = KvPut { value, metadata: metadata.as_deref(), ttl_ms: None, if_generation: None, mode };
        match api.kv_put(&store, &key, &entry, &idempotency_key()?) {
            Err(Error::Rejected { code, .. }) if code == PRECONDITION => {} // it is there, and stays
            other => drop(other?),
        }
    }
    Ok(())
}

fn name(error: NameError) -> Error {
    Error::Usage(error.to_string())
}
