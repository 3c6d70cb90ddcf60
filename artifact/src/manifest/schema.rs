//! The JSON schema of `skerry.toml`, for editors, made of the table of [keys](super::keys).
//!
//! Draft 7, which every editor reads. It is broader than the reader, never narrower: lengths are characters where the
//! reader counts bytes, and what the reader checks across keys is absent.

use serde_json::{Map, Value, json};

use super::keys::{Absent, Key, Kind, TOP};

/// Where the schema stands in this repository, and in a program's, once copied there.
pub const FILE: &str = "skerry.schema.json";

/// The whole schema.
pub fn schema() -> Value {
    let mut schema = table(TOP);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("skerry.toml");
    schema["description"] = json!("What an app asks of Skerry. Reference: docs/manifest.md");
    schema
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let needed: Vec<&str> =
        keys.iter().filter(|key| key.absent == Absent::Mistake).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = value(&key.kind);
    schema["description"] = json!(match key.absent {
        Absent::Mistake | Absent::Is(_) => key.doc.to_owned(),
        Absent::Means(what) => format!("{} Absent: {what}.", key.doc),
    });
    if let Absent::Is(default) = key.absent {
        schema["default"] = serde_json::from_str(default).expect("a test reads every default");
    }
    schema
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Text { bytes, pattern } => {
            let mut schema =
                json!({ "type": "string", "minLength": bytes.start(), "maxLength": bytes.end() });
            if let Some(pattern) = pattern {
                schema["pattern"] = json!(pattern);
            }
            schema
        }
        Kind::Number(range) => json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() }),
        Kind::List { of, items } => {
            json!({ "type": "array", "items": value(of), "minItems": items.start(), "maxItems": items.end() })
        }
        Kind::Table(keys) => table(keys),
        Kind::Named { of, max, .. } => {
            json!({ "type": "object", "additionalProperties": value(of), "maxProperties": max })
        }
        Kind::Object => json!({ "type": ["object", "string"] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::keys::{BACKEND, BUILD, HEALTH, LIMITS};

    /// Holds a file of `docs` against what the table says, or writes it.
    fn held(name: &str, wanted: &str) {
        let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("SKERRY_WRITE_DOCS").is_some() {
            std::fs::write(&path, wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == wanted, "docs/{name} is stale: SKERRY_WRITE_DOCS=1 writes it");
    }

    #[test]
    fn the_schema_is_what_the_table_says() {
        held(FILE, &format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap()));
    }

    #[test]
    fn the_manifest_page_is_what_the_table_says() {
        held("manifest.md", &page());
    }

    fn page() -> String {
        let mut page =
            include_str!("manifest.md").replace("{whole}", include_str!("../../tests/whole.toml").trim_end());
        let sections = [
            ("", TOP, ""),
            ("[build]", BUILD, BUILD_NOTE),
            ("[backends.NAME]", BACKEND, BACKEND_NOTE),
            ("[backends.NAME.health]", HEALTH, ""),
            ("[limits]", LIMITS, LIMITS_NOTE),
        ];
        for (table, keys, note) in sections {
            let title = if table.is_empty() { "At the top".to_owned() } else { format!("`{table}`") };
            page += &format!("\n## {title}\n\n{note}| key | value | absent | |\n|---|---|---|---|\n");
            for key in keys {
                let absent = match key.absent {
                    Absent::Mistake => "**a mistake**".to_owned(),
                    Absent::Is(json) => format!("`{json}`"),
                    Absent::Means(what) => what.to_owned(),
                };
                page += &format!("| `{}` | {} | {absent} | {} |\n", key.name, shape(&key.kind), key.doc);
            }
            page += "\n```toml\n";
            if !table.is_empty() {
                page += &format!("{}\n", table.replace("NAME", "origin"));
            }
            for key in keys {
                page += &format!("{} = {}\n", key.name, key.example);
            }
            page += "```\n";
        }
        page
    }

    const BUILD_NOTE: &str = "`skerry` runs these lines when you ask it to build or test, never when it deploys a file that is \
         there. Whoever gives you a\nfolder gives you its lines: read them before you run them.\n\n";
    const BACKEND_NOTE: &str = "A node connects to these origins and to what `outbound` allows, to nothing else. All origins of a \
         backend have the same\nsettings. `cert_host`, `ca_pem` and `client_cert_pem` are for `https://`.\n\n";
    const LIMITS_NOTE: &str =
        "What an execution may not choose is the same for all: [limits](limits.md).\n\n";

    /// A value's form, for people.
    fn shape(kind: &Kind) -> String {
        let count = |n: usize, one: &str| format!("{} {one}", thousands(n));
        match kind {
            Kind::Text { bytes, .. } if *bytes.end() >= crate::manifest::parse::FILE_BYTES_MAX => {
                "string".into()
            }
            Kind::Text { bytes, .. } => format!("string, at most {}", count(*bytes.end(), "bytes")),
            Kind::Number(range) => {
                format!("{} to {}", thousands(*range.start() as usize), thousands(*range.end() as usize))
            }
            Kind::List { of, items } => {
                format!("array, at most {}: {}", count(*items.end(), "items"), shape(of))
            }
            Kind::Table(_) => "table, below".into(),
            Kind::Named { name, of, max } => {
                format!("table, at most {}: `{name}` = {}", count(*max, "keys"), shape(of))
            }
            Kind::Object => "table, or string with a JSON object".into(),
        }
    }

    fn thousands(n: usize) -> String {
        let digits = n.to_string();
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
        groups.join(",")
    }
}
