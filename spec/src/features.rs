//! Why a module is refused, and whether a node's pool has room for it: by wasmparser, the validator of intake and engine.

use engine::{MEMORY_BYTES_MAX, TABLE_ELEMENTS_MAX, node};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

const PAGE_BYTES: u64 = 64 * 1024;

fn on() -> WasmFeatures {
    WasmFeatures::from_bits_truncate(engine::wasm_features().bits())
}

fn is_valid(wasm: &[u8], features: WasmFeatures) -> bool {
    Validator::new_with_features(features).validate_all(wasm).is_ok()
}

/// The features without which the module is invalid and that the engine has switched off; none if it is valid, or invalid
/// with every feature.
pub fn missing(wasm: &[u8]) -> Vec<String> {
    let mut features = WasmFeatures::all();
    if is_valid(wasm, on()) || !is_valid(wasm, features) {
        return vec![];
    }
    for (_, feature) in WasmFeatures::all().difference(on()).iter_names() {
        if is_valid(wasm, features.difference(feature)) {
            features.remove(feature);
        }
    }
    let needed = features.difference(on());
    needed.iter_names().map(|(name, _)| name.to_lowercase().replace('_', "-")).collect()
}

/// What of a valid module is larger than a node's pool has room for.
pub fn beyond_pool(wasm: &[u8]) -> Option<String> {
    let (mut memories, mut tables) = (0, 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.ok()? {
            Payload::MemorySection(section) => {
                memories = section.count();
                let large = |pages: u64| pages.saturating_mul(PAGE_BYTES) > MEMORY_BYTES_MAX as u64;
                if section.into_iter().flatten().any(|memory| large(memory.initial)) {
                    return Some(format!("a memory of more than {} MiB", MEMORY_BYTES_MAX >> 20));
                }
            }
            Payload::TableSection(section) => {
                tables = section.count();
                if section.into_iter().flatten().any(|table| table.ty.initial > TABLE_ELEMENTS_MAX as u64) {
                    return Some(format!("a table of more than {TABLE_ELEMENTS_MAX} elements"));
                }
            }
            _ => {}
        }
    }
    if memories > node::MEMORIES_PER_MODULE_MAX {
        return Some(format!("more than {} memory", node::MEMORIES_PER_MODULE_MAX));
    }
    (tables > node::TABLES_PER_MODULE_MAX)
        .then(|| format!("more than {} tables", node::TABLES_PER_MODULE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wasm(text: &str) -> Vec<u8> {
        let buffer = wast::parser::ParseBuffer::new(text).unwrap();
        wast::parser::parse::<wast::Wat<'_>>(&buffer).unwrap().encode().unwrap()
    }

    #[test]
    fn only_what_is_switched_off_is_named() {
        assert_eq!(missing(&wasm("(module (memory i64 1))")), ["memory64"]);
        assert_eq!(missing(&wasm("(module (func (param externref)))")), ["gc-types"]);
        assert!(missing(&wasm("(module (func (result i32)))")).is_empty(), "invalid with every feature");
        assert!(missing(&wasm("(module (memory 1))")).is_empty(), "valid");
    }

    #[test]
    fn what_intake_refuses_by_size_is_beyond_the_pool() {
        assert!(beyond_pool(&wasm("(module (memory 1) (memory 1))")).is_some());
        assert!(beyond_pool(&wasm("(module (memory 2049))")).is_some());
        assert!(beyond_pool(&wasm("(module (table 65537 funcref))")).is_some());
        assert!(beyond_pool(&wasm("(module (memory 2048) (table 65536 funcref))")).is_none());
    }
}
