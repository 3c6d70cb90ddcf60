//! How a project's program is made. It is the developer's own tools' matter: no part of it travels with a version.

use super::bounds;

/// `[build]` of a `skerry.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Makes the program: a line for `sh -c`, run in the manifest's folder.
    pub command: String,
    /// Files and folders whose change means another build, relative to the manifest. `None`: it does not say.
    pub watch: Option<Vec<String>>,
    /// Tests the program: a line for `sh -c`, run in the manifest's folder.
    pub test: Option<String>,
}

/// Checks a line for the shell.
pub(super) fn check_command(command: &str) -> Result<(), String> {
    let max = bounds::COMMAND_BYTES_MAX;
    if command.trim().is_empty() {
        return Err("is empty".into());
    }
    if command.len() > max {
        return Err(format!("{} bytes, at most {max}; a longer one belongs into a script", command.len()));
    }
    match command.contains('\0') {
        true => Err("has a NUL character".into()),
        false => Ok(()),
    }
}

/// Checks one path of `watch`.
pub(super) fn check_watched(path: &str) -> Result<(), String> {
    let max = bounds::WATCH_PATH_BYTES_MAX;
    let shown: String = path.chars().take(80).collect();
    if path.is_empty() || path.len() > max {
        return Err(format!("a path of {} bytes, from 1 to {max}", path.len()));
    }
    if path.starts_with('/') {
        return Err(format!("{shown:?} is absolute: paths are relative to the manifest"));
    }
    if path.contains(['*', '?']) {
        return Err(format!("{shown:?} is a pattern: name files, or folders, which stand for all in them"));
    }
    match path.chars().any(char::is_control) {
        true => Err(format!("{shown:?} has a control character")),
        false => Ok(()),
    }
}
