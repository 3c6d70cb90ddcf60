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

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use artifact::{
    AppId,
    record::{ArtifactRef, ArtifactSet, Body, Rev},
};
use fleet_sync_proto::FleetView;

use self::{
    confirm::{Confirming, Published, Unconfirmed},
    turns::{Next, Turns},
};
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
const STORE_PAUSE: Duration = Duration::from_secs(10);

/// What a step came to.
enum Step {
    /// Something was done, and there may be more.
    Done,
    /// A version failed, and is tried again after the others.
    Deferred,
    /// What is left failed, and is tried again later.
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
    let (mut turns, mut confirming) = (Turns::default(), Confirming::default());
    loop {
        if let Err(error) = turn(&plane, &mut turns, &mut confirming).await {
            tracing::error!(error = %chain(&error), "recompiling");
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}

/// A step of the request whose turn it is, or the wait for one.
async fn turn(plane: &Plane, turns: &mut Turns, confirming: &mut Confirming) -> Result<(), AdminError> {
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
    match step(plane, confirming, request).await? {
        Step::Done => turns.went_well(id),
        Step::Deferred => {}
        Step::Failed => turns.failed(id, Instant::now()),
    }
    Ok(())
}

/// One version of a request, or the request's end.
async fn step(plane: &Plane, confirming: &mut Confirming, request: Recompile) -> Result<Step, AdminError> {
    let Some(attempt) = plane.admin.next_attempt(request.id).await? else {
        look_again_or_end(plane, request).await?;
        return Ok(Step::Done);
    };
    let Attempt { id, version, tries, .. } = &attempt;
    let failure = match attempted(plane, confirming, &attempt).await {
        Ok(outcome) => {
            plane.admin.end_attempt(&attempt, outcome).await?;
            return Ok(Step::Done);
        }
        Err(Failure::Deploy(DeployError::Store(error))) => return Err(error),
        Err(failure) => failure,
    };
    tracing::warn!(app = %id, version, tries, "recompiling a version: {failure}");
    match failure.remedy() {
        Remedy::Hold(why) => {
            plane.admin.hold_recompile(request.id, why).await?;
            Ok(Step::Failed)
        }
        Remedy::Later { why, is_a_try } if !is_a_try || tries + 1 < TRIES_MAX => {
            plane.admin.defer_attempt(&attempt, format!("{id} v{version}: {why}"), is_a_try).await?;
            // The others first; what was tried as often already waits for its next round.
            let next = plane.admin.next_attempt(request.id).await?;
            let goes_on = next.is_some_and(|next| is_a_try && next.tries <= *tries);
            Ok(if goes_on { Step::Deferred } else { Step::Failed })
        }
        Remedy::Later { why, .. } | Remedy::None(why) => {
            plane.admin.end_attempt(&attempt, Outcome::Failed(why)).await?;
            Ok(Step::Done)
        }
    }
}

/// Why a version is not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It was not compiled or published.
    #[error("{}", chain(.0))]
    Deploy(DeployError),
    /// It was, and nodes do not take it.
    #[error("{0:?}")]
    Nodes(Unconfirmed),
}

impl<E: Into<DeployError>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Deploy(error.into())
    }
}

/// What is done about it. Words are for people who may be the tenant.
enum Remedy {
    /// Every version would fail with it: the request waits.
    Hold(String),
    /// It is tried again after the others; `is_a_try` where it may be the version's own fault.
    Later { why: String, is_a_try: bool },
    /// Another try would end alike.
    None(String),
}

impl Failure {
    fn remedy(&self) -> Remedy {
        let error = match self {
            Failure::Deploy(error) => error,
            Failure::Nodes(Unconfirmed::Refused(why)) => return Remedy::Hold(why.clone()),
            Failure::Nodes(Unconfirmed::NobodyThere) => {
                return Remedy::Hold(
                    "no node is connected that could say whether it can run the new code".into(),
                );
            }
            Failure::Nodes(Unconfirmed::NotTaken(why)) => {
                return Remedy::Later { why: why.clone(), is_a_try: true };
            }
        };
        match error {
            DeployError::UploadAgain(_) => Remedy::None(said(error)),
            DeployError::Compiler(refused) if refused.is_uploads_fault() => Remedy::None(said(error)),
            // It may be full for this tenant alone.
            DeployError::Compiler(busy) if busy.is_busy() => {
                Remedy::Later { why: "the compiler has other work".into(), is_a_try: false }
            }
            DeployError::Compiler(CompilerError::Refused(_) | CompilerError::Slow { .. }) => {
                Remedy::Later { why: said(error), is_a_try: true }
            }
            DeployError::Compiler(_) => {
                Remedy::Hold("the compiler does not answer, or is not the one that is trusted".into())
            }
            DeployError::Blob { .. } | DeployError::Publish { .. } => {
                Remedy::Hold("the control plane cannot read or write; its log says why".into())
            }
            _ => Remedy::Later { why: said(error), is_a_try: true },
        }
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
async fn attempted(
    plane: &Plane,
    confirming: &mut Confirming,
    attempt: &Attempt,
) -> Result<Outcome, Failure> {
    let Attempt { id, version, rev, .. } = attempt;
    let view = plane.fleet.view();
    let Some(made) = view.version(id, *version).filter(|made| made.rev == *rev) else {
        return Ok(Outcome::Gone);
    };
    let native = compile_missing(plane, &id.tenant, made.version.wasm).await?;
    let view = plane.fleet.view();
    let is_latest =
        |code: &ArtifactRef| view.version(id, *version).is_some_and(|held| held.latest(code) == Some(code));
    if attempt.excused.is_none() && native.artifacts.iter().all(is_latest) {
        return Ok(Outcome::Same);
    }
    let excused = match &attempt.excused {
        Some(excused) => excused.clone(),
        None => {
            let excused = confirm::failing(&plane.fleet, &view, id);
            if !plane.admin.note_publishing(attempt, excused.clone()).await? {
                return Ok(Outcome::Gone); // cancelled
            }
            excused
        }
    };
    let changed_at = match published(plane, attempt, native.artifacts).await? {
        Ok(rev) => rev,
        Err(NoRecord::Gone) => return Ok(Outcome::Gone),
        // By a try that was cut before it was noted, or that nodes did not confirm.
        Err(NoRecord::Same) => plane.fleet.view().rev,
    };
    let of = Published { id: id.clone(), version: *version, excused };
    confirming.confirm(&plane.fleet, &of, changed_at).await.map_err(Failure::Nodes)?;
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
