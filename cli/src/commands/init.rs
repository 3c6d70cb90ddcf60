//! `skerry init --from`: find → read → write → say. The project it reads stays as it is.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use artifact::{
    AppName,
    manifest::{Build, Prepare, Project},
};
use serde::Serialize;

use crate::{
    args::Init,
    error::{Error, Result},
    import::{self, Imported, Note, Program, Purpose, quoted, spin, written},
    output::Output,
    project::MANIFEST_FILE,
};

/// Where the program of a package goes, beside the manifest.
const PROGRAM: &str = "main.wasm";

#[derive(Serialize)]
struct Report {
    file: PathBuf,
    app: String,
    taken: Vec<String>,
    ignored: Vec<String>,
}

/// `skerry init --from FILE [DIR]`.
pub fn run(args: &Init, output: Output) -> Result<()> {
    let source = Source::of(&args.from)?;
    let folder = args.dir.clone().unwrap_or_else(|| source.folder());
    let file = folder.join(MANIFEST_FILE);
    if file.exists() && !args.force {
        return Err(there(&file));
    }
    let mut imported = source.read(args.component.as_deref())?;
    let notes = std::mem::take(&mut imported.notes);
    let app = args.app.clone().or_else(|| imported.name.clone()).ok_or_else(|| {
        let from = args.from.display();
        Error::Usage(format!("{from} does not give a name for the app; give one with --app NAME"))
    })?;

    let values = left_out(&imported, &app);

    fs::create_dir_all(&folder).map_err(Error::io(format!("making the folder {}", folder.display())))?;
    let way = way(&folder, &source.folder())?;
    let (component, program, assets_folder) = match imported.program {
        Program::Bytes(bytes) => (Some(PROGRAM.to_owned()), Some(bytes), None),
        Program::File { within, .. } => (Some(joined(&way, &within)), None, None),
        Program::Folder(folder) => (None, None, Some(joined(&way, &folder))),
    };
    let build = imported.build.map(|build| from_there(build, &way));
    let config = imported.config;
    let project = Project { name: app, component, build, prepare: Prepare::default(), assets_folder, config };
    let text = written::manifest(&project)
        .map_err(|why| Error::Usage(format!("{} cannot be a {MANIFEST_FILE}: {why}", args.from.display())))?;
    if let Some(bytes) = program {
        write(&folder.join(PROGRAM), &bytes, args.force)?;
    }
    write(&file, text.as_bytes(), args.force)?;

    for note in notes.iter().chain(&values) {
        eprintln!("{note}");
    }
    let report = report(file, &project, notes.into_iter().chain(values));
    output.print(&report, || {
        format!("wrote {}: deploy it with `skerry deploy {}`", report.file.display(), quoted(&shown(&folder)))
    })
}

fn report(file: PathBuf, project: &Project, notes: impl Iterator<Item = Note>) -> Report {
    let (mut taken, mut ignored) = (vec![], vec![]);
    for note in notes {
        match note {
            Note::Taken(what) => taken.push(what),
            Note::Ignored(what) => ignored.push(what),
        }
    }
    Report { file, app: project.name.to_string(), taken, ignored }
}

/// What is to be read.
enum Source {
    /// A folder with a `fastly.toml`, or with that of an environment.
    Fastly { folder: PathBuf, env: Option<String> },
    /// A `spin.toml`, whatever its name.
    Spin(PathBuf),
    /// A package.
    Package(PathBuf),
}

impl Source {
    fn of(from: &Path) -> Result<Source> {
        let name = from.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if from.is_dir() {
            return match from.join(spin::FILE) {
                spin if spin.is_file() && !from.join(import::MANIFEST_FILE).is_file() => {
                    Ok(Source::Spin(spin))
                }
                _ => Ok(Source::Fastly { folder: from.to_owned(), env: None }),
            };
        }
        if !from.exists() {
            return Err(Error::Usage(format!("there is no file {}", from.display())));
        }
        if import::is_package(from) {
            return Ok(Source::Package(from.to_owned()));
        }
        let env = name.strip_prefix("fastly.").and_then(|rest| rest.strip_suffix(".toml")).map(str::to_owned);
        if name == import::MANIFEST_FILE || env.is_some() {
            return Ok(Source::Fastly { folder: folder_of(from), env });
        }
        if name.ends_with(".toml") {
            return Ok(Source::Spin(from.to_owned()));
        }
        let from = from.display();
        Err(Error::Usage(format!("{from} is no fastly.toml, spin.toml or package (.tar.gz) made for Fastly")))
    }

