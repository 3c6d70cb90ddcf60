//! Any bytes in; out comes a program a lane can run, or one sentence that says why not.
//!
//! The order is from cheap to dear: empty → not wasm at all → too large → header → caps and full validation → shape
//! of the lane → imports. Relies on wasmparser of the very version and feature set the engine validates with, so
//! what is admitted here compiles. Absent on purpose: anything that changes the program, and any trust in it: a
//! compile job runs this inside its own capped process.

mod advice;
mod component;
mod core_module;
mod functions;
pub mod limits;
mod looks;
pub mod offers;
mod walk;

use artifact::{
    Lane,
    compile::{Advice, Refusal, RefusalCode, WASM_BYTES_MAX},
};
use serde::{Deserialize, Serialize};

pub use walk::Shape;

/// A program that one of the lanes can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The guest interface it is written for.
    pub lane: Lane,
    /// What it may ask of a host, sorted: interface names of a component (`wasi:http/types@0.2.3`), `module#name` of
    /// a core module's functions.
    pub imports: Vec<String>,
    /// How large it is in the terms of the caps.
    pub shape: Shape,
    /// What of it costs its requests time and could be otherwise.
    pub advice: Vec<Advice>,
}

/// The eight bytes every WebAssembly file starts with: `\0asm`, a version and a layer.
const HEADER_BYTES: usize = 8;
/// Version 1, layer 0.
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];
/// Version 13, layer 1: the component model's one binary version so far.
const COMPONENT: [u8; 4] = [13, 0, 1, 0];

/// Admits a program or says why not. The refusal's message is for the uploader: it names the byte offset, the import
/// or the limit.
pub fn admit(wasm: &[u8]) -> Result<Admitted, Refusal> {
    let lane = lane_of(wasm)?;
    let walked = walk::walk(wasm)?;
    let imports = match lane {
        Lane::Wasi => component::check(&walked)?,
        Lane::Fastly => core_module::check(&walked)?,
    };
    limits::check_imports(&imports)?;
    Ok(Admitted { lane, imports, shape: walked.shape, advice: walked.advice })
}

/// The lane a program's first bytes speak of: components are of the wasi lane, core modules of the fastly lane.
/// Looks at the length and the first few hundred bytes only, so it may run outside a job.
pub fn lane_of(wasm: &[u8]) -> Result<Lane, Refusal> {
    if wasm.is_empty() {
        return Err(refuse(
            RefusalCode::Empty,
            "the upload is empty (0 bytes): give the path of a built .wasm file",
        ));
    }
    let Some(rest) = wasm.strip_prefix(b"\0asm") else {
        return Err(refuse(RefusalCode::NotWasm, looks::like(wasm)));
    };
    if wasm.len() as u64 > WASM_BYTES_MAX {
        let mib = WASM_BYTES_MAX >> 20;
        return Err(refuse(
            RefusalCode::Limit,
            format!("the program is {} bytes, at most {WASM_BYTES_MAX} ({mib} MiB) are taken", wasm.len()),
        ));
    }
    let Some(version) = rest.first_chunk::<4>() else {
        let message = format!(
            "the file ends at byte {} inside its {HEADER_BYTES}-byte header: it was cut short",
            wasm.len()
        );
        return Err(refuse(RefusalCode::Invalid, message));
    };
    match *version {
        CORE_MODULE => Ok(Lane::Fastly),
        COMPONENT => Ok(Lane::Wasi),
        [a, b, c, d] => Err(refuse(
            RefusalCode::Invalid,
            format!(
                "at byte 4: WebAssembly version {}, layer {} is unknown; core modules are version 1, layer 0 and \
                 components version 13, layer 1: build with a current toolchain",
                u16::from_le_bytes([a, b]),
                u16::from_le_bytes([c, d]),
            ),
        )),
    }
}

pub(crate) fn refuse(code: RefusalCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

/// A name out of an upload as it may stand in a message: bounded, control characters escaped.
pub(crate) fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut text: String = name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}
