//! `skerry.toml` → [`Project`], by walking the document with its positions, so that every mistake of a file is
//! reported in one run with its line, unknown keys included.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    AppConfig, Limits, Mistake, Prepare, Project,
    keys::{self, Key},
};

mod backends;
mod build;
mod lookups;
mod prepare;

/// Bytes of a manifest. Real ones have a few KiB; one with inline certificates some tens.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Mistakes that are kept of one manifest. Who has more reads the first ones.
pub const MISTAKES_MAX: usize = 1_000;
/// Bytes of a key's path that a mistake shows, and up to which the places of keys are known. The keys of this format are
/// far shorter, and a file could have a path of half its size before each of a hundred thousand keys.
const PATH_BYTES_MAX: usize = 2 * 1024;
/// Places that are known; each mistake is looked for among them. Where there are more, a mistake may name no line.
const PLACES_MAX: usize = 10_000;

/// A value with its position.
pub type Value<'a> = Spanned<DeValue<'a>>;

pub(super) fn project(text: &str) -> Result<Project, Vec<Mistake>> {
    let document = document(text)?;
    let mut reader = Reader::of(text);
    let project = reader.project(document.get_ref());
    match project {
        Some(project) if reader.mistakes.is_empty() => Ok(project),
        _ => Err(reader.into_mistakes()),
    }
}

/// Reads TOML, keeping positions. Of mistakes in its syntax the first alone: what stands behind it is read by guess, and most of
/// what is said of it is wrong.
pub fn document(text: &str) -> Result<Spanned<DeTable<'_>>, Vec<Mistake>> {
    if text.len() > FILE_BYTES_MAX {
        let message = format!("{} bytes, a manifest has at most {FILE_BYTES_MAX}", text.len());
        return Err(vec![Mistake::new("", message)]);
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(document);
    }
    let mistake = |error: &toml::de::Error| {
        let mistake = Mistake::new("", error.message());
        match error.span() {
            Some(span) => mistake.at(text, span),
            None => mistake,
        }
    };
    let first = errors.iter().min_by_key(|error| error.span().map(|span| span.start));
    Err(first.map(mistake).into_iter().collect())
}

fn place(mistake: &Mistake) -> Option<usize> {
    mistake.span.as_ref().map(|span| span.start)
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
    /// Where values stand: for mistakes that are found afterwards.
    places: Vec<Place>,
}

/// Where the value of a key stands, or one item of it.
struct Place {
    path: String,
    span: Range<usize>,
    /// The item as mistakes name it, if it is one.
    item: Option<String>,
}

impl<'t> Reader<'t> {
    /// A reader of this text's document.
    pub fn of(text: &'t str) -> Reader<'t> {
        Reader { text, mistakes: Vec::new(), places: Vec::new() }
    }

    /// What was wrong, in the order of the file; first what has no place.
    pub fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(place);
        self.mistakes
    }
}

