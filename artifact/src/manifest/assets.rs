//! Static files in a manifest: the table `[assets]`. Which files there are is not said here; see [`crate::assets`].

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{AppConfig, keys, parse::Reader};
use crate::assets::check_path;

/// Bytes of a `Cache-Control`: every answer carries it.
pub const CACHE_CONTROL_BYTES_MAX: usize = 256;

/// How an app's static files are served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Assets {
    /// The file that answers for a path that ends in `/`.
    pub index: String,
    /// The file that goes with a 404, of an app without a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found: Option<String>,
    /// `Cache-Control` of every file.
    pub cache_control: String,
}

impl Default for Assets {
    fn default() -> Assets {
        Assets {
            index: "index.html".into(),
            not_found: None,
            // Kept, and asked for again each time, which a 304 answers: right for files whose names do not change.
            cache_control: "public, max-age=0, must-revalidate".into(),
        }
    }
}

/// What is wrong with the table's values.
pub(super) fn check(config: &AppConfig, note: &mut dyn FnMut(String, String)) {
    let Some(Assets { index, not_found, cache_control }) = &config.assets else { return };
    if index.contains('/') {
        note("assets.index".into(), format!("{index:?} has a '/': it is the name of a file in each folder"));
    } else if let Err(why) = check_path(index) {
        note("assets.index".into(), format!("{index:?}: {why}"));
    }
    if let Some(not_found) = not_found
        && let Err(why) = check_path(not_found)
    {
        note("assets.not_found".into(), format!("{not_found:?}: {why}"));
    }
    let bytes = cache_control.len();
    if bytes == 0 || bytes > CACHE_CONTROL_BYTES_MAX {
        note("assets.cache_control".into(), format!("{bytes} bytes, 1 to {CACHE_CONTROL_BYTES_MAX}"));
    } else if !cache_control.bytes().all(|c| (b' '..=b'~').contains(&c)) {
        note("assets.cache_control".into(), "has characters other than visible ASCII".into());
    }
}

/// Does it lead to a folder within the one it begins in, by its text?
pub fn is_below(folder: &str) -> bool {
    let mut parts = folder.split('/').filter(|part| *part != ".").peekable();
    !folder.starts_with('/')
        && parts.peek().is_some_and(|first| !first.is_empty())
        && parts.all(|part| part != "..")
}

impl Reader<'_> {
    /// Reads the table; the folder, if it is named rightly.
    pub(super) fn assets(
        &mut self,
        path: &str,
        value: &toml::Spanned<DeValue<'_>>,
        config: &mut AppConfig,
    ) -> Option<String> {
        let (mut assets, mut folder) = (Assets::default(), None);
        let table = self.table(path, value)?;
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let path = format!("{path}.{name}");
            if !keys::ASSETS.iter().any(|known| known.name == name) {
                self.unknown(&path, key, keys::ASSETS);
                continue;
            }
            let Some(text) = self.string(&path, value).map(str::to_owned) else { continue };
            match name {
                // Above or beside it are sources and keys, and other projects.
                "folder" if !is_below(&text) => {
                    let message =
                        format!("{text:?} must be a folder below the manifest's, such as \"public\"");
                    self.note(&path, value.span(), message);
                }
                "folder" => folder = Some(text),
                "index" => assets.index = text,
                "not_found" => assets.not_found = Some(text),
                _ => assets.cache_control = text,
            }
        }
        if !table.iter().any(|(key, _)| key.get_ref().as_ref() == "folder") {
            self.note(path, value.span(), "needs a folder, relative to the manifest".into());
        }
        config.assets = Some(assets);
        folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Mistake, Project};

    #[test]
    fn a_site_needs_no_program_and_has_defaults() {
        let project = Project::parse("name = \"site\"\n[assets]\nfolder = \"public\"\n").unwrap();
        assert_eq!((project.component, project.assets_folder.as_deref()), (None, Some("public")));
        assert_eq!(project.config.assets, Some(Assets::default()));
        let text = "name = \"site\"\ncomponent = \"a.wasm\"\n[assets]\nfolder = \"p\"\nindex = \"i.htm\"\nnot_found = \
                    \"e/404.html\"\ncache_control = \"no-store\"\n";
        let project = Project::parse(text).unwrap();
        assert_eq!(project.component.as_deref(), Some("a.wasm"));
        let wanted = Assets {
            index: "i.htm".into(),
            not_found: Some("e/404.html".into()),
            cache_control: "no-store".into(),
        };
        assert_eq!(project.config.assets, Some(wanted));
    }

    #[test]
    fn only_folders_below_the_manifest_are_published() {
        for good in ["public", "./public", "a/b/", "a/./b"] {
            assert!(is_below(good), "{good}");
        }
        for bad in ["", ".", "./", "..", "../x", "a/../..", "/etc", "a/.."] {
            assert!(!is_below(bad), "{bad}");
        }
    }

    #[test]
    fn mistakes_are_all_said() {
        let text = "name = \"site\"\n[assets]\nfolder = \"/etc\"\nindex = \"a/b\"\nnot_found = \"../x\"\ncache_control = \
                    \"a\\nb\"\nfolders = 1\n";
        let mut shown: Vec<_> = Project::parse(text).unwrap_err().iter().map(Mistake::to_string).collect();
        shown.sort();
        let expected = [
            "assets.cache_control: has characters other than visible ASCII",
            "assets.folder: \"/etc\" must be a folder below the manifest's, such as \"public\"",
            "assets.folders: is not a known key; did you mean `folder`?",
            "assets.index: \"a/b\" has a '/': it is the name of a file in each folder",
            "assets.not_found: \"../x\": its path has an empty, '.' or '..' segment",
        ];
        for expected in expected {
            assert!(shown.iter().any(|shown| shown.ends_with(expected)), "{expected} in {shown:#?}");
        }
        assert_eq!(shown.len(), expected.len());
        let without = Project::parse("name = \"site\"\n[assets]\n").unwrap_err();
        assert_eq!(without[0].to_string(), "line 2: assets: needs a folder, relative to the manifest");
    }

    #[test]
    fn a_reader_from_before_there_were_any_refuses_a_version_with_files() {
        // Its configuration has a key that an older release does not know, and unknown keys are refused.
        let config = AppConfig { assets: Some(Assets::default()), ..AppConfig::default() };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains("\"assets\":{\"index\""), "{text}");
        let without = serde_json::to_string(&AppConfig::default()).unwrap();
        assert!(!without.contains("assets"), "{without}");
    }
}
