//! What is to be deployed: a folder with `skerry.toml`, a project made for Fastly Compute or Spin or a package made for the
//! first ([`import`]), or a `.wasm` file by itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use artifact::{
    AppName, HostName,
    compile::WASM_BYTES_MAX,
    manifest::{AppConfig, Prepare, Project},
};

use crate::{
    error::{Error, Result},
    import::{self, Imported, Note, Program, Purpose, items::Items},
};

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
    /// The program; an app of static files may have none.
    pub wasm: Option<Vec<u8>>,
    /// What is done to it when it is deployed.
    pub prepare: Prepare,
    /// The folder of its static files.
    pub assets: Option<PathBuf>,
    /// What has to be put into stores beside it.
    pub items: Items,
    /// What was taken of a manifest made for another platform, and what was not.
    pub notes: Vec<Note>,
}

/// A program that comes without settings.
#[derive(Debug)]
pub struct Alone {
    /// What it gives as the app's name.
    pub name: String,
    /// Where it came from, for messages.
    pub file: PathBuf,
    /// The program.
    pub wasm: Vec<u8>,
}

/// How a source is read; what is named here wins over what the source says.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The app's name.
    pub app: Option<&'a AppName>,
    /// Its host names, if any.
    pub hosts: &'a [HostName],
    /// Which `fastly.<env>.toml`.
    pub env: Option<&'a str>,
    /// Which of its sections wins.
    pub purpose: Purpose,
    /// A `skerry.toml` with settings for a program that comes without any.
    pub manifest: Option<&'a Path>,
}

impl Package {
    /// Reads `source`.
    pub fn read(source: &Path, reading: Reading<'_>) -> Result<Package> {
        Ok(Package::as_it_is(source, reading)?.at(reading.hosts))
    }

    /// A program by itself, with the settings that `reading` names.
    pub fn alone(program: Alone, reading: Reading<'_>) -> Result<Package> {
        if let Some(env) = reading.env {
            return Err(no_env(env, &program.file));
        }
        let Alone { name, file, wasm } = program;
        let settings = reading.manifest.map(settings).transpose()?;
        let app = match (reading.app, &settings) {
            (Some(app), _) => app.clone(),
            (None, Some((project, _))) => project.name.clone(),
            (None, None) => name_of(&name, &file)?,
        };
        let (config, prepare, assets) = match settings {
            Some((project, folder)) => {
                let assets = project.assets_folder.map(|files| folder.join(files));
                (project.config, project.prepare, assets)
            }
            None => Default::default(),
        };
        let (wasm, items, notes) = (Some(wasm), Items::default(), vec![]);
        Ok(Package { app, config, file, wasm, prepare, assets, items, notes }.at(reading.hosts))
    }

    fn at(mut self, hosts: &[HostName]) -> Package {
        if !hosts.is_empty() {
            self.config.hosts = hosts.to_vec();
        }
        self
    }

    fn as_it_is(source: &Path, reading: Reading<'_>) -> Result<Package> {
        let Reading { app, env, purpose, .. } = reading;
        if let Some(manifest) = reading.manifest
            && (source.is_dir() || import::is_package(source))
        {
            return Err(Error::Usage(format!(
                "--manifest {} is for a .wasm file or an image; {} brings settings of its own",
                manifest.display(),
                source.display()
            )));
        }
        let own = source.join(MANIFEST_FILE);
        if source.is_dir() && !own.is_file() && import::is_project(source, env) {
            return imported(import::folder(source, env, purpose)?, source, app);
        }
        if !source.is_dir() && import::is_package(source) {
            return imported(import::package(source, env, purpose)?, source, app);
        }
        if env.is_none()
            && !own.is_file()
            && let Some(spin) = import::spin_folder(source)
        {
            return imported(spin?, source, app);
        }
        if let Some(env) = env {
            return Err(no_env(env, source));
        }
        if source.is_dir() {
            let project = read_manifest(source)?;
            let cure = built_by(&project, &own);
            let file = project.component.map(|component| source.join(component));
            let wasm = file.as_deref().map(|file| read_wasm(file, Some(&cure))).transpose()?;
            let file = file.unwrap_or(own);
            let assets = project.assets_folder.map(|folder| source.join(folder));
            let (app, config) = (app.cloned().unwrap_or(project.name), project.config);
            let (items, notes) = (Items::default(), vec![]);
            return Ok(Package { app, config, file, wasm, prepare: project.prepare, assets, items, notes });
        }
        let name = source.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let program = Alone { name, file: source.to_owned(), wasm: read_wasm(source, None)? };
        Package::alone(program, reading)
    }
}

