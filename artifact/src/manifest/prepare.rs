//! What is done to a program once, when it is deployed, because its app asks for it.

use serde::{Deserialize, Serialize};

use super::{Limits, bounds};

/// `[prepare]` of a `skerry.toml`. It is the deploy's matter: what comes of it is the version's program, and no part of this travels with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prepare {
    /// A function of the program that runs once, by Wizer: requests begin where it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initialize: Option<String>,
    /// Linear memory at the start of each request, MiB, where the program has less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_memory_mib: Option<u32>,
    /// How much linear memory what comes out may begin with, MiB: the app's `limits.memory_mib`. No part of a manifest: the control
    /// plane says it to the compiler service, whatever it was told itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib_max: Option<u32>,
}

impl Prepare {
    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        self.initialize.is_none() && self.initial_memory_mib.is_none()
    }

    /// What does not go with the limits of an execution.
    pub fn beyond(&self, limits: &Limits) -> Option<String> {
        let most = limits.memory_mib;
        let more = self.initial_memory_mib.filter(|mib| *mib > most)?;
        Some(format!("{more} is more than limits.memory_mib, {most}"))
    }

    /// Everything that is wrong, a key and a sentence in each.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(Err(why)) = self.initialize.as_deref().map(check_function) {
            mistakes.push(format!("initialize {why}"));
        }
        let range = bounds::MEMORY_MIB;
        if let Some(mib) = self.initial_memory_mib.filter(|mib| !range.contains(mib)) {
            let (least, most) = (range.start(), range.end());
            mistakes.push(format!("initial_memory_mib is {mib}, out of range: {least} to {most}"));
        }
        mistakes
    }
}

/// Checks a function's name.
pub(super) fn check_function(name: &str) -> Result<(), String> {
    let max = bounds::FUNCTION_NAME_BYTES_MAX;
    if name.is_empty() || name.len() > max {
        return Err(format!("has {} bytes, from 1 to {max}", name.len()));
    }
    match name.bytes().all(|c| c.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("has a character other than ASCII letters, digits and signs".into()),
    }
}
