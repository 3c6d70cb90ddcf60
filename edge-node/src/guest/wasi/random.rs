//! `wasi:random`. The insecure interfaces get secure bytes: nothing is gained by a second generator.

use wasmtime::Result;

use super::{At, Cx};
use crate::host::random;

/// Links what a guest imports of `random`, `insecure` and `insecure-seed`.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "get-random-bytes" | "get-insecure-random-bytes" => at.func_wrap(name, bytes),
        "get-random-u64" | "get-insecure-random-u64" => {
            at.func_wrap(name, |cx: Cx<'_>, (): ()| Ok((random::number(&cx.data().exchange)?,)))
        }
        "insecure-seed" => at.func_wrap(name, |cx: Cx<'_>, (): ()| {
            let exchange = &cx.data().exchange;
            Ok(((random::number(exchange)?, random::number(exchange)?),))
        }),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn bytes(cx: Cx<'_>, (length,): (u64,)) -> Result<(Vec<u8>,)> {
    // What does not fit is over the bound as well.
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok((random::bytes(&cx.data().exchange, length)?,))
}
