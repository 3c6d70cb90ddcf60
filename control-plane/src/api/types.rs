//! Bodies of the API, as JSON sees them. Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;

use artifact::{
    AppName, Digest, Fingerprint, HostName, Lane, NodeName, Profile, Target, TenantName,
    compile::{Advice, AdviceCode},
    dsse::Envelope,
    key_change::Verb,
    manifest::{AppConfig, Prepare},
    nack::NackCode,
    names::{PopName, SecretName, StoreName},
    record::{Rev, UnixMs, VersionNumber},
};
use fleet_sync_proto::kv::Mode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::tokens::Action;

/// A program is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Uploaded {
    /// Its sha-256.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// How much of a program waits to be compiled: a compile for each level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queued {
    /// Compiles that wait.
    pub waiting: u32,
    /// Which in the compiler's queue the first of them is, as it stands: 1 is the next. Absent where none waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
}

/// Which blobs of static files are there?
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskMissing {
    /// Their sha-256, at most 4096.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub digests: Vec<Digest>,
}

/// Blobs of static files that are to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Missing {
    /// Their sha-256, in the order they were asked for.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<Digest>,
}

/// Make a version of an app and let it answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// Digest of an uploaded program; an app of static files may have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub wasm: Option<Digest>,
    /// Digest of an uploaded index of static files, whose blobs are uploaded too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub assets: Option<Digest>,
    /// What is done to the program first, `initialize` and `initial_memory_mib`: the version's program is what comes of it.
    #[serde(default, skip_serializing_if = "Prepare::is_empty")]
    #[schema(value_type = Object)]
    pub prepare: Prepare,
    /// Routes, bindings and limits.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub config: AppConfig,
}

/// A version was published and is on its way to the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deployed {
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// Its owner.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// The new version's number.
    pub version: VersionNumber,
    /// Position of its release in the log: ask for convergence with it.
    pub rev: Rev,
    /// The interface the program speaks.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// Where it answers.
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostName>,
    /// The same as URLs.
    pub urls: Vec<String>,
    /// What it was compiled for.
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<Target>,
    /// Time spent compiling, ms; 0 when nothing was compiled.
    pub compile_ms: u64,
    /// Time spent publishing, ms.
    pub publish_ms: u64,
    /// Digest of the program as it was prepared, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub prepared: Option<Digest>,
    /// What of the program costs its requests time and could be otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<AdviceGiven>,
}

/// A piece of advice for the uploader. The program runs all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdviceGiven {
    /// Stable code.
    #[schema(value_type = String)]
    pub code: AdviceCode,
    /// One sentence: what is so, what it costs, and the cure.
    pub message: String,
}

impl From<Advice> for AdviceGiven {
    fn from(advice: Advice) -> AdviceGiven {
        AdviceGiven { code: advice.code, message: advice.message }
    }
}

/// An app in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppSummary {
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// Its owner.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// The version that answers.
    pub active_version: Option<VersionNumber>,
    /// Position of the release that made it so.
    pub rev: Rev,
    /// Where it answers.
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostName>,
    /// The same as URLs.
    pub urls: Vec<String>,
}

/// An app with its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: AppSummary,
    /// Its versions, newest first.
    pub versions: Vec<VersionSummary>,
}

/// One version of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionSummary {
    /// Its number.
    pub version: VersionNumber,
    /// The program.
    #[schema(value_type = String)]
    pub wasm: Digest,
    /// Its size; 0 when there is none, of an app of static files.
    pub wasm_bytes: u64,
    /// Digest of the index of its static files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub assets: Option<Digest>,
    /// The interface it speaks.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// What native code exists for.
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<Target>,
    /// When it was made.
    pub time_ms: UnixMs,
    /// Does it answer for the app?
    pub active: bool,
}

/// One version of an app with everything it pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionDetail {
    /// What a list says of it.
    #[serde(flatten)]
    pub summary: VersionSummary,
    /// Routes, bindings and limits.
    #[schema(value_type = Object)]
    pub config: AppConfig,
    /// The secrets it pins. Values are never shown.
    pub secrets: Vec<SecretPin>,
}

/// A secret that a version pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretPin {
    /// Its store; absent for the app's default one.
    #[schema(value_type = Option<String>)]
    pub store: Option<StoreName>,
    /// Its name.
    #[schema(value_type = String)]
    pub name: SecretName,
    /// Another text for every time a value is set, and nothing of the value: the digest of its sealed form.
    #[schema(value_type = String)]
    pub set: Digest,
}

