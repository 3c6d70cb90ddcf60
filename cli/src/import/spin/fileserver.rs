//! The component that serves files in Spin: its folder becomes the app's static files, and no program is needed.

use artifact::manifest::{AppConfig, Assets, is_below, parse::Value};
use toml::de::DeTable;

use super::{super::Note, Walk};

/// What the sources of the component have in their names, over its versions.
const NAMES: [&str; 2] = ["spin_static_fs", "spin-fileserver"];

/// Is this component the file server, by the name of its source?
pub(super) fn is_one(component: &DeTable<'_>) -> bool {
    let Some(source) = component.get("source").map(|source| source.get_ref()) else { return false };
    let text = source.as_str().or_else(|| source.as_table()?.get("url")?.get_ref().as_str());
    text.is_some_and(|text| NAMES.iter().any(|name| text.contains(name)))
}

impl Walk<'_> {
    /// The folder it serves, and how.
    pub(super) fn fileserver(
        &mut self,
        path: &str,
        table: &DeTable<'_>,
        config: &mut AppConfig,
    ) -> Option<String> {
        let (mut folder, mut assets) = (None, Assets::default());
        for (key, value) in table {
            let path = format!("{path}.{}", key.get_ref());
            match key.get_ref().as_ref() {
                "source" | "description" => {}
                "files" => folder = self.only_folder(&path, value),
                "environment" => self.server_settings(&path, value, &mut assets),
                "exclude_files" => {
                    let none = value.get_ref().as_array().is_some_and(|files| files.is_empty());
                    if !none {
                        let message =
                            "every file of the folder would be served: move out what is not meant to be";
                        self.mistake(&path, value, message);
                    }
                }
                _ => self.ignored(&path, key, "no program runs: the node answers with the files"),
            }
        }
        match &folder {
            Some(folder) => {
                self.notes.push(Note::Taken(format!("static files of the folder {folder} (from {path})")))
            }
            None if table.get("files").is_none() => {
                self.reader.mistakes.push(artifact::manifest::Mistake::new(
                    format!("{path}.files"),
                    "is missing: the folder with the files",
                ));
            }
            None => {}
        }
        config.assets = Some(assets);
        folder
    }

    /// One whole folder at the top is what `[assets]` can say.
    fn only_folder(&mut self, path: &str, value: &Value<'_>) -> Option<String> {
        let only = match value.get_ref().as_array().map(|items| items.iter().collect::<Vec<_>>()).as_deref() {
            Some([only]) => only.get_ref().as_table(),
            _ => None,
        };
        let text = |name: &str| only?.get(name)?.get_ref().as_str();
        match (text("source"), text("destination")) {
            // What is served is everybody's to read: a manifest of somebody else must not name any folder of ours.
            (Some(source), Some("/" | "" | ".")) if is_below(source) => {
                Some(source.trim_end_matches('/').to_owned())
            }
            (Some(source), Some("/" | "" | ".")) => {
                let message =
                    format!("{source:?} is to be a folder within the project's, such as \"assets\"");
                self.mistake(path, value, message);
                None
            }
            _ => {
                let message = "must be one whole folder to be static files here: \
                               [{ source = \"assets\", destination = \"/\" }]; gather them in one, or write [assets] by hand";
                self.mistake(path, value, message);
                None
            }
        }
    }

    fn server_settings(&mut self, path: &str, value: &Value<'_>, assets: &mut Assets) {
        for (key, value) in self.reader.table(path, value).into_iter().flatten() {
            let path = format!("{path}.{}", key.get_ref());
            let Some(text) = self.reader.string(&path, value) else { continue };
            match key.get_ref().as_ref() {
                "CUSTOM_404_PATH" => assets.not_found = Some(text.trim_start_matches('/').to_owned()),
                "CACHE_CONTROL" => text.clone_into(&mut assets.cache_control),
                _ => self.ignored(&path, key, "static files have no such setting here"),
            }
        }
    }
}
