//! Projects made for other platforms, taken as they are: for Fastly Compute a folder with a `fastly.toml`, or the package
//! their tools make (`pkg/<name>.tar.gz`); for Spin a folder with a `spin.toml`. Skerry is not affiliated with either.
//!
//! All become what a `skerry.toml` would: a program and the [`AppConfig`] a version pins. What cannot stand in a
//! version, values of secrets and items of key-value stores, becomes [`Items`]. The tool says what it took and what it
//! ignored, one [`Note`] a thing. Deliberately absent: running anything a project names (`[scripts]`).
//!
//! | Module | One job |
//! |---|---|
//! | [`manifest`] | `fastly.toml` → configuration, items, notes; every mistake with its line |
//! | [`backends`] | origins of both sections |
//! | [`stores`] | config, secret and key-value stores of both sections |
//! | [`lookups`] | geography and devices |
//! | [`wanted`] | which section wins, and what is said of it |
//! | [`items`] | what has to be put into stores |
//! | [`files`] | files a manifest names, on disk or in a package |
//! | [`package`] | bounded unpacking of a package, in memory |
//! | [`spin`] | one component of a `spin.toml` → the same |
//! | [`written`] | the same → the text of a `skerry.toml` |

mod backends;
mod files;
pub mod items;
mod lookups;
mod manifest;
mod package;
pub mod spin;
mod stores;
mod wanted;
pub mod written;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use artifact::{
    AppName,
    manifest::{AppConfig, Build, Mistake, parse::FILE_BYTES_MAX},
};

use self::{
    files::Files,
    items::Items,
    manifest::{Manifest, Variables},
    package::Unpacked,
};
use crate::error::{Error, Result};

/// The manifest's file name.
pub const MANIFEST_FILE: &str = "fastly.toml";
/// Where a project's tools put the program.
pub const PROGRAM_FILE: &str = "bin/main.wasm";
/// Where they put packages.
const PACKAGES: &str = "pkg";

/// What a project is read for. It decides which section of a manifest wins where both name a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `skerry up`: `[local_server]` wins, and its values are put even over others.
    Up,
    /// `skerry deploy`: `[setup]` wins, and no value that is there is overwritten.
    Deploy,
}

/// What was done with one thing of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// It is part of the app now.
    Taken(String),
    /// It has no effect here, and why.
    Ignored(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Taken(what) => write!(f, "{what}"),
            Note::Ignored(what) => write!(f, "warning: {what}"),
        }
    }
}

/// A project, read.
#[derive(Debug)]
pub struct Imported {
    /// The name its manifest gives, checked.
    pub name: Option<AppName>,
    /// What the version pins.
    pub config: AppConfig,
    /// What has to be put into stores.
    pub items: Items,
    /// What was taken and what was not.
    pub notes: Vec<Note>,
    /// Where the program is, for messages.
    pub file: PathBuf,
    /// The program.
    pub program: Program,
    /// How it is made. Only ever shown or written down.
    pub build: Option<Build>,
}

/// A program, or where it is.
#[derive(Debug)]
pub enum Program {
    /// Its bytes, out of a package.
    Bytes(Vec<u8>),
    /// The file, not read yet, and what to do when it is not there.
    File {
        /// Its path relative to the manifest.
        within: String,
        /// How the project builds it.
        cure: String,
    },
    /// There is none: this folder of static files, relative to the manifest, is the app.
    Folder(String),
}

/// Does a folder hold a project or a package of this kind?
pub fn is_project(folder: &Path, env: Option<&str>) -> bool {
    folder.join(manifest_file(env)).is_file() || !packages(folder).is_empty()
}

/// Is it a package, by its name?
pub fn is_package(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".tar.gz") || name.ends_with(".tgz")
}

/// Reads a folder: its manifest with its program, or its only package.
pub fn folder(folder: &Path, env: Option<&str>, purpose: Purpose) -> Result<Imported> {
    let path = folder.join(manifest_file(env));
    if !path.is_file() {
        return match packages(folder).as_slice() {
            [only] => package(only, env, purpose),
            several => Err(Error::Usage(format!(
                "{} has no {} but {} packages; name the one to deploy",
                folder.display(),
                manifest_file(env),
                several.len()
            ))),
        };
    }
    let text = read_text(&path)?;
    let read = read_manifest(&text, &Files::Folder(folder), &path, purpose)?;
    let (file, program) = program_of(folder, &read)?;
    imported(read, file, program)
}

/// Reads a package.
pub fn package(file: &Path, env: Option<&str>, purpose: Purpose) -> Result<Imported> {
    let unpacked = unpack(file)?;
    let name = manifest_file(env);
    let manifest = unpacked
        .files
        .get(&name)
        .ok_or_else(|| refused(file, format!("has no {}/{name}", unpacked.folder)))?;
    let text = std::str::from_utf8(manifest).map_err(|_| refused(file, format!("{name} is not UTF-8")))?;
    let path = file.join(&unpacked.folder).join(&name);
    let read = read_manifest(text, &Files::Package(&unpacked.files), &path, purpose)?;
    let (file, program) = packed_program(file, unpacked)?;
    imported(read, file, program)
}

fn imported(read: Manifest, file: PathBuf, program: Program) -> Result<Imported> {
    let Manifest { name, build, config, items, notes, .. } = read;
    let build = build.map(|command| Build { command, watch: None, test: None });
    Ok(Imported { name, config, items, notes, file, program, build })
}

