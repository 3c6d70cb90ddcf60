//! Another configuration, or newer secrets, for the program that answers already: a new version of the same wasm, with
//! its native code and static files as they are, released like a deploy. Nothing is uploaded or compiled.

use std::{collections::BTreeMap, time::Instant};

use artifact::{
    AppId,
    manifest::{AppConfig, Prepare},
};
use fleet_sync_proto::FleetView;

use super::{DeployError, Reach, answer, bodies::ReleasePlan, millis, secrets};
use crate::{api::types::Deployed, fleet::PublishFailure, plane::Plane};

/// What is to change, of which app.
#[derive(Debug, Clone)]
pub struct Change {
    /// The app.
    pub id: AppId,
    /// What.
    pub edit: Edit,
    /// Who asks: a token's id.
    pub actor: String,
    /// The log's name for this request.
    pub request: Option<String>,
}

/// See [`Change`].
#[derive(Debug, Clone)]
pub enum Edit {
    /// Entries of a config store.
    Config {
        /// Which; `None` is the default one. Made if it is not there.
        store: Option<String>,
        /// Entries to put in.
        set: BTreeMap<String, String>,
        /// Keys to take out.
        unset: Vec<String>,
    },
    /// The configuration stays; the values of its secrets are pinned as they are now.
    Secrets,
}

/// Makes the version, unless the one that answers is already as wanted.
pub async fn change(plane: &Plane, change: Change) -> Result<Deployed, DeployError> {
    let publishing = Instant::now();
    let Change { id, edit, actor, request } = change;
    let _turn = plane.version_turn(&id).await;
    let view = plane.fleet.view();
    let config = edited(&view, &id, &edit)?;
    let pinned = secrets::pinned(plane, &id, &config).await?;
    if let Some(app) = view.app(&id)
        && let Some(active) = app.active_version()
        && (&active.version.config, &active.version.secrets) == (&config, &pinned)
    {
        return answer(plane, (&id, &Prepare::default()), app.release_rev, 0, 0).await;
    }
    let (ca, seal, decide_id) = (plane.ca.clone(), plane.secrets.clone(), id.clone());
    let decide = move |view: &FleetView| {
        // From the view under the writer lock: a rollback may have come since.
        let config = edited(view, &decide_id, &edit)?;
        let active = view.active(&decide_id).ok_or_else(|| DeployError::NoApp(decide_id.clone()))?;
        let needed = config.secrets_needed();
        let pinned: Vec<_> = pinned.into_iter().filter(|secret| needed.contains(&secret.at)).collect();
        let all = pinned.len() == needed.len();
        let missing = |at: &_| !pinned.iter().any(|secret| secret.at == *at);
        if !all {
            let missing = needed.into_iter().filter(missing).collect();
            return Err(DeployError::SecretsMissing { id: decide_id, missing });
        }
        let plan = ReleasePlan {
            wasm: active.version.wasm,
            wasm_bytes: active.version.wasm_bytes,
            lane: active.version.lane,
            assets: active.version.assets,
            artifacts: active.artifacts.clone(),
            // Its routes are those it has.
            reach: Reach::Tenant,
            id: decide_id,
            config,
            pinned,
            ca,
            secrets: seal,
        };
        plan.bodies(view)
    };
    let published = plane.fleet.publish(actor, request, decide).await;
    let rev = published.map_err(|failure| match failure {
        PublishFailure::Refused(error) => error,
        PublishFailure::Fleet(source) => DeployError::Publish { id: id.clone(), source },
    })?;
    answer(plane, (&id, &Prepare::default()), rev, 0, millis(publishing)).await
}

/// The active version's configuration with the edit.
fn edited(view: &FleetView, id: &AppId, edit: &Edit) -> Result<AppConfig, DeployError> {
    let active = view.active(id).ok_or_else(|| DeployError::NoApp(id.clone()))?;
    let mut config = active.version.config.clone();
    let Edit::Config { store, set, unset } = edit else { return Ok(config) };
    let (entries, shown) = match store {
        None => (&mut config.config, "the default config store".to_owned()),
        Some(store) => {
            let shown = format!("the config store {store}");
            if config.config_store(Some(store)).is_some() && !config.config_stores.contains_key(store) {
                (&mut config.config, shown) // `default`, by its other name
            } else {
                (config.config_stores.entry(store.clone()).or_default(), shown)
            }
        }
    };
    for key in unset {
        entries.remove(key).ok_or_else(|| DeployError::NoKey(shown.clone(), key.clone()))?;
    }
    entries.extend(set.clone());
    let mistakes = config.mistakes();
    if mistakes.is_empty() { Ok(config) } else { Err(DeployError::Config(mistakes)) }
}
