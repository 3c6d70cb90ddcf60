//! Secrets on disk: made once, with mode 0600, whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use artifact::keys::{Compiler, KeyError, SecretKey};

use crate::service::Token;

pub(crate) const KEY_FILE: &str = "compiler.key";
const PUBLIC_KEY_FILE: &str = "compiler.pub";

/// A secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system.
    #[error("{doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Others can read the key.
    #[error("{0} can be read by others: run `chmod 600` on it, and make a new key if they may have read it")]
    Exposed(PathBuf),
    /// There is none, where one must not be made.
    #[error("{0} has no compiler.key: name the folder of a key that is there")]
    NoKey(PathBuf),
    /// Not a compiler key.
    #[error(
        "{path} holds no compiler key: put back a copy. A new one has to be endorsed by it (docs/operating.md), or nodes enrol anew"
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// Too short to be a secret.
    #[error("{0} holds no token of at least 32 characters: remove it to have one made")]
    Token(PathBuf),
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { doing, path, source }
}

/// The compiler key of a data directory. Both are made when missing; the public half is written beside the key.
pub fn compiler_key(data_dir: &Path) -> Result<SecretKey<Compiler>, FileError> {
    fs::create_dir_all(data_dir).map_err(io_error("making the data directory", data_dir))?;
    let path = data_dir.join(KEY_FILE);
    let text = load_or_make(&path, || Ok(SecretKey::<Compiler>::from_seed(random()?).to_text()))?;
    let key = parsed(path, &text)?;

    let public = data_dir.join(PUBLIC_KEY_FILE);
    let text = key.public().to_text();
    if fs::read_to_string(&public).ok().as_deref() != Some(&text) {
        replace(&public, text.as_bytes(), 0o644)?;
    }
    Ok(key)
}

/// The compiler key of a data directory that has one. Nothing is made.
pub fn existing_compiler_key(data_dir: &Path) -> Result<SecretKey<Compiler>, FileError> {
    let path = data_dir.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => parsed(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FileError::NoKey(data_dir.to_owned())),
        Err(error) => Err(io_error("reading", &path)(error)),
    }
}

fn parsed(path: PathBuf, text: &str) -> Result<SecretKey<Compiler>, FileError> {
    let mode = fs::metadata(&path).map_err(io_error("reading the mode of", &path))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed(path));
    }
    text.parse().map_err(|source| FileError::Key { path, source })
}

/// The token of a token file, made when missing.
pub fn token(path: &Path) -> Result<Token, FileError> {
    let text = load_or_make(path, || {
        let random: [u8; 32] = random()?;
        Ok(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
    })?;
    Token::from_text(&text).ok_or_else(|| FileError::Token(path.into()))
}

/// Writes a file others wait for: they see it whole or not at all.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = write_beside(path, content, mode)?;
    fs::rename(&temporary, path).map_err(io_error("putting in place", path))?;
    sync_folder(path)
}

fn load_or_make(path: &Path, make: impl FnOnce() -> io::Result<String>) -> Result<String, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("reading", path)(error)),
    }
    let text = make().map_err(io_error("drawing random bytes for", path))?;
    let temporary = write_beside(path, text.as_bytes(), 0o600)?;
    // A link and not a rename: it never replaces what another process made meanwhile.
    let linked = fs::hard_link(&temporary, path);
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            sync_folder(path)?;
            Ok(text)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(path).map_err(io_error("reading", path))
        }
        Err(error) => Err(io_error("making", path)(error)),
    }
}

/// Writes and syncs a new file next to `path`, under a name of this process.
fn write_beside(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf, FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let failed = || io_error("writing", &temporary);
    // Left over from a process of the same id that was killed; never a file of anyone else's.
    let _ = fs::remove_file(&temporary);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed())?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed())?;
    Ok(temporary)
}

fn sync_folder(path: &Path) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("syncing the folder of", path))
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let key = compiler_key(&data).unwrap();
        assert_eq!(fs::metadata(data.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(data.join(PUBLIC_KEY_FILE)).unwrap(), key.public().to_text());
        assert_eq!(compiler_key(&data).unwrap().public(), key.public());
        assert_eq!(fs::read_dir(&data).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn an_exposed_or_foreign_key_is_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        compiler_key(folder.path()).unwrap();
        let path = folder.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(compiler_key(folder.path()).unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "release-secret:00").unwrap();
        assert!(matches!(compiler_key(folder.path()), Err(FileError::Key { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "release-secret:00", "never replaced");
    }

    #[test]
    fn a_token_is_made_once_and_a_weak_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        token(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        token(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, "").unwrap();
        assert!(token(&path).is_err());
    }
}
