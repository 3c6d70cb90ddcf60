//! Which files mean another round, and waiting for them to change.
//!
//! A build writes files too, some of them beside the sources. So a file counts as changed only if its content is another
//! than when it was last looked at: what a build writes alike each time starts no round of its own. The same look finds what
//! the system forgot to tell.

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, TrySendError},
    time::{Duration, Instant},
};

use artifact::{Digest, manifest::Build};
use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{CreateKind, RemoveKind},
};

use crate::{
    build::Recipe,
    error::{Error, Result},
    project::{MANIFEST_FILE, foreign_files},
    up::Stop,
};

/// Folders of tools at the top of a project, beside what begins with a dot: not watched unless the manifest says so.
const LEFT_OUT: [&str; 7] = ["target", "node_modules", "build", "dist", "pkg", "__pycache__", "venv"];
/// The one hidden folder with files to serve (RFC 8615).
const WELL_KNOWN: &str = ".well-known";
/// An editor saves in several steps; they are one change when they come this close.
const QUIET: Duration = Duration::from_millis(40);
/// What goes on and on is looked at after this long.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// How often a raised stop is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of a file that are compared. What follows them tells itself by size and time.
const HASHED_BYTES_MAX: u64 = 16 << 20;
/// Files and folders that are watched: sources are far fewer, and each folder is one watch of the system's.
const ENTRIES_MAX: usize = 20_000;
/// Touches that wait to be looked at. With more of them everything is looked at.
const TOUCHES_MAX: usize = 1_024;

/// A project under watch.
pub struct Watch {
    places: Vec<Place>,
    seen: HashMap<PathBuf, Digest>,
    touches: Receiver<Touch>,
    _watcher: RecommendedWatcher,
}

/// A file, or a folder with all below it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    /// The whole project: what tools leave at its top is left out.
    project: bool,
    /// The program, where a build makes it.
    made: Option<PathBuf>,
}

/// Something happened.
#[derive(Debug)]
enum Touch {
    /// To this path, which has to be looked at.
    File(PathBuf),
    /// To the folders themselves: what is in them has to be watched anew.
    Folder,
    /// To more than was told.
    Unknown,
}

impl Watch {
    /// Begins to watch what the manifest of `folder` says, or everything in it that looks like a source.
    pub fn start(folder: &Path) -> Result<Watch> {
        let doing = || format!("watching {}", folder.display());
        let folder = fs::canonicalize(folder).map_err(Error::io(doing()))?;
        let places = places(&folder)?;
        let files = files(&places)?;
        let (send, touches) = mpsc::sync_channel(TOUCHES_MAX);
        let held = places.clone();
        let tell = move |event| {
            for touch in touches_of(event, &held) {
                if let Err(TrySendError::Full(_)) = send.try_send(touch) {
                    break; // whoever takes as many looks at everything
                }
            }
        };
        let failed = |error: notify::Error| {
            let cure = "; if the system's watches are used up: sysctl fs.inotify.max_user_watches=524288";
            Error::io(format!("{}{cure}", doing()))(std::io::Error::other(error))
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(tell, config).map_err(failed)?;
        for (path, mode) in places.iter().flat_map(Place::parts) {
            watcher.watch(&path, mode).map_err(failed)?;
        }
        let seen = files.into_iter().filter_map(|file| Some((content(&file)?, file)));
        let seen = seen.map(|(content, file)| (file, content)).collect();
        Ok(Watch { places, seen, touches, _watcher: watcher })
    }

    /// What is watched, for people.
    pub fn shown(&self) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let names = self.places.iter().map(|Place { path, .. }| match path.strip_prefix(&here) {
            Ok(rest) if rest.as_os_str().is_empty() => "this folder".to_owned(),
            Ok(rest) => rest.display().to_string(),
            Err(_) => path.display().to_string(),
        });
        names.collect::<Vec<_>>().join(", ")
    }

