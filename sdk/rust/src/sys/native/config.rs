//! Settings of a test's world.

use super::world;
use crate::config::ConfigError;

pub(crate) fn get(key: &str) -> Result<Option<String>, ConfigError> {
    Ok(world(|world| world.config.get(key).cloned()))
}

pub(crate) fn all() -> Result<Vec<(String, String)>, ConfigError> {
    Ok(world(|world| world.config.clone().into_iter().collect()))
}
