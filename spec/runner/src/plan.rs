//! What `spec-suite` writes into a folder and the runner reads: scripts, what became of each of their modules, and the
//! signed containers, by the digest of the wasm they were made from.

use std::{collections::BTreeMap, path::Path};

use artifact::Digest;
use serde::{Deserialize, Serialize};

/// The compiler's public key, in its one-line form.
pub const KEY_FILE: &str = "compiler.pub";
/// Folder of the containers, each named by the digest of its wasm.
pub const CODE_FOLDER: &str = "code";
/// Folder of the scripts, each `SUITE/FILE.json`.
pub const SCRIPT_FOLDER: &str = "scripts";
/// Random modules: one line of [`SmithModule`] each.
pub const SMITH_FILE: &str = "smith.jsonl";

/// One `.wast` file, ready to run.
#[derive(Serialize, Deserialize)]
pub struct Script<'a> {
    /// Its directives.
    #[serde(borrow)]
    pub wast: json_from_wast::Wast<'a>,
    /// Its modules by the file name the directives use.
    pub modules: BTreeMap<String, Fate>,
}

/// What became of a module when it was compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Compiled and signed.
    Compiled {
        /// Of the wasm.
        wasm: Digest,
        /// What of it is larger than a node's pool has room for; intake refuses such a program.
        beyond_pool: Option<String>,
    },
    /// Refused, because it needs features that the engine has switched off and nothing else is wrong with it.
    Off(Vec<String>),
    /// Refused.
    Refused {
        /// The compiler's sentence.
        reason: String,
        /// Intake, which sees every upload first, refuses it too.
        by_intake: bool,
    },
    /// Text that no assembler makes a module of. Uploads are binary: nothing of ours reads it.
    Text,
}

/// One random module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmithModule {
    /// Its number: the seed.
    pub seed: u64,
    /// Of the wasm.
    pub wasm: Digest,
}

/// What a script's run came to. The runner prints it as one line of JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Directives that did what they say.
    pub passed: u64,
    /// Directives that were not run, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Line and what was wrong.
    pub failed: Vec<(u32, String)>,
}

/// The file of a container.
pub fn container_path(folder: &Path, wasm: Digest) -> std::path::PathBuf {
    folder.join(CODE_FOLDER).join(wasm.to_string())
}
