//! A larger initial memory. Nothing else of the program changes, but the program sees it: `memory.size` says so from the start.

use artifact::compile::{Refusal, RefusalCode};
use wasm_encoder::{Encode as _, MemoryType};
use wasmparser::{MemorySectionReader, Result};

use crate::{
    intake::refuse,
    prepare::sections::{self, Section, core},
};

const PAGES_PER_MIB: u64 = 16;

/// The program with so much memory from the start, where it has less.
pub fn raised(wasm: &[u8], mib: u32) -> Result<Vec<u8>, Refusal> {
    let pages = u64::from(mib) * PAGES_PER_MIB;
    let mut found = Found::default();
    let changed = sections::edited(wasm, &mut |section| memories(section, pages, &mut found));
    let changed = changed.map_err(|error| {
        let message = format!(
            "an admitted program's memory could not be raised at byte {:#x}: {error}",
            error.offset()
        );
        refuse(RefusalCode::Internal, message)
    })?;
    let why = match (found.memories, found.maximum) {
        (1, None) => return Ok(changed),
        (1, Some(maximum)) => {
            let maximum = maximum / PAGES_PER_MIB;
            format!("its memory has {maximum} MiB at most: raise --max-memory of the linker, or ask for less")
        }
        (0, _) => "the program has no memory".to_owned(),
        (several, _) => {
            format!("the program has {several} memories, and it would not be clear which one is meant")
        }
    };
    Err(refuse(RefusalCode::Invalid, format!("[prepare] initial_memory_mib = {mib}: {why}")))
}

#[derive(Default)]
struct Found {
    memories: u32,
    /// Of one that may not be so large.
    maximum: Option<u64>,
}

/// A memory section, written anew.
fn memories(section: &Section<'_>, pages: u64, found: &mut Found) -> Result<Option<Vec<u8>>> {
    if section.id != core::MEMORY {
        return Ok(None);
    }
    let memories = MemorySectionReader::new(section.reader())?;
    let mut out = Vec::new();
    memories.count().encode(&mut out);
    for memory in memories {
        let memory = memory?;
        found.memories += 1;
        found.maximum = found.maximum.or(memory.maximum.filter(|maximum| *maximum < pages));
        let raised = MemoryType {
            minimum: memory.initial.max(pages),
            maximum: memory.maximum,
            memory64: memory.memory64,
            shared: memory.shared,
            page_size_log2: memory.page_size_log2,
        };
        raised.encode(&mut out);
    }
    Ok(Some(out))
}
