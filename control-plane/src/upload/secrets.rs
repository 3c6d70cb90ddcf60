//! Which sealed values a version pins: the last ones set, of the secrets its configuration declares.

use std::collections::BTreeMap;

use artifact::{AppId, manifest::AppConfig, secrets::PinnedSecret};

use super::DeployError;
use crate::plane::Plane;

/// The values for `config`, all of them, or which are missing. They are those of the next version only while the app's
/// [`Plane::version_turn`] is held.
pub async fn pinned(plane: &Plane, id: &AppId, config: &AppConfig) -> Result<Vec<PinnedSecret>, DeployError> {
    let needed = config.secrets_needed();
    if needed.is_empty() {
        return Ok(Vec::new());
    }
    let kept = plane.admin.secrets(id.clone()).await?;
    let mut kept: BTreeMap<_, _> = kept.into_iter().map(|secret| (secret.at, secret.sealed)).collect();
    let (mut pinned, mut missing) = (Vec::new(), Vec::new());
    for at in needed {
        match kept.remove(&at) {
            Some(value) => pinned.push(PinnedSecret { at, value }),
            None => missing.push(at),
        }
    }
    if missing.is_empty() { Ok(pinned) } else { Err(DeployError::SecretsMissing { id: id.clone(), missing }) }
}
