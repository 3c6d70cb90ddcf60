//! A project made of a template: its folder, its commands.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use whole_flow::{Fleet, skerry};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    As,
    Js,
    Python,
}

impl Language {
    /// What this machine lacks to build programs of it.
    pub fn missing(self) -> Option<&'static str> {
        let runs = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
        };
        match self {
            Language::Rust => (!has_wasm_target()).then_some("rustup target add wasm32-wasip2"),
            Language::As | Language::Js => {
                let there = runs("node", &["--version"]) && runs("npm", &["--version"]);
                (!there).then_some("node and npm are not installed")
            }
            Language::Python => (!runs("python3", &["-c", "import ensurepip, venv"]))
                .then_some("there is no python3 with venv (Debian: python3-venv)"),
        }
    }
}

fn has_wasm_target() -> bool {
    let mut rustc = Command::new("rustc");
    let output = rustc.args(["--print", "target-libdir", "--target", "wasm32-wasip2"]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "rust",
            Language::As => "as",
            Language::Js => "js",
            Language::Python => "python",
        })
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository")
}

/// Where the templates are.
pub fn templates() -> PathBuf {
    root().join("cli/templates")
}

/// `TEMPLATE/LANGUAGE` of each that there is, sorted.
pub fn folders() -> Vec<String> {
    let inside = |folder: &Path| -> Vec<String> {
        let entries =
            fs::read_dir(folder).expect("it is in the repository").map(|entry| entry.expect("readable"));
        let folders = entries.filter(|entry| entry.path().is_dir());
        folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let mut all: Vec<String> = inside(&templates())
        .iter()
        .flat_map(|name| {
            inside(&templates().join(name)).into_iter().map(move |language| format!("{name}/{language}"))
        })
        .collect();
    all.sort();
    all
}

/// Where projects are made, and what they share. Within `target`, so that a second run finds what the first compiled.
fn work() -> PathBuf {
    root().join("target/templates")
}

pub struct Project {
    folder: PathBuf,
    name: String,
}

impl Project {
    /// Makes it anew.
    pub fn new(template: &str, language: Language, name: &str) -> Project {
        let folder = work().join("apps").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("our own directory");
        }
        let (lang, dir) = (language.to_string(), folder.display().to_string());
        skerry(&["new", name, "--lang", &lang, "--template", template, "--dir", &dir]).ok();
        if language == Language::Rust {
            let shared = work().join("cargo");
            fs::create_dir_all(&shared).expect("our own directory");
            std::os::unix::fs::symlink(&shared, folder.join("target")).expect("our own directory");
        }
        Project { folder, name: name.to_owned() }
    }

    /// The app's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file's text.
    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file))
            .unwrap_or_else(|error| panic!("{}: {file}: {error}", self.name))
    }

    /// All of its files that are text, with their paths.
    pub fn files(&self) -> Vec<(String, String)> {
        let files = files(&self.folder).into_iter();
        files.filter_map(|file| Some((file.display().to_string(), fs::read_to_string(file).ok()?))).collect()
    }

    /// Replaces what must be in its manifest.
    #[track_caller]
    pub fn edit(&self, from: &str, to: &str) {
        let manifest = self.read("skerry.toml");
        assert!(manifest.contains(from), "{}: no {from:?} in\n{manifest}", self.name);
        fs::write(self.folder.join("skerry.toml"), manifest.replace(from, to)).expect("our own directory");
    }

    /// `skerry build`
    pub fn build(&self) {
        skerry(&["build", &self.folder.display().to_string()]).ok();
    }

    /// `skerry test`
    pub fn test(&self) {
        skerry(&["test", &self.folder.display().to_string()]).ok();
    }

    /// `skerry deploy`
    pub fn deploy(&self, fleet: &Fleet) {
        let folder = self.folder.display().to_string();
        fleet.skerry(&["deploy", &folder, "--json", "--timeout", "240s"]).ok();
    }

    /// Bytes of what was built.
    pub fn component_bytes(&self) -> u64 {
        fs::metadata(self.component()).expect("it was built").len()
    }

    fn component(&self) -> PathBuf {
        self.folder.join(self.manifest()["component"].as_str().expect("a path"))
    }

    fn manifest(&self) -> toml::Table {
        self.read("skerry.toml").parse().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Files below a folder; links are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let entries = entries.map(|entry| entry.expect("readable"));
    let found = entries.flat_map(|entry| match entry.file_type().expect("readable") {
        kind if kind.is_dir() => files(&entry.path()),
        kind if kind.is_file() => vec![entry.path()],
        _ => vec![],
    });
    found.collect()
}
