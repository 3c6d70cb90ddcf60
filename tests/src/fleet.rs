//! A fleet under test: started by `skerry up`, or as separate processes as on bare metal.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{self, Owned},
    separate::Separate,
    start::{FleetBuilder, Kind, Setup},
    wait_for,
};

/// How long a fleet of debug builds may take to start on a busy machine.
pub(crate) const START_S_MAX: u64 = 90;

/// A process of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// `aot-compiler`
    Compiler,
    /// `control-plane`
    ControlPlane,
    /// `edge-node`
    Node,
}

impl Process {
    /// All of them.
    pub const ALL: [Process; 3] = [Process::Compiler, Process::ControlPlane, Process::Node];

    /// The binary's name.
    pub fn binary(self) -> &'static str {
        match self {
            Process::Compiler => "aot-compiler",
            Process::ControlPlane => "control-plane",
            Process::Node => "edge-node",
        }
    }

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Process::Compiler => "compiler",
            Process::ControlPlane => "control",
            Process::Node => "node",
        }
    }
}

/// Where a fleet is, as its ready file says it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub api: String,
    pub https: SocketAddr,
    pub http: Option<SocketAddr>,
    pub admin: SocketAddr,
    pub ca: PathBuf,
    pub token_file: PathBuf,
}

/// Who runs the servers.
pub(crate) enum Runner {
    Up(Owned),
    Separate(Box<Separate>),
}

/// A fleet with its own directory. Stopped when dropped.
pub struct Fleet {
    // Before `directory`: the processes end before their files go.
    pub(crate) runner: Mutex<Runner>,
    pub(crate) place: Mutex<Place>,
    pub(crate) directory: Arc<TempDir>,
}

static SHARED: Mutex<Weak<Fleet>> = Mutex::new(Weak::new());

impl Fleet {
    /// To be started by `skerry up`.
    pub fn up() -> FleetBuilder {
        FleetBuilder { kind: Kind::Up, project: None, directory: None }
    }

    /// To be started as three processes with configuration files, as an operator would.
    pub fn separate() -> FleetBuilder {
        FleetBuilder { kind: Kind::Separate(Setup::Usual), project: None, directory: None }
    }

    /// To be started as separate processes that compile for this machine's base level alone, a quarter of the work, and let
    /// programs reach backends on loopback, as `up` does: for tests whose programs bring a whole engine.
    pub fn workbench() -> FleetBuilder {
        FleetBuilder { kind: Kind::Separate(Setup::Workbench), project: None, directory: None }
    }

