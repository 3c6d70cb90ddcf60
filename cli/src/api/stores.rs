//! Calls about config, secrets and key-value stores.

use std::{collections::BTreeMap, fmt::Write as _};

use artifact::{
    AppName,
    names::{KvKey, SecretName, StoreName},
    secrets::SecretValue,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::{
    Api, Deployed,
    call::Call,
    types::{AppConfigShown, KvEntry, KvKeys, KvPut, KvStores, SecretSet, SecretsSet},
};
use crate::error::Result;

impl Api {
    /// Changes entries of a config store.
    pub fn change_config(
        &self,
        app: &AppName,
        store: Option<&StoreName>,
        set: &BTreeMap<String, String>,
        unset: &[String],
        key: &str,
    ) -> Result<Deployed> {
        let body = json!({ "store": store, "set": set, "unset": unset });
        let path = format!("/v1/apps/{app}/config");
        self.answer(Call::new(format!("changing the config of {app}"), "POST", path).json(&body).key(key))
    }

    /// The configuration of the active version.
    pub fn config(&self, app: &AppName) -> Result<AppConfigShown> {
        let path = format!("/v1/apps/{app}/config");
        self.answer(Call::new(format!("reading the config of {app}"), "GET", path))
    }

    /// Sets a secret. The value is the body and nothing else.
    pub fn set_secret(
        &self,
        app: &AppName,
        store: Option<&StoreName>,
        name: &SecretName,
        value: &SecretValue,
        key: &str,
    ) -> Result<SecretSet> {
        let call =
            Call::new(format!("setting the secret {name} of {app}"), "PUT", secret_path(app, store, name));
        self.answer(call.value(value.expose()).key(key))
    }

    /// Sets several secrets: all or none, as one version.
    pub fn set_secrets(
        &self,
        app: &AppName,
        store: Option<&StoreName>,
        secrets: &[(SecretName, SecretValue)],
        key: &str,
    ) -> Result<SecretsSet> {
        let secret = |(name, value): &(SecretName, SecretValue)| json!({ "store": store, "name": name, "value_base64": BASE64.encode(value.expose()) });
        let body = json!({ "secrets": secrets.iter().map(secret).collect::<Vec<_>>() });
        let path = format!("/v1/apps/{app}/secrets");
        let call = Call::new(format!("setting {} secrets of {app}", secrets.len()), "POST", path);
        self.answer(call.json(&body).key(key))
    }

    /// The app's secrets, without values.
    pub fn secrets(&self, app: &AppName) -> Result<Vec<Value>> {
        let path = format!("/v1/apps/{app}/secrets");
        self.answer(Call::new(format!("listing the secrets of {app}"), "GET", path))
    }

    /// Forgets a secret.
    pub fn unset_secret(&self, app: &AppName, store: Option<&StoreName>, name: &SecretName) -> Result<()> {
        let path = secret_path(app, store, name);
        self.acknowledged(Call::new(format!("forgetting the secret {name} of {app}"), "DELETE", path))
    }

    /// Writes an entry. With `key` a repeated call writes once; without, it must be one that may be repeated.
    pub fn kv_put(&self, store: &StoreName, at: &KvKey, put: &KvPut<'_>, key: &str) -> Result<u64> {
        let mut path = format!("{}?mode={}", kv_path(store, at), put.mode);
        for (name, number) in [("ttl_ms", put.ttl_ms), ("if_generation", put.if_generation)] {
            if let Some(number) = number {
                let _ = write!(path, "&{name}={number}");
            }
        }
        let mut call = Call::new(format!("writing {at} in {store}"), "PUT", path).value(put.value);
        if let Some(metadata) = put.metadata {
            call = call.header("skerry-metadata", BASE64.encode(metadata));
        }
        let written: Value = self.answer(call.key(key))?;
        Ok(written["generation"].as_u64().unwrap_or_default())
    }

    /// Reads an entry.
    pub fn kv_get(&self, store: &StoreName, at: &KvKey) -> Result<KvEntry> {
        let call = Call::new(format!("reading {at} in {store}"), "GET", kv_path(store, at));
        let (headers, value) = self.bytes(call)?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Ok(KvEntry {
            value,
            generation: text("skerry-generation").and_then(|text| text.parse().ok()).unwrap_or_default(),
            ttl_ms: text("skerry-ttl-ms").and_then(|text| text.parse().ok()),
            metadata: text("skerry-metadata").and_then(|text| BASE64.decode(text).ok()).unwrap_or_default(),
        })
    }

    /// The tenant's stores.
    pub fn kv_stores(&self) -> Result<KvStores> {
        self.answer(Call::new("listing key-value stores", "GET", "/v1/kv"))
    }

    /// One page of keys.
    pub fn kv_list(
        &self,
        store: &StoreName,
        prefix: &str,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<KvKeys> {
        let mut path = format!("/v1/kv/{}?limit={limit}&prefix={}", encoded(store.as_str()), encoded(prefix));
        if let Some(cursor) = cursor {
            let _ = write!(path, "&cursor={}", encoded(cursor));
        }
        self.answer(Call::new(format!("listing keys of {store}"), "GET", path))
    }

    /// Deletes an entry; was there one?
    pub fn kv_delete(
        &self,
        store: &StoreName,
        at: &KvKey,
        if_generation: Option<u64>,
        key: &str,
    ) -> Result<bool> {
        let condition = if_generation.map_or_else(String::new, |number| format!("?if_generation={number}"));
        let path = format!("{}{condition}", kv_path(store, at));
        let call = Call::new(format!("deleting {at} in {store}"), "DELETE", path).key(key);
        let deleted: Value = self.answer(call)?;
        Ok(deleted["existed"] == true)
    }
}

fn secret_path(app: &AppName, store: Option<&StoreName>, name: &SecretName) -> String {
    let store = store.map_or_else(String::new, |store| format!("?store={}", encoded(store.as_str())));
    format!("/v1/apps/{app}/secrets/{}{store}", encoded(name.as_str()))
}

fn kv_path(store: &StoreName, key: &KvKey) -> String {
    format!("/v1/kv/{}/{}", encoded(store.as_str()), encoded(key.as_str()))
}

/// Percent-encoded (RFC 3986 §2.1) but for letters, digits, `-` and `_`: a dot alone in a segment would be swallowed.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(char::from(byte)),
            other => {
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_any_key() {
        let store = "my store".parse().unwrap();
        assert_eq!(kv_path(&store, &"../a?é".parse().unwrap()), "/v1/kv/my%20store/%2E%2E%2Fa%3F%C3%A9");
        let (app, name) = ("shop".parse().unwrap(), "A.B".parse().unwrap());
        assert_eq!(secret_path(&app, Some(&store), &name), "/v1/apps/shop/secrets/A%2EB?store=my%20store");
    }
}
