//! Files that a manifest names: on disk, relative to the manifest, or in the package it came in.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

/// Where a manifest's files are.
pub enum Files<'a> {
    /// In a folder, and nowhere else, links followed: a project may be anybody's, too.
    Folder(&'a Path),
    /// In a package, and nowhere else: it may be anybody's.
    Package(&'a BTreeMap<String, Vec<u8>>),
}

impl Files<'_> {
    /// Reads a file of at most `bytes_max`, or says why not.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        match self {
            Files::Folder(folder) => within(folder, path)
                .and_then(|file| read_bounded(&file, bytes_max))
                .map_err(|why| format!("{path:?}: {why}")),
            Files::Package(files) => {
                let inside = inside(path).ok_or_else(|| format!("{path:?} is not in the package"))?;
                let bytes = files.get(&inside).ok_or_else(|| format!("{path:?} is not in the package"))?;
                match bytes.len() as u64 > bytes_max {
                    true => Err(format!("{path:?}: {}", too_large(bytes.len() as u64, bytes_max))),
                    false => Ok(bytes.clone()),
                }
            }
        }
    }
}

/// Where a file of a folder really is.
fn within(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let real = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
    // An empty folder is the one this runs in.
    let folder = real(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
    let file = real(&folder.join(path))?;
    match file.starts_with(&folder) {
        true => Ok(file),
        false => Err(format!("it is outside the project, which is {}", folder.display())),
    }
}

/// A relative path without `.` and `..`.
fn inside(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Reads a file of at most `bytes_max`; a pipe or device is refused, and one that grows meanwhile too.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let said = |error: io::Error| error.to_string();
    // Before opening: opening a pipe waits for its other end.
    let metadata = path.metadata().map_err(said)?;
    if !metadata.is_file() {
        return Err("it is not a file".into());
    }
    if metadata.len() > bytes_max {
        return Err(too_large(metadata.len(), bytes_max));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(said)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(said)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(too_large(bytes.len() as u64, bytes_max)),
        false => Ok(bytes),
    }
}

fn too_large(bytes: u64, bytes_max: u64) -> String {
    format!("{bytes} bytes, at most {bytes_max}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_opens_no_file_outside_itself() {
        let files = BTreeMap::from([("data/a.json".to_owned(), b"{}".to_vec())]);
        let package = Files::Package(&files);
        assert_eq!(package.read("./data/a.json", 10).unwrap(), b"{}");
        for path in ["/etc/passwd", "../a.json", "data/../../a.json", "b.json", ""] {
            let error = package.read(path, 10).unwrap_err();
            assert!(error.contains("not in the package"), "{error}");
        }
        assert!(package.read("data/a.json", 1).unwrap_err().contains("at most 1"));
    }

    #[test]
    fn a_folder_is_where_paths_begin_and_its_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"12345").unwrap();
        let files = Files::Folder(folder.path());
        assert_eq!(files.read("a", 5).unwrap(), b"12345");
        assert!(files.read("a", 4).unwrap_err().contains("5 bytes, at most 4"));
        assert!(files.read(".", 4).unwrap_err().contains("not a file"));
    }

    #[test]
    fn a_folder_opens_no_file_outside_itself() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("project");
        std::fs::create_dir_all(folder.join("b")).unwrap();
        std::fs::write(dir.path().join("secret"), b"12345").unwrap();
        std::fs::write(folder.join("a"), b"12345").unwrap();
        let absolute = dir.path().join("secret").display().to_string();
        std::os::unix::fs::symlink(&absolute, folder.join("link")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("up")).unwrap();
        let files = Files::Folder(&folder);
        for path in ["../secret", absolute.as_str(), "b/../../secret", "link", "up/secret"] {
            let error = files.read(path, 5).unwrap_err();
            assert!(error.contains("outside the project"), "{error}");
        }
        assert!(files.read("./b/../a", 5).is_ok());
    }
}
