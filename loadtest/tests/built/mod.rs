//! What the commands need: the built servers beside them and the guests, as `./dev test` makes them.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder of the guests, or nothing where something is missing.
pub fn guests() -> Option<PathBuf> {
    let command = Path::new(env!("CARGO_BIN_EXE_loadtest"));
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    let servers =
        ["skerry", "aot-compiler", "control-plane", "edge-node"].map(|name| command.with_file_name(name));
    let hellos = ["fastly-hello", "wasi-hello", "wstd-hello"].map(|name| guests.join(format!("{name}.wasm")));
    let Some(file) = servers.iter().chain(&hellos).find(|file| !file.is_file()) else { return Some(guests) };
    let must = env::var("SKERRY_TESTS_MUST_NOT_SKIP").is_ok_and(|value| value == "1");
    assert!(!must, "{} is missing", file.display());
    eprintln!("SKIPPED: {} is missing; ./dev test makes it", file.display());
    None
}