fn no_env(env: &str, source: &Path) -> Error {
    let manifest = import::manifest_file(Some(env));
    Error::Usage(format!("--env {env} chooses a {manifest}, and {} has none", source.display()))
}

/// The settings in a manifest, and the folder that its paths begin at.
fn settings(file: &Path) -> Result<(Project, PathBuf)> {
    let text = import::read_text(file)?;
    let project =
        Project::parse(&text).map_err(|mistakes| Error::Manifest { file: file.into(), text, mistakes })?;
    Ok((project, file.parent().unwrap_or(Path::new("")).to_owned()))
}

fn imported(imported: Imported, source: &Path, app: Option<&AppName>) -> Result<Package> {
    let Imported { name, config, items, notes, file, program, build: _ } = imported;
    let (wasm, assets) = match program {
        Program::Bytes(bytes) => (Some(checked_size(&file, bytes.len() as u64).map(|()| bytes)?), None),
        Program::File { cure, .. } => (Some(read_wasm(&file, Some(&cure))?), None),
        Program::Folder(_) => (None, Some(file.clone())),
    };
    let app = app.cloned().or(name).ok_or_else(|| {
        let file = source.display();
        Error::Usage(format!(
            "the manifest of {file} does not give a name for the app; give one with --app NAME"
        ))
    })?;
    Ok(Package { app, config, file, wasm, prepare: Prepare::default(), assets, items, notes })
}

/// The program and manifest files of a folder that is a project of another platform; none when it is no such.
pub fn foreign_files(folder: &Path) -> Vec<PathBuf> {
    let manifests = [import::MANIFEST_FILE, import::spin::FILE].map(|name| folder.join(name));
    let read = match import::is_project(folder, None) {
        true => Some(import::folder(folder, None, Purpose::Up)),
        false => import::spin_folder(folder),
    };
    let program = read.and_then(Result::ok).map(|imported| imported.file);
    manifests.into_iter().filter(|file| file.is_file()).chain(program).collect()
}

/// Reads a folder's manifest.
pub fn read_manifest(folder: &Path) -> Result<Project> {
    manifest(folder)?.ok_or_else(|| {
        Error::Usage(format!(
            "nothing to deploy: {} has no {MANIFEST_FILE}, {} or {}; name a .wasm file, a package, or a folder with one \
             of them",
            folder.display(),
            import::MANIFEST_FILE,
            import::spin::FILE
        ))
    })
}

