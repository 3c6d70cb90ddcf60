//! What a deploy undoes: entries that `skerry config set` changed have the manifest's values again. Only plain
//! configuration is looked at; secrets keep their values over deploys.

use std::{collections::BTreeMap, fmt::Write as _};

use artifact::{AppName, manifest::AppConfig, visible};
use serde::Serialize;

use crate::api::{Api, AppConfigShown};

/// Entries that are named; the others are counted.
const NAMED_MAX: usize = 10;
/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 60;

/// An entry that has another value than before the deploy. Also the JSON form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Null: the default store.
    pub store: Option<String>,
    pub key: String,
    /// What it was.
    pub from: String,
    /// What the manifest says; null: nothing, and the entry is gone.
    pub to: Option<String>,
}

/// The active version's configuration. `None`: there is none, or this token may not read it. A deploy does not fail
/// because of a remark it cannot make.
pub fn before(api: &Api, app: &AppName) -> Option<AppConfigShown> {
    api.config(app).ok()
}

/// Entries that the app has and that the new configuration has otherwise or not at all. New ones are no loss.
pub fn entries(before: &AppConfigShown, now: &AppConfig) -> Vec<Replaced> {
    let empty = BTreeMap::new();
    let named = before.config_stores.iter().map(|(name, entries)| {
        let now = now.config_stores.get(name).unwrap_or(&empty);
        (Some(name), entries, now)
    });
    let all = std::iter::once((None, &before.config, &now.config)).chain(named);
    all.flat_map(|(store, before, now)| {
        let changed = before.iter().filter(|(key, value)| now.get(*key) != Some(value));
        changed.map(move |(key, value)| Replaced {
            store: store.cloned(),
            key: key.clone(),
            from: value.clone(),
            to: now.get(key).cloned(),
        })
    })
    .collect()
}

/// A line for each, for a person.
pub fn lines(replaced: &[Replaced]) -> Vec<String> {
    let mut lines: Vec<String> = replaced.iter().take(NAMED_MAX).map(line).collect();
    if replaced.len() > NAMED_MAX {
        lines.push(format!("config: and {} entries more have other values", replaced.len() - NAMED_MAX));
    }
    if !replaced.is_empty() {
        lines.push(
            "config: if `skerry config set` made it so, it has to stand in the manifest to stay".into(),
        );
    }
    lines
}

fn line(replaced: &Replaced) -> String {
    let Replaced { store, key, from, to } = replaced;
    let mut line = "config: ".to_owned();
    if let Some(store) = store {
        let _ = write!(line, "{}/", visible::for_people(store));
    }
    let _ = match to {
        Some(to) => write!(line, "{} is {}, as the manifest says", visible::for_people(key), shown(to)),
        None => write!(line, "{} is gone: the manifest does not have it", visible::for_people(key)),
    };
    let _ = write!(line, "; it was {}", shown(from));
    line
}

fn shown(value: &str) -> String {
    let cut: String = value.chars().take(VALUE_CHARS_MAX).collect();
    let more = if cut.len() < value.len() { "…" } else { "" };
    format!("\"{}{more}\"", visible::for_people(&cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_config(config: &[(&str, &str)], stores: &[(&str, &[(&str, &str)])]) -> AppConfigShown {
        let map =
            |entries: &[(&str, &str)]| entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        AppConfigShown {
            app: "shop".into(),
            version: 2,
            config: map(config),
            config_stores: stores.iter().map(|(name, entries)| (name.to_string(), map(entries))).collect(),
        }
    }

    #[test]
    fn entries_that_were_set_by_hand_are_told_by_key_and_new_or_equal_ones_are_not() {
        let before = shown_config(
            &[("greeting", "moin"), ("same", "1"), ("extra", "\u{1b}[2J")],
            &[("settings", &[("a", "1")])],
        );
        let now = AppConfig {
            config: [("greeting", "hi"), ("same", "1"), ("new", "2")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ..AppConfig::default()
        };
        let lines = lines(&entries(&before, &now));
        assert_eq!(
            lines,
            [
                r#"config: extra is gone: the manifest does not have it; it was "\u{1b}[2J""#,
                r#"config: greeting is "hi", as the manifest says; it was "moin""#,
                r#"config: settings/a is gone: the manifest does not have it; it was "1""#,
                "config: if `skerry config set` made it so, it has to stand in the manifest to stay",
            ]
        );
        let AppConfigShown { config, config_stores, .. } = before.clone();
        let same = AppConfig { config, config_stores, ..AppConfig::default() };
        assert_eq!(entries(&before, &same), []);
    }

    #[test]
    fn many_or_long_values_are_cut() {
        let long = "x".repeat(1_000);
        let keys: Vec<String> = (0..30).map(|number| format!("k{number:02}")).collect();
        let entries_of: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), long.as_str())).collect();
        let lines = lines(&entries(&shown_config(&entries_of, &[]), &AppConfig::default()));
        assert_eq!(lines.len(), NAMED_MAX + 2);
        assert!(lines.iter().all(|line| line.chars().count() < 150), "{lines:?}");
        assert_eq!(lines[NAMED_MAX], "config: and 20 entries more have other values");
    }
}
