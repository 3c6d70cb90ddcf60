//! The upload path: a program becomes a version that answers for its app.
//!
//! [`deploy`] is the whole of it, as a list. Relies on the compiler service for validation, native code and signatures, on
//! the origin for the one durable append, and on the admin store for who uploaded what. Deliberately absent: HTTP. Errors
//! get their status in `api`.

mod assets;
mod bodies;
mod change;
mod native;
mod prepared;
mod receive;
mod secrets;

use std::time::Instant;

use artifact::{
    AppId, Digest, Lane, TenantName,
    assets::{IndexError, IndexRef},
    manifest::{AppConfig, Mistake, Prepare},
    record::{Body, RECORD_BYTES_MAX},
    secrets::SecretAt,
};
use fleet_sync_proto::ClaimConflict;

pub use assets::{ASKED_MAX, missing as missing_assets, sweep as sweep_assets};
pub use bodies::{APPS_PER_TENANT_MAX, certificates_for, check_reach};
pub use change::{Change, Edit, change};
use native::Native;
use native::compile_for;
pub use native::{compile_missing, is_current_still, missing};
pub use receive::{
    ReceiveError, UPLOADS_AT_ONCE_MAX, UPLOADS_OF_TENANT_MAX, discard, receive, receive_asset,
};

use bodies::ReleasePlan;

use crate::{
    admin::{AdminError, UploadError},
    api::types::Deployed,
    compiler::CompilerError,
    fleet::PublishFailure,
    local_ca::LocalCaError,
    plane::Plane,
};

/// What the caller wants deployed.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The app.
    pub id: AppId,
    /// An uploaded program. None: static files alone.
    pub wasm: Option<Digest>,
    /// An uploaded index of static files.
    pub assets: Option<Digest>,
    /// What is done to the program first.
    pub prepare: Prepare,
    /// Routes, bindings and limits.
    pub config: AppConfig,
    /// Who asks: a token's id.
    pub actor: String,
    /// The log's name for this request: a second append under it is refused by the origin.
    pub request: Option<String>,
    /// Which host names he may use.
    pub reach: Reach,
}

/// How far the caller's right to host names goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every name of the tenant: apps may share a host, each under its own path.
    Tenant,
    /// Names that no other app of the tenant has, and routes that the app answers already: a token of one app must not
    /// take paths of a neighbour.
    App,
}

/// A program did not become a version. The running version keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Values out of range; all of them.
    #[error("the app's configuration has mistakes")]
    Config(Vec<Mistake>),
    /// The configuration does not fit a record.
    #[error(
        "the app's configuration and sealed secrets are {0} bytes as stored, at most {RECORD_BYTES_MAX}: shorten its config values or secrets"
    )]
    ConfigTooLarge(usize),
    /// This tenant has not uploaded it.
    #[error("no program {0} was uploaded by this tenant: send it with PUT /v1/wasm/{0} first")]
    NoUpload(Digest),
    /// Static files that this tenant has not uploaded, or whose stored bytes are lost or damaged.
    #[error(
        "{count} static files are to be uploaded: {}{}; ask POST /v1/assets/missing which, send them with PUT \
         /v1/assets/{{sha256}}, then repeat this request",
        .files.join(", "),
        if *count > .files.len() { ", …" } else { "" }
    )]
    AssetsMissing {
        /// Some of them.
        files: Vec<String>,
        /// How many there are.
        count: usize,
    },
    /// The index is wrong in itself.
    #[error(transparent)]
    AssetIndex(#[from] IndexError),
    /// The index says something of a file's bytes that is not so.
    #[error("the static file {0:?} is not what the index says of it: deploy again")]
    AssetsDiffer(String),
    /// Declared, but never set: the program must not run without what it was promised.
    #[error("the app declares secrets that have no value: {}; then deploy again", cures(.id, .missing))]
    SecretsMissing {
        /// The app.
        id: AppId,
        /// Which.
        missing: Vec<SecretAt>,
    },
    /// There is no version to change.
    #[error("this tenant has no app {} with an active version: deploy it first", .0.app)]
    NoApp(AppId),
    /// A key that is to be taken out is not there.
    #[error("{0} has no key {1:?}")]
    NoKey(String, String),
    /// The routes are somebody else's.
    #[error(transparent)]
    Claim(#[from] ClaimConflict),
    /// [`Reach::App`].
    #[error(
        "the host name {host} is used by another app, and this token reaches one app only: deploy with a token of the whole tenant, or choose another name"
    )]
    HostOfOtherApp {
        /// The name.
        host: artifact::HostName,
    },
    /// The stored bytes of an upload are lost or damaged.
    #[error(
        "the stored program {0} is damaged: upload it again with PUT /v1/wasm/{0}, then repeat this request"
    )]
    UploadAgain(Digest),
    /// [`APPS_PER_TENANT_MAX`].
    #[error("the tenant {0} has its {APPS_PER_TENANT_MAX} apps: delete one first")]
    TooManyApps(TenantName),
    /// No native code.
    #[error(transparent)]
    Compiler(#[from] CompilerError),
    /// What a program was prepared to is not kept.
    #[error(transparent)]
    Prepared(UploadError),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] LocalCaError),
    /// The admin store.
    #[error(transparent)]
    Store(#[from] AdminError),
    /// The blob store.
    #[error("reading or keeping the bytes of {what}: check the free space of the data directory")]
    Blob {
        /// Which bytes.
        what: String,
        /// What happened.
        #[source]
        source: crate::fleet::FleetError,
    },
    /// The release log.
    #[error("publishing a version of {id}")]
    Publish {
        /// The app.
        id: AppId,
        /// What happened.
        #[source]
        source: crate::fleet::FleetError,
    },
    /// A repeated request whose first answer is gone and whose version was pruned since.
    #[error("this Idempotency-Key deployed a version of {0} that is gone: use a new key")]
    AnswerGone(AppId),
}

