//! Writing a file so that after a crash it is there whole or not at all: temporary name, fsync, rename, fsync of the
//! directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// Owner may read and write, nobody else may anything: keys.
pub(crate) const SECRET: u32 = 0o600;

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
