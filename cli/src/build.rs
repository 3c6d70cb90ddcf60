//! A project's own commands: its `[build]` table run by a shell, and what they leave.
//!
//! Relied on: the manifest, and `tools` for what is missing. Standard output is for results, so what a command prints
//! goes to standard error. Deliberately absent: knowledge of any language's tools beyond how they are installed.

use std::{
    env, fs, io,
    os::fd::AsFd as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use artifact::{AppName, manifest::Build};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    error::{Error, Result},
    project::{self, MANIFEST_FILE},
    tools,
    up::Stop,
};

/// How often a running command is looked at: below what a person notices.
const LOOK: Duration = Duration::from_millis(5);
/// How long a command that is told to stop may take.
const STOP_MAX: Duration = Duration::from_secs(2);

/// What a program is made for. A project's own commands see it as `SKERRY_DEV`, this process's
/// number, or as no such variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// To be looked at in a moment: what takes longer than it saves may be left out.
    Dev,
    /// To be deployed.
    Release,
}

/// How a folder's program is made.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The folder with the manifest.
    pub folder: PathBuf,
    /// The app's name.
    pub name: AppName,
    /// The program's file. `None`: the app is static files alone.
    pub component: Option<PathBuf>,
    /// The folder of its static files.
    pub assets: Option<PathBuf>,
    /// Its commands, if the manifest names any.
    pub build: Option<Build>,
}

/// What was made.
#[derive(Debug)]
pub struct Built {
    /// The program's file and its size in bytes, if the app has one.
    pub program: Option<(PathBuf, u64)>,
    /// How long its command ran. `None`: there is none, and the file was there.
    pub took: Option<Duration>,
}

impl Built {
    /// For people: `app.wasm, 100.2 KB`.
    pub fn what(&self) -> String {
        match &self.program {
            Some((file, bytes)) => format!("{}, {}", file.display(), size(*bytes)),
            None => "static files alone".into(),
        }
    }
}

impl Recipe {
    /// Reads the manifest. `None`: there is no `skerry.toml`, and other tools build what is there.
    pub fn read(folder: &Path) -> Result<Option<Recipe>> {
        let Some(project) = project::manifest(folder)? else { return Ok(None) };
        Ok(Some(Recipe {
            folder: folder.to_owned(),
            name: project.name,
            component: project.component.map(|file| below(folder, &file)),
            assets: project.assets_folder.map(|files| below(folder, &files)),
            build: project.build,
        }))
    }

    /// The same, where there has to be one.
    pub fn require(folder: &Path) -> Result<Recipe> {
        Recipe::read(folder)?.ok_or_else(|| {
            Error::Usage(format!(
                "{} has no {MANIFEST_FILE}; start a project with `skerry new`, or bring one with `skerry init --from`",
                folder.display()
            ))
        })
    }

    /// Makes the program, unless told to stop meanwhile.
    pub fn make(&self, aim: Aim, stop: &Stop) -> Result<Built> {
        let began = Instant::now();
        if let Some(build) = &self.build {
            self.shell("build", &build.command, aim, stop)?;
        }
        let took = self.build.is_some().then(|| began.elapsed());
        let program = match &self.component {
            Some(file) => Some((file.clone(), self.look(file, took.is_some())?)),
            None => None,
        };
        Ok(Built { program, took })
    }

    /// Runs the project's tests, unless told to stop meanwhile.
    pub fn test(&self, stop: &Stop) -> Result<()> {
        let Some(command) = self.build.as_ref().and_then(|build| build.test.as_ref()) else {
            return Err(Error::Usage(format!(
                "{} names no tests; name their command: [build] test = \"cargo test\"",
                self.folder.join(MANIFEST_FILE).display()
            )));
        };
        self.shell("tests", command, Aim::Dev, stop)
    }

    fn shell(&self, what: &str, command: &str, aim: Aim, stop: &Stop) -> Result<()> {
        let doing = || format!("running the {what} of {}: {command}", self.name);
        let to_stderr = io::stderr().as_fd().try_clone_to_owned().map_err(Error::io(doing()))?;
        let mut shell = Command::new("/bin/sh");
        match aim {
            Aim::Dev => shell.env("SKERRY_DEV", process::id().to_string()),
            Aim::Release => shell.env_remove("SKERRY_DEV"),
        };
        let mut child = shell
            .args(["-c", command])
            .current_dir(&self.folder)
            .env("PATH", path_with_skerry())
            .stdin(Stdio::null())
            .stdout(to_stderr)
            .process_group(0) // what it starts ends with it
            .spawn()
            .map_err(Error::io(doing()))?;
        match wait(&mut child, stop).map_err(Error::io(doing()))? {
            None => Err(Error::Command(format!("{} was stopped", doing()))),
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let missing = tools::missing_for(command, &self.folder);
                let why = missing.unwrap_or_else(|| "what it said stands above".into());
                Err(Error::Command(format!("{} failed ({status}); {why}", doing())))
            }
        }
    }

    /// The size of what was made, once it is a program at all.
    fn look(&self, component: &Path, built: bool) -> Result<u64> {
        let file = component.display();
        let head = read_head(component).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound if built => Error::Command(format!(
                "the build of {} ended well, but left no {file}: is `component` in {MANIFEST_FILE} where it puts the program?",
                self.name
            )),
            io::ErrorKind::NotFound => Error::Usage(format!(
                "there is no {file}, and {MANIFEST_FILE} does not say how it is built; add [build] command = \"…\""
            )),
            _ => Error::io(format!("reading {file}"))(cause),
        })?;
        if !head.starts_with(b"\0asm") {
            return Err(Error::Command(format!(
                "{file} is no wasm: it begins with {:?}",
                String::from_utf8_lossy(&head)
            )));
        }
        fs::metadata(component).map(|metadata| metadata.len()).map_err(Error::io(format!("reading {file}")))
    }
}

