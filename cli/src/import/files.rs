//! Files that a manifest names: on disk, relative to the manifest, or in the package it came in.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Component, Path},
};

/// Where a manifest's files are.
pub enum Files<'a> {
    /// In a folder, or elsewhere if the manifest says so: it is the user's own.
    Folder(&'a Path),
    /// In a package, and nowhere else: it may be anybody's.
    Package(&'a BTreeMap<String, Vec<u8>>),
}

impl Files<'_> {
    /// Reads a file of at most `bytes_max`, or says why not.
    pub fn read(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, String> {
        match self {
            Files::Folder(folder) => {
                read_bounded(&folder.join(path), bytes_max).map_err(|why| format!("{path:?}: {why}"))
            }
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

    /// Is a path outside the project?
    pub fn is_outside(&self, path: &str) -> bool {
        inside(path).is_none()
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
        assert!(files.is_outside("../a") && files.is_outside("/a") && !files.is_outside("./b/a"));
    }
}