    /// Another watch goes on where this one ends: what was saved in between is not lost.
    pub fn succeeded_by(self, mut next: Watch) -> Watch {
        for (file, content) in self.seen {
            if next.places.iter().any(|place| place.holds(&file)) {
                next.seen.insert(file, content);
            }
        }
        next
    }

    /// Waits for a change, or until `also` says that there is another reason; it is asked now and then. False: it is time to
    /// stop.
    pub fn changed(&mut self, stop: &Stop, also: &mut dyn FnMut() -> bool) -> bool {
        // What changed before this watch began was told to nobody.
        if self.look_at_all() {
            return !stop.is_raised();
        }
        let mut waiting: Vec<Touch> = Vec::new();
        let mut first = None;
        while !stop.is_raised() {
            let pause = if waiting.is_empty() { LOOK } else { QUIET };
            match self.touches.recv_timeout(pause) {
                Ok(touch) => {
                    waiting.push(touch);
                    let first: &Instant = first.get_or_insert_with(Instant::now);
                    if first.elapsed() < QUIET_MAX {
                        continue;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    if waiting.is_empty() && also() {
                        return !stop.is_raised();
                    }
                }
            }
            first = None;
            if self.is_change(std::mem::take(&mut waiting)) {
                return true;
            }
        }
        false
    }

    fn is_change(&mut self, touches: Vec<Touch>) -> bool {
        let lost =
            touches.len() >= TOUCHES_MAX || touches.iter().any(|touch| matches!(touch, Touch::Unknown));
        let folders = touches.iter().any(|touch| matches!(touch, Touch::Folder));
        let files = touches.into_iter().filter_map(|touch| match touch {
            Touch::File(file) => Some(file),
            Touch::Folder | Touch::Unknown => None,
        });
        let changed = self.look(files.collect());
        changed | folders | (lost && self.look_at_all())
    }

    /// Does any of these have another content than before?
    fn look(&mut self, files: Vec<PathBuf>) -> bool {
        let mut changed = false;
        for file in files {
            let now = content(&file);
            let before = match now {
                Some(now) => self.seen.insert(file, now),
                None => self.seen.remove(&file),
            };
            changed |= before != now;
        }
        changed
    }

    fn look_at_all(&mut self) -> bool {
        // What is gone is not found, but was seen. What cannot be listed any more is looked at by the next watch.
        let mut all = files(&self.places).unwrap_or_default();
        all.extend(self.seen.keys().cloned());
        self.look(all)
    }
}

fn touches_of(event: notify::Result<Event>, places: &[Place]) -> Vec<Touch> {
    let Ok(event) = event else { return vec![Touch::Unknown] };
    if event.need_rescan() {
        return vec![Touch::Unknown];
    }
    let of_folder =
        matches!(event.kind, EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder));
    match event.kind {
        EventKind::Access(_) => vec![],
        _ => {
            let held = event.paths.into_iter().filter(|path| places.iter().any(|place| place.holds(path)));
            held.map(|path| if of_folder || path.is_dir() { Touch::Folder } else { Touch::File(path) })
                .collect()
        }
    }
}

impl Place {
    fn of(path: PathBuf) -> Place {
        Place { path, project: false, made: None }
    }

    fn holds(&self, path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix(&self.path) else { return false };
        let hidden = rest.components().any(|part| !is_source(Path::new(&part)));
        let first = rest.components().next().and_then(|part| part.as_os_str().to_str()).unwrap_or_default();
        let of_tools = self.project && LEFT_OUT.contains(&first);
        !(hidden || of_tools || self.made.as_deref() == Some(path))
    }