/// Waits for its end. `None`: it was told to stop, with all it started, and is gone.
fn wait(child: &mut Child, stop: &Stop) -> io::Result<Option<ExitStatus>> {
    while !stop.is_raised() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(LOOK);
    }
    let group = Pid::from_child(child);
    let _ = kill_process_group(group, Signal::TERM);
    let deadline = Instant::now() + STOP_MAX;
    while child.try_wait()?.is_none() && Instant::now() < deadline {
        thread::sleep(LOOK);
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().map(|_| None)
}

/// Without the `./` of a folder that is the current one: people read it.
fn below(folder: &Path, file: &str) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(file) } else { folder.join(file) }
}

fn read_head(file: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(fs::File::open(file)?, 4), &mut head)?;
    Ok(head)
}

/// This program's folder first: build commands call `skerry component`, and mean this one.
fn path_with_skerry() -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    // An empty entry would mean the project's folder.
    let others = env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
    env::join_paths(own.into_iter().chain(others)).unwrap_or(path)
}

/// A size as people read it: decimal, as disks and networks count.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(folder: &Path, command: &str) -> Recipe {
        let build = Build { command: command.into(), watch: None, test: Some("exit 3".into()) };
        Recipe {
            folder: folder.into(),
            name: "shop".parse().unwrap(),
            component: Some(folder.join("out/shop.wasm")),
            assets: None,
            build: Some(build),
        }
    }

    #[test]
    fn a_build_runs_in_its_folder_and_leaves_a_program() {
        let (here, stop) = (tempfile::tempdir().unwrap(), Stop::by_hand());
        let built = recipe(here.path(), "mkdir -p out && printf '\\0asm1234' > out/shop.wasm")
            .make(Aim::Release, &stop)
            .unwrap();
        assert_eq!((built.program.map(|(_, bytes)| bytes), built.took.is_some()), (Some(8), true));
        let text = recipe(here.path(), "echo text > out/shop.wasm")
            .make(Aim::Release, &stop)
            .unwrap_err()
            .to_string();
        assert!(text.contains("no wasm"), "{text}");
    }

    #[test]
    fn what_went_wrong_is_said_with_the_command() {
        let (here, stop) = (tempfile::tempdir().unwrap(), Stop::by_hand());
        let failed = recipe(here.path(), "exit 7").make(Aim::Release, &stop).unwrap_err().to_string();
        assert!(failed.contains("exit 7") && failed.contains("status: 7"), "{failed}");
        let nothing = recipe(here.path(), "true").make(Aim::Release, &stop).unwrap_err().to_string();
        assert!(nothing.contains("out/shop.wasm") && nothing.contains("`component`"), "{nothing}");
        let unbuilt = Recipe { build: None, ..recipe(here.path(), "") };
        assert!(unbuilt.make(Aim::Release, &stop).unwrap_err().to_string().contains("[build]"));
        assert!(unbuilt.test(&stop).unwrap_err().to_string().contains("test ="));
        assert!(recipe(here.path(), "").test(&stop).unwrap_err().to_string().contains("status: 3"));
    }

    #[test]
    fn a_build_that_hangs_is_stopped_with_all_it_started() {
        let (here, stop) = (tempfile::tempdir().unwrap(), Stop::by_hand());
        let raise = stop.clone();
        let started = here.path().join("started");
        let raiser = thread::spawn(move || {
            while !started.exists() {
                thread::sleep(LOOK);
            }
            raise.raise();
        });
        let hangs = recipe(here.path(), "sleep 1000 & echo $! > pid; touch started; wait");
        assert!(hangs.make(Aim::Release, &stop).unwrap_err().to_string().contains("was stopped"));
        raiser.join().unwrap();
        let pid = fs::read_to_string(here.path().join("pid")).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([size(7), size(102_400), size(2_500_000)], ["7 bytes", "102.4 KB", "2.5 MB"]);
    }
}
