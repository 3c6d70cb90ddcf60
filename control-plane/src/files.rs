//! Secret files: read, or made at first start with mode 0600; and files that are replaced atomically.
//!
//! Relies on `rename` within one directory being atomic. Deliberately absent: what is in them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Largest key or token file, in bytes: every one is a line or a short PEM block.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Work on one of our files failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}")]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The file's text.
pub fn read(path: &Path) -> Result<String, FileError> {
    let fail = |source| FileError { doing: "reading", path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(fail)?;
    file.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

/// The file's text; if there is no such file, it is made with what `make` returns and mode 0600.
pub fn read_or_make_secret(path: &Path, make: impl FnOnce() -> String) -> Result<String, FileError> {
    if path.exists() {
        return read(path);
    }
    let text = make();
    replace(path, &text, Mode::Secret)?;
    Ok(text)
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The owner only, 0600.
    Secret,
    /// Anyone, 0644.
    Public,
}

/// Writes the file durably and in one step: a reader sees the old text or the new one, also after a power cut.
pub fn replace(path: &Path, text: &str, mode: Mode) -> Result<(), FileError> {
    let fail = |source| FileError { doing: "writing", path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let bits = match mode {
        Mode::Secret => 0o600,
        Mode::Public => 0o644,
    };
    // A leftover of an earlier crash could have another mode.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(bits).open(&temporary).map_err(fail)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&temporary, path).map_err(fail)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(read_or_make_secret(&path, || "first".into()).unwrap(), "first");
        assert_eq!(read_or_make_secret(&path, || "second".into()).unwrap(), "first");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_error_names_the_file() {
        let error = read(Path::new("/no/such/file")).unwrap_err();
        assert_eq!(error.to_string(), "reading /no/such/file");
    }
}
