//! Stores of an app: what a manifest may say of them, and how a store's name is understood. One place, so that the
//! control plane and every node agree on what `default` is.

use std::collections::{BTreeMap, BTreeSet};

use super::{AppConfig, bounds};
use crate::{
    names::{SecretName, StoreName},
    secrets::SecretAt,
};

/// The name under which an app's nameless stores answer too, unless it declares a store of that name.
pub const DEFAULT_STORE: &str = "default";

impl AppConfig {
    /// A store of plain configuration; `None` is the default one, which every app has.
    pub fn config_store(&self, store: Option<&str>) -> Option<&BTreeMap<String, String>> {
        let Some(name) = store else { return Some(&self.config) };
        self.config_stores.get(name).or((name == DEFAULT_STORE).then_some(&self.config))
    }

    /// The names in a store of secrets, and under which store their values are pinned; `None` is the default one.
    pub fn secret_store<'a>(&'a self, store: Option<&'a str>) -> Option<(Option<&'a str>, &'a [String])> {
        let Some(name) = store else { return Some((None, &self.secrets)) };
        match self.secret_stores.get(name) {
            Some(names) => Some((Some(name), names)),
            None => (name == DEFAULT_STORE).then_some((None, &self.secrets)),
        }
    }

    /// Every secret whose value a version must pin: those the program can read, and the keys of its backends'
    /// client certificates. Names that are no names are left out; [`AppConfig::mistakes`] reports them.
    pub fn secrets_needed(&self) -> BTreeSet<SecretAt> {
        let of_backends = self.backends.values().filter_map(|backend| backend.client_key_secret.as_ref());
        let default = self.secrets.iter().chain(of_backends).map(|name| (None, name));
        let stores = self.secret_stores.iter();
        let named = stores.flat_map(|(store, names)| names.iter().map(move |name| (Some(store), name)));
        default
            .chain(named)
            .filter_map(|(store, name)| {
                let store: Option<StoreName> = store.map(|store| store.parse()).transpose().ok()?;
                Some(SecretAt { store, name: name.parse().ok()? })
            })
            .collect()
    }
}

/// Notes every mistake in what is said of stores.
pub(super) fn check(config: &AppConfig, note: &mut impl FnMut(String, String)) {
    check_config(config, note);
    check_secrets(config, note);
    let kv = config.kv_stores.iter().map(String::as_str);
    check_stores("kv_stores", kv.clone(), note);
    for name in repeated(kv) {
        note("kv_stores".into(), format!("{name:?} is named twice"));
    }
}

fn check_config(config: &AppConfig, note: &mut impl FnMut(String, String)) {
    check_stores("config_stores", config.config_stores.keys().map(String::as_str), note);
    let (mut entries, mut bytes) = (0, 0);
    let named = config.config_stores.iter().map(|(name, store)| (format!("config_stores.{name}"), store));
    for (path, store) in std::iter::once(("config".to_owned(), &config.config)).chain(named) {
        for (key, value) in store {
            entries += 1;
            bytes += key.len() + value.len();
            if let Err(why) = check_config_key(key) {
                note(path.clone(), format!("the key {:?} {why}", shown(key)));
            }
            if value.len() > bounds::CONFIG_VALUE_BYTES_MAX {
                let max = bounds::CONFIG_VALUE_BYTES_MAX;
                note(format!("{path}.{key}"), format!("a value of {} bytes, at most {max}", value.len()));
            }
        }
    }
    if entries > bounds::ENTRIES_MAX {
        note("config".into(), format!("{entries} entries, at most {}", bounds::ENTRIES_MAX));
    }
    if bytes > bounds::CONFIG_BYTES_MAX {
        note("config".into(), format!("{bytes} bytes in all, at most {}", bounds::CONFIG_BYTES_MAX));
    }
}

fn check_config_key(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("is empty");
    }
    if key.len() > bounds::CONFIG_KEY_BYTES_MAX {
        return Err("is longer than 256 bytes");
    }
    if key.chars().any(char::is_control) {
        return Err("has a control character");
    }
    Ok(())
}

fn check_secrets(config: &AppConfig, note: &mut impl FnMut(String, String)) {
    check_stores("secret_stores", config.secret_stores.keys().map(String::as_str), note);
    let mut entries = 0;
    let named = config.secret_stores.iter().map(|(name, store)| (format!("secret_stores.{name}"), store));
    for (path, names) in std::iter::once(("secrets".to_owned(), &config.secrets)).chain(named) {
        entries += names.len();
        for name in names {
            if let Err(error) = name.parse::<SecretName>() {
                note(path.clone(), error.to_string());
            }
        }
        for name in repeated(names.iter().map(String::as_str)) {
            note(path.clone(), format!("{:?} is named twice", shown(name)));
        }
    }
    for (backend, name) in &config.backends {
        let Some(Err(error)) = name.client_key_secret.as_ref().map(|name| name.parse::<SecretName>()) else {
            continue;
        };
        note(format!("backends.{backend}.client_key_secret"), error.to_string());
    }
    if entries > bounds::ENTRIES_MAX {
        note("secrets".into(), format!("{entries} secrets, at most {}", bounds::ENTRIES_MAX));
    }
}

