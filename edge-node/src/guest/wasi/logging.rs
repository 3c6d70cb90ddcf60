//! `wasi:logging`: entries of the log, named by their context.

use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower, WasmStr},
};

use super::{At, Cx};
use crate::host::log;

/// How much an entry matters.
#[derive(Debug, Clone, Copy, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code)] // guests make them
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        // The texts stay where they are: the log takes as much of them as it keeps.
        "log" => at.func_wrap(name, |cx: Cx<'_>, (level, context, message): (Level, WasmStr, WasmStr)| {
            let (context, message) = (context.to_str(&cx)?, message.to_str(&cx)?);
            log::entry(&cx.data().exchange, &context, &[level.name(), ": ", &message].map(str::as_bytes));
            Ok(())
        })?,
        _ => return Ok(false),
    }
    Ok(true)
}
