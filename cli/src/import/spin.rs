//! `spin.toml` of version 2 → what a `skerry.toml` would say, of one of its components. Skerry is not affiliated with Spin.
//!
//! The same rules as for `fastly.toml` ([`super::manifest`]): a wrong type or value is a mistake, a key nobody here knows is
//! a warning, and every thing that has no effect is named. Deliberately absent: profiles, and fetching components from
//! registries.

mod fileserver;
mod hosts;
mod routes;
mod variables;

use std::collections::BTreeMap;

use artifact::{
    AppName,
    manifest::{AppConfig, Build, Mistake, parse::Value},
};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use self::variables::Variable;
use super::{
    Note,
    items::Items,
    manifest::{Variables, Walk},
};

/// The manifest's file name.
pub const FILE: &str = "spin.toml";
/// The version of the format that is read.
const VERSION: u32 = 2;
/// Keys of a component that say something of the project, not of the app.
const ABOUT: [&str; 5] = ["description", "tool", "targets", "exclude_files", "profile"];

/// A manifest, read for one of its components.
#[derive(Debug)]
pub struct Spin {
    /// The app's name, as it may be here.
    pub name: Option<AppName>,
    /// The program's file, relative to the manifest; empty where static files are all there is.
    pub source: String,
    /// The folder of static files, relative to the manifest: of the file server's component alone.
    pub assets: Option<String>,
    /// How it is made.
    pub build: Option<Build>,
    /// What the version pins.
    pub config: AppConfig,
    /// What has to be put into stores.
    pub items: Items,
    /// What was taken and what was not.
    pub notes: Vec<Note>,
}

/// Why a manifest cannot be used.
#[derive(Debug)]
pub enum Refused {
    /// What is wrong in it.
    Mistakes(Vec<Mistake>),
    /// Nobody said which of these components, each with its routes; or it is none of them.
    Which(Vec<String>),
}

/// An HTTP trigger.
struct Trigger<'d, 'i> {
    component: Option<(&'d Value<'i>, String)>,
    route: Option<String>,
}

/// Reads the text of a manifest for the component of this name, or its only one.
pub fn read(
    text: &str,
    component: Option<&str>,
    environment: Option<Variables<'_>>,
) -> Result<Spin, Refused> {
    let document = artifact::manifest::parse::document(text).map_err(Refused::Mistakes)?;
    let files = super::files::Files::Package(&BTreeMap::new());
    let mut walk = Walk::new(FILE, text, &files, environment);
    let read = walk.spin(document.get_ref(), component);
    match walk.reader.mistakes.is_empty() {
        true => read,
        false => Err(Refused::Mistakes(walk.reader.into_mistakes())),
    }
}

