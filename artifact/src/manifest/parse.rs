//! `skerry.toml` → [`Project`], by walking the document with its positions, so that every mistake of a file is
//! reported in one run with its line, unknown keys included.

use std::net::IpAddr;

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{AppConfig, Backend, Limits, Mistake, Project, lookups};

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
}

impl<'t> Reader<'t> {
    /// A reader of this text's document.
    pub fn of(text: &'t str) -> Reader<'t> {
        Reader { text, mistakes: Vec::new() }
    }
}

impl Reader<'_> {
    fn project(&mut self, table: &DeTable<'_>) -> Option<Project> {
        let (mut name, mut component) = (None, None);
        let mut config = AppConfig::default();
        let mut key_lines = Vec::new();
        for (key, value) in table {
            let path = key.get_ref().as_ref();
            key_lines.push((path.to_owned(), line_at(self.text, key.span().start)));
            match path {
                "name" => name = self.string(path, value).and_then(|text| self.parsed(path, value, text)),
                "component" => component = self.string(path, value).map(str::to_owned),
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
                "backends" => self.backends(path, value, &mut config),
                "config" => self.config_values(path, value, &mut config),
                "secrets" => config.secrets = self.strings(path, value),
                "geo" => self.geo(path, value, &mut config),
                "devices" => self.devices(path, value, &mut config),
                "limits" => self.limits(path, value, &mut config.limits),
                _ => self.unknown(path, key.span().start, &TOP_KEYS),
            }
        }
        for missing in ["name", "component"] {
            if !key_lines.iter().any(|(key, _)| key == missing) {
                self.mistakes.push(Mistake { line: None, key: missing.into(), message: "is missing".into() });
            }
        }
        for mut mistake in config.mistakes() {
            let top = mistake.key.split('.').next().unwrap_or_default();
            mistake.line = key_lines.iter().find(|(key, _)| key == top).map(|(_, line)| *line);
            self.mistakes.push(mistake);
        }
        Some(Project { name: name?, component: component?, config })
    }

    fn backends(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (name, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            let mut url = None;
            for (key, value) in self.table(&path, value).into_iter().flatten() {
                match key.get_ref().as_ref() {
                    "url" => url = self.string(&format!("{path}.url"), value),
                    other => self.unknown(&format!("{path}.{other}"), key.span().start, &["url"]),
                }
            }
            match url {
                Some(url) => {
                    let backend = Backend { url: url.to_owned(), ..Backend::default() };
                    config.backends.insert(name.get_ref().to_string(), backend);
                }
                None => self.note(
                    &path,
                    value.span().start,
                    "needs a url of the form http[s]://host[:port]".into(),
                ),
            }
        }
    }

    fn config_values(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (key, value) in self.table(path, value).into_iter().flatten() {
            if let Some(text) = self.string(&format!("{path}.{}", key.get_ref()), value) {
                config.config.insert(key.get_ref().to_string(), text.to_owned());
            }
        }
    }

    fn geo(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            let Some(address) = self.address(&path, key) else { continue };
            if let Some(json) = self.json_object(&path, value) {
                config.geo.insert(address, json);
            }
        }
    }

    fn devices(&mut self, path: &str, value: &Value<'_>, config: &mut AppConfig) {
        for (key, value) in self.table(path, value).into_iter().flatten() {
            if let Some(json) = self.json_object(&format!("{path}.{}", key.get_ref()), value) {
                config.devices.insert(key.get_ref().to_string(), json);
            }
        }
    }

    /// A key that is an IP address.
    pub fn address(&mut self, path: &str, key: &Spanned<DeString<'_>>) -> Option<IpAddr> {
        let parsed = key.get_ref().parse();
        parsed.map_err(|_| self.note(path, key.span().start, "is not an IP address".into())).ok()
    }

    /// A JSON object, given as text or as a table: its compact text.
    pub fn json_object(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let json = match value.get_ref() {
            DeValue::String(text) => lookups::object(text),
            DeValue::Table(_) => lookups::of_toml(value.get_ref()).map(|json| json.to_string()),
            _ => {
                self.wrong_type(path, value, "a table, or a string with a JSON object");
                return None;
            }
        };
        json.map_err(|why| self.note(path, value.span().start, why)).ok()
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
            let number =
                value.get_ref().as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
            match number {
                Some(number) => *field = number,
                None => {
                    self.note(&path, value.span().start, "must be a whole number from 0 to 4294967295".into())
                }
            }
        }
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

const TOP_KEYS: [&str; 10] = [
    "name",
    "component",
    "hosts",
    "path_prefix",
    "backends",
    "config",
    "secrets",
    "geo",
    "devices",
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
            secrets = ["API_KEY"]
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
        assert_eq!(project.config.backends["origin"].url, "https://origin.example:8443");
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
                "line 3: colour: is not a known key; known here: name, component, hosts, path_prefix, backends, config, secrets, geo, devices, limits",
                "line 4: backends.b: needs a url of the form http[s]://host[:port]",
                "line 5: backends.b.uri: is not a known key; known here: url",
                "line 6: limits.memory_mib: 4096 is out of range: 1 to 128",
                "line 7: limits.cpu_ms: must be a whole number from 0 to 4294967295",
                "line 10: config.n: must be a string, not integer",
            ]
        );
    }

    #[test]
    fn places_and_devices_are_json_objects_as_text_or_as_tables() {
        let head = "name = \"a\"\ncomponent = \"a.wasm\"\n";
        let project = project(&format!(
            "{head}[geo]\n\"192.0.2.1\" = '{{ \"city\": \"Bonn\" }}'\n\"2001:db8::1\" = {{ latitude = 50.7, as_number = 7 }}\n\
             [devices.\"Agent/1.0\"]\ndevice = {{ is_mobile = true }}\n"
        ))
        .unwrap();
        let geo: Vec<_> = project.config.geo.into_iter().map(|(ip, json)| (ip.to_string(), json)).collect();
        assert_eq!(geo[0], ("192.0.2.1".to_owned(), r#"{"city":"Bonn"}"#.to_owned()));
        assert_eq!(geo[1], ("2001:db8::1".to_owned(), r#"{"as_number":7,"latitude":50.7}"#.to_owned()));
        assert_eq!(project.config.devices["Agent/1.0"], r#"{"device":{"is_mobile":true}}"#);

        let mistakes = super::project(&format!(
            "{head}[geo]\nhere = '{{}}'\n\"192.0.2.1\" = '[1]'\n[devices]\na = 3\nb = {{ since = 1979-05-27 }}\n"
        ))
        .unwrap_err();
        let shown: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
        assert_eq!(
            shown,
            [
                "line 4: geo.here: is not an IP address",
                "line 5: geo.192.0.2.1: is not a JSON object",
                "line 7: devices.a: must be a table, or a string with a JSON object, not integer",
                "line 8: devices.b: has a date, which JSON does not know",
            ]
        );
    }

    #[test]
    fn broken_toml_names_its_line() {
        let mistakes = project("name = \"a\"\ncomponent = \n").unwrap_err();
        assert_eq!(mistakes[0].line, Some(2), "{mistakes:?}");
    }
}
