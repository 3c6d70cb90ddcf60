//! Config, secret and key-value stores of both sections.

use std::collections::BTreeMap;

use artifact::manifest::parse::Value;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    manifest::Walk,
    wanted::{Item, Secret, Wanted},
};

/// Bytes of a secret: the control plane's bound, and Fastly's own.
pub const SECRET_BYTES_MAX: u64 = artifact::secrets::SECRET_VALUE_BYTES_MAX as u64;
/// Bytes of a value in a key-value store: the control plane's bound. Fastly's own is 25 MiB.
pub const KV_VALUE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of the text kept beside a value: Fastly's own bound.
pub const KV_METADATA_BYTES_MAX: usize = 2_000;
/// Bytes of a JSON file with contents.
pub const JSON_FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Items of one store that are put beside a deploy, one call each.
pub const ITEMS_MAX: usize = 1_000;

/// What an item's value is taken from.
const VALUE_KEYS: [&str; 4] = ["data", "file", "path", "env"];

/// A table's key.
type Key<'k> = Spanned<DeString<'k>>;

impl Walk<'_> {
    /// `[local_server.config_stores.<name>]`: inline contents or a JSON file.
    pub fn local_config_stores(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        self.stores("config_stores", path, value, &mut wanted.config_stores, |walk, path, value| {
            let (mut store, mut format) = (BTreeMap::new(), None);
            for (key, value) in walk.reader.table(path, value).into_iter().flatten() {
                let path = format!("{path}.{}", key.get_ref());
                match key.get_ref().as_ref() {
                    "format" => format = walk.format(&path, value),
                    "contents" => {
                        for (key, value) in walk.reader.table(&path, value).into_iter().flatten() {
                            let path = format!("{path}.{}", key.get_ref());
                            let text = walk.reader.string(&path, value).map(str::to_owned);
                            store.extend(text.map(|text| (key.get_ref().to_string(), text)));
                        }
                    }
                    "file" => {
                        for (key, json) in walk.json_file(&path, value).into_iter().flatten() {
                            match json {
                                serde_json::Value::String(text) => drop(store.insert(key, text)),
                                _ => walk.mistake(&path, value, format!("{key:?} in it is not a string")),
                            }
                        }
                    }
                    _ => walk.unknown(&path, key),
                }
            }
            walk.has_source(path, value, format, "contents");
            store
        });
    }

    /// `[setup.config_stores.<name>.items.<key>]`
    pub fn setup_config_stores(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        self.stores("config_stores", path, value, &mut wanted.config_stores, |walk, path, value| {
            let mut store = BTreeMap::new();
            for (path, key, item) in walk.setup_items(path, value, "items") {
                let mut text = None;
                for (field, value) in walk.reader.table(&path, item).into_iter().flatten() {
                    let path = format!("{path}.{}", field.get_ref());
                    match field.get_ref().as_ref() {
                        "value" => text = walk.reader.string(&path, value).map(str::to_owned),
                        "description" | "prompt" => {}
                        _ => walk.unknown(&path, field),
                    }
                }
                match text {
                    Some(text) => drop(store.insert(key.get_ref().to_string(), text)),
                    None => walk.ignored(&path, key, "it has no value; the program does not find it"),
                }
            }
            store
        });
    }

    /// `[[local_server.kv_stores.<name>]]`, or `{ file, format = "json" }`.
    pub fn local_kv_stores(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        self.stores("kv_stores", path, value, &mut wanted.kv_stores, |walk, path, value| {
            let mut items = BTreeMap::new();
            match value.get_ref() {
                DeValue::Table(table) => {
                    let json = walk.json_store(path, value, table);
                    if let Some((path, value, json)) = json
                        && walk.bounded_count(&path, value, json.len())
                    {
                        for (key, json) in json {
                            if let Some(item) = walk.json_item(&path, value, &key, json) {
                                items.insert(key, item);
                            }
                        }
                    }
                }
                _ => {
                    for (path, table, entry) in walk.entries(path, value) {
                        let Some(key) = walk.entry_key(&path, entry, table) else { continue };
                        let metadata = walk.metadata(&path, table);
                        let known = ["key", "metadata", "data", "file", "path"];
                        let Some(Secret(Some(value))) =
                            walk.entry_value(&path, entry, table, &known, KV_VALUE_BYTES_MAX)
                        else {
                            continue;
                        };
                        if items.insert(key.clone(), Item { value, metadata }).is_some() {
                            walk.mistake(&path, entry, format!("key {key:?} is there twice"));
                        }
                    }
                }
            }
            items
        });
    }

    /// `[setup.kv_stores.<name>.items.<key>]`
    pub fn setup_kv_stores(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        self.stores("kv_stores", path, value, &mut wanted.kv_stores, |walk, path, value| {
            let mut items = BTreeMap::new();
            for (path, key, item) in walk.setup_items(path, value, "items") {
                let mut contents = None;
                for (field, value) in walk.reader.table(&path, item).into_iter().flatten() {
                    let path = format!("{path}.{}", field.get_ref());
                    match field.get_ref().as_ref() {
                        "value" => {
                            contents = walk.reader.string(&path, value).map(|text| text.as_bytes().to_vec())
                        }
                        "file" => contents = walk.file(&path, value, KV_VALUE_BYTES_MAX),
                        "description" | "prompt" => {}
                        _ => walk.unknown(&path, field),
                    }
                }
                match contents {
                    Some(value) => {
                        drop(items.insert(key.get_ref().to_string(), Item { value, metadata: None }))
                    }
                    None => walk.ignored(&path, key, "it has no value"),
                }
            }
            items
        });
    }

    /// `[[local_server.secret_stores.<name>]]`, or `{ file, format = "json" }`.
    pub fn local_secret_stores(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        self.stores("secret_stores", path, value, &mut wanted.secret_stores, |walk, path, value| {
            let mut secrets: BTreeMap<String, Secret> = BTreeMap::new();
            match value.get_ref() {
                DeValue::Table(table) => {
                    let json = walk.json_store(path, value, table);
                    if let Some((path, value, json)) = json
                        && walk.bounded_count(&path, value, json.len())
                    {
                        for (key, json) in json {
                            match json {
                                serde_json::Value::String(text) if text.len() as u64 <= SECRET_BYTES_MAX => {
                                    secrets.insert(key, Secret(Some(text.into_bytes())));
                                }
                                _ => {
                                    let message = format!(
                                        "{key:?} in it is not a string of at most {SECRET_BYTES_MAX} bytes"
                                    );
                                    walk.mistake(&path, value, message);
                                }
                            }
                        }
                    }
                }
                _ => {
                    for (path, table, entry) in walk.entries(path, value) {
                        let Some(key) = walk.entry_key(&path, entry, table) else { continue };
                        let known = ["key", "data", "file", "path", "env"];
                        let Some(value) = walk.entry_value(&path, entry, table, &known, SECRET_BYTES_MAX)
                        else {
                            continue;
                        };
                        if secrets.insert(key.clone(), value).is_some() {
                            walk.mistake(&path, entry, format!("key {key:?} is there twice"));
                        }
                    }
                }
            }
            secrets
        });
    }

    /// `[setup.secret_stores.<name>.entries.<key>]`: names, for no value may stand in a manifest's setup.
    pub fn setup_secret_stores(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        self.stores("secret_stores", path, value, &mut wanted.secret_stores, |walk, path, value| {
            let mut secrets = BTreeMap::new();
            for (path, key, entry) in walk.setup_items(path, value, "entries") {
                for (field, _) in walk.reader.table(&path, entry).into_iter().flatten() {
                    if !matches!(field.get_ref().as_ref(), "description" | "prompt") {
                        walk.unknown(&format!("{path}.{}", field.get_ref()), field);
                    }
                }
                secrets.insert(key.get_ref().to_string(), Secret(None));
            }
            secrets
        });
    }

    /// The frame of every section: each store by its name, of what `read` makes of its path and value.
    fn stores<T>(
        &mut self,
        section: &str,
        path: &str,
        value: &Value<'_>,
        wanted: &mut BTreeMap<String, T>,
        mut read: impl FnMut(&mut Self, &str, &Value<'_>) -> T,
    ) {
        for (name, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            self.place(format!("{section}.{}", name.get_ref()), &path, name);
            let store = read(self, &path, value);
            wanted.insert(name.get_ref().to_string(), store);
        }
    }

    /// The tables below `<store>.items` or `<store>.entries`, each with its path.
    fn setup_items<'v, 'i>(
        &mut self,
        path: &str,
        value: &'v Value<'i>,
        below: &str,
    ) -> Vec<(String, &'v Key<'i>, &'v Value<'i>)> {
        let mut found = Vec::new();
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                name if name == below => {
                    let items = self.reader.table(&path, value);
                    let items = items.filter(|items| self.bounded_count(&path, value, items.len()));
                    for (key, value) in items.into_iter().flatten() {
                        found.push((format!("{path}.{}", key.get_ref()), key, value));
                    }
                }
                "description" => {}
                _ => self.unknown(&path, key),
            }
        }
        found
    }

    /// `{ file = "…", format = "json" }`: the file's object, with the place to complain about.
    fn json_store<'v, 'i>(
        &mut self,
        path: &str,
        value: &'v Value<'i>,
        table: &'v DeTable<'i>,
    ) -> Option<(String, &'v Value<'i>, serde_json::Map<String, serde_json::Value>)> {
        let mut found = None;
        for (key, value) in table {
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "format" => match self.reader.string(&path, value) {
                    Some("json") | None => {}
                    Some(other) => {
                        self.mistake(&path, value, format!("{other:?} is not a format here: json"))
                    }
                },
                "file" => found = Some((path, value)),
                _ => self.unknown(&path, key),
            }
        }
        let Some((path, file)) = found else {
            self.mistake(path, value, "needs a file with its contents, or must be an array of items");
            return None;
        };
        let json = self.json_file(&path, file)?;
        Some((path, file, json))
    }

    /// In a JSON file an item is a string, or an object with data or file, and metadata.
    fn json_item(&mut self, path: &str, at: &Value<'_>, key: &str, json: serde_json::Value) -> Option<Item> {
        let bad = |why: &str| format!("{key:?} in it {why}");
        let fields = match json {
            serde_json::Value::String(text) => {
                return Some(Item { value: text.into_bytes(), metadata: None });
            }
            serde_json::Value::Object(fields) => fields,
            _ => {
                self.mistake(path, at, bad("is neither a string nor an object"));
                return None;
            }
        };
        let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
        let metadata = text("metadata").map(str::to_owned);
        if metadata.as_ref().is_some_and(|text| text.len() > KV_METADATA_BYTES_MAX) {
            self.mistake(path, at, bad("has more metadata than 2000 bytes"));
        }
        match (text("data"), text("file").or(text("path"))) {
            (Some(data), None) => Some(Item { value: data.as_bytes().to_vec(), metadata }),
            (None, Some(file)) => match self.read(file, KV_VALUE_BYTES_MAX) {
                Ok(value) => Some(Item { value, metadata }),
                Err(why) => {
                    self.mistake(path, at, bad(&format!("cannot be read: {why}")));
                    None
                }
            },
            _ => {
                self.mistake(path, at, bad("needs either data or file, as text"));
                None
            }
        }
    }

    /// The tables of an array of items, each with its path.
    fn entries<'v, 'i>(
        &mut self,
        path: &str,
        value: &'v Value<'i>,
    ) -> Vec<(String, &'v DeTable<'i>, &'v Value<'i>)> {
        let Some(items) = value.get_ref().as_array() else {
            self.reader.wrong_type(path, value, "an array of items, or a table with file and format");
            return Vec::new();
        };
        if !self.bounded_count(path, value, items.len()) {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (n, item) in items.iter().enumerate() {
            let path = format!("{path}[{n}]");
            if let Some(table) = self.reader.table(&path, item) {
                found.push((path, table, item));
            }
        }
        found
    }

    fn entry_key(&mut self, path: &str, entry: &Value<'_>, table: &DeTable<'_>) -> Option<String> {
        match field(table, "key") {
            Some((_, value)) => self.text(&format!("{path}.key"), value),
            None => {
                self.mistake(path, entry, "needs a key");
                None
            }
        }
    }

    fn metadata(&mut self, path: &str, table: &DeTable<'_>) -> Option<String> {
        let (_, value) = field(table, "metadata")?;
        let path = format!("{path}.metadata");
        let text = self.reader.string(&path, value)?;
        if text.len() > KV_METADATA_BYTES_MAX {
            let message = format!("{} bytes, at most {KV_METADATA_BYTES_MAX}", text.len());
            self.mistake(&path, value, message);
        }
        Some(text.to_owned())
    }

    /// Exactly one of data, file (or its older name path) and, for secrets, env; which has no value in a manifest that
    /// may not read the environment.
    fn entry_value(
        &mut self,
        path: &str,
        entry: &Value<'_>,
        table: &DeTable<'_>,
        known: &[&str],
        bytes_max: u64,
    ) -> Option<Secret> {
        for (key, _) in table {
            if !known.contains(&key.get_ref().as_ref()) {
                self.unknown(&format!("{path}.{}", key.get_ref()), key);
            }
        }
        let sources: Vec<&str> =
            VALUE_KEYS.into_iter().filter(|key| known.contains(key) && field(table, key).is_some()).collect();
        let [source] = sources.as_slice() else {
            let choices: Vec<&str> = VALUE_KEYS.into_iter().filter(|key| known.contains(key)).collect();
            self.mistake(path, entry, format!("needs exactly one of {}", choices.join(", ")));
            return None;
        };
        let (_, value) = field(table, source)?;
        let path = format!("{path}.{source}");
        let bytes = match *source {
            "data" => self.reader.string(&path, value)?.as_bytes().to_vec(),
            "env" => {
                let name = self.text(&path, value)?;
                let Some(variables) = self.variables else { return Some(Secret(None)) };
                let Some(found) = variables(&name) else {
                    self.mistake(&path, value, format!("the environment variable {name} is not set"));
                    return None;
                };
                self.reads_variable(&path, value, &name);
                found.into_bytes()
            }
            _ => self.file(&path, value, bytes_max)?,
        };
        if bytes.len() as u64 > bytes_max {
            self.mistake(&path, value, format!("{} bytes, at most {bytes_max}", bytes.len()));
            return None;
        }
        Some(Secret(Some(bytes)))
    }

    /// Are there as few items as may be? Asked before any is read.
    fn bounded_count(&mut self, path: &str, value: &Value<'_>, count: usize) -> bool {
        if count > ITEMS_MAX {
            self.mistake(path, value, format!("{count} items, at most {ITEMS_MAX} can be put by a deploy"));
        }
        count <= ITEMS_MAX
    }
}

fn field<'v, 'i>(table: &'v DeTable<'i>, name: &str) -> Option<(&'v Key<'i>, &'v Value<'i>)> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}
