//! What the fuzzer kept (`./dev fuzz`), on stable Rust: every input once.

use std::{fs, path::Path};

#[path = "../../fuzz/checks.rs"]
mod checks;

/// Runs a check on every input of a folder; how many there are.
fn each(folder: &str, check: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(folder);
    let inputs: Vec<_> =
        fs::read_dir(&folder).expect("it is kept").map(|entry| entry.unwrap().path()).collect();
    for input in &inputs {
        eprintln!("{}", input.display()); // shown with a panic
        check(&fs::read(input).unwrap());
    }
    inputs.len()
}

#[test]
fn no_input_that_the_fuzzer_kept_breaks_anything() {
    assert!(each("intake", checks::upload) > 50);
    assert!(each("statement", checks::blob) > 5);
}