    /// Where paths of it begin, and where the manifest goes unless one says otherwise.
    fn folder(&self) -> PathBuf {
        match self {
            Source::Fastly { folder, .. } => folder.clone(),
            Source::Spin(file) => folder_of(file),
            // Nobody keeps an app in the folder of downloads.
            Source::Package(_) => ".".into(),
        }
    }

    fn read(&self, component: Option<&str>) -> Result<Imported> {
        if let (Some(name), Source::Fastly { .. } | Source::Package(_)) = (component, self) {
            return Err(Error::Usage(format!(
                "--component {name} chooses one of a spin.toml, and this is none"
            )));
        }
        match self {
            Source::Fastly { folder, env } => import::folder(folder, env.as_deref(), Purpose::Deploy),
            Source::Package(file) => import::package(file, None, Purpose::Deploy),
            Source::Spin(file) => import::spin_file(file, component, None),
        }
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}

/// Values never stand in a manifest.
fn left_out(imported: &Imported, app: &AppName) -> Vec<Note> {
    let mut notes = Vec::new();
    for secret in &imported.items.secrets {
        let store =
            secret.store.as_ref().map(|store| format!(" --store {}", quoted(store))).unwrap_or_default();
        let (key, word) = (&secret.key, quoted(&secret.key));
        notes.push(Note::Ignored(format!(
            "the value of the secret {key} is not written; set it with: skerry secrets set {app} {word}{store}"
        )));
    }
    let mut items: BTreeMap<&str, usize> = BTreeMap::new();
    for item in &imported.items.kv {
        *items.entry(item.store.as_str()).or_default() += 1;
    }
    for (store, count) in items {
        let (items, word) = (if count == 1 { "item" } else { "items" }, quoted(store));
        notes.push(Note::Ignored(format!(
            "{count} {items} of the KV store {store} left out; put what it needs with: skerry kv put {word} KEY"
        )));
    }
    notes
}

/// How one gets from a folder to another: `..` and names, nothing where they are the same.
fn way(from: &Path, to: &Path) -> Result<String> {
    let real = |path: &Path| path.canonicalize().map_err(Error::io(format!("finding {}", path.display())));
    let (from, to) = (real(from)?, real(to)?);
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to.components().skip(shared)).collect();
    let text = way.to_str().ok_or_else(|| Error::Usage(format!("{} is not UTF-8", to.display())))?;
    Ok(text.to_owned())
}

fn joined(way: &str, path: &str) -> String {
    match way.is_empty() || path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{way}/{path}"),
    }
}

/// The same build, asked for in another folder.
fn from_there(build: Build, way: &str) -> Build {
    if way.is_empty() {
        return build;
    }
    let Build { command, watch, test } = build;
    let there = |line: String| format!("cd {} && ({line})", quoted(way));
    let watch = watch.map(|paths| paths.iter().map(|path| joined(way, path)).collect());
    Build { command: there(command), watch, test: test.map(there) }
}

/// Writes a file that is not there yet, or anew.
fn write(path: &Path, bytes: &[u8], force: bool) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let mut options = fs::OpenOptions::new();
    let options = match force {
        true => options.write(true).create(true).truncate(true),
        false => options.write(true).create_new(true),
    };
    let mut file = options.open(path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => there(path),
        _ => Error::io(doing())(cause),
    })?;
    file.write_all(bytes).map_err(Error::io(doing()))
}

fn there(file: &Path) -> Error {
    Error::Usage(format!("{} is there already; --force writes it anew", file.display()))
}

fn shown(folder: &Path) -> String {
    folder.display().to_string()
}