/// Reads a `spin.toml` for the component of this name, or its only one. Paths in it begin at its folder.
pub fn spin_file(
    path: &Path,
    component: Option<&str>,
    environment: Option<Variables<'_>>,
) -> Result<Imported> {
    let text = read_text(path)?;
    let spin = match spin::read(&text, component, environment) {
        Ok(spin) => spin,
        Err(spin::Refused::Mistakes(mistakes)) => {
            return Err(Error::Manifest { file: path.to_owned(), text, mistakes });
        }
        Err(spin::Refused::Which(components)) => {
            let path = path.display();
            return Err(Error::Usage(format!(
                "{path} has these components, and an app is one of them: {}; make an app of each: skerry init --from {} \
                 --component NAME DIR",
                components.join(", "),
                quoted(&path.to_string())
            )));
        }
    };
    let spin::Spin { name, source, assets, build, config, items, notes } = spin;
    let cure = match &build {
        Some(build) => format!("build the app first, as {} says: {}", spin::FILE, build.command),
        None => "build the app first, as with `spin build`".to_owned(),
    };
    let file = path.parent().unwrap_or(Path::new("")).join(assets.as_ref().unwrap_or(&source));
    let program = match assets {
        Some(folder) => Program::Folder(folder),
        None => Program::File { within: source, cure },
    };
    Ok(Imported { name, config, items, notes, file, program, build })
}

/// Reads the `spin.toml` of a folder that is to be deployed; `None` when there is none.
pub fn spin_folder(folder: &Path) -> Option<Result<Imported>> {
    let path = folder.join(spin::FILE);
    let environment = |name: &str| std::env::var(name).ok();
    path.is_file().then(|| spin_file(&path, None, Some(&environment)))
}

fn read_manifest(text: &str, files: &Files<'_>, path: &Path, purpose: Purpose) -> Result<Manifest> {
    let variables = |name: &str| std::env::var(name).ok();
    // A folder is the user's own; a package may be anybody's, and what it is given could be sent anywhere.
    let variables: Option<Variables<'_>> = match files {
        Files::Folder(_) => Some(&variables),
        Files::Package(_) => None,
    };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(MANIFEST_FILE);
    manifest::read(name, text, files, variables, purpose).map_err(|mistakes| Error::Manifest {
        file: path.to_owned(),
        text: text.to_owned(),
        mistakes,
    })
}

/// `bin/main.wasm`, or the one in the project's package. A build script is named, never run.
fn program_of(folder: &Path, read: &Manifest) -> Result<(PathBuf, Program)> {
    let file = folder.join(PROGRAM_FILE);
    if !file.exists() {
        let packages = packages(&folder.join(PACKAGES));
        let own = read.raw_name.as_ref().map(|name| folder.join(PACKAGES).join(format!("{name}.tar.gz")));
        let package = own.filter(|own| packages.contains(own)).or_else(|| match packages.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        });
        if let Some(package) = package {
            return packed_program(&package, unpack(&package)?);
        }
    }
    let cure = match &read.build {
        Some(build) => format!("build the app first, as {MANIFEST_FILE} says: {build}"),
        None => "build the app first, as with `fastly compute build`".to_owned(),
    };
    Ok((file, Program::File { within: PROGRAM_FILE.into(), cure }))
}

fn packed_program(package: &Path, mut unpacked: Unpacked) -> Result<(PathBuf, Program)> {
    let inside = format!("{}/{PROGRAM_FILE}", unpacked.folder);
    let wasm =
        unpacked.files.remove(PROGRAM_FILE).ok_or_else(|| refused(package, format!("has no {inside}")))?;
    if !wasm.starts_with(b"\0asm") {
        return Err(refused(package, format!("{inside} is not a WebAssembly program")));
    }
    Ok((package.join(inside), Program::Bytes(wasm)))
}

fn unpack(file: &Path) -> Result<Unpacked> {
    let bytes = files::read_bounded(file, package::FILE_BYTES_MAX).map_err(|why| refused(file, why))?;
    package::unpack(&bytes).map_err(|bad| refused(file, bad.to_string()))
}

fn refused(package: &Path, message: String) -> Error {
    let doing = format!("reading the package {}", package.display());
    Error::Rejected { doing, code: "bad_package".into(), message, mistakes: vec![] }
}

/// The text of a manifest.
pub fn read_text(path: &Path) -> Result<String> {
    let bytes = files::read_bounded(path, FILE_BYTES_MAX as u64)
        .map_err(|why| Error::Usage(format!("reading {}: {why}", path.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let span = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
        let mistake = Mistake::new("", "is not UTF-8 from here on").at(&text, span);
        Error::Manifest { file: path.to_owned(), mistakes: vec![mistake], text }
    })
}

/// `fastly.toml`, or `fastly.<env>.toml`.
pub fn manifest_file(env: Option<&str>) -> String {
    env.map_or_else(|| MANIFEST_FILE.to_owned(), |env| format!("fastly.{env}.toml"))
}

/// The packages in a folder and in its `pkg`, by name.
fn packages(folder: &Path) -> Vec<PathBuf> {
    let of = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| is_package(path) && path.is_file()).collect()
    };
    let mut found = of(folder);
    found.extend(of(&folder.join(PACKAGES)));
    found.sort();
    found
}

/// A word that a shell takes as it is.
pub fn quoted(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_./".contains(&c);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests;
