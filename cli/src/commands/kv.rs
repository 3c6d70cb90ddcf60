//! `skerry kv put|get|list|delete`.

use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::Path,
};

use artifact::names::{KvKey, StoreName};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::idempotency_key;
use crate::{
    api::{Api, KvEntry, KvPut, KvStores},
    args::Kv,
    error::{Error, Result},
    near,
    output::Output,
};

/// Bytes of a value; the control plane has the last word, this spares sending what it will refuse.
pub const VALUE_BYTES_MAX: u64 = 8 << 20;

/// Stores that are named where another was meant.
const STORES_NAMED_MAX: usize = 20;

/// Runs it.
pub fn run(api: &Api, command: &Kv, output: Output) -> Result<()> {
    match command {
        Kv::Put { store, key, file, ttl, metadata, if_generation, mode } => {
            let value = value(file.as_deref())?;
            let put = KvPut {
                value: &value,
                metadata: metadata.as_deref(),
                ttl_ms: ttl.map(|ttl| ttl.as_millis() as u64),
                if_generation: *if_generation,
                mode: mode.name(),
            };
            let generation = api.kv_put(store, key, &put, &idempotency_key()?)?;
            let written = json!({ "store": store, "key": key, "generation": generation });
            output.print(&written, || format!("{key} is written (generation {generation})"))
        }
        Kv::Get { store, key } => {
            let entry = api.kv_get(store, key)?;
            match output {
                Output::Json => output.print(&shown(store, key, &entry), String::new),
                // As it is: no line end of ours.
                Output::Text => {
                    match io::stdout().write_all(&entry.value).and_then(|()| io::stdout().flush()) {
                        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                            Err(Error::io("writing to stdout")(error))
                        }
                        _ => Ok(()),
                    }
                }
            }
        }
        Kv::List { store: None, .. } => {
            let stores = api.kv_stores()?;
            output.print(&stores, || match stores.stores.as_slice() {
                [] => "no stores yet: one is made with its first entry".into(),
                stores => stores.join("\n"),
            })
        }
        Kv::List { store: Some(store), prefix, limit, cursor } => {
            let page = api.kv_list(store, prefix, *limit, cursor.as_deref())?;
            if page.keys.is_empty() && page.next.is_none() {
                require_store(api, store)?;
            }
            output.print(&page, || page.keys.join("\n"))?;
            if let (Output::Text, Some(next)) = (output, &page.next) {
                eprintln!("there are more; they begin with --cursor {next}");
            }
            Ok(())
        }
        Kv::Delete { store, key, if_generation } => {
            let existed = api.kv_delete(store, key, *if_generation, &idempotency_key()?)?;
            let deleted = json!({ "store": store, "key": key, "existed": existed });
            output.print(&deleted, || match existed {
                true => format!("{key} is deleted"),
                false => format!("there was no {key}"),
            })
        }
    }
}

/// A store without entries may be one that is not there. It is looked for only then: most lists are of stores that are.
fn require_store(api: &Api, store: &StoreName) -> Result<()> {
    let Ok(KvStores { stores }) = api.kv_stores() else { return Ok(()) };
    match stores.iter().any(|known| known == store.as_str()) {
        true => Ok(()),
        false => Err(Error::Rejected {
            doing: format!("listing keys of {store}"),
            code: "no_such_store".into(),
            message: no_such_store(store.as_str(), &stores),
            mistakes: vec![],
        }),
    }
}

fn no_such_store(store: &str, stores: &[String]) -> String {
    let known = match stores {
        [] => "; there are none yet: one is made with its first entry".to_owned(),
        stores if stores.len() > STORES_NAMED_MAX => {
            format!("; `skerry kv list` names the {} there are", stores.len())
        }
        stores => format!("; there are: {}", stores.join(", ")),
    };
    let hint = near::hint(store, stores.iter().map(String::as_str));
    format!("there is no store {store}{known}{hint}")
}

/// JSON holds text: a value or metadata that is none stands there in base64.
fn shown(store: &StoreName, key: &KvKey, entry: &KvEntry) -> Value {
    let mut shown = json!({
        "store": store, "key": key, "generation": entry.generation, "ttl_ms": entry.ttl_ms,
    });
    for (name, bytes) in [("value", &entry.value), ("metadata", &entry.metadata)] {
        match std::str::from_utf8(bytes) {
            Ok(text) => shown[name] = text.into(),
            Err(_) => shown[format!("{name}_base64")] = BASE64.encode(bytes).into(),
        }
    }
    shown
}

fn value(file: Option<&Path>) -> Result<Vec<u8>> {
    let (from, source): (String, Box<dyn Read>) = match file {
        Some(path) => {
            let from = format!("reading the value from {}", path.display());
            (from.clone(), Box::new(File::open(path).map_err(Error::io(from))?))
        }
        None => ("reading the value from standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let mut value = Vec::new();
    source.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value).map_err(Error::io(from))?;
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(Error::Usage(format!(
            "the value is larger than {VALUE_BYTES_MAX} bytes, the most a value has"
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_not_there_is_told_with_those_that_are() {
        let stores = ["carts", "users"].map(str::to_owned);
        let said = no_such_store("cart", &stores);
        assert_eq!(said, "there is no store cart; there are: carts, users; did you mean carts?");
        assert!(no_such_store("cart", &[]).contains("none yet"));
        let many: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
        assert!(no_such_store("cart", &many).ends_with("names the 100 there are"));
    }

    #[test]
    fn an_entry_is_shown_as_text_where_it_is_text() {
        let (store, key) = ("s".parse().unwrap(), "k".parse().unwrap());
        let entry =
            KvEntry { value: vec![0xff], metadata: b"m".to_vec(), generation: 2, ttl_ms: Some(1_000) };
        assert_eq!(
            shown(&store, &key, &entry),
            json!({ "store": "s", "key": "k", "generation": 2, "ttl_ms": 1000, "value_base64": "/w==", "metadata": "m" })
        );
    }
}
