//! `wasi:config`: the configuration of the version, its default store.

use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower},
};

use super::{At, Cx};
use crate::host::config::{self, NoStore};

/// What the drafts call an error.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
#[allow(dead_code)] // nothing is read from anywhere when it is asked for
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

impl From<NoStore> for Error {
    fn from(error: NoStore) -> Error {
        Error::Upstream(error.to_string())
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "get" => at.func_wrap(name, |cx: Cx<'_>, (key,): (String,)| {
            Ok((config::get(&cx.data().exchange, None, &key).map_err(Error::from),))
        }),
        "get-all" => at.func_wrap(name, |cx: Cx<'_>, (): ()| {
            let entries = config::entries(&cx.data().exchange, None).map_err(Error::from);
            Ok((entries.map(|entries| entries.into_iter().collect::<Vec<_>>()),))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}
