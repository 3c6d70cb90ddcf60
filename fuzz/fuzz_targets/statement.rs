//! Any bytes as a blob that a node fetched, and as a statement in it.
#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code)]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::blob(bytes));