impl Reader<'_> {
    fn project(&mut self, table: &DeTable<'_>) -> Option<Project> {
        let (mut name, mut component, mut build, mut assets_folder) = (None, None, None, None);
        let mut prepare = Prepare::default();
        let mut config = AppConfig::default();
        for (key, value) in table {
            let path = key.get_ref().as_ref();
            self.stands(path.to_owned(), value.span());
            match path {
                "name" => name = self.string(path, value).and_then(|text| self.parsed(path, value, text)),
                "component" => component = self.string(path, value).map(str::to_owned),
                "build" => build = self.build(path, value),
                "prepare" => prepare = self.prepare(path, value),
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
                _ => self.unknown(path, key, keys::TOP),
            }
        }
        // Static files are an app without a program, too.
        let needed: &[&str] = if config.assets.is_some() { &["name"] } else { &["name", "component"] };
        for missing in needed.iter().copied() {
            if !table.contains_key(missing) {
                self.mistakes.push(Mistake::new(missing, "is missing"));
            }
        }
        for mistake in
            config.mistakes().into_iter().chain(prepare::beyond(&prepare, &config.limits)).take(MISTAKES_MAX)
        {
            let placed = match self.place_of(&mistake) {
                Some(span) => mistake.at(self.text, span),
                None => mistake,
            };
            self.push(placed);
        }
        Some(Project { name: name?, component, build, prepare, assets_folder, config })
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
            stores.insert(name.get_ref().to_string(), read(self, &path, value));
        }
        stores
    }

    fn entries(&mut self, path: &str, value: &Value<'_>) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        for (key, value) in self.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            if let Some(text) = self.string(&path, value) {
                entries.insert(key.get_ref().to_string(), text.to_owned());
            }
        }
        entries
    }

    /// Notes that the value of a key stands here.
    fn stands(&mut self, path: String, span: Range<usize>) {
        if path.len() <= PATH_BYTES_MAX && self.places.len() < PLACES_MAX {
            self.places.push(Place { path, span, item: None });
        }
    }

    /// Where the innermost thing stands that a mistake's key names, down to the item that its message does.
    fn place_of(&self, mistake: &Mistake) -> Option<Range<usize>> {
        let around = |place: &&Place| {
            let rest = mistake.key.strip_prefix(place.path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let named = |place: &Place| place.item.as_ref().is_some_and(|item| mistake.message.contains(item));
        let within = self.places.iter().filter(around).filter(|place| place.item.is_none() || named(place));
        // Of items that are named twice the last is one too many.
        within.max_by_key(|place| (place.path.len(), place.item.is_some())).map(|place| place.span.clone())
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
                    self.unknown(&path, key, keys::LIMITS);
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
            self.note(path, value.span(), "must be a whole number from 0 to 4294967295".into());
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
        let mut strings = Vec::new();
        for item in self.items(path, value) {
            let Some(text) = self.string(path, item) else { continue };
            let place = Place { path: path.to_owned(), span: item.span(), item: Some(format!("{text:?}")) };
            if path.len() + text.len() <= PATH_BYTES_MAX && self.places.len() < PLACES_MAX {
                self.places.push(place);
            }
            strings.push(text.to_owned());
        }
        strings
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
        for (key, value) in table.into_iter().flatten() {
            if path.len() + key.get_ref().len() < PATH_BYTES_MAX {
                self.stands(format!("{path}.{}", key.get_ref()), value.span());
            }
        }
        table
    }

    fn parsed<T: std::str::FromStr<Err = crate::names::NameError>>(
        &mut self,
        path: &str,
        value: &Value<'_>,
        text: &str,
    ) -> Option<T> {
        text.parse().map_err(|error| self.note(path, value.span(), format!("{error}"))).ok()
    }

    /// Notes that a value has another type than `wanted`.
    pub fn wrong_type(&mut self, path: &str, value: &Value<'_>, wanted: &str) {
        let message = format!("must be {wanted}, not {}", value.get_ref().type_str());
        self.note(path, value.span(), message);
    }

    /// Notes a key that is not one of those known here.
    pub fn unknown(&mut self, path: &str, key: &Spanned<DeString<'_>>, known: &[Key]) {
        let name = key.get_ref().as_ref();
        if let Some(why) = keys::elsewhere(name, known) {
            return self.note(path, key.span(), why);
        }
        let suggestion = keys::nearest(name, known).map(str::to_owned);
        let names = || known.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
        let known = if suggestion.is_none() { format!("; known here: {}", names()) } else { String::new() };
        let mistake = Mistake::new(shown(path), format!("is not a known key{known}"));
        self.push(Mistake { suggestion, ..mistake }.at(self.text, key.span()));
    }

    /// Notes a mistake at a place.
    pub fn note(&mut self, path: &str, span: Range<usize>, message: String) {
        self.push(Mistake::new(shown(path), message).at(self.text, span));
    }

    fn push(&mut self, mistake: Mistake) {
        if self.mistakes.len() < MISTAKES_MAX {
            self.mistakes.push(mistake);
        }
    }
}

/// As much of a path as a mistake shows.
fn shown(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES_MAX)]
}

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
                "line 3: colour: is not a known key; known here: name, component, build, prepare, hosts, path_prefix, methods, backends, outbound, config, config_stores, secrets, secret_stores, kv_stores, geo, devices, assets, limits",
                "line 4: backends.b: needs a url of the form http[s]://host[:port]",
                "line 5: backends.b.uri: is not a known key; did you mean `url`?",
                "line 7: limits.cpu_ms: must be a whole number from 0 to 4294967295",
                "line 8: limits.memory_mib: 4096 is out of range: 1 to 128",
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
                "line 3: kv_stores: store name \"a/b\" has a character other than letters, digits, '_', '-' and '.'",
                "line 3: kv_stores: must be a string, not integer",
                "line 6: config_stores.one.long: a value of 8193 bytes, at most 8192",
                "line 7: config_stores.one.n: must be a string, not integer",
                "line 9: config_stores.two: must be a table, not string",
                "line 12: secret_stores.bad: secret name \"A=B\" has a character other than letters, digits, '_', '-' and '.'",
            ]
        );
    }

    /// What stands where mistakes are.
    fn pointed_at(text: &str) -> Vec<&str> {
        let mistakes = project(text).unwrap_err();
        mistakes.iter().map(|one| one.span.clone().map_or("", |span| &text[span])).collect()
    }

    #[test]
    fn a_mistake_points_at_what_is_wrong() {
        let head = "name = \"a\"\ncomponent = \"a.wasm\"\n";
        for (rest, wrong) in [
            ("hosts = [\"a.example\", \"B\", 3]", &["\"B\"", "3"][..]),
            ("secrets = [\"A\", \"B C\", \"A\"]", &["\"B C\"", "\"A\""]),
            ("methods = [\"GET\", \"get\"]", &["\"get\""]),
            ("outbound = [\"*.ok\", \"https://x\"]", &["\"https://x\""]),
            ("path_prefix = \"api\"", &["\"api\""]),
            ("limits = { cpu_ms = 0, wall = 1 }", &["0", "wall"]),
            ("[backends.b]\nurl = \"ftp://x\"\nconnect_timeout_ms = 0", &["\"ftp://x\"", "0"]),
            ("[backends.b]\nfailover = []", &["[backends.b]"]),
            ("geo = { \"192.0.2.1\" = \"[]\" }", &["\"[]\""]),
            ("name = \"b\"", &["name"]),
            ("config = { k = \"v\", k = \"w\" }", &["k"]),
        ] {
            assert_eq!(pointed_at(&format!("{head}{rest}")), wrong, "{rest}");
        }
        assert_eq!(pointed_at(""), ["", ""], "what is missing is nowhere");
    }

    #[test]
    fn a_key_that_is_known_elsewhere_is_told_where() {
        let head = "name = \"a\"\ncomponent = \"a.wasm\"\n";
        for (rest, said) in [
            ("cpu_ms = 3", "line 3: cpu_ms: is not a known key here: it belongs into [limits]"),
            (
                "[limits]\nhosts = []",
                "line 4: limits.hosts: is a key of the top: it belongs before the first [table]",
            ),
            ("host = []", "line 3: host: is not a known key; did you mean `hosts`?"),
        ] {
            let mistakes = project(&format!("{head}{rest}")).unwrap_err();
            assert_eq!(mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>(), [said]);
        }
    }

    #[test]
    fn what_is_kept_of_a_hostile_file_is_bounded() {
        let many: String = (0..MISTAKES_MAX + 9).map(|n| format!("k{n} = 1\n")).collect();
        assert_eq!(project(&many).unwrap_err().len(), MISTAKES_MAX + 2, "and the two that are missing");
        let names = "\"/\",".repeat(200_000);
        assert!(project(&format!("kv_stores = [{names}]\n")).unwrap_err().len() <= MISTAKES_MAX + 2);
        let long = "x".repeat(100_000);
        let keys: String = (0..1_000).map(|n| format!("k{n} = 1\n")).collect();
        let mistakes = project(&format!("[config_stores.{long}]\n{keys}")).unwrap_err();
        assert!(
            mistakes.iter().all(|one| one.to_string().len() < 3_000),
            "{}",
            mistakes[9].to_string().len()
        );
        let huge = format!("#{}", "x".repeat(FILE_BYTES_MAX));
        let shown = project(&huge).unwrap_err()[0].to_string();
        assert_eq!(shown, "1048577 bytes, a manifest has at most 1048576");
    }

    #[test]
    fn the_first_mistake_of_the_syntax_stands_alone() {
        let mistakes = project("name = \"a\"\ncomponent = a.wasm\nhosts = [\n").unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(|one| one.line).collect();
        assert_eq!(lines, [Some(2)], "{mistakes:?}");
    }

    #[test]
    fn broken_toml_names_its_line() {
        let mistakes = project("name = \"a\"\ncomponent = \n").unwrap_err();
        assert_eq!(mistakes[0].line, Some(2), "{mistakes:?}");
    }
}
