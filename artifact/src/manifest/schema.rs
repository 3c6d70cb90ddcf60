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
        schema["default"] = serde_json::from_str(default).expect("a test prints the whole schema");
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

    #[test]
    fn a_row_becomes_a_property() {
        let schema = schema();
        assert_eq!(schema["required"], json!(["name"]));
        let property = &schema["properties"]["limits"]["properties"]["cpu_ms"];
        assert_eq!((&property["default"], &property["maximum"]), (&json!(50), &json!(30_000)));
        assert_eq!(schema["properties"]["methods"]["minItems"], 1);
        assert_eq!(schema["properties"]["backends"]["additionalProperties"]["required"], json!(["url"]));
    }
}