    /// One fleet for all tests of this file that run at the same time: for tests that leave it as it was.
    pub fn shared() -> Arc<Fleet> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let fleet = Arc::new(Fleet::up().start());
            *shared = Arc::downgrade(&fleet);
            fleet
        })
    }

    /// The fleet's directory (`--data`).
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("fleet")
    }

    /// A directory for the test's own files, gone with the fleet.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Lets a fleet be started again on the same directory after this one is dropped.
    pub fn directory(&self) -> Arc<TempDir> {
        self.directory.clone()
    }

    /// URL of the API.
    pub fn api(&self) -> String {
        self.place().api
    }

    /// Where it serves TLS and QUIC.
    pub fn https(&self) -> SocketAddr {
        self.place().https
    }

    /// Where it serves without TLS.
    pub fn http(&self) -> SocketAddr {
        self.place().http.expect("every fleet of the harness has a plain listener")
    }

    /// The local CA's file.
    pub fn ca(&self) -> PathBuf {
        self.place().ca
    }

    /// The operator's token.
    pub fn token(&self) -> String {
        fs::read_to_string(self.place().token_file).expect("the fleet wrote it").trim().to_owned()
    }

    /// What a server wrote since the fleet started.
    pub fn log(&self, process: Process) -> String {
        let path = match &*self.runner() {
            Runner::Up(_) => self.data().join("logs").join(format!("{}.log", process.binary())),
            Runner::Separate(separate) => separate.log(process),
        };
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// A server's data directory.
    pub fn data_of(&self, process: Process) -> PathBuf {
        self.data().join(process.folder())
    }

    /// A server's process id; `None` while it does not run.
    pub fn pid(&self, process: Process) -> Option<u32> {
        match &*self.runner() {
            Runner::Up(_) => {
                let text = fs::read(self.data().join("skerry.json")).ok()?;
                let pid = serde_json::from_slice::<Value>(&text).ok()?["processes"][process.binary()]
                    .as_u64()? as u32;
                process::is_alive(pid).then_some(pid)
            }
            Runner::Separate(separate) => separate.pid(process),
        }
    }

    /// kill -9. Under `up` it comes back by itself; separate processes stay dead until [`Fleet::restart`].
    pub fn kill9(&self, process: Process) {
        match &mut *self.runner() {
            Runner::Separate(separate) => return separate.kill9(process),
            Runner::Up(_) => {}
        }
        let pid = self.pid(process).expect("it runs");
        process::signal(pid, Signal::KILL);
        wait_for("the killed process to be gone", 10, || (!process::is_alive(pid)).then_some(()));
    }

    /// Stops a process where it is, as a machine that hangs does. Its connections stay open.
    pub fn pause(&self, process: Process) {
        process::signal(self.pid(process).expect("it runs"), Signal::STOP);
    }

    /// Lets a paused process go on.
    pub fn resume(&self, process: Process) {
        process::signal(self.pid(process).expect("it runs"), Signal::CONT);
    }

    /// Starts a killed process again (separate), or waits until `up` has done so.
    #[track_caller]
    pub fn restart(&self, process: Process) {
        if let Runner::Separate(separate) = &mut *self.runner() {
            let place = separate.start(process);
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
            return;
        }
        wait_for(&format!("{} to be restarted by up", process.binary()), START_S_MAX, || self.pid(process));
    }

    /// Replaces the compiler of a [`Fleet::workbench`] by one that compiles for all targets.
    #[track_caller]
    pub fn widen_compiler(&self) {
        match &mut *self.runner() {
            Runner::Separate(separate) => separate.widen_compiler(),
            Runner::Up(_) => panic!("the compiler of `skerry up` compiles for all targets already"),
        }
    }

    /// Replaces the node by one that enrols anew, with an empty disk.
    #[track_caller]
    pub fn new_node(&self) {
        let place = match &mut *self.runner() {
            Runner::Separate(separate) => separate.new_node(),
            Runner::Up(_) => panic!("the node of `skerry up` enrols once"),
        };
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Waits until the node is connected to the control plane.
    #[track_caller]
    pub fn wait_connected(&self) {
        wait_for("the node to be connected", 30, || {
            let said = self.skerry(&["node", "list", "--json"]);
            let connected =
                |nodes: Value| nodes.as_array()?.iter().any(|node| node["connected"] == true).then_some(());
            (said.code == 0).then(|| connected(said.json()))?
        });
    }

    /// Process id of `skerry up`.
    pub fn up_pid(&self) -> u32 {
        match &*self.runner() {
            Runner::Up(up) => up.pid(),
            Runner::Separate(_) => panic!("this fleet was not started by `skerry up`"),
        }
    }

    /// Kills `skerry up` itself with SIGKILL.
    pub fn kill9_up(&self) {
        match &mut *self.runner() {
            Runner::Up(up) => up.kill9(),
            Runner::Separate(_) => panic!("this fleet was not started by `skerry up`"),
        }
    }

    /// What `skerry up` printed.
    pub fn up_said(&self) -> String {
        match &*self.runner() {
            Runner::Up(up) => fs::read_to_string(up.log()).unwrap_or_default(),
            Runner::Separate(_) => String::new(),
        }
    }

    /// Asks everything to stop, and returns the exit code of `up`.
    pub fn stop(self) -> Option<i32> {
        match &mut *self.runner() {
            Runner::Up(up) => up.stop(),
            Runner::Separate(separate) => {
                separate.stop();
                Some(0)
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn runner(&self) -> std::sync::MutexGuard<'_, Runner> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