fn check_stores<'a>(
    path: &str,
    names: impl Iterator<Item = &'a str> + Clone,
    note: &mut impl FnMut(String, String),
) {
    let stores = names.clone().count();
    if stores > bounds::STORES_MAX {
        note(path.to_owned(), format!("{stores} stores, at most {}", bounds::STORES_MAX));
    }
    for name in names {
        if let Err(error) = name.parse::<StoreName>() {
            note(path.to_owned(), error.to_string());
        }
    }
}

fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let mut seen = BTreeSet::new();
    names.filter(move |name| !seen.insert(*name))
}

/// As much of a name as an error message needs.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Backend;

    fn entries(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn mistakes(config: &AppConfig) -> Vec<String> {
        config.mistakes().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn default_is_the_nameless_store_unless_one_is_declared_by_that_name() {
        let mut config = AppConfig { config: entries(&[("k", "nameless")]), ..AppConfig::default() };
        config.secrets = vec!["A".into()];
        assert_eq!(config.config_store(None).unwrap()["k"], "nameless");
        assert_eq!(config.config_store(Some("default")).unwrap()["k"], "nameless");
        assert_eq!(config.config_store(Some("other")), None);
        assert_eq!(config.secret_store(Some("default")), Some((None, &["A".to_owned()][..])));
        config.config_stores.insert("default".into(), entries(&[("k", "declared")]));
        config.secret_stores.insert("default".into(), vec!["B".into()]);
        assert_eq!(config.config_store(Some("default")).unwrap()["k"], "declared");
        assert_eq!(config.config_store(None).unwrap()["k"], "nameless");
        assert_eq!(config.secret_store(Some("default")), Some((Some("default"), &["B".to_owned()][..])));
    }

    #[test]
    fn a_backends_key_is_pinned_like_a_secret_of_the_default_store() {
        let backend = Backend { client_key_secret: Some("MTLS".into()), ..Backend::default() };
        let config = AppConfig {
            secrets: vec!["A".into()],
            secret_stores: [("vault".to_owned(), vec!["A".to_owned()])].into(),
            backends: [("b".to_owned(), backend)].into(),
            ..AppConfig::default()
        };
        let needed: Vec<String> = config.secrets_needed().iter().map(ToString::to_string).collect();
        assert_eq!(needed, ["A", "MTLS", "A (store vault)"]);
    }

    #[test]
    fn names_keys_and_counts_are_checked_in_every_store() {
        let config = AppConfig {
            config: entries(&[("", "x")]),
            config_stores: [("a/b".to_owned(), entries(&[("k\n", "v")]))].into(),
            secrets: vec!["A".into(), "A".into(), "B C".into()],
            secret_stores: [("..".to_owned(), vec![])].into(),
            kv_stores: vec!["s".into(), "s".into(), String::new()],
            ..AppConfig::default()
        };
        assert_eq!(
            mistakes(&config),
            [
                "config_stores: store name \"a/b\" has a character other than letters, digits, '_', '-' and '.'",
                "config: the key \"\" is empty",
                "config_stores.a/b: the key \"k\\n\" has a control character",
                "secret_stores: store name \"..\" is made of dots alone",
                "secrets: secret name \"B C\" has a character other than letters, digits, '_', '-' and '.'",
                "secrets: \"A\" is named twice",
                "kv_stores: store name \"\" is empty",
                "kv_stores: \"s\" is named twice",
            ]
        );
    }

    #[test]
    fn bounds_hold_over_all_stores_together() {
        let half = |prefix: &str| {
            (0..bounds::ENTRIES_MAX / 2 + 1).map(|n| (format!("{prefix}{n}"), String::new())).collect()
        };
        let mut config = AppConfig { config: half("a"), ..AppConfig::default() };
        assert_eq!(mistakes(&config), [""; 0]);
        config.config_stores.insert("more".into(), half("b"));
        assert_eq!(mistakes(&config), ["config: 514 entries, at most 512"]);

        let big = "x".repeat(bounds::CONFIG_VALUE_BYTES_MAX);
        let eight = |prefix: &str| (0..9).map(|n| (format!("{prefix}{n}"), big.clone())).collect();
        let mut config = AppConfig { config: eight("a"), ..AppConfig::default() };
        assert_eq!(mistakes(&config), [""; 0]);
        config.config_stores.insert("more".into(), eight("b"));
        assert!(mistakes(&config)[0].starts_with("config: 147"), "{:?}", mistakes(&config));

        let stores = (0..=bounds::STORES_MAX).map(|n| format!("s{n}")).collect();
        let config = AppConfig { kv_stores: stores, ..AppConfig::default() };
        assert_eq!(mistakes(&config), ["kv_stores: 65 stores, at most 64"]);
    }
}
