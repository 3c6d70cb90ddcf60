//! The files of a folder. What is hidden is skipped, but for `.well-known` (RFC 8615), and so is what is no plain file: a link
//! may lead anywhere, and what it leads to may be nobody's to publish. What was skipped is said.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use artifact::{
    assets::{ASSETS_BYTES_MAX, FILES_MAX, PATH_BYTES_MAX, check_path},
    visible,
};

use super::refused;
use crate::error::{Error, Result};

/// The one hidden folder that is meant to be seen.
const WELL_KNOWN: &str = ".well-known";
/// Names a note has; it counts the others.
const NAMED_MAX: usize = 3;
/// Entries looked at: many more than may be files, so that a wrong folder is noticed and not read for minutes.
const ENTRIES_MAX: usize = 10 * FILES_MAX;

/// What was found.
pub struct Walked {
    /// Path within the folder, with `/`, and where it lies; in order.
    pub files: Vec<(String, PathBuf)>,
    /// What was skipped, for a person.
    pub notes: Vec<String>,
}

/// Looks through `folder` and the folders in it.
pub fn walk(folder: &Path) -> Result<Walked> {
    // A link may lead to anything of this user's, and the manifest may be a stranger's.
    if fs::symlink_metadata(folder).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(refused(folder, "it is a link: name the folder itself"));
    }
    let mut bytes = 0;
    let (mut files, mut hidden, mut odd) = (Vec::new(), Vec::new(), Vec::new());
    let mut folders = vec![(String::new(), folder.to_owned())];
    let mut entries = 0;
    while let Some((prefix, at)) = folders.pop() {
        let reading = || format!("reading the folder of static files {}", at.display());
        let listed = fs::read_dir(&at).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::Usage(format!(
                "there is no folder {}; skerry.toml names it under [assets]",
                at.display()
            )),
            _ => Error::io(reading())(cause),
        })?;
        for entry in listed {
            let entry = entry.map_err(Error::io(reading()))?;
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(refused(
                    folder,
                    &format!("more than {ENTRIES_MAX} entries: is it the right folder?"),
                ));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(refused(folder, &format!("{} is not UTF-8: rename it", entry.path().display())));
            };
            let path = format!("{prefix}{name}");
            if name.starts_with('.') && path != WELL_KNOWN {
                hidden.push(path);
                continue;
            }
            if path.len() > PATH_BYTES_MAX || check_path(&path).is_err() {
                let why = check_path(&path).err().unwrap_or_default();
                return Err(refused(folder, &format!("{path:?}: {why}")));
            }
            // Of the entry itself: a link is one, whatever it leads to.
            let kind = entry.file_type().map_err(Error::io(reading()))?;
            if kind.is_dir() {
                folders.push((format!("{path}/"), entry.path()));
            } else if kind.is_file() {
                // Before anything is read: hours of compressing would end in the same refusal.
                bytes += entry.metadata().map_err(Error::io(reading()))?.len();
                if bytes > ASSETS_BYTES_MAX {
                    return Err(refused(
                        folder,
                        &format!("more than {ASSETS_BYTES_MAX} bytes, the most an app may have"),
                    ));
                }
                files.push((path, entry.path()));
            } else {
                odd.push(path);
            }
        }
    }
    files.sort();
    let notes = [note("hidden", hidden), note("links and special files", odd)];
    Ok(Walked { files, notes: notes.into_iter().flatten().collect() })
}

fn note(what: &str, mut skipped: Vec<String>) -> Option<String> {
    skipped.sort();
    let more = match skipped.len() {
        0 => return None,
        some if some > NAMED_MAX => format!(" and {} more", some - NAMED_MAX),
        _ => String::new(),
    };
    skipped.truncate(NAMED_MAX);
    let names = skipped.join(", ");
    Some(format!("static files: skipped, {what}: {}{more}", visible::for_people(&names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_or_a_link_is_skipped_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), b"x").unwrap();
        for path in [
            "a.css",
            "b/c.html",
            ".well-known/security.txt",
            ".git/config",
            ".env",
            "b/.hidden",
            "b/.DS_Store",
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
        std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("secret.txt")).unwrap();
        std::os::unix::fs::symlink("a.css", folder.path().join("same.css")).unwrap();
        let Walked { files, notes } = walk(folder.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [".well-known/security.txt", "a.css", "b/c.html"]);
        assert_eq!(
            notes,
            [
                "static files: skipped, hidden: .env, .git, b/.DS_Store and 1 more",
                "static files: skipped, links and special files: out, same.css, secret.txt",
            ]
        );
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a\\b"), b"x").unwrap();
        assert!(walk(folder.path()).err().unwrap().to_string().contains("backslash"));
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(walk(&link).err().unwrap().report().contains("is a link"));
        fs::File::create(other.path().join("huge")).unwrap().set_len(ASSETS_BYTES_MAX + 1).unwrap();
        assert!(walk(other.path()).err().unwrap().report().contains("the most an app may have"));
        let gone = walk(&folder.path().join("gone")).err().unwrap();
        assert!(gone.to_string().contains("[assets]"), "{gone}");
    }
}
