//! A project's files on the disk: all of them or none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::template::File;
use crate::error::{Error, Result};

/// Writes into a folder beside `folder` and renames it, so that whoever interrupts it finds nothing half done.
pub fn project(folder: &Path, files: &[File]) -> Result<()> {
    let doing = || format!("making {}", folder.display());
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Error::Usage(format!(
            "{} is there already and not empty; choose another name, or a folder with --dir",
            folder.display()
        )));
    }
    let beside = beside(folder);
    let made = all(&beside, files).and_then(|()| move_to(&beside, folder));
    made.map_err(|cause| {
        let _ = fs::remove_dir_all(&beside);
        Error::io(doing())(cause)
    })
}

/// An empty folder that is there may be somebody's current one, and stays the same folder.
fn move_to(made: &Path, folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return fs::rename(made, folder);
    }
    for entry in fs::read_dir(made)? {
        let entry = entry?;
        fs::rename(entry.path(), folder.join(entry.file_name()))?;
    }
    fs::remove_dir(made)
}

fn all(root: &Path, files: &[File]) -> io::Result<()> {
    fs::create_dir_all(root)?;
    for file in files {
        let path = root.join(&file.path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, &file.bytes)?;
    }
    Ok(())
}

fn beside(folder: &Path) -> PathBuf {
    // `.` has no name of its own; within the folder it is on the same disk, too.
    let name = format!(".new-{}", std::process::id());
    match folder.file_name() {
        Some(own) => folder.with_file_name(format!(".{}{name}", own.to_string_lossy())),
        None => folder.join(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        File { path: path.into(), bytes: b"x".to_vec() }
    }

    #[test]
    fn all_of_a_project_or_nothing() {
        let here = tempfile::tempdir().unwrap();
        let folder = here.path().join("deep/shop");
        project(&folder, &[file("src/lib.rs"), file("skerry.toml")]).unwrap();
        assert!(folder.join("src/lib.rs").is_file());
        // A file where a folder has to be: nothing stays behind.
        let other = here.path().join("other");
        let error = project(&other, &[file("a"), file("a/b")]).unwrap_err();
        assert!(error.report().contains("other"), "{}", error.report());
        assert_eq!(fs::read_dir(here.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("mine"), "mine").unwrap();
        let error = project(here.path(), &[file("mine")]).unwrap_err();
        assert!(error.to_string().contains("--dir"), "{error}");
        assert_eq!(fs::read(here.path().join("mine")).unwrap(), b"mine");
        let empty = here.path().join("empty");
        fs::create_dir(&empty).unwrap();
        project(&empty.join("."), &[file("a"), file("b/c")]).unwrap();
        assert!(empty.join("b/c").is_file() && fs::read_dir(&empty).unwrap().count() == 2);
    }
}
