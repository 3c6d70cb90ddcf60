//! `skerry.toml` → [`Project`], by walking the document with its positions, so that every mistake of a file is
//! reported in one run with its line, unknown keys included.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{AppConfig, Limits, Mistake, Project};

mod backends;
mod build;
mod lookups;

/// A value with its position.
pub type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn project(text: &str) -> Result<Project, Vec<Mistake>> {
    let document = document(text).map_err(|mistake| vec![mistake])?;
    let mut reader = Reader::of(text);
    let project = reader.project(document.get_ref());
    match project {
        Some(project) if reader.mistakes.is_empty() => Ok(project),
        _ => {
            reader.mistakes.sort_by_key(|mistake| mistake.line);
            Err(reader.mistakes)
        }
    }
}

/// Reads TOML, keeping positions.
pub fn document(text: &str) -> Result<Spanned<DeTable<'_>>, Mistake> {
    DeTable::parse(text).map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        Mistake { line, key: String::new(), message: error.message().to_owned() }
    })
}

/// The line of a position, from 1.
pub fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Takes values out of a document and collects what is wrong with them.
pub struct Reader<'t> {
    text: &'t str,
    /// What was wrong so far.
    pub mistakes: Vec<Mistake>,
    /// Where entries of stores stand, by their path: for mistakes that are found afterwards.
    lines: Vec<(String, usize)>,
}

impl<'t> Reader<'t> {
    /// A reader of this text's document.
    pub fn of(text: &'t str) -> Reader<'t> {
        Reader { text, mistakes: Vec::new(), lines: Vec::new() }
    }
}

impl Reader<'_> {
    fn project(&mut self, table: &DeTable<'_>) -> Option<Project> {
        let (mut name, mut component, mut build, mut assets_folder) = (None, None, None, None);
        let mut config = AppConfig::default();
        let mut key_lines = Vec::new();
        for (key, value) in table {
            let path = key.get_ref().as_ref();
            key_lines.push((path.to_owned(), line_at(self.text, key.span().start)));
            match path {
                "name" => name = self.string(path, value).and_then(|text| self.parsed(path, value, text)),
                "component" => component = self.string(path, value).map(str::to_owned),
                "build" => build = self.build(path, value),
                "hosts" => {
                    for item in self.items(path, value) {
                        let host = self.string(path, item).and_then(|text| self.parsed(path, item, text));
                        config.hosts.extend(host);
                    }
                }
                "path_prefix" => {
                    if let Some(text) = self.string(path, value) {
                        config.path_prefix = text.to_owned();
                    }
                }
                "methods" => config.methods = Some(self.strings(path, value)),
                "backends" => self.backends(path, value, &mut config),
                "config" => config.config = self.entries(path, value),
                "config_stores" => {
                    let stores = self.stores(path, value, Reader::entries);
                    config.config_stores = stores;
                }
                "secrets" => config.secrets = self.strings(path, value),
                "secret_stores" => {
                    let stores = self.stores(path, value, Reader::strings);
                    config.secret_stores = stores;
                }
                "kv_stores" => config.kv_stores = self.strings(path, value),
                "outbound" => config.outbound = self.strings(path, value),
                "geo" => self.geo(path, value, &mut config),
                "devices" => self.devices(path, value, &mut config),
                "assets" => assets_folder = self.assets(path, value, &mut config),
                "limits" => self.limits(path, value, &mut config.limits),
                _ => self.unknown(path, key.span().start, &TOP_KEYS),
            }
        }
        // Static files are an app without a program, too.
        let needed: &[&str] = if config.assets.is_some() { &["name"] } else { &["name", "component"] };
        for missing in needed.iter().copied() {
            if !key_lines.iter().any(|(key, _)| key == missing) {
                self.mistakes.push(Mistake { line: None, key: missing.into(), message: "is missing".into() });
            }
        }
        for mut mistake in config.mistakes() {
            let top = mistake.key.split('.').next().unwrap_or_default();
            let whole = key_lines.iter().find(|(key, _)| key == top).map(|(_, line)| *line);
            mistake.line = self.line_of(&mistake.key).or(whole);
            self.mistakes.push(mistake);
        }
        Some(Project { name: name?, component, build, assets_folder, config })
    }

