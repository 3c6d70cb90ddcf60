//! Which files a project has: those of its template with the app's name in them, and a copy of the SDK in `sdk/`.
//!
//! In contents `{{name}}` is the app's name, `{{crate}}` the same with `_` for `-`, `{{sdk}}` where the SDK lies. In names a
//! `.tmpl` at the end goes, and `gitignore` becomes `.gitignore`: so that neither cargo nor git take a template for theirs.

use std::path::PathBuf;

use artifact::AppName;
use serde::{Deserialize, Serialize};

use super::{carried, lang::Lang};
use crate::error::{Error, Result};

/// The SDK's folder in a project, which its dependency names.
const SDK_FOLDER: &str = "sdk";

/// A file of a project.
#[derive(Debug)]
pub struct File {
    /// Relative to the project.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What `templates.toml` says of a template.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// As given to `--template`.
    pub name: String,
    /// For people.
    pub title: String,
    /// One line.
    pub description: String,
    /// What it is there in.
    pub languages: Vec<Lang>,
}

/// A template in one language.
#[derive(Debug)]
pub struct Template {
    prefix: String,
    lang: Lang,
}

#[derive(Deserialize)]
struct List {
    template: Vec<About>,
}

/// Every template, in the order they are shown.
pub fn all() -> Result<Vec<About>> {
    let text = carried::TEMPLATES.iter().find(|(path, _)| *path == "templates.toml").map(|(_, bytes)| *bytes);
    let list: List = text
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| toml::from_str(text).ok())
        .ok_or_else(|| Error::Fleet("this program carries no readable list of templates".into()))?;
    Ok(list.template)
}

fn prefix(name: &str, lang: Lang) -> String {
    format!("{name}/{}/", lang.name())
}

impl Template {
    /// The template of this name in this language, or an error with those there are.
    pub fn find(name: &str, lang: Lang) -> Result<Template> {
        let all = all()?;
        let Some(about) = all.iter().find(|about| about.name == name) else {
            let names: Vec<_> = all.iter().map(|about| about.name.as_str()).collect();
            return Err(Error::Usage(format!(
                "there is no template {name:?}; there are: {}",
                names.join(", ")
            )));
        };
        if !about.languages.contains(&lang) {
            let langs: Vec<_> = about.languages.iter().map(|lang| lang.name()).collect();
            return Err(Error::Usage(format!(
                "the template {name} is not there in {}; it is in: {}",
                lang.title(),
                langs.join(", ")
            )));
        }
        Ok(Template { prefix: prefix(name, lang), lang })
    }

    /// All files of a project of this name.
    pub fn files(&self, app: &AppName) -> Vec<File> {
        let own = carried::TEMPLATES
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(&self.prefix)?, bytes)));
        let own = own.map(|(path, bytes)| File { path: renamed(path), bytes: filled(bytes, app) });
        let sdk = self
            .lang
            .sdk()
            .iter()
            .map(|(path, bytes)| File { path: PathBuf::from(SDK_FOLDER).join(path), bytes: bytes.to_vec() });
        own.chain(sdk).collect()
    }
}

fn renamed(path: &str) -> PathBuf {
    let path = path.strip_suffix(".tmpl").unwrap_or(path);
    match path.strip_suffix("gitignore") {
        Some(folder) if folder.is_empty() || folder.ends_with('/') => format!("{folder}.gitignore").into(),
        _ => path.into(),
    }
}

/// Text has the placeholders replaced; what is no text stays as it is.
fn filled(bytes: &[u8], app: &AppName) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
    let crate_name = app.as_str().replace('-', "_");
    text.replace("{{name}}", app.as_str())
        .replace("{{crate}}", &crate_name)
        .replace("{{sdk}}", SDK_FOLDER)
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_contents_are_those_of_the_app() {
        assert_eq!(renamed("Cargo.toml.tmpl"), PathBuf::from("Cargo.toml"));
        assert_eq!(renamed("src/gitignore"), PathBuf::from("src/.gitignore"));
        assert_eq!(renamed("src/notgitignore"), PathBuf::from("src/notgitignore"));
        let app = "my-shop".parse().unwrap();
        assert_eq!(filled(b"{{name}} {{crate}} {{sdk}}", &app), b"my-shop my_shop sdk");
        assert_eq!(filled(b"\xff{{name}}", &app), b"\xff{{name}}");
    }

    #[test]
    fn every_template_is_whole_in_every_language_it_is_in() {
        let all = all().unwrap();
        assert!(!all.is_empty());
        for about in &all {
            assert!(!about.languages.is_empty() && !about.description.contains('\n'), "{about:?}");
            for lang in Lang::ALL {
                let files = carried::TEMPLATES
                    .iter()
                    .filter(|(path, _)| path.starts_with(&prefix(&about.name, lang)));
                assert_eq!(files.count() > 0, about.languages.contains(&lang), "{about:?} {lang:?}");
            }
            for lang in &about.languages {
                let files = Template::find(&about.name, *lang).unwrap().files(&"shop".parse().unwrap());
                let text = |name: &str| {
                    let file = files.iter().find(|file| file.path == std::path::Path::new(name));
                    String::from_utf8(
                        file.unwrap_or_else(|| panic!("{about:?} {lang:?}: {name}")).bytes.clone(),
                    )
                };
                let project = artifact::manifest::Project::parse(&text("skerry.toml").unwrap()).unwrap();
                assert_eq!(project.name.as_str(), "shop");
                assert!(text(".gitignore").unwrap().contains(".skerry"), "{about:?} {lang:?}");
                text("README.md").unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        let error = Template::find("helo", Lang::Rust).unwrap_err();
        assert!(error.to_string().contains("hello"), "{error}");
    }
}
