//! Where the programs to deploy are. They are built by `fixtures/build`, never by a test.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

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

/// An upload that must be refused, by its file name.
pub fn bad_upload(name: &str) -> PathBuf {
    let path = root().join("target/guests/bad").join(name);
    assert!(path.is_file(), "{} is missing: run fixtures/build (it needs python3)", path.display());
    path
}

/// Makes the 200 MB upload in `directory`; it has no content, so it takes no disk.
pub fn too_big_upload(directory: &Path) -> PathBuf {
    let made = Command::new("python3")
        .arg(root().join("fixtures/bad/make.py"))
        .arg(directory)
        .args(["--too-big", "--guest"])
        .arg(guest("wstd-hello"))
        .status();
    assert!(made.is_ok_and(|status| status.success()), "fixtures/bad/make.py failed");
    directory.join("too-big.wasm")
}
