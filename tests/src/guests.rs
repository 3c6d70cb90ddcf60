//! Where the programs to deploy are. They are built by `fixtures/build`, never by a test.

use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository")
}

/// A guest's file.
pub fn guest(name: &str) -> PathBuf {
    let path = root().join("target/guests").join(format!("{name}.wasm"));
    assert!(path.is_file(), "{} is missing: run fixtures/build (or ./dev test)", path.display());
    path
}

/// Is a guest there that needs tools not every machine has?
pub fn has_guest(name: &str) -> bool {
    root().join("target/guests").join(format!("{name}.wasm")).is_file()
}
