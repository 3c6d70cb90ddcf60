//! Work that nobody asks for: native code for versions that lack some, and certificates before they end.
//!
//! Both look at the log's view, do what is missing and publish additive records as `system`. Both are bounded: one
//! version at a time, one publish a version, and a pause between rounds that grows while something fails.

use std::{collections::HashMap, sync::Arc, time::Duration};

use artifact::{
    AppId, Fingerprint, HostName, Target,
    record::{ArtifactRef, ArtifactSet, Body, VersionNumber},
};
use fleet_sync_proto::FleetView;

use crate::{
    api::error::chain,
    compiler::CompilerError,
    fleet::PublishFailure,
    plane::Plane,
    upload::{DeployError, certificates_for, compile_missing, missing},
};

/// Who is named in records that nobody asked for.
pub const SYSTEM: &str = "system";
/// Pause between two looks for missing native code, when all is well: how soon a replaced compiler is noticed.
const LOOK_PAUSE: Duration = Duration::from_secs(60);
/// First pause after a failure; doubles up to [`LOOK_PAUSE`].
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// Tries for one version and one set of targets, before it is left alone until the compiler or we start anew.
const TRIES_MAX: u32 = 5;
/// Pause between two looks at certificates: they live for a year, and are due four months before their end.
const RENEWAL_PAUSE: Duration = Duration::from_secs(24 * 3600);
/// Certificates renewed in one append.
const RENEWALS_AT_ONCE_MAX: usize = 64;

type Current = Vec<(Target, Fingerprint)>;

