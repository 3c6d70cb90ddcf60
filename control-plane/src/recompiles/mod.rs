//! Compiling kept versions anew because somebody asked for it: a compiler was mended, where `background::recompile` sees
//! nothing missing. docs/design/0022-recompile.md.
//!
//! Relies on the admin store for what is left of each request, so that a restart goes on where a kill left off, and on
//! compiling being deterministic: what comes out equal needs no record. One version at a time, requests in turns.
//!
//! | Module | One job |
//! |---|---|
//! | `turns` | whose turn it is, and who pauses |
//! | `confirm` | do nodes run what was published? |

mod confirm;
mod turns;

use std::{sync::Arc, time::Instant};

use artifact::{
    AppId,
    record::{ArtifactRef, ArtifactSet, Body, Rev},
};
use fleet_sync_proto::FleetView;

use self::turns::{Next, Turns};
use crate::{
    admin::{AdminError, Asked, Attempt, Named, Outcome, Recompile, Scope, StartError},
    api::error::chain,
    clock::now_ms,
    compiler::CompilerError,
    fleet::PublishFailure,
    plane::Plane,
    upload::{DeployError, compile_missing},
};

/// Tries for one version before it counts as failed.
const TRIES_MAX: u32 = 5;
/// How often it is looked for versions that came since. Twice is what is needed: one that is made while the first are done may
/// have taken its code from a version that was not yet, and after them there is none of these. Once more for what was late.
const LOOKS_MAX: u32 = 3;
/// Pause when the store fails, which knows what is to be done.
const STORE_PAUSE: std::time::Duration = std::time::Duration::from_secs(10);

/// What a step came to.
enum Step {
    /// Something was done, and there may be more.
    Done,
    /// Something failed, and is tried again later.
    Failed,
}

/// Takes a request; the answer names it. What it covers is what the log holds of `scope` now, and what is made meanwhile.
pub async fn start(plane: &Plane, asked: Asked) -> Result<u64, StartError> {
    let view = plane.fleet.view();
    let covered = covered(&view, &asked, 0);
    let id = plane.admin.start_recompile(Asked { seen_rev: view.rev, ..asked }, covered).await?;
    plane.recompile_asked.notify_one();
    Ok(id)
}

/// Works off requests. Runs until dropped.
pub async fn work(plane: Arc<Plane>) {
    let mut turns = Turns::default();
    loop {
        if let Err(error) = turn(&plane, &mut turns).await {
            tracing::error!(error = %chain(&error), "recompiling");
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}

/// A step of the request whose turn it is, or the wait for one.
async fn turn(plane: &Plane, turns: &mut Turns) -> Result<(), AdminError> {
    let request = match turns.next(plane.admin.open_recompiles().await?, Instant::now()) {
        Next::Request(request) => *request,
        Next::Nothing => {
            plane.recompile_asked.notified().await;
            return Ok(());
        }
        Next::Pause(until) => {
            // A new request does not wait for those that pause.
            let _ = tokio::time::timeout_at(until.into(), plane.recompile_asked.notified()).await;
            return Ok(());
        }
    };
    let id = request.id;
    match step(plane, request).await? {
        Step::Done => turns.went_well(id),
        Step::Failed => turns.failed(id, Instant::now()),
    }
    Ok(())
}

/// One version of a request, or the request's end.
async fn step(plane: &Plane, request: Recompile) -> Result<Step, AdminError> {
    let Some(attempt) = plane.admin.next_attempt(request.id).await? else {
        look_again_or_end(plane, request).await?;
        return Ok(Step::Done);
    };
    let Attempt { id, version, tries, .. } = &attempt;
    let outcome = match attempted(plane, &attempt).await {
        Ok(outcome) => outcome,
        Err(Failure::Deploy(DeployError::Store(error))) => return Err(error),
        Err(Failure::Nodes(why)) => {
            tracing::warn!(app = %id, version, why, "recompiling waits");
            plane.admin.hold_recompile(request.id, format!("{id} v{version}: {why}")).await?;
            return Ok(Step::Failed);
        }
        Err(Failure::Deploy(error)) => match fault(&error) {
            // Asked of the service first, a version has no part in it; and the others would fare no better.
            Fault::Machines(why) => {
                tracing::warn!(app = %id, version, error = %chain(&error), "recompiling waits");
                plane.admin.hold_recompile(request.id, why.to_owned()).await?;
                return Ok(Step::Failed);
            }
            Fault::Unknown if tries + 1 < TRIES_MAX => {
                tracing::warn!(app = %id, version, tries, error = %chain(&error), "recompiling a version");
                plane.admin.defer_attempt(&attempt, format!("{id} v{version}: {}", said(&error))).await?;
                return Ok(Step::Failed);
            }
            Fault::Programs | Fault::Unknown => {
                tracing::warn!(app = %id, version, error = %chain(&error), "not recompiled");
                Outcome::Failed(said(&error))
            }
        },
    };
    plane.admin.end_attempt(&attempt, outcome).await?;
    Ok(Step::Done)
}

/// Why a version is not done.
enum Failure {
    /// It was not compiled or published.
    Deploy(DeployError),
    /// It was, and nodes do not take it.
    Nodes(String),
}

impl<E: Into<DeployError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Deploy(error.into())
    }
}