/// Receive (before, see [`receive`]) → prepare, if asked for → validate, compile, sign → publish.
pub async fn deploy(plane: &Plane, wish: Wish) -> Result<Deployed, DeployError> {
    let wish = Wish { config: settled(&wish, plane)?, ..wish };
    // Asked again under the log's lock; asked here so that a hopeless deploy costs no compilation.
    let view = plane.fleet.view();
    view.check_claim(&wish.id, &wish.config)?;
    check_reach(&view, wish.reach, &wish.id, &wish.config)?;
    secrets::pinned(plane, &wish.id, &wish.config).await?;
    let files = match wish.assets {
        Some(index) => Some(assets::find(plane, &wish.id.tenant, index, &wish.config).await?),
        None => None,
    };

    let compiling = Instant::now();
    let program = match wish.wasm {
        Some(wasm) => {
            let wasm_bytes = uploaded(plane, &wish.id.tenant, wasm).await?;
            let (wasm, wasm_bytes) = match wish.prepare.is_empty() {
                true => (wasm, wasm_bytes),
                false => prepared::prepared(plane, &wish, wasm).await?,
            };
            Program { wasm, wasm_bytes, native: compile_for(plane, &wish.id, wasm).await? }
        }
        None => Program::none(),
    };
    let compile_ms = if program.native.compiled > 0 { millis(compiling) } else { 0 };

    let publishing = Instant::now();
    if let Some(files) = &files {
        assets::keep(plane, &wish.id.tenant, files).await?;
    }
    let rev = publish(plane, &wish, &program, files.map(|files| files.at)).await?;
    let publish_ms = millis(publishing);

    let deployed = answer(plane, (&wish.id, &wish.prepare), rev, compile_ms, publish_ms).await?;
    let advice = program.native.advice.into_iter().map(Into::into).collect();
    Ok(Deployed { advice, ..deployed })
}

/// What a version will run.
struct Program {
    wasm: Digest,
    wasm_bytes: u64,
    native: Native,
}

impl Program {
    /// That of an app of static files: no bytes, and no code.
    fn none() -> Program {
        let (artifacts, advice, epoch, cache) = Default::default();
        let native = Native { lane: Lane::Wasi, artifacts, compiled: 0, advice, epoch, cache };
        Program { wasm: Digest::of(b""), wasm_bytes: 0, native }
    }
}