/// Gives old versions native code for the compiler's current targets and fingerprints. Runs until dropped.
pub async fn recompile(plane: Arc<Plane>) {
    let (mut pause, mut tries): (_, Tries) = (FAILED_PAUSE, Tries::default());
    loop {
        pause = match look(&plane, &mut tries).await {
            Ok(Round::AllWell) => LOOK_PAUSE,
            Ok(Round::SomeFailed) => (pause * 2).min(LOOK_PAUSE),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "looking for missing native code");
                (pause * 2).min(LOOK_PAUSE)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

enum Round {
    AllWell,
    SomeFailed,
}

/// How often each version was tried in vain, for the targets the compiler has now. As long as there are such versions.
#[derive(Default)]
struct Tries {
    current: Current,
    failed: HashMap<(AppId, VersionNumber), u32>,
}

async fn look(plane: &Plane, tries: &mut Tries) -> Result<Round, CompilerError> {
    let current = plane.compiler.health().await?.targets;
    if tries.current != current {
        *tries = Tries { current: current.clone(), failed: HashMap::new() };
    }
    let mut round = Round::AllWell;
    for (id, number) in lacking(&plane.fleet.view(), &current) {
        let key = (id.clone(), number);
        let tried = tries.failed.get(&key).copied().unwrap_or(0);
        if tried >= TRIES_MAX {
            continue;
        }
        if is_left_to_a_request(plane, &id, number).await {
            continue;
        }
        match add_native(plane, &id, number, &current).await {
            Ok(()) => {
                tries.failed.remove(&key);
            }
            Err(error) => {
                tracing::warn!(app = %id, version = number, tried, error = %chain(&error), "recompiling a version");
                round = Round::SomeFailed;
                tries.failed.insert(key, tried + 1);
                if let DeployError::Compiler(CompilerError::Unreachable { .. } | CompilerError::Slow { .. }) =
                    error
                {
                    // Not the version's fault, and the next one would fare no better.
                    tries.failed.clear();
                    return Ok(round);
                }
            }
        }
    }
    Ok(round)
}

/// Is the version compiled anew because somebody asked? That brings what it lacks, too; two at once would compile it twice.
async fn is_left_to_a_request(plane: &Plane, id: &AppId, number: VersionNumber) -> bool {
    plane.admin.awaits_recompile(id.clone(), number).await.unwrap_or_else(|error| {
        tracing::warn!(error = %chain(&error), "looking for a request to recompile");
        false
    })
}

/// Versions without some current native code: what answers now first, then the newest.
fn lacking(view: &FleetView, current: &[(Target, Fingerprint)]) -> Vec<(AppId, VersionNumber)> {
    let mut found = Vec::new();
    for (id, app) in &view.apps {
        for (number, made) in &app.versions {
            if made.version.has_program() && !missing(&made.artifacts, current).is_empty() {
                found.push((app.active != Some(*number), std::cmp::Reverse(made.rev), id.clone(), *number));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, _, id, number)| (id, number)).collect()
}

async fn add_native(
    plane: &Plane,
    id: &AppId,
    number: VersionNumber,
    current: &Current,
) -> Result<(), DeployError> {
    let Some(made) = plane.fleet.view().version(id, number).cloned() else { return Ok(()) };
    let native = compile_missing(plane, &id.tenant, made.version.wasm).await?;
    let (set_id, current) = (id.clone(), current.clone());
    let decide = move |view: &FleetView| {
        let held = view.version(&set_id, number).ok_or(Nothing)?;
        let wanted = missing(&held.artifacts, &current);
        let is_wanted = |made: &ArtifactRef| wanted.contains(&(made.target, made.fingerprint));
        let artifacts: Vec<ArtifactRef> = native.artifacts.into_iter().filter(is_wanted).collect();
        if artifacts.is_empty() {
            return Err(Nothing);
        }
        Ok(vec![Body::ArtifactSet(ArtifactSet { id: set_id, version: number, artifacts })])
    };
    match plane.fleet.publish(SYSTEM.to_owned(), None, decide).await {
        Ok(rev) => tracing::info!(app = %id, version = number, rev, "a version was recompiled"),
        Err(PublishFailure::Refused(Nothing)) => {}
        Err(PublishFailure::Fleet(source)) => return Err(DeployError::Publish { id: id.clone(), source }),
    }
    Ok(())
}

/// Everything was there already.
#[derive(Debug, thiserror::Error)]
#[error("nothing is missing any more")]
struct Nothing;

/// Replaces certificates of the local CA that are due, at once and then daily. Runs until dropped.
pub async fn renew_certificates(plane: Arc<Plane>) {
    loop {
        if let Err(error) = renew_due(&plane).await {
            tracing::warn!(error, "renewing certificates; the next try is tomorrow or at the next start");
        }
        tokio::time::sleep(RENEWAL_PAUSE).await;
    }
}

async fn renew_due(plane: &Plane) -> Result<(), String> {
    let view = plane.fleet.view();
    let hosts: Vec<HostName> = view.hosts.keys().cloned().collect();
    let now_ms = crate::clock::now_ms();
    let is_due =
        |host: &&HostName| view.certificates.get(*host).is_none_or(|held| plane.ca.is_due(held, now_ms));
    let due: Vec<HostName> = hosts.iter().filter(is_due).cloned().collect();
    for some in due.chunks(RENEWALS_AT_ONCE_MAX) {
        let (hosts, ca, secrets) = (some.to_vec(), plane.ca.clone(), plane.secrets.clone());
        let decide = move |view: &FleetView| {
            let still: Vec<HostName> =
                hosts.into_iter().filter(|host| view.hosts.contains_key(host)).collect();
            let bodies = certificates_for(view, &still, &ca, &secrets)
                .map_err(|error| Renewal::Mint(chain(&error)))?;
            if bodies.is_empty() { Err(Renewal::Nothing) } else { Ok(bodies) }
        };
        match plane.fleet.publish(SYSTEM.to_owned(), None, decide).await {
            Ok(rev) => tracing::info!(certificates = some.len(), rev, "certificates were renewed"),
            Err(PublishFailure::Refused(Renewal::Nothing)) => {}
            Err(PublishFailure::Refused(error)) => return Err(error.to_string()),
            Err(PublishFailure::Fleet(error)) => return Err(chain(&error)),
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Renewal {
    #[error("nothing is due any more")]
    Nothing,
    #[error("{0}")]
    Mint(String),
}
