//! Bodies of the deploy API, as far as the command line reads or writes them. Unknown fields are ignored: a newer
//! control plane may say more.

use std::collections::BTreeMap;

use artifact::{
    AppName, Digest, Lane,
    dsse::Envelope,
    manifest::{AppConfig, Mistake, Prepare},
};
use serde::{Deserialize, Serialize};

/// `POST /v1/apps/{app}/versions`.
#[derive(Debug, Serialize)]
pub struct NewVersion<'a> {
    /// The uploaded program, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wasm: Option<Digest>,
    /// The uploaded index of static files, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<Digest>,
    /// What is done to the program first.
    #[serde(skip_serializing_if = "Prepare::is_empty")]
    pub prepare: &'a Prepare,
    /// What the version pins.
    pub config: &'a AppConfig,
}

/// `GET /v1/wasm/{sha256}/queue`.
#[derive(Debug, Clone, Deserialize)]
pub struct Queued {
    /// Which in the compiler's queue it is.
    pub position: Option<u32>,
}

/// Its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    pub app: String,
    pub tenant: String,
    pub version: u64,
    pub rev: u64,
    pub lane: String,
    pub hosts: Vec<String>,
    pub urls: Vec<String>,
    pub targets: Vec<String>,
    pub compile_ms: u64,
    pub publish_ms: u64,
    /// Digest of the program as it was prepared, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<String>,
    /// What of the program costs its requests time and could be otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<Advice>,
}

/// A piece of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub code: String,
    pub message: String,
}

/// The answer of `POST /v1/assets/missing`.
#[derive(Debug, Deserialize)]
pub struct Missing {
    pub missing: Vec<Digest>,
}

/// `GET /v1/apps/{app}/convergence`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Convergence {
    pub rev: u64,
    /// Nodes that should serve it.
    pub nodes: u64,
    /// Nodes that do.
    pub active: u64,
    pub failed: Vec<Failed>,
    pub lagging: Vec<Lagging>,
}

/// A node that refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failed {
    pub node: String,
    pub pop: String,
    pub code: String,
    pub detail: String,
}

/// A node that has not answered yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lagging {
    pub node: String,
    pub pop: String,
    pub applied_rev: u64,
    pub connected: bool,
}

/// `GET /v1/apps/{app}/running`.
#[derive(Debug, Clone, Deserialize)]
pub struct Running {
    pub app: String,
    /// The version that should answer.
    pub version: u64,
    pub rev: u64,
    /// The uploaded program.
    pub wasm: Digest,
    /// 0: there is none.
    pub wasm_bytes: u64,
    pub lane: Lane,
    pub artifacts: Vec<RunningArtifact>,
    pub nodes: Vec<RunningNode>,
}

/// Native code for one target.
#[derive(Debug, Clone, Deserialize)]
pub struct RunningArtifact {
    pub target: String,
    pub profile: String,
    pub fingerprint: String,
    pub blob: String,
    /// Later code for the same machines is there. A control plane of an older release does not say.
    #[serde(default)]
    pub replaced: bool,
    /// What its compiler signed; None: the blob is gone or damaged.
    pub statement: Option<Envelope>,
}

/// What a node serves of the app.
#[derive(Debug, Clone, Deserialize)]
pub struct RunningNode {
    pub node: String,
    pub pop: String,
    pub connected: bool,
    /// Did it say?
    pub answered: bool,
    pub version: Option<u64>,
    pub is_active: bool,
    /// The native code that is mapped there.
    pub code: Option<Digest>,
    pub failed: Option<NodeFailed>,
}

/// Why a node does not serve a version.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeFailed {
    pub code: String,
    pub detail: String,
}

/// `POST /v1/recompiles`: one of `app` and `all`.
#[derive(Debug, Serialize)]
pub struct AskRecompile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<&'a AppName>,
    pub all: bool,
    pub reason: &'a str,
}

/// Its answer, and that of `GET /v1/recompiles/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recompiling {
    pub id: u64,
    /// None: the whole fleet.
    pub app: Option<String>,
    pub reason: String,
    pub by: String,
    pub asked_ms: u64,
    /// None: it goes on.
    pub ended_ms: Option<u64>,
    /// Why nothing goes on at the moment.
    pub problem: Option<String>,
    /// All, and those that are done, of which the rest tells how they ended.
    pub versions: u64,
    pub done: u64,
    pub changed: u64,
    pub same: u64,
    pub gone: u64,
    pub failed: u64,
    /// The first of those that failed.
    pub failures: Vec<RecompileFailed>,
}

