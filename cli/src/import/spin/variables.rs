//! Variables → configuration, and secrets where they are called so.
//!
//! An application declares them, with a default or as required; a component names its own and makes them of those
//! (`"https://{{ host }}/"`). Spin takes values from its environment as `SPIN_VARIABLE_<NAME>`, and so does a deploy of a
//! folder here; what is written into a `skerry.toml` are defaults alone.

use std::collections::BTreeMap;

use artifact::manifest::{AppConfig, parse::Value};

use super::{
    super::{
        Note,
        items::{Items, Put, SecretItem},
    },
    Key, Walk,
};

/// A variable of the application.
#[derive(Debug, Default)]
pub struct Variable {
    /// Its value, if there is one.
    value: Option<String>,
    is_secret: bool,
}

impl Walk<'_> {
    pub(super) fn application_variables(
        &mut self,
        path: &str,
        value: &Value<'_>,
    ) -> BTreeMap<String, Variable> {
        let mut variables = BTreeMap::new();
        for (name, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", name.get_ref());
            let mut variable = Variable::default();
            for (key, value) in self.reader.table(&path, value).into_iter().flatten() {
                let path = format!("{path}.{}", key.get_ref());
                match key.get_ref().as_ref() {
                    "default" => variable.value = self.reader.string(&path, value).map(str::to_owned),
                    "secret" => variable.is_secret = self.boolean(&path, value).unwrap_or(false),
                    "required" => {
                        self.boolean(&path, value);
                    }
                    "description" => {}
                    _ => self.unknown(&path, key),
                }
            }
            let from = format!("SPIN_VARIABLE_{}", name.get_ref().to_uppercase());
            if let Some(set) = self.variables.and_then(|environment| environment(&from)) {
                self.reads_variable(&path, value, &from);
                variable.value = Some(set);
            }
            variables.insert(name.get_ref().to_string(), variable);
        }
        variables
    }

    pub(super) fn component_variables(
        &mut self,
        path: &str,
        value: &Value<'_>,
        variables: &BTreeMap<String, Variable>,
        config: &mut AppConfig,
        items: &mut Items,
    ) {
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            let Some(template) = self.reader.string(&path, value) else { continue };
            let resolved = resolve(template, variables);
            match names(template).iter().any(|name| variables.get(*name).is_some_and(|known| known.is_secret))
            {
                true => self.secret(&path, key, resolved, config, items),
                false => self.entry(&path, key, resolved, config),
            }
        }
    }

    fn entry(&mut self, path: &str, key: &Key<'_>, value: Option<String>, config: &mut AppConfig) {
        let name = key.get_ref().to_string();
        let Some(value) = value else {
            self.ignored(path, key, "a variable in it has no value; add it to `config`");
            return;
        };
        self.place(format!("config.{name}"), path, key);
        self.notes.push(Note::Taken(format!("config {name} (from {path})")));
        config.config.insert(name, value);
    }

    fn secret(
        &mut self,
        path: &str,
        key: &Key<'_>,
        value: Option<String>,
        config: &mut AppConfig,
        items: &mut Items,
    ) {
        let name = key.get_ref().to_string();
        self.place("secrets".into(), path, key);
        let how = "read with skerry:edge/secrets, not with the configuration";
        self.notes.push(Note::Taken(format!("secret {name} (from {path}): {how}")));
        match value.filter(|value| !value.is_empty()) {
            Some(value) => {
                let (key, value) = (name.clone(), value.into_bytes());
                items.secrets.push(SecretItem { store: None, key, value, put: Put::IfAbsent });
            }
            None => {
                let text = format!("secret {name}: the file has no value; set it with `skerry secrets set`");
                self.notes.push(Note::Ignored(text));
            }
        }
        config.secrets.push(name);
    }
}

/// The names in `{{ … }}`.
fn names(template: &str) -> Vec<&str> {
    template.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim())).collect()
}

/// A text with its variables' values in place of their names; `None` when one has none.
pub fn resolve(template: &str, variables: &BTreeMap<String, Variable>) -> Option<String> {
    let mut parts = template.split("{{");
    let mut resolved = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}")?;
        resolved += variables.get(name.trim())?.value.as_deref()?;
        resolved += rest;
    }
    Some(resolved)
}
