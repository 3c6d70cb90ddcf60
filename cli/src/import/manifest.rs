//! `fastly.toml` → what a `skerry.toml` would say, by walking the document with its positions: every mistake is
//! reported in one run with its line, every thing that has no effect here with a warning.
//!
//! A wrong type or value is a mistake. An unknown key is a warning: the file is made for another tool, whose next
//! version may know more.

use std::ops::Range;

use artifact::{
    AppName,
    manifest::{
        AppConfig, Mistake,
        parse::{Reader, Value, document, line_at},
    },
    names::KvKey,
};
use toml::{
    Spanned,
    de::{DeString, DeTable},
};

use super::{
    Note, Purpose,
    files::Files,
    items::Items,
    wanted::{self, Wanted},
};

/// Versions of the format that are read; 2 differs in names that are aliases in 3.
const VERSIONS: [u32; 2] = [2, 3];
/// Bytes of all files one manifest names, each counted as often as it is named: they are all in memory until they are
/// put.
pub const FILES_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Keys that say something of the project, not of the app.
const ABOUT: [&str; 6] = ["authors", "cloned_from", "description", "language", "profile", "service_id"];

/// A manifest, read.
#[derive(Debug)]
pub struct Manifest {
    /// The app's name, as it may be here.
    pub name: Option<AppName>,
    /// Its name as written: packages are named by it.
    pub raw_name: Option<String>,
    /// How the project is built. Only ever shown.
    pub build: Option<String>,
    /// What the version pins.
    pub config: AppConfig,
    /// What has to be put into stores.
    pub items: Items,
    /// What was taken and what was not.
    pub notes: Vec<Note>,
}

/// The two sections that describe an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What Fastly's local server has.
    LocalServer,
    /// What a service is made with.
    Setup,
}

impl Section {
    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Section::LocalServer => "local_server",
            Section::Setup => "setup",
        }
    }
}

/// The environment: a variable's value by its name.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What the walk has in its hands.
pub struct Walk<'a> {
    /// The file's name, for warnings.
    name: &'a str,
    text: &'a str,
    /// Takes values, collects mistakes.
    pub reader: Reader<'a>,
    /// Files the manifest names.
    pub files: &'a Files<'a>,
    /// Environment variables of the one who runs this. `None`: the manifest may not read them.
    pub variables: Option<Variables<'a>>,
    /// Bytes its files may still have: see [`FILES_BYTES_MAX`].
    bytes_left: u64,
    /// What is ignored, and later what is taken.
    pub notes: Vec<Note>,
    /// Where things stand: key in the configuration, key in the file, its bytes there.
    pub places: Vec<(String, String, Range<usize>)>,
}

/// Reads the text of a manifest, whose file has this name.
pub fn read(
    name: &str,
    text: &str,
    files: &Files<'_>,
    variables: Option<Variables<'_>>,
    purpose: Purpose,
) -> Result<Manifest, Vec<Mistake>> {
    let document = document(text)?;
    let mut walk = Walk::new(name, text, files, variables);
    let manifest = walk.manifest(document.get_ref(), purpose);
    match walk.reader.mistakes.is_empty() {
        true => Ok(manifest),
        false => Err(walk.reader.into_mistakes()),
    }
}

impl<'a> Walk<'a> {
    /// Nothing walked yet of the text of a file of this name.
    pub fn new(
        name: &'a str,
        text: &'a str,
        files: &'a Files<'a>,
        variables: Option<Variables<'a>>,
    ) -> Walk<'a> {
        let (reader, notes, places) = (Reader::of(text), Vec::new(), Vec::new());
        Walk { name, text, reader, files, variables, bytes_left: FILES_BYTES_MAX, notes, places }
    }
}

/// An app's name as it may be here, where it is part of a host name, made of one that may be anything.
pub fn app_name(raw: &str) -> Option<AppName> {
    let dashed = raw.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let words: Vec<String> =
        dashed.collect::<String>().split('-').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let mut clean = words.join("-");
    clean.truncate(artifact::names::NAME_BYTES_MAX);
    clean.trim_end_matches('-').parse().ok()
}

