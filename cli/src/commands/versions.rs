//! `skerry versions APP`, `skerry diff APP V1 V2`: what was deployed, and what changed between two of it.

use std::collections::BTreeMap;

use artifact::visible;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{Api, VersionDetail},
    args::{Diff, Versions},
    build::size,
    error::{Error, Result},
    here,
    output::{Output, moment, table},
};

/// `skerry versions APP`.
pub fn list(api: &Api, args: &Versions, output: Output) -> Result<()> {
    let versions = api.app(&here::app(args.app.as_ref())?)?.versions;
    output.print(&versions, || {
        let head = ["VERSION", "MADE", "WASM", "SIZE", "LANE", "TARGETS"].map(str::to_owned).to_vec();
        let rows = versions.iter().map(|version| {
            let mark = if version.active { "* " } else { "  " };
            vec![
                format!("{mark}v{}", version.version),
                moment(version.time_ms),
                version.wasm.chars().take(12).collect(),
                size(version.wasm_bytes),
                version.lane.clone(),
                version.targets.join(" "),
            ]
        });
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
    })
}

/// The result, also the JSON form.
#[derive(Debug, Serialize)]
struct Difference {
    app: String,
    from: u64,
    to: u64,
    changes: Vec<Change>,
}

/// One thing that differs. Absent on a side: it is not there.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Value>,
}

/// `skerry diff APP V1 V2`.
pub fn diff(api: &Api, args: &Diff, output: Output) -> Result<()> {
    let (app, from, to) = args.parts().map_err(Error::Usage)?;
    let app = here::app(app.as_ref())?;
    let changes = changes(&pinned(&api.version(&app, from)?), &pinned(&api.version(&app, to)?));
    let found = Difference { app: app.to_string(), from, to, changes };
    output.print(&found, || found.text())
}

impl Difference {
    fn text(&self) -> String {
        let Difference { app, from, to, changes } = self;
        if changes.is_empty() {
            return format!("{app} v{from} and v{to} are the same");
        }
        let shown = |value: &Option<Value>| {
            let text = value.as_ref().map(Value::to_string).unwrap_or_default();
            visible::for_people(&text).into_owned()
        };
        let lines = changes.iter().map(|change| (visible::for_people(&change.key), change));
        let lines = lines.map(|(key, change)| match (&change.from, &change.to) {
            // Nothing that tells one value from another is worth a look.
            (Some(_), Some(_)) if key.starts_with(SECRETS) => {
                format!("\n~ {}: another value", key)
            }
            (Some(_), None) if key.starts_with(SECRETS) => format!("\n- {key}"),
            (None, Some(_)) if key.starts_with(SECRETS) => format!("\n+ {key}"),
            (Some(_), Some(_)) => {
                format!("\n~ {}: {} → {}", key, shown(&change.from), shown(&change.to))
            }
            (Some(_), None) => format!("\n- {}: {}", key, shown(&change.from)),
            _ => format!("\n+ {}: {}", key, shown(&change.to)),
        });
        format!("{app} v{from} → v{to}{}", lines.collect::<String>())
    }
}

/// How the paths of secrets begin.
const SECRETS: &str = "secret ";

/// Everything a version pins, by path. Objects are taken apart; arrays are values, since their order may matter.
fn pinned(version: &VersionDetail) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    found.insert("program".into(), version.summary.wasm.chars().take(12).collect::<String>().into());
    found.insert("program bytes".into(), version.summary.wasm_bytes.into());
    if let Some(assets) = &version.summary.assets {
        found.insert("static files".into(), assets.chars().take(12).collect::<String>().into());
    }
    flatten("", &version.config, &mut found);
    for secret in &version.secrets {
        let store = secret.store.as_deref().map(|store| format!("{store}/")).unwrap_or_default();
        found.insert(format!("{SECRETS}{store}{}", secret.name), secret.set.clone().into());
    }
    found
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    let Some(entries) = value.as_object().filter(|entries| !entries.is_empty()) else {
        found.insert(path.to_owned(), value.clone());
        return;
    };
    for (key, value) in entries {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        flatten(&path, value, found);
    }
}

fn changes(from: &BTreeMap<String, Value>, to: &BTreeMap<String, Value>) -> Vec<Change> {
    let keys: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let change =
        |key: &String| Change { key: key.clone(), from: from.get(key).cloned(), to: to.get(key).cloned() };
    keys.into_iter().map(change).filter(|change| change.from != change.to).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(config: Value, set: &str) -> BTreeMap<String, Value> {
        let detail = json!({
            "version": 1, "wasm": "aabbccddeeff00", "wasm_bytes": 9, "lane": "wasi", "targets": [], "time_ms": 0,
            "active": true, "config": config, "secrets": [{ "store": null, "name": "KEY", "set": set }],
        });
        pinned(&serde_json::from_value(detail).unwrap())
    }

    #[test]
    fn what_differs_is_told_by_path_and_a_secrets_value_by_neither_side() {
        let one = version(
            json!({ "hosts": ["a", "b"], "limits": { "cpu_ms": 50 }, "config": { "old": "1" } }),
            "x",
        );
        let two = version(
            json!({ "hosts": ["b", "a"], "limits": { "cpu_ms": 20 }, "config": { "new": "2" } }),
            "y",
        );
        let found = Difference { app: "shop".into(), from: 1, to: 2, changes: changes(&one, &two) };
        assert_eq!(
            found.text(),
            "shop v1 → v2\n+ config.new: \"2\"\n- config.old: \"1\"\n~ hosts: [\"a\",\"b\"] → [\"b\",\"a\"]\n\
             ~ limits.cpu_ms: 50 → 20\n~ secret KEY: another value"
        );
        let same = Difference { app: "shop".into(), from: 1, to: 1, changes: changes(&one, &one) };
        assert_eq!(same.text(), "shop v1 and v1 are the same");
    }
}
