//! What programs made with the SDK weigh and import: read from the components as they are built.

use std::{collections::BTreeSet, fs};

use wasmparser::{Parser, Payload};
use whole_flow::guest;

/// Bytes that `examples/hello` may have: the number, a good half more than the bare bindings weigh.
const HELLO_BYTES_MAX: u64 = 120 * 1024;

/// What std itself imports, for its streams, its exit and the seed of its hashes, and what answering is.
const HELLO_IMPORTS: [&str; 15] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
];

/// Interfaces that a component imports, without their versions.
fn imports(name: &str) -> BTreeSet<String> {
    let bytes = fs::read(guest(name)).unwrap();
    let mut found = BTreeSet::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let name = import.unwrap().name.name.to_owned();
                    found.insert(name.split('@').next().unwrap_or_default().to_owned());
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_hello_is_small() {
    let bytes = fs::metadata(guest("hello")).unwrap().len();
    assert!(bytes <= HELLO_BYTES_MAX, "{bytes} bytes, more than {HELLO_BYTES_MAX}");
}

#[test]
fn a_hello_imports_what_answering_needs_and_nothing_else() {
    let found = imports("hello");
    assert!(found.contains("wasi:http/types"), "{found:?}");
    let more: Vec<_> = found.iter().filter(|import| !HELLO_IMPORTS.contains(&import.as_str())).collect();
    assert!(more.is_empty(), "{more:?}");
}

/// The same crate, another program: so a hello lacks them because it does not call them.
#[test]
fn a_program_that_uses_all_imports_all() {
    let found = imports("conformance-rust");
    for used in
        ["wasi:http/outgoing-handler", "wasi:keyvalue/store", "wasi:config/store", "wasi:random/random"]
    {
        assert!(found.contains(used), "{used} is not in {found:?}");
    }
    assert!(!found.contains("wasi:keyvalue/batch"), "it calls nothing of it: {found:?}");
}
