//! A program with its start behind it: what an app asks for under `[prepare]`, done once, when it is deployed.
//!
//! Wizer runs a function of the program and makes its memory and globals the initial ones; a larger initial memory saves growing
//! it in each request. What comes out is a program like any other: it is stored, named by its digest and compiled as if it had been
//! uploaded so. Relies on the [job](crate::job), since this runs the uploader's code: interpreted, so that no memory has
//! to be executable; with fuel; with no import but traps, so that nothing of the world (clock, random numbers, configuration) can
//! get into it. The same program and wish give the same bytes. Deliberately absent: anything that nobody asked for.
//!
//! | Module | One job |
//! |---|---|
//! | `core_module`, `component` | run it, and let Wizer read what came of it |
//! | `memory` | raise the initial memory |
//! | `state` | the store with its limits; what its end means in words |

mod component;
mod core_module;
mod memory;
mod state;

use std::panic::{AssertUnwindSafe, catch_unwind};

use artifact::{
    Lane,
    compile::{Refusal, RefusalCode},
    manifest::Prepare,
};
use wasmparser::{ComponentExternalKind, ExternalKind, Parser, Payload};

use crate::{
    compile::chain,
    intake::{Admitted, refuse},
    prepare::taken,
};

/// The program as its app wants it, taken in again.
pub fn initialised(wasm: Vec<u8>, wish: &Prepare) -> Result<(Vec<u8>, Admitted), Refusal> {
    let mistakes = wish.mistakes();
    if !mistakes.is_empty() {
        return Err(refuse(RefusalCode::Invalid, mistakes.join("; ")));
    }
    let (mut wasm, admitted) = taken(wasm)?;
    if let Some(function) = &wish.initialize {
        wasm = run(&wasm, admitted.lane, function)?;
    }
    if let Some(mib) = wish.initial_memory_mib {
        wasm = memory::raised(&wasm, mib)?;
    }
    let (wasm, admitted) = taken(wasm)?;
    check_memory(admitted.shape.memory_initial_bytes_largest, wish)?;
    Ok((wasm, admitted))
}

/// A program that begins with more memory than a request of its app may have would fail in each.
fn check_memory(bytes: u64, wish: &Prepare) -> Result<(), Refusal> {
    let mib = bytes.div_ceil(1 << 20);
    match wish.memory_mib_max.filter(|most| mib > u64::from(*most)) {
        None => Ok(()),
        Some(most) => {
            let message = format!(
                "the prepared program begins with {mib} MiB of memory, more than limits.memory_mib, {most}: raise it, or initialize with less memory"
            );
            Err(refuse(RefusalCode::Invalid, message))
        }
    }
}

/// Does the outermost module or component export a function of this name?
fn exports(wasm: &[u8], function: &str) -> bool {
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm).flatten() {
        let found = match payload {
            Payload::Version { .. } => {
                depth += 1;
                false
            }
            Payload::End(_) => {
                depth -= 1;
                false
            }
            Payload::ExportSection(section) if depth == 1 => section
                .into_iter()
                .flatten()
                .any(|export| export.name == function && export.kind == ExternalKind::Func),
            Payload::ComponentExportSection(section) if depth == 1 => section
                .into_iter()
                .flatten()
                .any(|export| export.name.name == function && export.kind == ComponentExternalKind::Func),
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

fn run(wasm: &[u8], lane: Lane, function: &str) -> Result<Vec<u8>, Refusal> {
    // Before it is compiled, which takes a large program seconds.
    if !exports(wasm, function) {
        let message = format!("initializing with {function}: the program exports no function of that name");
        return Err(refuse(RefusalCode::Invalid, message));
    }
    let engine = engine::compiler::interpreter().map_err(|error| {
        refuse(RefusalCode::Internal, format!("making the interpreter: {}", chain(&error)))
    })?;
    // Wizer panics where it meets what it does not know.
    let ran = catch_unwind(AssertUnwindSafe(|| match lane {
        Lane::Fastly => core_module::run(&engine, wasm, function),
        Lane::Wasi => component::run(&engine, wasm, function),
    }));
    match ran {
        Ok(Ok(wasm)) => Ok(wasm),
        Ok(Err(error)) => Err(state::refusal(&error, function)),
        Err(_) => Err(refuse(
            RefusalCode::Invalid,
            format!("initializing with {function}: the program has something that Wizer does not know"),
        )),
    }
}
