//! A program as its app wants it prepared, before anything else is done with it. What the compiler service makes of it is kept as an
//! upload of the tenant, so all that follows (compiling, recompiling, rollbacks) is about that, and never runs the app's code
//! again. The same program and wish give the same bytes, so doing it twice keeps and compiles nothing new.

use artifact::{Digest, manifest::Prepare};

use super::{DeployError, Wish, native};
use crate::{clock::now_ms, compiler::CompilerError, plane::Plane};

/// Digest and size of the prepared program.
pub async fn prepared(plane: &Plane, wish: &Wish, wasm: Digest) -> Result<(Digest, u64), DeployError> {
    let tenant = &wish.id.tenant;
    let checked = plane.admin.check_upload_quota(tenant.clone(), 0).await;
    checked.map_err(DeployError::Prepared)?; // before the compiler works for nothing
    let within_limits =
        Prepare { memory_mib_max: Some(wish.config.limits.memory_mib), ..wish.prepare.clone() };
    let bytes = native::program(plane, wasm).await?;
    let made = plane.compiler.prepare(tenant, bytes, &within_limits).await?;
    let (hashed, bytes) = (made.clone(), made.len() as u64);
    let digest = tokio::task::spawn_blocking(move || Digest::of(&hashed)).await;
    let digest = digest.map_err(|_| CompilerError::Stopping)?;
    let _not_swept = plane.sweeping.read().await;
    // Its row stands before its bytes do, so nothing lies in the store that no quota knows of. Bytes that were lost come back.
    let listed = plane.admin.add_upload(tenant.clone(), digest, bytes, now_ms()).await;
    listed.map_err(DeployError::Prepared)?;
    let what = || "the prepared program".to_owned();
    plane.fleet.keep_blob(made).await.map_err(|source| DeployError::Blob { what: what(), source })?;
    Ok((digest, bytes))
}