/// How far a rev has come, and how long to wait for it.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ConvergenceQuery {
    /// The rev; default: the app's last release.
    pub rev: Option<Rev>,
    /// Wait at most so long, ms, for every connected node to answer; at most 30000.
    #[serde(default)]
    pub wait_ms: u64,
}

/// Which lines of an app.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// Go on with what comes; otherwise the answer ends with what nodes remember.
    #[serde(default)]
    pub follow: bool,
    /// Of what nodes remember only the last so many ms; default: all of it.
    pub past_ms: Option<u64>,
}

/// How far a rev has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConvergenceAnswer {
    /// The rev.
    pub rev: Rev,
    /// Nodes that are enrolled and not revoked.
    pub nodes: usize,
    /// Nodes that have it.
    pub active: usize,
    /// Nodes that refused it.
    pub failed: Vec<FailedNode>,
    /// Nodes that have said nothing of it yet.
    pub lagging: Vec<LaggingNode>,
}

/// What runs where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningAnswer {
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// The version that should answer.
    pub version: VersionNumber,
    /// Position of the release that made it so.
    pub rev: Rev,
    /// The program that was uploaded.
    #[schema(value_type = String)]
    pub wasm: Digest,
    /// Its size; 0 when there is none, of an app of static files.
    pub wasm_bytes: u64,
    /// The interface it speaks.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// The native code that exists for it, oldest first.
    pub artifacts: Vec<RunningArtifact>,
    /// Every node that is enrolled and not revoked.
    pub nodes: Vec<RunningNode>,
}

/// Native code for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningArtifact {
    /// Processor level.
    #[schema(value_type = String)]
    pub target: Target,
    /// Settings profile.
    #[schema(value_type = String)]
    pub profile: Profile,
    /// Engine settings and code generator.
    #[schema(value_type = String)]
    pub fingerprint: Fingerprint,
    /// Digest of its blob.
    #[schema(value_type = String)]
    pub blob: Digest,
    /// The blob's size.
    pub blob_bytes: u64,
    /// Is there later code for the same machines and engine? Nodes that cannot load that go on with this.
    #[serde(default)]
    pub replaced: bool,
    /// The compiler's signed statement at its head, a DSSE envelope; null when the blob is gone or damaged. Its signature is
    /// for the reader to check.
    #[schema(value_type = Option<Object>)]
    pub statement: Option<Envelope>,
}

/// What one node serves of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunningNode {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Where it is.
    #[schema(value_type = String)]
    pub pop: PopName,
    /// Is it connected?
    pub connected: bool,
    /// Did it say what it serves? A node of an older release cannot.
    pub answered: bool,
    /// The version that answers there; null when none does, or it did not say.
    pub version: Option<VersionNumber>,
    /// Is that the active version? Numbers begin again when an app is deleted and made anew.
    pub is_active: bool,
    /// sha-256 of the native code that is mapped there, which statements name; null while none is in memory.
    #[schema(value_type = Option<String>)]
    pub code: Option<Digest>,
    /// Why the node does not serve the active version, if it said so.
    pub failed: Option<NodeFailure>,
}

/// Why a node refused a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeFailure {
    /// For machines.
    #[schema(value_type = String)]
    pub code: NackCode,
    /// For a person.
    pub detail: String,
}

/// A node that refused a rev.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedNode {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Where it is.
    #[schema(value_type = String)]
    pub pop: PopName,
    /// Why.
    #[schema(value_type = String)]
    pub code: NackCode,
    /// Why, for a person.
    pub detail: String,
}

/// A node that is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LaggingNode {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Where it is.
    #[schema(value_type = String)]
    pub pop: PopName,
    /// How far it is.
    pub applied_rev: Rev,
    /// Is it connected?
    pub connected: bool,
}

/// Let an older version answer again.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version; null: the newest one below the active one.
    #[serde(default)]
    pub to: Option<VersionNumber>,
}

/// A rollback is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolledBack {
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// The version that answers now.
    pub version: VersionNumber,
    /// Position of its release.
    pub rev: Rev,
}

/// A deletion is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// Position of the deletion.
    pub rev: Rev,
}

/// Change entries of a config store.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeConfig {
    /// The store; null: the default one. It is made if it is not there.
    #[serde(default)]
    pub store: Option<String>,
    /// Entries to put in.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Keys to take out; each must be there.
    #[serde(default)]
    pub unset: Vec<String>,
}