/// Whose fault it is that a version was not compiled or published.
enum Fault {
    /// Another try would end alike.
    Programs,
    /// Of the compiler, the disk, the log: every version would fail with it. For people.
    Machines(&'static str),
    /// May be either.
    Unknown,
}

fn fault(error: &DeployError) -> Fault {
    match error {
        DeployError::UploadAgain(_) => Fault::Programs,
        DeployError::Compiler(error) if error.is_uploads_fault() => Fault::Programs,
        DeployError::Compiler(error) if error.is_busy() => Fault::Machines("the compiler has other work"),
        DeployError::Compiler(CompilerError::Refused(_)) => Fault::Unknown,
        DeployError::Compiler(CompilerError::Slow { .. }) => Fault::Unknown,
        DeployError::Compiler(_) => {
            Fault::Machines("the compiler does not answer, or is not the one that is trusted")
        }
        DeployError::Blob { .. } | DeployError::Publish { .. } => {
            Fault::Machines("the control plane cannot read or write; its log says why")
        }
        _ => Fault::Unknown,
    }
}

/// What the tenant is told: the compiler's words about its program, and nothing of how the fleet is built.
fn said(error: &DeployError) -> String {
    match error {
        DeployError::UploadAgain(_) => error.to_string(),
        DeployError::Compiler(error) if error.is_uploads_fault() => chain(error),
        _ => "it could not be compiled or published; the control plane's log says why".into(),
    }
}

async fn look_again_or_end(plane: &Plane, request: Recompile) -> Result<(), AdminError> {
    let Recompile { id, tenant, scope, seen_rev, looks, counts, .. } = request;
    let view = plane.fleet.view();
    let of = |seen_rev| Asked {
        tenant: tenant.clone(),
        scope: scope.clone(),
        reason: String::new(),
        by: String::new(),
        now_ms: 0,
        key: None,
        seen_rev,
    };
    let new = if looks < LOOKS_MAX { covered(&view, &of(view.rev), seen_rev) } else { Vec::new() };
    if new.is_empty() {
        tracing::info!(request = id, ?counts, "a recompilation ended");
        return plane.admin.end_recompile(id, now_ms()).await;
    }
    plane.admin.extend_recompile(id, view.rev, new).await
}

/// The versions that a request covers and that came after `seen_rev`: what answers now first, then the newest.
fn covered(view: &FleetView, asked: &Asked, seen_rev: Rev) -> Vec<Named> {
    let is_meant = |id: &AppId| match &asked.scope {
        Scope::Fleet => true,
        Scope::App(app) => id.tenant == asked.tenant && id.app == *app,
    };
    let mut found = Vec::new();
    for (id, app) in view.apps.iter().filter(|(id, _)| is_meant(id)) {
        for (number, made) in &app.versions {
            if made.version.has_program() && made.rev > seen_rev {
                let named =
                    Named { id: id.clone(), version: *number, rev: made.rev, wasm: made.version.wasm };
                found.push(((app.active != Some(*number), std::cmp::Reverse(made.rev)), named));
            }
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, named)| named).collect()
}

/// Compiles one version, unless its program was since the request came, publishes what is not as it was, and waits for what
/// nodes say of it where they serve it.
async fn attempted(plane: &Plane, attempt: &Attempt) -> Result<Outcome, Failure> {
    let Attempt { id, version, rev, .. } = attempt;
    let view = plane.fleet.view();
    let Some(made) = view.version(id, *version).filter(|made| made.rev == *rev) else {
        return Ok(Outcome::Gone);
    };
    let native = compile_missing(plane, &id.tenant, made.version.wasm).await?;
    let excused = match &attempt.excused {
        Some(excused) => excused.clone(),
        None => {
            let excused = confirm::failing(plane, &plane.fleet.view(), id);
            plane.admin.note_publishing(attempt, excused.clone()).await.map_err(DeployError::from)?;
            excused
        }
    };
    let changed_at = match published(plane, attempt, native.artifacts).await? {
        Ok(rev) => rev,
        Err(NoRecord::Gone) => return Ok(Outcome::Gone),
        // Published by a try that was cut before it was noted, or that nodes did not confirm.
        Err(NoRecord::Same) if attempt.excused.is_some() => plane.fleet.view().rev,
        Err(NoRecord::Same) => return Ok(Outcome::Same),
    };
    if plane.fleet.view().app(id).is_some_and(|app| app.active == Some(*version)) {
        confirm::confirm(plane, id, changed_at, &excused).await.map_err(Failure::Nodes)?;
    }
    Ok(Outcome::Changed)
}

/// Publishes the code that is not a version's latest already. The rev, or why there was nothing.
async fn published(
    plane: &Plane,
    attempt: &Attempt,
    made: Vec<ArtifactRef>,
) -> Result<Result<Rev, NoRecord>, DeployError> {
    let Attempt { by, id, version, rev, .. } = attempt;
    let (set_id, number, version_rev) = (id.clone(), *version, *rev);
    let decide = move |view: &FleetView| {
        let held = view.version(&set_id, number).filter(|held| held.rev == version_rev);
        let held = held.ok_or(NoRecord::Gone)?;
        let is_other = |made: &ArtifactRef| held.latest(made) != Some(made);
        let artifacts: Vec<ArtifactRef> = made.into_iter().filter(is_other).collect();
        if artifacts.is_empty() {
            return Err(NoRecord::Same);
        }
        Ok(vec![Body::ArtifactSet(ArtifactSet { id: set_id, version: number, artifacts })])
    };
    match plane.fleet.publish(by.clone(), None, decide).await {
        Ok(rev) => {
            tracing::info!(app = %id, version, rev, "a version was recompiled as asked");
            Ok(Ok(rev))
        }
        Err(PublishFailure::Refused(why)) => Ok(Err(why)),
        Err(PublishFailure::Fleet(source)) => Err(DeployError::Publish { id: id.clone(), source }),
    }
}

/// Why there is nothing to publish.
#[derive(Debug, thiserror::Error)]
enum NoRecord {
    #[error("the code is as it was")]
    Same,
    #[error("the version is gone")]
    Gone,
}
