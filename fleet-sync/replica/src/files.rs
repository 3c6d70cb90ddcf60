//! Writing a file so that after a crash it is there whole or not at all: temporary name, fsync, rename, fsync of the
//! directory.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Owner may read and write, nobody else may anything: keys.
pub(crate) const SECRET: u32 = 0o600;

/// Makes the file if it is missing, for the owner alone; takes a present one from everybody else.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).mode(SECRET).open(path)?;
    file.set_permissions(Permissions::from_mode(SECRET))
}

/// Makes the directory if it is missing, for the owner alone. A present one is the operator's business.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts `bytes` at `path` atomically and durably. `unique` keeps two writers of one file apart.
pub(crate) fn write_atomically(path: &Path, unique: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let temporary = directory.join(format!(".{name}.{unique}.tmp"));
    let written = (|| {
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    File::open(directory)?.sync_all()
}