/// A version that could not be compiled anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecompileFailed {
    pub tenant: String,
    pub app: String,
    pub version: u64,
    pub why: String,
}

/// An app in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppSummary {
    pub app: String,
    #[serde(default)]
    pub tenant: String,
    pub active_version: Option<u64>,
    #[serde(default)]
    pub rev: u64,
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub urls: Vec<String>,
}

/// `GET /v1/apps/{app}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppDetail {
    #[serde(flatten)]
    pub summary: AppSummary,
    pub versions: Vec<AppVersion>,
}

/// One version of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppVersion {
    pub version: u64,
    pub wasm: String,
    pub wasm_bytes: u64,
    pub lane: String,
    pub targets: Vec<String>,
    pub time_ms: u64,
    pub active: bool,
    /// Digest of its static files' index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<String>,
}

/// `GET /v1/apps/{app}/versions/{version}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VersionDetail {
    #[serde(flatten)]
    pub summary: AppVersion,
    /// As text, since a newer control plane may know more of it.
    pub config: serde_json::Value,
    pub secrets: Vec<SecretPin>,
}

/// A secret that a version pins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretPin {
    pub store: Option<String>,
    pub name: String,
    /// Another text for every value that was set.
    pub set: String,
}

/// The answer to a rollback or a deletion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changed {
    pub app: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    pub rev: u64,
}

/// `GET /v1/apps/{app}/config`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppConfigShown {
    pub app: String,
    pub version: u64,
    pub config: BTreeMap<String, String>,
    #[serde(default)]
    pub config_stores: BTreeMap<String, BTreeMap<String, String>>,
}

/// The answer to a secret that was set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretSet {
    #[serde(default)]
    pub store: Option<String>,
    pub name: String,
    pub set_ms: u64,
    /// The version that pins it, if one was released.
    #[serde(default)]
    pub released: Option<Deployed>,
}

/// The answer to several secrets that were set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecretsSet {
    pub set: usize,
    pub set_ms: u64,
    /// The one version that pins them, if one was released.
    #[serde(default)]
    pub released: Option<Deployed>,
}

/// An entry to write.
#[derive(Debug)]
pub struct KvPut<'a> {
    pub value: &'a [u8],
    pub metadata: Option<&'a str>,
    pub ttl_ms: Option<u64>,
    pub if_generation: Option<u64>,
    pub mode: &'static str,
}

/// An entry that was read.
#[derive(Debug)]
pub struct KvEntry {
    pub value: Vec<u8>,
    pub metadata: Vec<u8>,
    pub generation: u64,
    pub ttl_ms: Option<u64>,
}

/// `GET /v1/kv`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KvStores {
    pub stores: Vec<String>,
}

/// One page of keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KvKeys {
    pub keys: Vec<String>,
    pub next: Option<String>,
}

/// `POST /v1/tokens`.
#[derive(Debug, Serialize)]
pub struct NewToken {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
    pub actions: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// Its answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedToken {
    pub id: String,
    pub token: String,
    pub expires_ms: Option<u64>,
}

/// The answer to `POST /v1/node-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatedNodeToken {
    pub token: String,
    pub expires_ms: u64,
}

/// `GET /v1/compiler-keys`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct CompilerKeySummary {
    pub id: String,
    pub key: String,
    pub trusted: bool,
    #[serde(default)]
    pub endorsed_by: Option<String>,
    #[serde(default)]
    pub revoked_by: Option<String>,
}

/// `POST /v1/compiler-keys`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct AddedKeyChange {
    pub rev: u64,
    pub signer: String,
    pub verb: String,
    pub key: String,
}

/// A node in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeSummary {
    pub node: String,
    pub pop: String,
    pub connected: bool,
    pub applied_rev: u64,
    #[serde(default)]
    pub targets: Vec<String>,
    #[serde(default)]
    pub serving: Option<String>,
    #[serde(default)]
    pub last_seen_ms: Option<u64>,
    #[serde(default)]
    pub revoked: bool,
}

/// Every refusal.
#[derive(Debug, Deserialize)]
pub struct ErrorBody {
    pub error: ErrorSaid,
}

/// See [`ErrorBody`].
#[derive(Debug, Deserialize)]
pub struct ErrorSaid {
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub mistakes: Vec<Mistake>,
}
