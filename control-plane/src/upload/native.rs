//! Native code for a program: what is there already, and the rest from the compiler service, one call a target at a time
//! of its own. Whatever was compiled is kept at once, so a deploy that fails later wastes nothing.

use std::sync::Arc;

use artifact::{
    AppId, Digest, Fingerprint, Lane, Profile, Target, TenantName, compile::Advice, container::Container,
    record::ArtifactRef, statement::TrustedStatement,
};
use bytes::Bytes;
use fleet_sync_origin::BlobError;
use futures_util::future::join_all;

use super::DeployError;
use crate::{
    admin::{Compiled, Epoch},
    compiler::{Asker, CompilerClient, CompilerError},
    fleet::FleetError,
    plane::Plane,
};

/// Native code of a program for every target the compiler has now.
#[derive(Debug, Clone)]
pub struct Native {
    /// The interface the program speaks.
    pub lane: Lane,
    /// One entry a target.
    pub artifacts: Vec<ArtifactRef>,
    /// How many of them were compiled just now.
    pub compiled: usize,
    /// What of the program could be better.
    pub advice: Vec<Advice>,
    /// As of when.
    pub epoch: Epoch,
    /// The label of what it may share functions with.
    pub cache: Option<String>,
}

/// How often a program is compiled again because code was forgotten while it was compiled. After that the request that made
/// it forgotten finds the version, which is later than it.
const ROUNDS_MAX: u32 = 3;

/// The program's native code for each current target, compiling what is missing; an app's programs share compiled functions with
/// those before them. None of it was forgotten meanwhile, but for programs whose owner has them compiled anew all the time: it is
/// of the compiler that is there since that was asked for.
pub async fn compile_for(plane: &Plane, id: &AppId, wasm: Digest) -> Result<Native, DeployError> {
    let mut round = 1;
    loop {
        // Asked for in each round: after a request to recompile nothing of before it is to be found.
        let cache = plane.admin.cache_label(id.clone()).await?;
        let asker = Asker { tenant: &id.tenant, cache: Some(&cache) };
        let native = compile_once(plane, asker, wasm).await?;
        if round == ROUNDS_MAX || is_current_still(plane, id, wasm, &native).await? {
            return Ok(native);
        }
        round += 1;
    }
}

/// The same by nothing but the program.
pub async fn compile_missing(
    plane: &Plane,
    tenant: &TenantName,
    wasm: Digest,
) -> Result<Native, DeployError> {
    let mut round = 1;
    loop {
        let native = compile_once(plane, Asker { tenant, cache: None }, wasm).await?;
        let epoch = native.epoch;
        if round == ROUNDS_MAX || plane.admin.is_compile_epoch(tenant.clone(), wasm, epoch).await? {
            return Ok(native);
        }
        round += 1;
    }
}

/// Was nothing of it forgotten since, and does the app still share functions with what it was made with?
pub async fn is_current_still(
    plane: &Plane,
    id: &AppId,
    wasm: Digest,
    native: &Native,
) -> Result<bool, DeployError> {
    let label = plane.admin.cache_label(id.clone()).await?;
    Ok(native.cache.as_deref() == Some(&label)
        && plane.admin.is_compile_epoch(id.tenant.clone(), wasm, native.epoch).await?)
}

async fn compile_once(plane: &Plane, asker: Asker<'_>, wasm: Digest) -> Result<Native, DeployError> {
    let tenant = asker.tenant;
    let current = plane.compiler.health().await?.targets;
    let known = plane.admin.compiled(tenant.clone(), wasm, asker.cache.map(str::to_owned)).await?;
    let epoch = known.epoch;
    let mut done = Vec::new();
    for known in known.code.into_iter().filter(|known| is_current(&known.artifact, &current)) {
        let is_same = |done: &Compiled| {
            (done.artifact.target, done.artifact.fingerprint)
                == (known.artifact.target, known.artifact.fingerprint)
        };
        if !done.iter().any(is_same) && is_good(plane, tenant, wasm, &known.artifact).await? {
            done.push(known);
        }
    }
    let held: Vec<ArtifactRef> = done.iter().map(|known| known.artifact.clone()).collect();
    let missing = missing(&held, &current);

    let compiled = missing.len();
    if compiled > 0 {
        let bytes = program(plane, wasm).await?;
        let calls =
            missing.into_iter().map(|pair| compile_and_keep(plane, asker, wasm, bytes.clone(), pair, epoch));
        // All to their end: what one of them got is kept, and the next try has less to do.
        let mut advice = Vec::new();
        for made in join_all(calls).await {
            let (made, said) = made?;
            done.push(made);
            advice = said; // of the program, so the same for every target
        }
        plane.admin.set_advice(tenant.clone(), wasm, advice).await?;
    }
    let lane = one_lane(&done)?;
    let artifacts = done.into_iter().map(|compiled| compiled.artifact).collect();
    let advice = plane.admin.advice(tenant.clone(), wasm).await?;
    let cache = asker.cache.map(str::to_owned);
    Ok(Native { lane, artifacts, compiled, advice, epoch, cache })
}