    /// A table of tables or arrays, by store name.
    fn stores<T>(
        &mut self,
        path: &str,
        value: &Value<'_>,
        read: fn(&mut Self, &str, &Value<'_>) -> T,
    ) -> BTreeMap<String, T> {
        let mut stores = BTreeMap::new();
        for (name, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            self.lines.push((path.clone(), line_at(self.text, name.span().start)));
            stores.insert(name.get_ref().to_string(), read(self, &path, value));
        }
        stores
    }

    fn entries(&mut self, path: &str, value: &Value<'_>) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            if let Some(text) = self.string(&path, value) {
                self.lines.push((path, line_at(self.text, key.span().start)));
                entries.insert(key.get_ref().to_string(), text.to_owned());
            }
        }
        entries
    }

    /// The line of the innermost thing noted that a key's path names.
    fn line_of(&self, key: &str) -> Option<usize> {
        let within =
            |path: &str| key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let named = self.lines.iter().filter(|(path, _)| within(path));
        named.max_by_key(|(path, _)| path.len()).map(|(_, line)| *line)
    }

    fn limits(&mut self, path: &str, value: &Value<'_>, limits: &mut Limits) {
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            let field = match name {
                "cpu_ms" => &mut limits.cpu_ms,
                "wall_ms" => &mut limits.wall_ms,
                "memory_mib" => &mut limits.memory_mib,
                _ => {
                    self.unknown(&path, key.span().start, &["cpu_ms", "wall_ms", "memory_mib"]);
                    continue;
                }
            };
            if let Some(number) = self.number(&path, value) {
                *field = number;
            }
        }
    }

    /// A whole number.
    pub fn number(&mut self, path: &str, value: &Value<'_>) -> Option<u32> {
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        if number.is_none() {
            self.note(path, value.span().start, "must be a whole number from 0 to 4294967295".into());
        }
        number
    }

    /// A string.
    pub fn string<'v>(&mut self, path: &str, value: &'v Value<'_>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(path, value, "a string");
        }
        text
    }

    /// Each item is read by itself, so that a mistake in one names its own line and hides no other.
    pub fn strings(&mut self, path: &str, value: &Value<'_>) -> Vec<String> {
        let items = self.items(path, value);
        items.iter().filter_map(|item| self.string(path, item).map(str::to_owned)).collect()
    }

    /// The items of an array.
    pub fn items<'v, 'i>(&mut self, path: &str, value: &'v Value<'i>) -> &'v [Value<'i>] {
        match value.get_ref().as_array() {
            Some(items) => items,
            None => {
                self.wrong_type(path, value, "an array of strings");
                &[]
            }
        }
    }

    /// A table.
    pub fn table<'v, 'i>(&mut self, path: &str, value: &'v Value<'i>) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(path, value, "a table");
        }
        table
    }

    fn parsed<T: std::str::FromStr<Err = crate::names::NameError>>(
        &mut self,
        path: &str,
        value: &Value<'_>,
        text: &str,
    ) -> Option<T> {
        text.parse().map_err(|error| self.note(path, value.span().start, format!("{error}"))).ok()
    }

    /// Notes that a value has another type than `wanted`.
    pub fn wrong_type(&mut self, path: &str, value: &Value<'_>, wanted: &str) {
        let message = format!("must be {wanted}, not {}", value.get_ref().type_str());
        self.note(path, value.span().start, message);
    }

    /// Notes a key that is not known.
    pub fn unknown(&mut self, path: &str, offset: usize, known: &[&str]) {
        self.note(path, offset, format!("is not a known key; known here: {}", known.join(", ")));
    }

    /// Notes a mistake at a position.
    pub fn note(&mut self, path: &str, offset: usize, message: String) {
        let line = Some(line_at(self.text, offset));
        self.mistakes.push(Mistake { line, key: path.to_owned(), message });
    }
}