/// The manifest of a folder, if it has one.
pub fn manifest(folder: &Path) -> Result<Option<Project>> {
    let path = folder.join(MANIFEST_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = import::read_text(&path)?;
    Project::parse(&text).map(Some).map_err(|mistakes| Error::Manifest { file: path, text, mistakes })
}

/// What to do where the file is not there that a manifest names.
fn built_by(project: &Project, manifest: &Path) -> String {
    match &project.build {
        Some(build) => format!("build the app first, as {} says: {}", manifest.display(), build.command),
        None => format!("{} names it; build the app first", manifest.display()),
    }
}

fn name_of(name: &str, file: &Path) -> Result<AppName> {
    name.parse().map_err(|error| {
        Error::Usage(format!(
            "{} does not give a name for the app ({error}); give one with --app NAME",
            file.display()
        ))
    })
}

/// A program's file, within the size that one may have. `cure`: what to do where it is not there.
pub fn read_wasm(file: &Path, cure: Option<&str>) -> Result<Vec<u8>> {
    let cure = cure.map(|cure| format!("; {cure}")).unwrap_or_default();
    let missing = |cause: io::Error| match cause.kind() {
        io::ErrorKind::NotFound => Error::Usage(format!("there is no file {}{cure}", file.display())),
        _ => Error::io(format!("reading {}", file.display()))(cause),
    };
    // Before reading: a wrong path may name something huge.
    checked_size(file, fs::metadata(file).map_err(missing)?.len())?;
    fs::read(file).map_err(missing)
}

fn checked_size(file: &Path, bytes: u64) -> Result<()> {
    match bytes > WASM_BYTES_MAX {
        false => Ok(()),
        true => Err(Error::Rejected {
            doing: format!("reading {}", file.display()),
            code: "too_large".into(),
            message: format!("{bytes} bytes, a program may have at most {WASM_BYTES_MAX}"),
            mistakes: vec![],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn reading<'a>(app: Option<&'a AppName>, hosts: &'a [HostName]) -> Reading<'a> {
        Reading { app, hosts, env: None, purpose: Purpose::Deploy, manifest: None }
    }

    #[test]
    fn a_file_gives_its_stem_as_name_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hello.wasm");
        fs::write(&file, b"x").unwrap();
        assert_eq!(Package::read(&file, reading(None, &[])).unwrap().app.as_str(), "hello");
        let (other, hosts) = ("other".parse().unwrap(), ["a.example".parse().unwrap()]);
        let named = Package::read(&file, reading(Some(&other), &hosts)).unwrap();
        assert_eq!((named.app.as_str(), named.config.hosts.len()), ("other", 1));
        let odd = folder.path().join("Not A Name.wasm");
        fs::write(&odd, b"x").unwrap();
        assert!(Package::read(&odd, reading(None, &[])).unwrap_err().to_string().contains("--app"));
    }

    #[test]
    fn a_folder_is_read_by_its_manifest_and_options_win() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.wasm"), b"wasm").unwrap();
        let manifest = "name = \"shop\"\ncomponent = \"app.wasm\"\nhosts = [\"shop.example\"]\n";
        fs::write(folder.path().join(MANIFEST_FILE), manifest).unwrap();
        let package = Package::read(folder.path(), reading(None, &[])).unwrap();
        assert_eq!((package.app.as_str(), package.config.hosts[0].as_str()), ("shop", "shop.example"));
        let (b, hosts) = ("b".parse().unwrap(), ["b.example".parse().unwrap()]);
        let package = Package::read(folder.path(), reading(Some(&b), &hosts)).unwrap();
        assert_eq!((package.app.as_str(), package.config.hosts[0].as_str()), ("b", "b.example"));
    }

    #[test]
    fn a_program_by_itself_takes_the_settings_of_a_manifest_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (file, manifest) = (folder.path().join("hello.wasm"), folder.path().join("settings.toml"));
        fs::write(&file, b"x").unwrap();
        let text = "name = \"shop\"\ncomponent = \"gone.wasm\"\nhosts = [\"shop.example\"]\n[assets]\nfolder = \"pub\"\n";
        fs::write(&manifest, text).unwrap();
        let with = Reading { manifest: Some(&manifest), ..reading(None, &[]) };
        let package = Package::read(&file, with).unwrap();
        assert_eq!((package.app.as_str(), package.config.hosts[0].as_str()), ("shop", "shop.example"));
        assert_eq!(
            (package.wasm.as_deref(), package.assets),
            (Some(&b"x"[..]), Some(folder.path().join("pub")))
        );
        let error = Package::read(folder.path(), with).unwrap_err();
        assert!(error.exit() == Exit::Usage && error.to_string().contains("settings of its own"), "{error}");
        let named = Reading { app: Some(&"b".parse().unwrap()), ..with };
        assert_eq!(Package::read(&file, named).unwrap().app.as_str(), "b");
    }

    #[test]
    fn what_is_missing_or_too_large_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = Package::read(folder.path(), reading(None, &[])).unwrap_err();
        assert!(error.exit() == Exit::Usage && error.to_string().contains("skerry.toml"), "{error}");
        let error = Package::read(&folder.path().join("gone.wasm"), reading(None, &[])).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        fs::write(folder.path().join(MANIFEST_FILE), "name = \"a\"\ncomponent = \"gone.wasm\"\n").unwrap();
        let error = Package::read(folder.path(), reading(None, &[])).unwrap_err();
        assert!(error.to_string().ends_with("skerry.toml names it; build the app first"), "{error}");
        let text = "name = \"a\"\ncomponent = \"gone.wasm\"\nbuild = { command = \"make it\" }\n";
        fs::write(folder.path().join(MANIFEST_FILE), text).unwrap();
        let error = Package::read(folder.path(), reading(None, &[])).unwrap_err();
        assert!(error.to_string().ends_with("skerry.toml says: make it"), "{error}");
        let huge = fs::File::create(folder.path().join("huge.wasm")).unwrap();
        huge.set_len(200_000_000).unwrap();
        let error = Package::read(&folder.path().join("huge.wasm"), reading(None, &[])).unwrap_err();
        assert_eq!(error.exit(), Exit::Rejected);
    }
}