/// The bytes of an uploaded program.
pub async fn program(plane: &Plane, wasm: Digest) -> Result<Bytes, DeployError> {
    plane.fleet.blob(wasm).await.map_err(|source| match source {
        FleetError::Blob(BlobError::Missing(_) | BlobError::Corrupt(_)) => DeployError::UploadAgain(wasm),
        source => DeployError::Blob { what: format!("the program {wasm}"), source },
    })
}

/// Are the bytes of known native code there, those of their digest, and signed by a key that is trusted now? What is not is
/// forgotten, so that it is compiled again. Reads and hashes the whole of it (off the async threads): a node would fetch it,
/// refuse it and stay behind.
async fn is_good(
    plane: &Plane,
    tenant: &TenantName,
    wasm: Digest,
    artifact: &ArtifactRef,
) -> Result<bool, DeployError> {
    match plane.fleet.blob(artifact.blob).await {
        Ok(blob) if is_believed(plane, &blob) => Ok(true),
        Ok(_) => {
            tracing::info!(target = %artifact.target, "native code is compiled again: its signer is not trusted now");
            plane.admin.forget_compiled(tenant.clone(), wasm, artifact.blob).await?;
            Ok(false)
        }
        Err(FleetError::Blob(error @ (BlobError::Missing(_) | BlobError::Corrupt(_)))) => {
            tracing::warn!(%error, target = %artifact.target, "native code is compiled again");
            plane.admin.forget_compiled(tenant.clone(), wasm, artifact.blob).await?;
            Ok(false)
        }
        Err(source) => Err(DeployError::Blob { what: format!("native code {}", artifact.blob), source }),
    }
}

fn is_believed(plane: &Plane, blob: &[u8]) -> bool {
    let trusted = plane.fleet.compiler_keys().ring().trust();
    Container::decode(blob)
        .is_ok_and(|container| TrustedStatement::open(&container.envelope, &trusted).is_ok())
}

/// The current pairs for which `held` has nothing.
pub fn missing(held: &[ArtifactRef], current: &[(Target, Fingerprint)]) -> Vec<(Target, Fingerprint)> {
    let has = |(target, fingerprint): &(Target, Fingerprint)| {
        held.iter().any(|held| {
            (held.target, held.profile, held.fingerprint) == (*target, Profile::Serve, *fingerprint)
        })
    };
    current.iter().filter(|pair| !has(pair)).copied().collect()
}

fn is_current(artifact: &ArtifactRef, current: &[(Target, Fingerprint)]) -> bool {
    current.contains(&(artifact.target, artifact.fingerprint))
}

async fn compile_and_keep(
    plane: &Plane,
    asker: Asker<'_>,
    wasm: Digest,
    bytes: Bytes,
    (target, fingerprint): (Target, Fingerprint),
    begun: Epoch,
) -> Result<(Compiled, Vec<Advice>), DeployError> {
    let compiler: &Arc<CompilerClient> = &plane.compiler;
    let made = compiler.compile(asker, bytes, wasm, target, fingerprint).await?;
    let (blob_bytes, shared) = (made.blob.len() as u64, made.shared);
    let _not_swept = plane.sweeping.read().await;
    let blob = plane
        .fleet
        .keep_blob(made.blob)
        .await
        .map_err(|source| DeployError::Blob { what: format!("native code for {target}"), source })?;
    let artifact = ArtifactRef { target, profile: Profile::Serve, fingerprint, blob, blob_bytes };
    let compiled = Compiled { lane: made.lane, artifact };
    // What was made with nothing but the program is right for every app of the tenant.
    let cache = asker.cache.filter(|_| shared).map(str::to_owned);
    plane.admin.add_compiled(asker.tenant.clone(), wasm, cache, compiled.clone(), begun).await?;
    Ok((compiled, made.advice))
}

/// All targets' code is of one program, so it speaks one interface; anything else is the compiler's fault.
fn one_lane(compiled: &[Compiled]) -> Result<Lane, CompilerError> {
    let Some(first) = compiled.first() else { return Err(CompilerError::NoTargets) };
    match compiled.iter().find(|other| other.lane != first.lane) {
        None => Ok(first.lane),
        Some(other) => Err(CompilerError::OtherThing { target: other.artifact.target, what: "lane" }),
    }
}