impl Walk<'_> {
    fn spin(&mut self, table: &DeTable<'_>, wanted: Option<&str>) -> Result<Spin, Refused> {
        let (mut name, mut base, mut variables) = (None, None, BTreeMap::new());
        let (mut triggers, mut components, mut versioned) = (Vec::new(), None, false);
        for (key, value) in table {
            let path = key.get_ref().as_ref();
            match path {
                "spin_manifest_version" | "spin_version" => {
                    versioned = true;
                    self.spin_version(path, value);
                }
                "application" => (name, base) = self.application(path, value),
                "variables" => variables = self.application_variables(path, value),
                "trigger" => triggers = self.triggers(path, value),
                "component" => components = self.reader.table(path, value),
                _ => self.unknown(path, key),
            }
        }
        if !versioned {
            self.reader.mistakes.push(Mistake::new("spin_manifest_version", "is missing"));
        }
        // Of a file of another version everything else would be wrong, too.
        if !self.reader.mistakes.is_empty() {
            return Err(Refused::Mistakes(vec![]));
        }
        let (id, component) = self.chosen(&triggers, components, wanted)?;
        let routes: Vec<String> = triggers
            .iter()
            .filter(|trigger| trigger.component.as_ref().is_some_and(|(_, of)| *of == id))
            .filter_map(|trigger| trigger.route.clone())
            .collect();
        let mut spin = self.component(&id, component, &variables);
        spin.config.path_prefix = self.prefix(base.as_deref(), &routes);
        spin.name = name.as_deref().and_then(|raw| self.named(raw));
        self.check(&spin.config);
        spin.notes = std::mem::take(&mut self.notes);
        Ok(spin)
    }

    fn spin_version(&mut self, path: &str, value: &Value<'_>) {
        // Version 1 was written as text, too.
        let text = value.get_ref().as_str().map(str::to_owned);
        let number = value.get_ref().as_integer().map(|number| number.as_str().to_owned());
        match text.or(number).as_deref() {
            Some("2") if VERSION == 2 => {}
            Some("1") => self.mistake(path, value, "is 1; `spin doctor` makes a manifest of version 2 of it"),
            _ => self.mistake(path, value, "must be 2"),
        }
    }

    fn application(&mut self, path: &str, value: &Value<'_>) -> (Option<String>, Option<String>) {
        let (mut name, mut base) = (None, None);
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "name" => name = self.reader.string(&path, value).map(str::to_owned),
                "trigger" => {
                    for (key, value) in self.reader.table(&path, value).into_iter().flatten() {
                        let path = format!("{path}.{}", key.get_ref());
                        let table =
                            if key.get_ref() == "http" { self.reader.table(&path, value) } else { None };
                        let of = table.and_then(|table| table.get("base"));
                        base = of
                            .and_then(|of| self.reader.string(&format!("{path}.base"), of))
                            .map(str::to_owned);
                    }
                }
                "version" | "authors" | "description" | "tool" | "targets" => {}
                _ => self.unknown(&path, key),
            }
        }
        (name, base)
    }

    /// The HTTP triggers.
    fn triggers<'d, 'i>(&mut self, path: &str, value: &'d Value<'i>) -> Vec<Trigger<'d, 'i>> {
        let mut triggers = Vec::new();
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            if key.get_ref() != "http" {
                self.ignored(&path, key, "only HTTP requests run programs here");
                continue;
            }
            let Some(items) = value.get_ref().as_array() else {
                self.reader.wrong_type(&path, value, "an array of tables");
                continue;
            };
            for (at, item) in items.iter().enumerate() {
                triggers.extend(self.trigger(&format!("{path}[{at}]"), item));
            }
        }
        triggers
    }

    fn trigger<'d, 'i>(&mut self, path: &str, value: &'d Value<'i>) -> Option<Trigger<'d, 'i>> {
        let mut trigger = Trigger { component: None, route: None };
        for (key, value) in self.reader.table(path, value)? {
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "component" => {
                    let id = match value.get_ref() {
                        DeValue::Table(_) => format!("(in {path})"),
                        _ => self.reader.string(&path, value)?.to_owned(),
                    };
                    trigger.component = Some((value, id));
                }
                "route" if value.get_ref().as_table().is_some() => {
                    self.ignored(&path, key, "a private route is asked by other components only");
                }
                "route" => trigger.route = self.reader.string(&path, value).map(str::to_owned),
                "executor" => self.executor(&path, value),
                "id" => {}
                "static_response" => self.ignored(&path, key, "answers without a program are not offered"),
                _ => self.unknown(&path, key),
            }
        }
        Some(trigger)
    }

    fn executor(&mut self, path: &str, value: &Value<'_>) {
        let Some(table) = self.reader.table(path, value) else { return };
        let Some(kind) = table.get("type") else { return };
        if self.reader.string(path, kind).is_some_and(|kind| kind != "http") {
            let message =
                "only programs that answer with wasi:http are run, no CGI ones: use the http executor";
            self.mistake(path, kind, message);
        }
    }

    /// The component that is wanted, or the only one with an HTTP trigger.
    fn chosen<'d, 'i>(
        &mut self,
        triggers: &[Trigger<'d, 'i>],
        components: Option<&'d DeTable<'i>>,
        wanted: Option<&str>,
    ) -> Result<(String, &'d DeTable<'i>), Refused> {
        let mut served: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for trigger in triggers {
            let Some((_, id)) = &trigger.component else { continue };
            served.entry(id.as_str()).or_default().extend(trigger.route.as_deref());
        }
        if served.is_empty() {
            let message = "has no HTTP trigger with a component: nothing would answer requests";
            return Err(Refused::Mistakes(vec![Mistake::new("trigger.http", message)]));
        }
        let listed = || served.iter().map(|(id, routes)| format!("{id} ({})", routes.join(", "))).collect();
        let id = match (wanted, served.len()) {
            (Some(wanted), _) if served.contains_key(wanted) => wanted,
            (None, 1) => served.keys().next().copied().unwrap_or_default(),
            _ => return Err(Refused::Which(listed())),
        };
        let inline = triggers.iter().filter_map(|trigger| trigger.component.as_ref());
        let value =
            match inline.into_iter().find(|(value, of)| of == id && value.get_ref().as_table().is_some()) {
                Some((value, _)) => Some(*value),
                None => components.and_then(|components| components.get(id)),
            };
        let Some(value) = value else {
            let mistake = Mistake::new(format!("component.{id}"), "is missing: a trigger names it");
            return Err(Refused::Mistakes(vec![mistake]));
        };
        let table = self.reader.table(&format!("component.{id}"), value).ok_or(Refused::Mistakes(vec![]))?;
        Ok((id.to_owned(), table))
    }

    fn component(&mut self, id: &str, table: &DeTable<'_>, variables: &BTreeMap<String, Variable>) -> Spin {
        if fileserver::is_one(table) {
            let mut config = AppConfig::default();
            let assets = self.fileserver(&format!("component.{id}"), table, &mut config);
            let (items, notes) = (Items::default(), vec![]);
            return Spin { name: None, source: String::new(), assets, build: None, config, items, notes };
        }
        let (mut source, mut build) = (None, None);
        let (mut config, mut items) = (AppConfig::default(), Items::default());
        for (key, value) in table {
            let path = format!("component.{id}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "source" => source = self.source(&path, value),
                "build" => build = self.spin_build(&path, value),
                "variables" => self.component_variables(&path, value, variables, &mut config, &mut items),
                "allowed_outbound_hosts" | "allowed_http_hosts" => {
                    self.place("outbound".into(), &path, key);
                    self.outbound_hosts(&path, value, variables, &mut config);
                }
                "key_value_stores" => {
                    self.place("kv_stores".into(), &path, key);
                    config.kv_stores = self.reader.strings(&path, value);
                    for store in &config.kv_stores {
                        self.notes.push(Note::Taken(format!("KV store {store} (from key_value_stores)")));
                    }
                }
                "files" => {
                    let what = "nothing of it is carried over: programs read no files. To have a folder served without the \
                                program, write [assets] folder = \"...\"; what the program reads itself, build into it";
                    self.ignored(&path, key, what);
                }
                "environment" => {
                    self.ignored(&path, key, "programs have no environment variables; see `config`")
                }
                "sqlite_databases" => self.ignored(&path, key, "databases are not offered"),
                "ai_models" => self.ignored(&path, key, "models are not offered"),
                "dependencies" | "dependencies_inherit_configuration" => {
                    self.ignored(
                        &path,
                        key,
                        "components are not composed here; compose them first, with `wac`",
                    );
                }
                about if ABOUT.contains(&about) => {}
                _ => self.unknown(&path, key),
            }
        }
        if source.is_none() && self.reader.mistakes.is_empty() {
            let mistake = Mistake::new(format!("component.{id}.source"), "is missing: the program's file");
            self.reader.mistakes.push(mistake);
        }
        let (source, name, notes) = (source.unwrap_or_default(), None, vec![]);
        Spin { name, source, assets: None, build, config, items, notes }
    }

    fn source(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        if value.get_ref().as_table().is_some() {
            self.mistake(path, value, "is not a file: fetch the program and name its file");
            return None;
        }
        let source = self.text(path, value)?;
        if ["wasm32-wasip1", "wasm32-wasi/"].iter().any(|target| source.contains(target)) {
            let text = format!(
                "{FILE}: {path}: {source:?} may be a module that Spin makes a component of when it starts; build for \
                 wasm32-wasip2"
            );
            self.notes.push(Note::Ignored(text));
        }
        Some(source)
    }

    fn spin_build(&mut self, path: &str, value: &Value<'_>) -> Option<Build> {
        let (mut commands, mut workdir, mut patterns) = (Vec::new(), None, None);
        for (key, value) in self.reader.table(path, value)? {
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "command" if value.get_ref().as_array().is_some() => {
                    commands = self.reader.strings(&path, value)
                }
                "command" => commands.extend(self.text(&path, value)),
                "workdir" => workdir = self.text(&path, value),
                "watch" => patterns = Some(self.reader.strings(&path, value)),
                _ => self.unknown(&path, key),
            }
        }
        let line = match commands.as_slice() {
            [] => return None,
            [only] => only.clone(),
            several => several.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" && "),
        };
        let command = match &workdir {
            Some(folder) => format!("cd {} && {line}", super::quoted(folder)),
            None => line,
        };
        let folder = workdir.as_deref();
        let watch = patterns.map(|patterns| watched(folder, &patterns));
        Some(Build { command, watch, test: None })
    }
}

/// The files and folders that patterns begin with.
fn watched(workdir: Option<&str>, patterns: &[String]) -> Vec<String> {
    let plain = |pattern: &String| {
        let special = |part: &&str| part.contains(['*', '?', '[', '{']);
        let parts: Vec<&str> = pattern.split('/').take_while(|part| !special(part)).collect();
        let within: Vec<&str> = workdir.into_iter().chain(parts).filter(|part| !part.is_empty()).collect();
        if within.is_empty() { ".".to_owned() } else { within.join("/") }
    };
    let mut watched: Vec<String> = patterns.iter().map(plain).collect();
    watched.sort();
    watched.dedup();
    watched
}

/// Where a note of a key stands.
type Key<'i> = Spanned<DeString<'i>>;

#[cfg(test)]
mod tests;
