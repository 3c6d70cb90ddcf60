//! Which files mean another round, and waiting for them to change.
//!
//! A build writes files too, some of them beside the sources. So a file counts as changed only if its content is another
//! than when it was last looked at: what a build writes alike each time starts no round of its own.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use artifact::{Digest, manifest::Build};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::{
    build::Recipe,
    error::{Error, Result},
    project::MANIFEST_FILE,
    up::Stop,
};

/// Folders of tools, beside what begins with a dot: not watched unless the manifest says so.
const LEFT_OUT: [&str; 7] = ["target", "node_modules", "build", "dist", "pkg", "__pycache__", "venv"];
/// An editor saves in several steps; they are one change when they come this close.
const QUIET: Duration = Duration::from_millis(40);
/// How often a raised stop is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// A file beyond this is known by its size and time alone.
const HASHED_BYTES_MAX: u64 = 16 << 20;

/// A project under watch.
pub struct Watch {
    places: Vec<Place>,
    seen: HashMap<PathBuf, Option<Digest>>,
    events: Receiver<notify::Result<Event>>,
    _watcher: RecommendedWatcher,
}

/// A file, or a folder with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place(PathBuf);

impl Watch {
    /// Begins to watch what the manifest of `folder` says, or everything in it that looks like a source.
    pub fn start(folder: &Path) -> Result<Watch> {
        let doing = || format!("watching {}", folder.display());
        let folder = fs::canonicalize(folder).map_err(Error::io(doing()))?;
        let places = places(&folder)?;
        let (send, events) = mpsc::channel();
        let failed = |error: notify::Error| Error::io(doing())(std::io::Error::other(error));
        let mut watcher = notify::recommended_watcher(send).map_err(failed)?;
        for (path, mode) in places.iter().flat_map(|place| place.parts(&folder)) {
            watcher.watch(&path, mode).map_err(failed)?;
        }
        let seen = places.iter().flat_map(Place::files).map(|file| (content(&file), file));
        let seen = seen.map(|(content, file)| (file, content)).collect();
        Ok(Watch { places, seen, events, _watcher: watcher })
    }

    /// What is watched, for people.
    pub fn shown(&self) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let names = self
            .places
            .iter()
            .map(|Place(path)| path.strip_prefix(&here).unwrap_or(path).display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Another watch goes on where this one ends: what was saved in between is not lost.
    pub fn succeeded_by(self, next: Watch) -> Watch {
        let seen = next
            .seen
            .iter()
            .map(|(file, content)| (file.clone(), self.seen.get(file).copied().unwrap_or(*content)));
        Watch { seen: seen.collect(), ..next }
    }

    /// Waits for a change. False: it is time to stop.
    pub fn changed(&mut self, stop: &Stop) -> bool {
        // What changed while nobody listened to events has none.
        let missed = self.look(self.places.iter().flat_map(Place::files).collect());
        let mut dirty = missed;
        let mut touched = Vec::new();
        loop {
            match self.events.recv_timeout(if dirty || !touched.is_empty() { QUIET } else { LOOK }) {
                Ok(event) => touched.extend(self.touched_by(event)),
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    dirty |= self.look(std::mem::take(&mut touched));
                    if dirty {
                        return true;
                    }
                }
            }
            if stop.is_raised() {
                return false;
            }
        }
    }

    fn touched_by(&self, event: notify::Result<Event>) -> Vec<PathBuf> {
        match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => vec![],
            Ok(event) => event
                .paths
                .into_iter()
                .filter(|path| self.places.iter().any(|place| place.holds(path)))
                .collect(),
            // Events were lost: everything is looked at.
            Err(_) => self.places.iter().flat_map(Place::files).collect(),
        }
    }

    /// Does any of these have another content than before?
    fn look(&mut self, files: Vec<PathBuf>) -> bool {
        let mut changed = false;
        for file in files {
            let now = content(&file);
            changed |= self.seen.insert(file, now) != Some(now);
        }
        changed
    }
}

impl Place {
    fn holds(&self, path: &Path) -> bool {
        path.strip_prefix(&self.0).is_ok_and(|rest| rest.components().all(|part| is_source(Path::new(&part))))
    }

    /// Itself and all below: a folder that comes is a change, too, since what is in it has to be watched.
    fn files(&self) -> Vec<PathBuf> {
        let below = sources_in(&self.0).into_iter().flat_map(|path| Place(path).files());
        std::iter::once(self.0.clone()).chain(below).collect()
    }

    /// What the system has to watch for it. A file is watched by its folder: editors put a new one in its place. Of the
    /// project itself only the folders of sources are watched whole: those of builds may hold thousands more.
    fn parts(&self, project: &Path) -> Vec<(PathBuf, RecursiveMode)> {
        let path = self.0.clone();
        if path == project {
            let folders = sources_in(&path).into_iter().filter(|path| path.is_dir());
            let whole = folders.map(|path| (path, RecursiveMode::Recursive));
            return whole.chain([(project.to_owned(), RecursiveMode::NonRecursive)]).collect();
        }
        match path.is_dir() {
            true => vec![(path, RecursiveMode::Recursive)],
            // It may come later, with its folder: then this is not watched until the next round.
            false => match path.parent().filter(|parent| parent.is_dir()) {
                Some(parent) => vec![(parent.to_owned(), RecursiveMode::NonRecursive)],
                None => vec![],
            },
        }
    }
}

