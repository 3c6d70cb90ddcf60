//! One server of the fleet as a child process: start, ready, gone, stop.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use super::{
    failed,
    layout::Layout,
    stop::{EXIT_WITH_STDIN, Stop},
};
use crate::error::{Error, Result};

/// A server that is not ready by then will not be: debug builds take about a second.
const READY_S_MAX: u64 = 60;
/// Pause between looks at a ready file: below what a person notices.
const LOOK_MS: u64 = 10;
/// A log beyond this is cut to nothing while the fleet runs: a laptop's disk is not for access logs.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A server and how it is started.
pub struct Part {
    /// The binary's name, also in logs and in the ready file.
    pub server: &'static str,
    binary: PathBuf,
    config: PathBuf,
    ready: PathBuf,
    log: PathBuf,
    child: Child,
}

/// A part of a fleet: which binary, and the short name its files have.
#[derive(Clone, Copy)]
pub struct Role {
    pub server: &'static str,
    pub short: &'static str,
}

/// The compiler service.
pub const COMPILER: Role = Role { server: "aot-compiler", short: "compiler" };
/// The control plane.
pub const CONTROL: Role = Role { server: "control-plane", short: "control" };
/// The node.
pub const NODE: Role = Role { server: "edge-node", short: "node" };

/// The directory with the servers, all of them or an error that names what is missing.
pub fn find_servers() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(Error::io("finding this executable"))?;
    let folder = own.parent().map(Path::to_owned).unwrap_or_default();
    let missing: Vec<_> = [COMPILER, CONTROL, NODE]
        .iter()
        .map(|role| role.server)
        .filter(|name| !folder.join(name).is_file())
        .collect();
    if missing.is_empty() {
        return Ok(folder);
    }
    Err(Error::Fleet(format!(
        "missing in {}: {}; the servers must lie beside skerry (in a checkout: cargo build -p aot-compiler \
         -p control-plane -p edge-node)",
        folder.display(),
        missing.join(", ")
    )))
}

impl Part {
    /// Starts a server with a fresh log; the log of the run before is kept beside it.
    pub fn start(role: Role, servers: &Path, layout: &Layout) -> Result<Part> {
        let log = layout.log(role.server);
        if log.exists() {
            let mut old = log.clone().into_os_string();
            old.push(".old");
            fs::rename(&log, old).map_err(Error::io(format!("keeping the old log {}", log.display())))?;
        }
        let (binary, config, ready) =
            (servers.join(role.server), layout.config(role.short), layout.ready(role.short));
        let child = spawn(&binary, &config, &ready, &log)?;
        Ok(Part { server: role.server, binary, config, ready, log, child })
    }

    /// Starts it again after it ended.
    pub fn restart(&mut self) -> Result<()> {
        self.child = spawn(&self.binary, &self.config, &self.ready, &self.log)?;
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its ready file.
    pub fn wait_ready<T: DeserializeOwned>(&mut self, stop: &Stop) -> Result<T> {
        let deadline = Instant::now() + Duration::from_secs(READY_S_MAX);
        loop {
            if let Some(ready) = self.ready() {
                return Ok(ready);
            }
            if let Some(status) = self.ended() {
                return Err(failed(self.server, &format!("ended while starting ({status})"), &self.log));
            }
            if stop.is_raised() {
                return Err(Error::Fleet("stopped before the fleet was up".into()));
            }
            if Instant::now() >= deadline {
                return Err(failed(self.server, &format!("was not ready after {READY_S_MAX} s"), &self.log));
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    /// What its ready file says, if it is there. It is written in one step, so it is whole.
    pub fn ready<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&fs::read(&self.ready).ok()?).ok()
    }

    /// Has it ended?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Where its log is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Keeps the log within its bound.
    pub fn trim_log(&self) {
        if fs::metadata(&self.log).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
            // It is open for appending, so the server goes on at the new end.
            let _ = OpenOptions::new().write(true).open(&self.log).and_then(|file| file.set_len(0));
        }
    }

    /// Asks it to stop; kills it at `deadline`. Returns when it is gone.
    pub fn stop(&mut self, deadline: Instant) {
        if self.ended().is_some() {
            return;
        }
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        while Instant::now() < deadline {
            if self.ended().is_some() {
                return;
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
        eprintln!("{} did not stop in time and is killed", self.server);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(binary: &Path, config: &Path, ready: &Path, log: &Path) -> Result<Child> {
    // A ready file of the run before would be believed.
    let _ = fs::remove_file(ready);
    let file = open_log(log).map_err(Error::io(format!("opening the log {}", log.display())))?;
    Command::new(binary)
        .arg("--config")
        .arg(config)
        .env(EXIT_WITH_STDIN, "1")
        .stdin(Stdio::piped()) // never written to: its end is the sign that `up` is gone
        .stdout(file.try_clone().map_err(Error::io(format!("opening the log {}", log.display())))?)
        .stderr(file)
        .process_group(0) // Ctrl-C is for `up`, which stops the parts in order
        .spawn()
        .map_err(Error::io(format!("starting {}", binary.display())))
}

fn open_log(log: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(log)
}