/// The plain configuration of the active version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigAnswer {
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// The version.
    pub version: VersionNumber,
    /// The default store.
    pub config: BTreeMap<String, String>,
    /// Further stores, by name.
    pub config_stores: BTreeMap<String, BTreeMap<String, String>>,
}

/// Which store a secret is in.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct InStore {
    /// The store; default: the app's default one.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub store: Option<StoreName>,
}

/// A secret is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretSet {
    /// Its store; null: the default one.
    #[schema(value_type = Option<String>)]
    pub store: Option<StoreName>,
    /// Its name.
    #[schema(value_type = String)]
    pub name: SecretName,
    /// When it was set.
    pub set_ms: UnixMs,
    /// The version that pins it and was released; null: the active version does not declare it, or others it declares
    /// have no value yet.
    pub released: Option<Deployed>,
}

/// Several secrets to set at once. No `Debug`: it holds values.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecrets {
    /// Each place once.
    pub secrets: Vec<SecretToSet>,
}

/// One of [`SetSecrets`].
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretToSet {
    /// Its store; absent: the default one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub store: Option<StoreName>,
    /// Its name.
    #[schema(value_type = String)]
    pub name: SecretName,
    /// Base64 of its value, which has 1 byte to 64 KiB.
    pub value_base64: String,
}

/// Several secrets are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretsSet {
    /// How many.
    pub set: usize,
    /// When they were set.
    pub set_ms: UnixMs,
    /// The one version that pins them and was released; null: as for one secret.
    pub released: Option<Deployed>,
}

/// What is known of a secret. Never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretSummary {
    /// Its store; null: the default one.
    #[schema(value_type = Option<String>)]
    pub store: Option<StoreName>,
    /// Its name.
    #[schema(value_type = String)]
    pub name: SecretName,
    /// When it was set; null: it has no value.
    pub set_ms: Option<UnixMs>,
    /// By which token.
    pub set_by: Option<String>,
    /// Does the active version declare it?
    pub declared: bool,
}

/// Which keys of a key-value store to list.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct KvListQuery {
    /// Only keys that begin with it.
    #[serde(default)]
    pub prefix: String,
    /// Keys of the page: 1 to 1000, default 1000.
    pub limit: Option<u32>,
    /// The `next` of the page before.
    pub cursor: Option<String>,
}

/// The tenant's key-value stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvStores {
    /// Their names, in order.
    pub stores: Vec<String>,
}

/// One page of keys. It may be empty and not the last: only a null `next` says that there are no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvKeys {
    /// In the order of their bytes.
    pub keys: Vec<String>,
    /// Opaque; asks for the page after. Null: there is none.
    pub next: Option<String>,
}

/// How an entry is written.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct KvPutQuery {
    /// Its life, ms: 1 second to ten years; default: until deleted.
    pub ttl_ms: Option<u64>,
    /// Only if the entry has this generation.
    pub if_generation: Option<u64>,
    /// `overwrite` (default), `add`, `append` or `prepend`.
    #[serde(default)]
    #[param(value_type = String)]
    pub mode: Mode,
}

/// An entry is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvStored {
    /// Its new generation.
    pub generation: u64,
}

/// How an entry is deleted.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct KvDeleteQuery {
    /// Only if the entry has this generation.
    pub if_generation: Option<u64>,
}

/// An entry is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvDeleted {
    /// Was there one?
    pub existed: bool,
}

/// Make a tenant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Its name.
    #[schema(value_type = String)]
    pub tenant: TenantName,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantSummary {
    /// Its name.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// When it was made.
    pub created_ms: UnixMs,
}

/// Make an API token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Whose things it reaches; default: the tenant the caller acts for.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantName>,
    /// True: an operator's token, which reaches the whole fleet. Not with `tenant` or `app`.
    #[serde(default)]
    pub operator: bool,
    /// What it may be used for; at least one.
    pub actions: Vec<Action>,
    /// Only this app.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub app: Option<AppName>,
    /// Life in seconds; absent: until revoked.
    #[serde(default)]
    pub ttl_s: Option<u64>,
}