/// The configuration as it will be pinned: checked, its host names resolved and each there once.
fn settled(wish: &Wish, plane: &Plane) -> Result<AppConfig, DeployError> {
    let mut config = wish.config.clone();
    let mut mistakes = config.mistakes();
    let mut note = |key: &str, message: &str| mistakes.push(Mistake::new(key, message));
    match (&config.assets, wish.assets) {
        (None, Some(_)) => note("assets", "is missing: the request names an index of static files"),
        (Some(_), None) => {
            note("assets", "is there, and the request names no index of static files: upload one")
        }
        (None, None) if wish.wasm.is_none() => {
            note("", "an app is a program, static files, or both: name an uploaded program or an index")
        }
        _ => {}
    }
    if wish.wasm.is_none() && !wish.prepare.is_empty() {
        note("prepare", "is there, and no program that could be prepared");
    }
    wish.prepare.mistakes().iter().for_each(|why| note("prepare", why));
    if let Some(why) = wish.prepare.beyond(&wish.config.limits) {
        note("prepare.initial_memory_mib", &why);
    }
    if config.hosts.is_empty() {
        let name = format!("{}.{}", wish.id.app, plane.config.domain);
        match name.parse() {
            Ok(host) => config.hosts.push(host),
            Err(error) => mistakes.push(Mistake::new("hosts", error.to_string())),
        }
    }
    if !mistakes.is_empty() {
        return Err(DeployError::Config(mistakes));
    }
    let mut seen = std::collections::BTreeSet::new();
    config.hosts.retain(|host| seen.insert(host.clone()));
    Ok(config)
}

async fn uploaded(plane: &Plane, tenant: &TenantName, wasm: Digest) -> Result<u64, DeployError> {
    let bytes = plane.admin.upload_bytes(tenant.clone(), wasm).await?;
    bytes.ok_or(DeployError::NoUpload(wasm))
}

/// Version, native code, certificates and release in one append: all of it is in the log, or none.
async fn publish(
    plane: &Plane,
    wish: &Wish,
    program: &Program,
    assets: Option<IndexRef>,
) -> Result<u64, DeployError> {
    let _turn = plane.version_turn(&wish.id).await;
    let native = match wish.wasm {
        // All was compiled anew while files were kept or other versions were published, and may be done by now.
        Some(_) if !is_current_still(plane, &wish.id, program.wasm, &program.native).await? => {
            compile_for(plane, &wish.id, program.wasm).await?
        }
        _ => program.native.clone(),
    };
    let pinned = secrets::pinned(plane, &wish.id, &wish.config).await?;
    let plan = ReleasePlan {
        id: wish.id.clone(),
        wasm: program.wasm,
        wasm_bytes: program.wasm_bytes,
        lane: native.lane,
        assets,
        config: wish.config.clone(),
        pinned,
        artifacts: native.artifacts,
        ca: plane.ca.clone(),
        secrets: plane.secrets.clone(),
        reach: wish.reach,
    };
    let decide = move |view: &fleet_sync_proto::FleetView| plan.bodies(view);
    let published = plane.fleet.publish(wish.actor.clone(), wish.request.clone(), decide).await;
    published.map_err(|failure| match failure {
        PublishFailure::Refused(error) => error,
        PublishFailure::Fleet(source) => DeployError::Publish { id: wish.id.clone(), source },
    })
}

/// What was published, read back from the log: right also when the append was an earlier try's.
async fn answer(
    plane: &Plane,
    (app, prepare): (&AppId, &Prepare),
    rev: u64,
    compile_ms: u64,
    publish_ms: u64,
) -> Result<Deployed, DeployError> {
    let gone = || DeployError::AnswerGone(app.clone());
    let said = plane.fleet.record(rev).await;
    let said = said.map_err(|source| DeployError::Publish { id: app.clone(), source })?;
    let made = match said {
        Some(Body::Release { id, version }) if id == *app => {
            plane.fleet.view().version(&id, version).cloned()
        }
        _ => None,
    };
    let made = made.ok_or_else(gone)?;
    let config = &made.version.config;
    Ok(Deployed {
        app: app.app.clone(),
        tenant: app.tenant.clone(),
        version: made.version.version,
        rev,
        lane: made.version.lane,
        hosts: config.hosts.clone(),
        urls: plane.urls(config),
        targets: crate::plane::targets(&made.artifacts),
        compile_ms,
        publish_ms,
        prepared: (!prepare.is_empty()).then_some(made.version.wasm),
        advice: Vec::new(),
    })
}

/// The commands that give the missing values.
fn cures(id: &AppId, missing: &[SecretAt]) -> String {
    let cure = |at: &SecretAt| {
        let store = at.store.as_ref().map_or_else(String::new, |store| format!(" --store '{store}'"));
        format!("set it with `skerry secrets set {} {}{store}`", id.app, at.name)
    };
    missing.iter().map(cure).collect::<Vec<_>>().join(", ")
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
