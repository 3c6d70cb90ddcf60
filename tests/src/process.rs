//! A process that this test owns: started with a log and a lifeline, ended by id.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::guests::root;

/// How long a server may take to stop when asked.
const STOP_S_MAX: u64 = 15;

/// A binary of this workspace.
pub(crate) fn binary(name: &str) -> PathBuf {
    let path = root().join("target/debug").join(name);
    let cure = "cargo build --workspace --all-targets (or ./dev test)";
    assert!(path.is_file(), "{} is missing: run {cure}", path.display());
    path
}

/// A running process, stopped when dropped.
pub(crate) struct Owned {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Owned {
    /// Starts it. Its standard input is a pipe that ends with this process, which tells it to stop.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Owned {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .expect("the log lies in our own directory");
        let child = command
            .env("SKERRY_EXIT_WITH_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(file.try_clone().expect("a descriptor of our own"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Owned { name: name.to_owned(), child, log: log.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for its ready file; fails with the log if it ends first.
    #[track_caller]
    pub fn wait_ready(&mut self, ready: &Path, seconds: u64) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some(value) = fs::read(ready).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                return value;
            }
            let ended = self.child.try_wait().expect("it is our child");
            let late = Instant::now() >= deadline;
            if ended.is_some() || late {
                let why =
                    ended.map_or_else(|| "was not ready in time".into(), |status| format!("ended: {status}"));
                panic!("{} {why}; it said:\n{}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything it wrote.
    pub fn said(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; waits for a clean end.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.end_by(Signal::TERM)
    }

    /// SIGINT, as Ctrl-C sends it; waits for a clean end.
    #[track_caller]
    pub fn interrupt(&mut self) -> Option<i32> {
        self.end_by(Signal::INT)
    }

    /// Another signal that asks it to end; waits for a clean end.
    #[track_caller]
    pub fn end_by(&mut self, asked: Signal) -> Option<i32> {
        signal(self.child.id(), asked);
        let deadline = Instant::now() + Duration::from_secs(STOP_S_MAX);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.kill9();
        None
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.stop();
        }
        if thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, tail(&self.said()));
        }
    }
}

/// Sends a signal to a process that this test started, itself or through `skerry up`.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

/// Does it run? A zombie does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let exists = Pid::from_raw(pid as i32).is_some_and(|pid| test_kill_process(pid).is_ok());
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    exists && !state.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

/// The last lines: a failing test wants the end of a log.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
