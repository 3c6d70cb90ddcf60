//! Which app is meant where none is named: the one whose folder one stands in, or below.
//!
//! Only its name is read, so that a manifest with mistakes does not keep anybody from looking at what is live. A manifest
//! of somebody else is refused: it would choose what a command works on.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use artifact::AppName;

use crate::{
    error::{Error, Result},
    import,
    project::MANIFEST_FILE,
};

/// The app that was named, else the one of this folder.
pub fn app(named: Option<&AppName>) -> Result<AppName> {
    if let Some(app) = named {
        return Ok(app.clone());
    }
    let here = std::env::current_dir().map_err(Error::io("finding the current directory"))?;
    of_folder(&here)?.ok_or_else(|| {
        Error::Usage(format!("no app is named, and there is no {MANIFEST_FILE} here or in a directory above"))
    })
}

/// The app of the current directory, if it is one's.
pub fn app_if_any() -> Option<AppName> {
    of_folder(&std::env::current_dir().ok()?).ok().flatten()
}

/// The folder of that app: the current directory, or the nearest above it that has a manifest.
pub fn folder_if_any() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    let file = manifest_above(&here)?;
    is_own_file(&file).then(|| file.parent().map(Path::to_owned))?
}

fn manifest_above(folder: &Path) -> Option<PathBuf> {
    let manifests = folder.ancestors().map(|folder| folder.join(MANIFEST_FILE));
    manifests.into_iter().find(|file| fs::symlink_metadata(file).is_ok())
}

fn of_folder(folder: &Path) -> Result<Option<AppName>> {
    let Some(file) = manifest_above(folder) else { return Ok(None) };
    if !is_own_file(&file) {
        let file = file.display();
        return Err(Error::Usage(format!(
            "no app is named, and {file} is not a file of yours: name the app"
        )));
    }
    let text = import::read_text(&file)?;
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    let name = table.get("name").and_then(toml::Value::as_str).and_then(|name| name.parse().ok());
    name.map(Some).ok_or_else(|| {
        Error::Usage(format!(
            "no app is named, and {} does not give a name that can be one's",
            file.display()
        ))
    })
}

fn is_own_file(file: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.uid() == me)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_is_that_of_the_nearest_folder_with_a_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("src/deep");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(of_folder(&below).unwrap(), None);
        // Whatever else is wrong with it.
        fs::write(folder.path().join(MANIFEST_FILE), "name = \"shop\"\ncolour = 1\n").unwrap();
        assert_eq!(of_folder(&below).unwrap().unwrap().as_str(), "shop");
        fs::write(folder.path().join(MANIFEST_FILE), "name = \n").unwrap();
        assert!(of_folder(&below).unwrap_err().to_string().contains("skerry.toml does not give a name"));
    }

    #[test]
    fn a_manifest_of_somebody_else_chooses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(MANIFEST_FILE);
        fs::write(&file, "name = \"shop\"\n").unwrap();
        // Only root may give a file away.
        let link = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&file, link.path().join(MANIFEST_FILE)).unwrap();
        assert!(of_folder(link.path()).is_err(), "a link may be anybody's");
        if std::os::unix::fs::chown(&file, Some(rustix::process::geteuid().as_raw() + 1), None).is_ok() {
            let error = of_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains("not a file of yours"), "{error}");
        }
    }
}