/// A new API token; its text is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// Names it in lists and audit rows.
    pub id: String,
    /// The secret.
    pub token: String,
    /// When it ends.
    pub expires_ms: Option<UnixMs>,
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenSummary {
    /// Its id.
    pub id: String,
    /// Whose things it reaches; null: an operator's.
    #[schema(value_type = Option<String>)]
    pub tenant: Option<TenantName>,
    /// Only this app.
    #[schema(value_type = Option<String>)]
    pub app: Option<AppName>,
    /// What it may be used for.
    pub actions: Vec<Action>,
    /// When it was made.
    pub created_ms: UnixMs,
    /// By which token.
    pub created_by: String,
    /// When it ends.
    pub expires_ms: Option<UnixMs>,
    /// Since when it is void.
    pub revoked_ms: Option<UnixMs>,
}

/// Make a join token for one node.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNodeToken {
    /// The POP the node will be in.
    #[schema(value_type = String)]
    pub pop: PopName,
    /// Life in seconds; at most a week.
    #[serde(default = "one_hour_s")]
    pub ttl_s: u64,
}

fn one_hour_s() -> u64 {
    3600
}

/// A new join token; its text is shown this once and works once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedNodeToken {
    /// The secret.
    pub token: String,
    /// When it ends.
    pub expires_ms: UnixMs,
}

/// A compiler key that the release log knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompilerKeySummary {
    /// Its name in signatures.
    pub id: String,
    /// The key, as a `compiler.pub` has it.
    pub key: String,
    /// Is what it signs believed? Once it is not, it never is again.
    pub trusted: bool,
    /// Id of the key that endorsed it. Absent: the control plane's configuration named it.
    pub endorsed_by: Option<String>,
    /// Id of the key that revoked it.
    pub revoked_by: Option<String>,
}

/// `POST /v1/compiler-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKeyChange {
    /// The text of a file that `aot-compiler key endorse` or `revoke` wrote.
    pub change: String,
}

/// A change of compiler keys is in the release log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedKeyChange {
    /// Nodes that have applied this rev follow it.
    pub rev: Rev,
    /// Id of the key that signed it.
    pub signer: String,
    /// `endorses` or `revokes`.
    #[schema(value_type = String)]
    pub verb: Verb,
    /// Id of the key of which it is said.
    pub key: String,
}

/// A node as the origin knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSummary {
    /// Its name.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Where it is.
    #[schema(value_type = String)]
    pub pop: PopName,
    /// Is it connected now?
    pub connected: bool,
    /// How far it is in the log.
    pub applied_rev: Rev,
    /// What it runs, best level last; empty until it has connected once since our start.
    #[schema(value_type = Vec<String>)]
    pub targets: Vec<Target>,
    /// `host:port` of its https listener.
    pub serving: Option<String>,
    /// When it was last heard.
    pub last_seen_ms: Option<UnixMs>,
    /// May it connect?
    pub revoked: bool,
}

/// A node is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedNode {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Position of the revocation.
    pub rev: Rev,
}

/// Compile kept versions anew, also where there is code for the same target and engine: exactly one of `app` and `all`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskRecompile {
    /// All kept versions of this app.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub app: Option<AppName>,
    /// All of the fleet; operators only.
    #[serde(default)]
    pub all: bool,
    /// Why, for people: one line of at most 500 bytes.
    #[serde(default)]
    pub reason: String,
}

/// A request to recompile, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecompileSummary {
    /// Names it.
    pub id: u64,
    /// The app; null: the whole fleet.
    #[schema(value_type = Option<String>)]
    pub app: Option<AppName>,
    /// Why.
    pub reason: String,
    /// Which token asked.
    pub by: String,
    /// When.
    pub asked_ms: UnixMs,
    /// Since when it is done; null: it goes on.
    pub ended_ms: Option<UnixMs>,
    /// Why nothing goes on at the moment.
    pub problem: Option<String>,
    /// Versions it covers.
    pub versions: u64,
    /// Of them: those that are done, in whichever way.
    pub done: u64,
    /// Done: other code than before, which nodes take from now on.
    pub changed: u64,
    /// Done: the same code as before.
    pub same: u64,
    /// Done: not there any more.
    pub gone: u64,
    /// Done: these keep the code they had.
    pub failed: u64,
    /// The first hundred of those that failed.
    pub failures: Vec<FailedRecompile>,
}

/// A version that could not be compiled anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedRecompile {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantName,
    /// The app.
    #[schema(value_type = String)]
    pub app: AppName,
    /// Its version.
    pub version: VersionNumber,
    /// Why.
    pub why: String,
}

/// The process answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Healthz {
    /// Always `ok`.
    pub status: String,
    /// The log's last position.
    pub rev: Rev,
}
