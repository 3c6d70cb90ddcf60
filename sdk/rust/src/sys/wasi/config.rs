//! `wasi:config`, as its last draft has it.

use super::drafts::wasi::config::store;
use crate::config::ConfigError;

pub(crate) fn get(key: &str) -> Result<Option<String>, ConfigError> {
    store::get(key).map_err(failed)
}

pub(crate) fn all() -> Result<Vec<(String, String)>, ConfigError> {
    store::get_all().map_err(failed)
}

fn failed(error: store::Error) -> ConfigError {
    match error {
        store::Error::Upstream(text) | store::Error::Io(text) => ConfigError(text),
    }
}
