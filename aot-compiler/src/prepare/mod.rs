//! What is changed of a program before it is compiled: half of a component becomes one, sections that nothing needs go, and bulk
//! instructions that could hold a core are split.
//!
//! What the program does stays the same: results, traps and their order. The digest in a statement is that of what was uploaded.
//! Works on the bytes: only sections that change are written anew, everything else is copied as it stands. Deliberately
//! absent: anything that runs the program.
//!
//! | Module | One job |
//! |---|---|
//! | `lift` | a core module with component types → a component |
//! | `sections` | a module or component, section by section |
//! | `bulk` | bulk instructions → calls of helpers |
//! | `helpers` | the functions that do the same in pieces |

mod bulk;
mod helpers;
mod lift;
pub(crate) mod sections;

use artifact::compile::{Refusal, RefusalCode};

use crate::intake::{self, Admitted, refuse};

/// The program as a lane runs it, with what intake found: as it was uploaded, or lifted if it is half of a component.
pub fn taken(wasm: Vec<u8>) -> Result<(Vec<u8>, Admitted), Refusal> {
    let why = match intake::admit(&wasm) {
        Ok(admitted) => return Ok((wasm, admitted)),
        Err(why) => why,
    };
    // Valid, but no module of the fastly lane: what is one may carry component types, of libraries that it does not use.
    let is_valid = matches!(why.code, RefusalCode::WrongModule | RefusalCode::UnknownImport);
    let Some(half) = is_valid.then(|| lift::half(&wasm)).flatten() else { return Err(why) };
    let component = lift::lifted(&wasm, &half)?;
    let admitted = intake::admit(&component)?;
    Ok((component, admitted))
}

/// The program to compile. Called with what intake has admitted.
pub fn prepare(wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    sections::rewrite(wasm).map_err(|error| {
        let message =
            format!("an admitted program could not be prepared at byte {:#x}: {error}", error.offset());
        refuse(RefusalCode::Internal, message)
    })
}