impl Walk<'_> {
    fn manifest(&mut self, table: &DeTable<'_>, purpose: Purpose) -> Manifest {
        let (mut raw_name, mut build) = (None, None);
        let (mut local, mut setup, mut config) = (Wanted::default(), Wanted::default(), AppConfig::default());
        let mut loopback_is_default = true;
        let mut versioned = false;
        for (key, value) in table {
            let path = key.get_ref().as_ref();
            match path {
                "manifest_version" => {
                    versioned = true;
                    self.version(value);
                }
                "name" => raw_name = self.reader.string(path, value).map(str::to_owned),
                "scripts" => build = self.build(path, value),
                "local_server" => {
                    loopback_is_default = self.local_server(path, value, &mut local, &mut config)
                }
                "setup" => self.setup(path, value, &mut setup),
                about if ABOUT.contains(&about) => {}
                _ => self.unknown(path, key),
            }
        }
        if !versioned {
            self.notes.push(Note::Ignored("manifest_version is missing; 3 is assumed".into()));
        }
        if purpose == Purpose::Up && loopback_is_default {
            self.sample_place(&mut config);
        }
        let name = raw_name.as_deref().and_then(|name| self.named(name));
        let mut notes = std::mem::take(&mut self.notes);
        let items = wanted::settle(local, setup, purpose, &mut config, &mut notes);
        self.check(&config);
        self.check_items(&items);
        Manifest { name, raw_name, build, config, items, notes }
    }

    fn version(&mut self, value: &Value<'_>) {
        if !self.reader.number("manifest_version", value).is_none_or(|version| VERSIONS.contains(&version)) {
            let message = "must be 2 or 3; update the manifest with Fastly's tools".into();
            self.reader.note("manifest_version", value.span(), message);
        }
    }

    fn build(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let table = self.reader.table(path, value)?;
        let build = table.iter().find(|(key, _)| key.get_ref() == "build")?.1;
        self.reader.string("scripts.build", build).map(str::to_owned)
    }

    /// The app's name as it may be here, said if it is another.
    pub fn named(&mut self, raw: &str) -> Option<AppName> {
        let name = app_name(raw);
        if let Some(name) = &name
            && name.as_str() != raw
        {
            self.notes.push(Note::Taken(format!("name {raw:?}: the app is called {name} here")));
        }
        name
    }

    /// Answers whether loopback addresses have a sample place, which they have unless the file says no.
    fn local_server(
        &mut self,
        path: &str,
        value: &Value<'_>,
        wanted: &mut Wanted,
        config: &mut AppConfig,
    ) -> bool {
        let section = Section::LocalServer;
        let mut loopback = true;
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "backends" => self.local_backends(&path, value, wanted),
                "config_stores" | "dictionaries" => self.local_config_stores(&path, value, wanted),
                "kv_stores" | "kv_store" | "object_stores" | "object_store" => {
                    self.local_kv_stores(&path, value, wanted);
                }
                "secret_stores" | "secret_store" => self.local_secret_stores(&path, value, wanted),
                "geolocation" => loopback = self.geolocation(&path, value, config),
                "device_detection" => self.device_detection(&path, value, config),
                "viceroy_version" => {}
                "acls" => self.ignored(&path, key, "access lists are not supported; the program finds none"),
                "shielding_sites" | "fake_valid_fastly_keys" | "pushpin" => {
                    self.ignored(&path, key, "only Fastly's own local server has it");
                }
                _ => self.unknown(&path, key),
            }
        }
        self.doubles(section);
        loopback
    }

    fn setup(&mut self, path: &str, value: &Value<'_>, wanted: &mut Wanted) {
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            match name {
                "backends" => self.setup_backends(&path, value, wanted),
                "config_stores" | "dictionaries" => self.setup_config_stores(&path, value, wanted),
                "kv_stores" | "object_stores" => self.setup_kv_stores(&path, value, wanted),
                "secret_stores" => self.setup_secret_stores(&path, value, wanted),
                "log_endpoints" => self.log_endpoints(&path, value),
                "products" => self.products(&path, value),
                _ => self.unknown(&path, key),
            }
        }
        self.doubles(Section::Setup);
    }

    /// A program may log to any name; there is one place where lines go.
    fn log_endpoints(&mut self, path: &str, value: &Value<'_>) {
        for (name, endpoint) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            self.reader.table(&path, endpoint);
            let text =
                format!("log endpoint {}: its lines go to the app's log, to no provider", name.get_ref());
            self.notes.push(Note::Taken(text));
        }
    }

    fn products(&mut self, path: &str, value: &Value<'_>) {
        for (name, _) in self.reader.table(path, value).into_iter().flatten() {
            self.ignored(&format!("{path}.{}", name.get_ref()), name, "products are Fastly's own");
        }
    }

    /// Two keys of one section may mean the same kind of store; one name may stand under one of them.
    fn doubles(&mut self, section: Section) {
        let mut seen: Vec<(&str, &str)> = Vec::new();
        let mut twice = Vec::new();
        for (config_key, file_key, span) in &self.places {
            if !file_key.starts_with(section.name()) {
                continue;
            }
            match seen.iter().find(|(before, _)| before == config_key) {
                Some((_, first)) => twice.push((file_key.clone(), span.clone(), (*first).to_owned())),
                None => seen.push((config_key, file_key)),
            }
        }
        for (key, span, first) in twice {
            self.reader.note(&key, span, format!("is there twice, also as {first}"));
        }
    }

    /// What the configuration's own checks find, said with the file's keys and lines.
    pub fn check(&mut self, config: &AppConfig) {
        for mut mistake in config.mistakes() {
            if let Some((config_key, file_key, span)) = self.stands(&mistake) {
                let rest = under(config_key, &mistake.key).unwrap_or_default();
                let (key, span) = (format!("{file_key}{rest}"), span.clone());
                mistake = Mistake { key, ..mistake }.at(self.text, span);
            }
            self.reader.mistakes.push(mistake);
        }
    }

    /// What the stores would refuse, before anything is put.
    fn check_items(&mut self, items: &Items) {
        let kv = items.kv.iter().filter_map(|item| {
            let why = item.key.parse::<KvKey>().err()?;
            Some((format!("kv_stores.{}", item.store), why.to_string()))
        });
        let secrets = items.secrets.iter().filter(|secret| secret.value.is_empty()).filter_map(|secret| {
            let store = secret.store.as_ref()?;
            Some((format!("secret_stores.{store}"), format!("the secret {} is empty", secret.key)))
        });
        for (key, message) in kv.chain(secrets).collect::<Vec<_>>() {
            let mut mistake = Mistake::new(key, message);
            if let Some((_, file_key, span)) = self.stands(&mistake) {
                let (key, span) = (file_key.clone(), span.clone());
                mistake = Mistake { key, ..mistake }.at(self.text, span);
            }
            self.reader.mistakes.push(mistake);
        }
    }

    /// The innermost thing a mistake's key names; or the one below it that its message does.
    fn stands(&self, mistake: &Mistake) -> Option<&(String, String, Range<usize>)> {
        let around = self.places.iter().filter(|(key, ..)| under(key, &mistake.key).is_some());
        let named = |(key, ..): &&(String, String, Range<usize>)| {
            let below = under(&mistake.key, key).and_then(|rest| rest.strip_prefix('.'));
            below.is_some_and(|name| mistake.message.contains(&format!("{name:?}")))
        };
        around.max_by_key(|(key, ..)| key.len()).or_else(|| self.places.iter().find(named))
    }

    /// Notes that `config_key` of the configuration stands here in the file.
    pub fn place(&mut self, config_key: String, path: &str, key: &Spanned<DeString<'_>>) {
        self.places.push((config_key, path.to_owned(), key.span()));
    }

    /// Notes that a thing has no effect here.
    pub fn ignored(&mut self, path: &str, key: &Spanned<DeString<'_>>, why: &str) {
        let line = line_at(self.text, key.span().start);
        self.notes.push(Note::Ignored(format!("{}:{line}: {path} is ignored: {why}", self.name)));
    }

    /// Notes a key nobody here knows.
    pub fn unknown(&mut self, path: &str, key: &Spanned<DeString<'_>>) {
        self.ignored(path, key, "it is not known here");
    }

    /// A mistake at a value.
    pub fn mistake(&mut self, path: &str, value: &Value<'_>, message: impl Into<String>) {
        self.reader.note(path, value.span(), message.into());
    }

    /// True or false.
    pub fn boolean(&mut self, path: &str, value: &Value<'_>) -> Option<bool> {
        let truth = value.get_ref().as_bool();
        if truth.is_none() {
            self.reader.wrong_type(path, value, "true or false");
        }
        truth
    }

    /// Text that is not empty.
    pub fn text(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let text = self.reader.string(path, value)?;
        if text.trim().is_empty() {
            self.mistake(path, value, "is empty");
            return None;
        }
        Some(text.to_owned())
    }

    /// The contents of a file that a value names.
    pub fn file(&mut self, path: &str, value: &Value<'_>, bytes_max: u64) -> Option<Vec<u8>> {
        let name = self.text(path, value)?;
        let read = self.read(&name, bytes_max);
        read.map_err(|why| self.mistake(path, value, format!("cannot be read: {why}"))).ok()
    }

    /// The contents of a file of this name, while all of them together are within their bound.
    pub fn read(&mut self, name: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        let bytes = self.files.read(name, bytes_max.min(self.bytes_left)).map_err(|why| {
            match self.bytes_left < bytes_max {
                true => format!("{why}; all files of a manifest together have at most {FILES_BYTES_MAX}"),
                false => why,
            }
        })?;
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        Ok(bytes)
    }

    /// Says that the user's environment is read.
    pub fn reads_variable(&mut self, path: &str, value: &Value<'_>, name: &str) {
        let line = line_at(self.text, value.span().start);
        let text = format!("{}:{line}: {path} reads the environment variable {name}", self.name);
        self.notes.push(Note::Taken(text));
    }

    /// A file with one JSON object.
    pub fn json_file(
        &mut self,
        path: &str,
        value: &Value<'_>,
    ) -> Option<serde_json::Map<String, serde_json::Value>> {
        let bytes = self.file(path, value, super::stores::JSON_FILE_BYTES_MAX)?;
        match serde_json::from_slice(&bytes) {
            Ok(serde_json::Value::Object(object)) => Some(object),
            Ok(_) => {
                self.mistake(path, value, "its JSON is not an object");
                None
            }
            Err(error) => {
                self.mistake(path, value, format!("is not JSON: {error}"));
                None
            }
        }
    }
}

/// What follows `prefix` in a dotted key.
fn under<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}
