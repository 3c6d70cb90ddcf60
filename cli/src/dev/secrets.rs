//! A round that failed for want of secrets is made again once they are set: no file of the project tells that they were.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use artifact::{AppName, secrets::SecretAt};
use serde_json::Value;

use crate::{api::Api, error::Error, project::read_manifest};

/// Code of the refusal that tells that secrets have no value.
const SECRETS_MISSING: &str = "secrets_missing";
/// How often it is asked whether they have: as soon as somebody sees who typed them.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The secrets that an app waits for.
pub struct Awaited<'a> {
    api: &'a Api,
    app: AppName,
    needed: Vec<SecretAt>,
    asked: Option<Instant>,
}

impl<'a> Awaited<'a> {
    /// If that is why a round failed, and the folder's own manifest says which.
    pub fn after(error: &Error, folder: &Path, api: &'a Api) -> Option<Awaited<'a>> {
        let Error::Rejected { code, .. } = error else { return None };
        let project = read_manifest(folder).ok().filter(|_| code == SECRETS_MISSING)?;
        let needed = project.config.secrets_needed().into_iter().collect();
        Some(Awaited { api, app: project.name, needed, asked: None })
    }

    /// Have all of them a value now? A control plane that does not say is asked again.
    pub fn are_set(&mut self) -> bool {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK_EVERY) {
            return false;
        }
        let there = self.api.secrets(&self.app);
        self.asked = Some(Instant::now());
        there.is_ok_and(|there| all_set(&self.needed, &there))
    }
}

fn all_set(needed: &[SecretAt], there: &[Value]) -> bool {
    needed.iter().all(|SecretAt { store, name }| {
        there.iter().any(|secret| {
            secret["name"] == name.as_str()
                && secret["store"].as_str() == store.as_ref().map(|store| store.as_str())
                && !secret["set_ms"].is_null()
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_have_to_be_set_each_in_its_store() {
        let at = |store: Option<&str>, name: &str| SecretAt {
            store: store.map(|store| store.parse().unwrap()),
            name: name.parse().unwrap(),
        };
        let needed = [at(None, "KEY"), at(Some("vault"), "PIN")];
        let key = json!({ "store": null, "name": "KEY", "set_ms": 1 });
        let pin = |store: Value, set_ms: Value| json!({ "store": store, "name": "PIN", "set_ms": set_ms });
        assert!(all_set(&needed, &[key.clone(), pin("vault".into(), 1.into())]));
        assert!(!all_set(&needed, &[key.clone(), pin("vault".into(), Value::Null)]));
        assert!(!all_set(&needed, &[key.clone(), pin(Value::Null, 1.into())]));
        assert!(!all_set(&needed, &[key]));
    }
}