const TOP_KEYS: [&str; 17] = [
    "name",
    "component",
    "build",
    "hosts",
    "path_prefix",
    "methods",
    "backends",
    "outbound",
    "config",
    "config_stores",
    "secrets",
    "secret_stores",
    "kv_stores",
    "geo",
    "devices",
    "assets",
    "limits",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_manifest() {
        let project = project(
            r#"
            name = "shop"
            component = "shop.wasm"
            hosts = ["shop.example", "www.shop.example"]
            path_prefix = "/api"
            methods = ["GET", "HEAD"]
            secrets = ["API_KEY"]
            kv_stores = ["carts"]
            [config_stores.prices]
            apple = "1"
            [secret_stores]
            vault = ["PIN"]
            [backends.origin]
            url = "https://origin.example:8443"
            [config]
            greeting = "hi"
            [limits]
            cpu_ms = 20
            "#,
        )
        .unwrap();
        assert_eq!(project.name.as_str(), "shop");
        assert_eq!(project.config.hosts.len(), 2);
        assert_eq!(project.config.methods.unwrap(), ["GET", "HEAD"]);
        assert_eq!(project.config.backends["origin"].url, "https://origin.example:8443");
        assert_eq!(project.config.config_stores["prices"]["apple"], "1");
        assert_eq!(project.config.secret_stores["vault"], ["PIN"]);
        assert_eq!(project.config.kv_stores, ["carts"]);
        assert_eq!(project.config.limits, Limits { cpu_ms: 20, ..Limits::default() });
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line() {
        let mistakes = project(
            "name = \"Bad Name\"\nhosts = [\"ok.example\", \"no host\", 3]\ncolour = \"red\"\n\
             [backends.b]\nuri = \"x\"\n[limits]\ncpu_ms = \"fast\"\nmemory_mib = 4096\n[config]\nn = 1\n",
        )
        .unwrap_err();
        let shown: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(
            shown,
            [
                "component: is missing",
                "line 1: name: app name \"Bad Name\" has a character other than a-z, 0-9 and '-'",
                "line 2: hosts: host name \"no host\" has a character other than a-z, 0-9 and '-'",
                "line 2: hosts: must be a string, not integer",
                "line 3: colour: is not a known key; known here: name, component, build, hosts, path_prefix, methods, backends, outbound, config, config_stores, secrets, secret_stores, kv_stores, geo, devices, assets, limits",
                "line 4: backends.b: needs a url of the form http[s]://host[:port]",
                "line 5: backends.b.uri: is not a known key; known here: url, failover, override_host, cert_host, ca_pem, client_cert_pem, client_key_secret, connect_timeout_ms, first_byte_timeout_ms, between_bytes_timeout_ms, health",
                "line 6: limits.memory_mib: 4096 is out of range: 1 to 128",
                "line 7: limits.cpu_ms: must be a whole number from 0 to 4294967295",
                "line 10: config.n: must be a string, not integer",
            ]
        );
    }

    #[test]
    fn mistakes_in_stores_name_the_line_of_the_store_or_entry() {
        let long = "x".repeat(crate::manifest::bounds::CONFIG_VALUE_BYTES_MAX + 1);
        let mistakes = project(&format!(
            "name = \"a\"\ncomponent = \"a.wasm\"\nkv_stores = [\"a/b\", 3]\n[config_stores.one]\nok = \"1\"\n\
             long = \"{long}\"\nn = 1\n[config_stores]\ntwo = \"x\"\n[secret_stores]\nfine = [\"A\"]\nbad = [\"A=B\"]\n"
        ))
        .unwrap_err();
        let shown: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(
            shown,
            [
                "line 3: kv_stores: must be a string, not integer",
                "line 3: kv_stores: store name \"a/b\" has a character other than letters, digits, '_', '-' and '.'",
                "line 6: config_stores.one.long: a value of 8193 bytes, at most 8192",
                "line 7: config_stores.one.n: must be a string, not integer",
                "line 9: config_stores.two: must be a table, not string",
                "line 12: secret_stores.bad: secret name \"A=B\" has a character other than letters, digits, '_', '-' and '.'",
            ]
        );
    }

    #[test]
    fn broken_toml_names_its_line() {
        let mistakes = project("name = \"a\"\ncomponent = \n").unwrap_err();
        assert_eq!(mistakes[0].line, Some(2), "{mistakes:?}");
    }
}
