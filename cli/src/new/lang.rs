//! The languages a project may be in: what each needs on the machine, and which SDK it comes with.

use artifact::AppName;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::carried;

/// Words of the language, and crates that every project has anyway.
const NO_CRATE_NAMES: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "skerry",
    "skerry-macros",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// A language of the templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// Rust, with the crate `skerry`
    Rust,
    /// AssemblyScript, with the package `@skerry/sdk-as`
    As,
    /// JavaScript, by componentize-js
    Js,
    /// Python, by componentize-py
    Python,
}

impl Lang {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Lang; 4] = [Lang::Rust, Lang::As, Lang::Js, Lang::Python];

    /// As on the command line, and as the templates' folders are named.
    pub fn name(self) -> &'static str {
        match self {
            Lang::Rust => "rust",
            Lang::As => "as",
            Lang::Js => "js",
            Lang::Python => "python",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Lang::Rust => "Rust",
            Lang::As => "AssemblyScript",
            Lang::Js => "JavaScript",
            Lang::Python => "Python",
        }
    }

    /// Programs its builds call.
    pub fn tools(self) -> &'static [&'static str] {
        match self {
            Lang::Rust => &["cargo", crate::tools::WASM_TARGET],
            Lang::As | Lang::Js => &["node", "npm"],
            Lang::Python => &["python3"],
        }
    }

    /// Why a project in this language may not have this name, if so.
    pub fn refuses(self, app: &AppName) -> Option<&'static str> {
        let name = app.as_str();
        match self {
            Lang::Rust if name.starts_with(|c: char| c.is_ascii_digit()) => {
                Some("a Rust crate's name begins with a letter")
            }
            Lang::Rust if NO_CRATE_NAMES.contains(&name) => Some("no Rust crate may have that name here"),
            _ => None,
        }
    }

    /// The sources of its SDK, which a project gets a copy of in `sdk/`; none where the language's own tools suffice.
    pub fn sdk(self) -> &'static [(&'static str, &'static [u8])] {
        match self {
            Lang::Rust => carried::SDK_RUST,
            Lang::As => carried::SDK_AS,
            Lang::Js | Lang::Python => &[],
        }
    }
}
