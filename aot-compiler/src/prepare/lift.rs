//! Core module with component types → component, as `wit-bindgen` and a linker leave it when nobody put it together.
//!
//! The encoder is `wit-component`, which the `skerry component` of the CLI uses too; there the types come from names, here from
//! custom sections. It is given what intake has validated. Those sections are not: an encoder that stops at them ends this
//! program's compilation and no other. Deliberately absent: adapters of WASI preview 1.

use std::panic::{AssertUnwindSafe, catch_unwind};

use artifact::compile::{Refusal, RefusalCode};
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::intake::{limits, refuse, shown};

const PREVIEW1: &str = "wasi_snapshot_preview1";

/// What of a core module says whether it can be lifted.
#[derive(Debug, Default)]
pub struct Half {
    sections: usize,
    bytes: usize,
    /// A function it imports of WASI preview 1.
    preview1: Option<String>,
}

/// Is this core module one half of a component?
pub fn half(wasm: &[u8]) -> Option<Half> {
    let mut half = Half::default();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                half.sections += 1;
                half.bytes += section.data().len();
            }
            Payload::ImportSection(section) => {
                let mut imports = section.into_imports().flatten();
                half.preview1 =
                    imports.find(|import| import.module == PREVIEW1).map(|import| shown(import.name));
            }
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => return None,
            _ => {}
        }
    }
    (half.sections > 0).then_some(half)
}

/// The component.
pub fn lifted(wasm: &[u8], half: &Half) -> Result<Vec<u8>, Refusal> {
    if let Some(function) = &half.preview1 {
        let message = format!(
            "the core module carries component types and imports {PREVIEW1}.{function}: only an adapter makes a component of \
             it; build it for wasm32-wasip2, or run `wasm-tools component new --adapt`"
        );
        return Err(refuse(RefusalCode::WrongModule, message));
    }
    limits::at_most(
        half.sections as u64,
        limits::COMPONENT_TYPE_SECTIONS_MAX,
        "sections of component types",
    )?;
    limits::at_most(half.bytes as u64, limits::COMPONENT_TYPE_BYTES_MAX, "bytes of component types")?;
    let encoded =
        catch_unwind(AssertUnwindSafe(|| ComponentEncoder::default().module(wasm)?.validate(true).encode()));
    let why = match encoded {
        Ok(Ok(component)) => return Ok(component),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "they are such as no toolchain writes".to_owned(),
    };
    let message = format!(
        "the core module carries component types, but no component could be made of it: {}",
        shown(&why)
    );
    Err(refuse(RefusalCode::Invalid, message))
}
