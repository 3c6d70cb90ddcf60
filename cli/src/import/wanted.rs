//! What each section wants, which of them wins, and what is said of it.
//!
//! `[local_server]` says what a program finds on the developer's machine, `[setup]` what it finds in production. So
//! `skerry up` prefers the first and `skerry deploy` the second; what only one of them names is taken from it.

use std::collections::BTreeMap;

use artifact::manifest::{AppConfig, Backend};

use super::{
    Note, Purpose,
    items::{Items, KvItem, Put, SecretItem},
    manifest::Section,
};

/// What a section wants.
#[derive(Default)]
pub struct Wanted {
    /// Origins by name.
    pub backends: BTreeMap<String, Origin>,
    /// Config stores by name.
    pub config_stores: BTreeMap<String, BTreeMap<String, String>>,
    /// Secret stores by name.
    pub secret_stores: BTreeMap<String, BTreeMap<String, Secret>>,
    /// Key-value stores by name.
    pub kv_stores: BTreeMap<String, BTreeMap<String, Item>>,
}

/// A backend, with the key of its client certificate.
#[derive(Default)]
pub struct Origin {
    /// What the version pins.
    pub backend: Backend,
    /// What is put beside it.
    pub key: Option<SecretItem>,
}

/// A secret's value, if the file has one.
pub struct Secret(pub Option<Vec<u8>>);

/// An item of a key-value store.
pub struct Item {
    /// Its value.
    pub value: Vec<u8>,
    /// Text beside it.
    pub metadata: Option<String>,
}

/// Puts both sections together: into the configuration, into items, and into words.
pub fn settle(
    local: Wanted,
    setup: Wanted,
    purpose: Purpose,
    config: &mut AppConfig,
    notes: &mut Vec<Note>,
) -> Items {
    let mut items = Items::default();
    // A deploy may meet values newer than its file; `up` is where one edits the file to try something.
    let put = match purpose {
        Purpose::Up => Put::Always,
        Purpose::Deploy => Put::IfAbsent,
    };
    for (name, origin, section) in chosen(purpose, local.backends, setup.backends) {
        notes.push(taken("backend", &name, &origin.backend.url, section));
        if purpose == Purpose::Deploy && is_this_machine(&origin.backend.url) {
            let text = format!("backend {name}: {} is the node's own machine there", origin.backend.url);
            notes.push(Note::Ignored(text));
        }
        // Not a secret of the app's own: its program could read the key of the connections it makes.
        items.secrets.extend(origin.key);
        config.backends.insert(name, origin.backend);
    }
    for (name, store, section) in chosen(purpose, local.config_stores, setup.config_stores) {
        notes.push(taken("config store", &name, &count(store.len(), "item"), section));
        config.config_stores.insert(name, store);
    }
    for (name, secrets, section) in chosen(purpose, local.secret_stores, setup.secret_stores) {
        notes.push(taken("secret store", &name, &count(secrets.len(), "secret"), section));
        let mut keys = Vec::new();
        for (key, Secret(value)) in secrets {
            keys.push(key.clone());
            match value {
                Some(value) => items.secrets.push(SecretItem { store: Some(name.clone()), key, value, put }),
                None => notes.push(Note::Ignored(format!(
                    "secret store {name}: the file has no value for {key}; set it with `skerry secrets set`"
                ))),
            }
        }
        config.secret_stores.insert(name, keys);
    }
    for (name, store, section) in chosen(purpose, local.kv_stores, setup.kv_stores) {
        notes.push(taken("KV store", &name, &count(store.len(), "item"), section));
        for (key, Item { value, metadata }) in store {
            items.kv.push(KvItem { store: name.clone(), key, value, metadata, put });
        }
        config.kv_stores.push(name);
    }
    items
}

/// Everything either section names, from the one that wins.
fn chosen<T>(
    purpose: Purpose,
    local: BTreeMap<String, T>,
    setup: BTreeMap<String, T>,
) -> Vec<(String, T, From)> {
    let (first, mut second, section, other) = match purpose {
        Purpose::Up => (local, setup, Section::LocalServer, Section::Setup),
        Purpose::Deploy => (setup, local, Section::Setup, Section::LocalServer),
    };
    let mut found: BTreeMap<String, (T, From)> = BTreeMap::new();
    for (name, thing) in first {
        let instead = second.remove(&name).map(|_| other);
        found.insert(name, (thing, From { section, instead }));
    }
    for (name, thing) in second {
        found.insert(name, (thing, From { section: other, instead: None }));
    }
    found.into_iter().map(|(name, (thing, from))| (name, thing, from)).collect()
}

/// Where a thing came from, and where else it could have.
struct From {
    section: Section,
    instead: Option<Section>,
}

fn taken(kind: &str, name: &str, what: &str, from: From) -> Note {
    let instead = from.instead.map(|section| format!(", not {}", section.name())).unwrap_or_default();
    Note::Taken(format!("{kind} {name}: {what} (from {}{instead})", from.section.name()))
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

fn is_this_machine(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["localhost", "127.", "[::1]"].iter().any(|loopback| host.starts_with(loopback))
}
