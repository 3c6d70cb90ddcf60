//! What is to be deployed: a folder with `skerry.toml`, or a `.wasm` file by itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use artifact::{
    AppName, HostName,
    compile::WASM_BYTES_MAX,
    manifest::{AppConfig, Project},
};

use crate::error::{Error, Result};

/// The manifest's file name.
pub const MANIFEST_FILE: &str = "skerry.toml";

/// A program with everything a version pins, read from disk.
#[derive(Debug)]
pub struct Package {
    /// The app's name.
    pub app: AppName,
    /// What the version pins.
    pub config: AppConfig,
    /// The program's file, for messages.
    pub file: PathBuf,
    /// The program.
    pub wasm: Vec<u8>,
}

impl Package {
    /// Reads `source`; `app` and `hosts` win over what the manifest says.
    pub fn read(source: &Path, app: Option<&AppName>, hosts: &[HostName]) -> Result<Package> {
        let (name, mut config, file) = if source.is_dir() {
            let project = read_manifest(&source.join(MANIFEST_FILE), source)?;
            (project.name, project.config, source.join(project.component))
        } else {
            let config = AppConfig::default();
            (app.map_or_else(|| name_of(source), |app| Ok(app.clone()))?, config, source.to_owned())
        };
        if !hosts.is_empty() {
            config.hosts = hosts.to_vec();
        }
        let wasm = read_wasm(&file, source)?;
        Ok(Package { app: app.cloned().unwrap_or(name), config, file, wasm })
    }
}

fn read_manifest(path: &Path, folder: &Path) -> Result<Project> {
    let text = fs::read_to_string(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => Error::Usage(format!(
            "nothing to deploy: {} has no {MANIFEST_FILE}; name a .wasm file or a folder with a {MANIFEST_FILE}",
            folder.display()
        )),
        _ => Error::io(format!("reading {}", path.display()))(cause),
    })?;
    Project::parse(&text).map_err(|mistakes| Error::Manifest { file: path.to_owned(), mistakes })
}

fn name_of(file: &Path) -> Result<AppName> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.parse().map_err(|error| {
        Error::Usage(format!(
            "{} does not give a name for the app ({error}); give one with --app NAME",
            file.display()
        ))
    })
}

fn read_wasm(file: &Path, source: &Path) -> Result<Vec<u8>> {
    let missing = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound if file == source => {
            Error::Usage(format!("there is no file {}", file.display()))
        }
        io::ErrorKind::NotFound => Error::Usage(format!(
            "the component {} that {} names is not there; build the app first",
            file.display(),
            source.join(MANIFEST_FILE).display()
        )),
        _ => Error::io(format!("reading {}", file.display()))(cause),
    };
    // Before reading: a wrong path may name something huge.
    let bytes = fs::metadata(file).map_err(missing)?.len();
    if bytes > WASM_BYTES_MAX {
        return Err(Error::Rejected {
            doing: format!("reading {}", file.display()),
            code: "too_large".into(),
            message: format!("{bytes} bytes, a program may have at most {WASM_BYTES_MAX}"),
            mistakes: vec![],
        });
    }
    fs::read(file).map_err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn a_file_gives_its_stem_as_name_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hello.wasm");
        fs::write(&file, b"x").unwrap();
        assert_eq!(Package::read(&file, None, &[]).unwrap().app.as_str(), "hello");
        let named =
            Package::read(&file, Some(&"other".parse().unwrap()), &["a.example".parse().unwrap()]).unwrap();
        assert_eq!((named.app.as_str(), named.config.hosts.len()), ("other", 1));
        let odd = folder.path().join("Not A Name.wasm");
        fs::write(&odd, b"x").unwrap();
        assert!(Package::read(&odd, None, &[]).unwrap_err().to_string().contains("--app"));
    }

    #[test]
    fn a_folder_is_read_by_its_manifest_and_options_win() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.wasm"), b"wasm").unwrap();
        let manifest = "name = \"shop\"\ncomponent = \"app.wasm\"\nhosts = [\"shop.example\"]\n";
        fs::write(folder.path().join(MANIFEST_FILE), manifest).unwrap();
        let package = Package::read(folder.path(), None, &[]).unwrap();
        assert_eq!((package.app.as_str(), package.config.hosts[0].as_str()), ("shop", "shop.example"));
        let package =
            Package::read(folder.path(), Some(&"b".parse().unwrap()), &["b.example".parse().unwrap()])
                .unwrap();
        assert_eq!((package.app.as_str(), package.config.hosts[0].as_str()), ("b", "b.example"));
    }

    #[test]
    fn what_is_missing_or_too_large_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = Package::read(folder.path(), None, &[]).unwrap_err();
        assert!(error.exit() == Exit::Usage && error.to_string().contains("skerry.toml"), "{error}");
        let error = Package::read(&folder.path().join("gone.wasm"), None, &[]).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        fs::write(folder.path().join(MANIFEST_FILE), "name = \"a\"\ncomponent = \"gone.wasm\"\n").unwrap();
        let error = Package::read(folder.path(), None, &[]).unwrap_err();
        assert!(error.to_string().contains("build the app first"), "{error}");
        let huge = fs::File::create(folder.path().join("huge.wasm")).unwrap();
        huge.set_len(200_000_000).unwrap();
        let error = Package::read(&folder.path().join("huge.wasm"), None, &[]).unwrap_err();
        assert_eq!(error.exit(), Exit::Rejected);
    }
}