    /// What the system has to watch for it. A file is watched by its folder: editors put a new one in its place. Of the
    /// project itself only the folders of sources are watched whole: those of builds may hold thousands more.
    fn parts(&self) -> Vec<(PathBuf, RecursiveMode)> {
        let path = self.path.clone();
        if self.project {
            let folders = self.sources_in(&path).into_iter().filter(|path| is_folder(path));
            let whole = folders.map(|path| (path, RecursiveMode::Recursive));
            return whole.chain([(path.clone(), RecursiveMode::NonRecursive)]).collect();
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

    /// What of a folder a person may have written.
    fn sources_in(&self, folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| self.holds(path)).collect()
    }
}

/// All files there are in these places. Links to folders are not followed: they may lead anywhere, and around.
fn files(places: &[Place]) -> Result<Vec<PathBuf>> {
    let (mut found, mut entries) = (Vec::new(), 0);
    for place in places {
        let mut folders = vec![place.path.clone()];
        while let Some(path) = folders.pop() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return Err(Error::Usage(format!(
                    "there are more than {ENTRIES_MAX} files to watch in {}; name those that matter: [build] watch = [\"src\"]",
                    place.path.display()
                )));
            }
            match path == place.path && path.is_dir() || is_folder(&path) {
                true => folders.extend(place.sources_in(&path)),
                false => found.push(path),
            }
        }
    }
    Ok(found)
}

/// A folder, and no link to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Is it named like something a person writes, rather than an editor on the way?
fn is_source(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    (!name.starts_with('.') || name == WELL_KNOWN) && !name.starts_with('#') && !name.ends_with('~')
}

/// `None`: there is no such file.
fn content(file: &Path) -> Option<Digest> {
    let metadata = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    fs::File::open(file).ok()?.take(HASHED_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    if metadata.len() > HASHED_BYTES_MAX {
        bytes.extend(format!("{} {:?}", metadata.len(), metadata.modified()).into_bytes());
    }
    Some(Digest::of(&bytes))
}

/// What the manifest says; else the program alone where this does not build it, else the folder.
fn places(folder: &Path) -> Result<Vec<Place>> {
    let whole = |made| vec![Place { path: folder.to_owned(), project: true, made }];
    let Some(recipe) = Recipe::read(folder)? else {
        // Other platforms' own tools build it: what they leave is what is looked at.
        return Ok(foreign_files(folder).into_iter().map(Place::of).collect());
    };
    let mut paths: Vec<PathBuf> = match recipe.build {
        None => recipe.component.into_iter().collect(),
        Some(Build { watch: None, .. }) => return Ok(whole(recipe.component)),
        Some(Build { watch: Some(named), .. }) => named.iter().map(|path| folder.join(path)).collect(),
    };
    paths.extend(recipe.assets);
    paths.push(folder.join(MANIFEST_FILE));
    paths.sort();
    paths.dedup();
    Ok(paths.into_iter().map(Place::of).collect())
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
        let stop = Stop::by_hand();
        change();
        let raise = stop.clone();
        let timer = std::thread::spawn(move || {
            std::thread::sleep(UNCHANGED);
            raise.raise();
        });
        let changed = watch.changed(&stop, &mut || false);
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
        // An editor tries whether it may write, and leaves nothing.
        assert!(!is_a_change(&mut watch, || {
            fs::write(at("src/4913"), "").unwrap();
            fs::remove_file(at("src/4913")).unwrap();
        }));
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

    #[test]
    fn pipes_and_links_around_are_no_trap_and_too_many_files_are_said() {
        let here = project("");
        std::os::unix::fs::symlink(".", here.path().join("src/around")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", here.path().join("src/endless")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            here.path().join("src/pipe"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        let mut watch = Watch::start(here.path()).unwrap();
        assert!(is_a_change(&mut watch, || fs::write(here.path().join("src/deep/a.rs"), "2").unwrap()));
        for n in 0..=ENTRIES_MAX {
            fs::write(here.path().join(format!("src/{n}")), "").unwrap();
        }
        let error = Watch::start(here.path()).err().unwrap().to_string();
        assert!(error.contains("watch ="), "{error}");
    }
}
