//! Compiling kept versions anew because somebody asked for it: a compiler was mended, where `background::recompile` sees
//! nothing missing. docs/design/0022-recompile.md.
//!
//! Relies on the admin store for what is left of each request, so that a restart goes on where a kill left off, and on
//! compiling being deterministic: what comes out equal needs no record. One version at a time, requests in turns.

use std::{sync::Arc, time::Duration};

use artifact::{
    AppId,
    record::{ArtifactRef, ArtifactSet, Body, Rev},
};
use fleet_sync_proto::FleetView;

use crate::{
    admin::{AdminError, Asked, Attempt, Named, Outcome, Recompile, Scope, StartError},
    api::error::chain,
    clock::now_ms,
    fleet::PublishFailure,
    plane::Plane,
    upload::{DeployError, compile_missing},
};

/// Tries for one version before it counts as failed.
const TRIES_MAX: u32 = 5;
/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often it is looked for versions that came since. Twice is what is needed: one that is made while the first are done may
/// have taken its code from a version that was not yet, and after them there is none of these. Once more for what was late.
const LOOKS_MAX: u32 = 3;

/// What a step came to.
enum Step {
    /// There may be more.
    Done,
    /// No request is open.
    Idle,
    /// The compiler or we are not able to; no version's fault.
    Stalled(&'static str),
    /// A version failed and is tried again.
    Deferred(u32),
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
    let (mut turn, mut stalls) = (Turn::default(), 0);
    loop {
        let step = step(&plane, &mut turn).await.unwrap_or_else(|error| {
            tracing::error!(error = %chain(&error), "recompiling");
            Step::Stalled("the control plane's store does not answer")
        });
        match step {
            Step::Done => stalls = 0,
            Step::Idle => plane.recompile_asked.notified().await,
            Step::Deferred(tries) => tokio::time::sleep(pause(tries)).await,
            Step::Stalled(why) => {
                tracing::warn!(error = why, "recompiling waits");
                if let Err(error) = plane.admin.stall_recompiles(why.to_owned()).await {
                    tracing::error!(error = %chain(&error), "recompiling waits");
                }
                tokio::time::sleep(pause(stalls)).await;
                stalls += 1;
            }
        }
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(1 << failures.min(6)).min(PAUSE_MAX)
}

/// Whose turn it is: one for the whole fleet has every second, so that tenants do not keep the operator waiting.
#[derive(Default)]
struct Turn {
    /// The last of a tenant.
    last: u64,
    was_fleet: bool,
}

/// One version of the request whose turn it is, or that request's end.
async fn step(plane: &Plane, turn: &mut Turn) -> Result<Step, AdminError> {
    let next = plane.admin.next_recompile(turn.last, !turn.was_fleet).await?;
    let Some(request) = next else { return Ok(Step::Idle) };
    turn.was_fleet = request.scope == Scope::Fleet;
    if !turn.was_fleet {
        turn.last = request.id;
    }
    let Some(attempt) = plane.admin.next_attempt(request.id).await? else {
        look_again_or_end(plane, request).await?;
        return Ok(Step::Done);
    };
    // Asked before each, so that a compiler that is away or is not to be believed is no version's fault.
    if let Err(error) = plane.compiler.health().await {
        tracing::warn!(error = %chain(&error), "recompiling");
        return Ok(Step::Stalled("the compiler does not answer, or is not the one that is trusted"));
    }
    let outcome = match attempted(plane, &attempt).await {
        Ok(outcome) => outcome,
        Err(DeployError::Store(error)) => return Err(error),
        Err(error) if is_over(&error) || attempt.tries + 1 >= TRIES_MAX => {
            tracing::warn!(app = %attempt.id, version = attempt.version, error = %chain(&error), "not recompiled");
            Outcome::Failed(said(&error))
        }
        Err(error) => {
            let Attempt { id, version, tries, .. } = &attempt;
            tracing::warn!(app = %id, version, tries, error = %chain(&error), "recompiling a version");
            plane.admin.defer_attempt(&attempt, format!("{id} v{version}: {}", said(&error))).await?;
            return Ok(Step::Deferred(attempt.tries));
        }
    };
    plane.admin.end_attempt(&attempt, outcome).await?;
    Ok(Step::Done)
}

/// What the tenant is told: the compiler's words about its program, and nothing of how the fleet is built.
fn said(error: &DeployError) -> String {
    match error {
        DeployError::UploadAgain(_) => error.to_string(),
        DeployError::Compiler(error) if error.is_uploads_fault() => chain(error),
        _ => "it could not be compiled or published; the control plane's log says why".into(),
    }
}

/// Would another try end alike?
fn is_over(error: &DeployError) -> bool {
    match error {
        DeployError::UploadAgain(_) => true,
        DeployError::Compiler(error) => error.is_uploads_fault(),
        _ => false,
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

/// Compiles one version, unless its program was since the request came, and publishes what is not as it was.
async fn attempted(plane: &Plane, attempt: &Attempt) -> Result<Outcome, DeployError> {
    let Attempt { by, id, version, rev, .. } = attempt;
    let view = plane.fleet.view();
    let Some(made) = view.version(id, *version).filter(|made| made.rev == *rev) else {
        return Ok(Outcome::Gone);
    };
    let native = compile_missing(plane, &id.tenant, made.version.wasm).await?;
    let (set_id, number, version_rev) = (id.clone(), *version, *rev);
    let decide = move |view: &FleetView| {
        let held = view.version(&set_id, number).filter(|held| held.rev == version_rev);
        let held = held.ok_or(NoRecord::Gone)?;
        let is_other = |made: &ArtifactRef| !held.artifacts.contains(made);
        let artifacts: Vec<ArtifactRef> = native.artifacts.into_iter().filter(is_other).collect();
        if artifacts.is_empty() {
            return Err(NoRecord::Same);
        }
        Ok(vec![Body::ArtifactSet(ArtifactSet { id: set_id, version: number, artifacts })])
    };
    match plane.fleet.publish(by.clone(), None, decide).await {
        Ok(rev) => {
            tracing::info!(app = %id, version, rev, "a version was recompiled as asked");
            Ok(Outcome::Changed)
        }
        Err(PublishFailure::Refused(NoRecord::Same)) => Ok(Outcome::Same),
        Err(PublishFailure::Refused(NoRecord::Gone)) => Ok(Outcome::Gone),
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
