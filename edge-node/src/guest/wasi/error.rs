//! `wasi:io/error`: why a stream failed. Every stream that can fail here is a body, so every error is one of HTTP.

use wasmtime::{Result, component::Resource};

use super::{At, Cx, http_types::ErrorCode};

/// See the module.
pub struct IoError(pub ErrorCode);

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "[method]error.to-debug-string" => at.func_wrap(name, to_debug_string)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn to_debug_string(cx: Cx<'_>, (error,): (Resource<IoError>,)) -> Result<(String,)> {
    Ok((format!("{:?}", cx.data().handles.get(&error)?.0),))
}
