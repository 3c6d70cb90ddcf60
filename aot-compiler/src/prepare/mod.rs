//! What is changed of an admitted program before it is compiled: sections that nothing needs go, and bulk instructions that could
//! hold a core are split.
//!
//! What the program does stays the same: results, traps and their order. The digest in a statement is that of what was uploaded.
//! Works on the bytes: only sections that change are written anew, everything else is copied as it stands. Deliberately
//! absent: anything that runs the program.
//!
//! | Module | One job |
//! |---|---|
//! | `sections` | a module or component, section by section |
//! | `bulk` | bulk instructions → calls of helpers |
//! | `helpers` | the functions that do the same in pieces |

mod bulk;
mod helpers;
mod sections;

use artifact::compile::{Refusal, RefusalCode};

use crate::intake::refuse;

/// The program to compile. Called with what intake has admitted.
pub fn prepare(wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
    sections::rewrite(wasm).map_err(|error| {
        let message =
            format!("an admitted program could not be prepared at byte {:#x}: {error}", error.offset());
        refuse(RefusalCode::Internal, message)
    })
}