/// What of a folder a person may have written.
fn sources_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| is_source(path)).collect()
}

/// Is it named like something a person writes?
fn is_source(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !name.starts_with('.') && !name.ends_with('~') && !LEFT_OUT.contains(&name)
}

/// `None`: there is no such file.
fn content(file: &Path) -> Option<Digest> {
    let metadata = fs::metadata(file).ok()?;
    match metadata.len() > HASHED_BYTES_MAX {
        true => Some(Digest::of(format!("{} {:?}", metadata.len(), metadata.modified()).as_bytes())),
        false => Some(Digest::of(&fs::read(file).ok()?)),
    }
}

/// What the manifest says; else the program alone where nothing builds it, else the folder.
fn places(folder: &Path) -> Result<Vec<Place>> {
    let Some(recipe) = Recipe::read(folder)? else { return Ok(vec![Place(folder.to_owned())]) };
    let mut paths: Vec<PathBuf> = match &recipe.build {
        None => recipe.component.iter().cloned().collect(),
        Some(Build { watch: None, .. }) => return Ok(vec![Place(folder.to_owned())]),
        Some(Build { watch: Some(named), .. }) => named.iter().map(|path| folder.join(path)).collect(),
    };
    paths.extend(recipe.assets);
    paths.push(folder.join(MANIFEST_FILE));
    paths.sort();
    paths.dedup();
    Ok(paths.into_iter().map(Place).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A project whose manifest says what to watch, if anything.
    fn project(watch: &str) -> tempfile::TempDir {
        let here = tempfile::tempdir().unwrap();
        let manifest =
            format!("name = \"a\"\ncomponent = \"build/a.wasm\"\n[build]\ncommand = \"true\"\n{watch}\n");
        fs::create_dir_all(here.path().join("src/deep")).unwrap();
        fs::create_dir_all(here.path().join("build")).unwrap();
        fs::write(here.path().join(MANIFEST_FILE), manifest).unwrap();
        fs::write(here.path().join("src/deep/a.rs"), "1").unwrap();
        here
    }

    /// How long a change is waited for.
    const UNCHANGED: Duration = Duration::from_millis(500);

    /// Does this mean another round?
    fn is_a_change(watch: &mut Watch, change: impl FnOnce()) -> bool {
        let stop = Stop::unsignalled();
        change();
        let raise = stop.clone();
        let timer = std::thread::spawn(move || {
            std::thread::sleep(UNCHANGED);
            raise.raise();
        });
        let changed = watch.changed(&stop);
        timer.join().unwrap();
        changed
    }

    #[test]
    fn sources_are_watched_and_what_builds_leave_is_not() {
        let here = project("");
        let mut watch = Watch::start(here.path()).unwrap();
        let at = |name: &str| here.path().join(name);
        assert!(is_a_change(&mut watch, || fs::write(at("src/deep/a.rs"), "2").unwrap()));
        assert!(!is_a_change(&mut watch, || fs::write(at("src/deep/a.rs"), "2").unwrap()), "the same");
        assert!(!is_a_change(&mut watch, || fs::write(at("build/a.wasm"), "2").unwrap()));
        assert!(!is_a_change(&mut watch, || fs::write(at("src/.a.rs.swp"), "2").unwrap()));
        // As editors save: a new file in the place of the old one.
        assert!(is_a_change(&mut watch, || {
            fs::write(at("src/deep/.new"), "3").unwrap();
            fs::rename(at("src/deep/.new"), at("src/deep/a.rs")).unwrap();
        }));
        assert!(is_a_change(&mut watch, || fs::remove_file(at("src/deep/a.rs")).unwrap()));
        assert!(is_a_change(&mut watch, || fs::create_dir(at("public")).unwrap()));
        assert!(is_a_change(&mut watch, || fs::write(at(MANIFEST_FILE), "name = 1").unwrap()));
        assert!(Watch::start(here.path()).is_err(), "a manifest with mistakes");
    }

    #[test]
    fn the_manifest_says_what_is_watched() {
        let here = project("watch = [\"src\", \"notes.txt\"]");
        let mut watch = Watch::start(here.path()).unwrap();
        let at = |name: &str| here.path().join(name);
        assert!(!is_a_change(&mut watch, || fs::write(at("other.txt"), "1").unwrap()));
        assert!(is_a_change(&mut watch, || fs::write(at("notes.txt"), "1").unwrap()));
        assert!(is_a_change(&mut watch, || fs::write(at("src/new.rs"), "1").unwrap()));
        // Saved while nobody waited, by the next watch's time as well.
        fs::write(at("src/new.rs"), "2").unwrap();
        let mut next = watch.succeeded_by(Watch::start(here.path()).unwrap());
        assert!(is_a_change(&mut next, || ()));
    }
}
