//! The three servers as an operator runs them: own configuration files, started and stopped one by one.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    command::Said,
    fleet::{Place, Process, START_S_MAX},
    process::{Owned, binary},
    start::Setup,
};

/// What every machine of this one's architecture runs.
const BASE_TARGET: &str = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64-v2" };

/// Three servers, some of which may be dead.
pub(crate) struct Separate {
    root: PathBuf,
    setup: Setup,
    processes: [Option<Owned>; 3],
    /// Known after the first start, and kept over restarts.
    addresses: Addresses,
}

/// Port 0 until the server has said which it got.
#[derive(Clone)]
struct Addresses {
    compiler: SocketAddr,
    api: SocketAddr,
    sync: SocketAddr,
    https: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
}

impl Separate {
    /// Writes the configuration and starts all, in order.
    pub fn start_all(root: &Path, setup: Setup) -> (Separate, Place) {
        for folder in ["compiler", "control", "node"] {
            fs::create_dir_all(root.join(folder)).expect("our own directory");
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses { compiler: any, api: any, sync: any, https: any, http: any, admin: any };
        let mut separate =
            Separate { root: root.to_owned(), setup, processes: [None, None, None], addresses };
        separate.start(Process::Compiler);
        separate.start(Process::ControlPlane);
        separate.issue_join_token();
        let place = separate.start(Process::Node);
        (separate, place)
    }

    /// Starts one that is not running.
    #[track_caller]
    pub fn start(&mut self, process: Process) -> Place {
        let slot = process as usize;
        assert!(self.processes[slot].is_none(), "{} runs already", process.binary());
        let config = self.root.join(format!("{}.toml", process.folder()));
        fs::write(&config, self.config(process)).expect("our own directory");
        let ready = self.ready_file(process);
        let _ = fs::remove_file(&ready);
        let mut command = Command::new(binary(process.binary()));
        let mut owned =
            Owned::start(process.binary(), command.arg("--config").arg(&config), &self.log(process));
        let said = owned.wait_ready(&ready, START_S_MAX);
        let address = |key: &str| {
            said[key]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| panic!("no {key} in {said}"))
        };
        match process {
            Process::Compiler => self.addresses.compiler = address("listen"),
            Process::ControlPlane => {
                (self.addresses.api, self.addresses.sync) = (address("api"), address("sync"))
            }
            Process::Node => {
                self.addresses.https = address("https");
                (self.addresses.http, self.addresses.admin) = (address("http"), address("admin"));
            }
        }
        self.processes[slot] = Some(owned);
        self.place()
    }

    /// Replaces the compiler by one for all targets.
    #[track_caller]
    pub fn widen_compiler(&mut self) {
        self.kill9(Process::Compiler);
        self.setup = Setup::Usual;
        self.start(Process::Compiler);
    }

    /// Puts a node that knows nothing in the place of the one there is.
    #[track_caller]
    pub fn new_node(&mut self) -> Place {
        self.kill9(Process::Node);
        let folder = self.root.join("node");
        fs::remove_dir_all(&folder).and_then(|()| fs::create_dir(&folder)).expect("our own directory");
        self.issue_join_token();
        self.start(Process::Node)
    }

    pub fn kill9(&mut self, process: Process) {
        if let Some(mut owned) = self.processes[process as usize].take() {
            owned.kill9();
        }
    }

    pub fn pid(&self, process: Process) -> Option<u32> {
        self.processes[process as usize].as_ref().map(Owned::pid)
    }

    pub fn log(&self, process: Process) -> PathBuf {
        self.root.join(format!("{}.log", process.binary()))
    }

    /// Asks all to stop, the node first.
    pub fn stop(&mut self) {
        for owned in self.processes.iter_mut().rev() {
            if let Some(mut owned) = owned.take() {
                owned.stop();
            }
        }
    }

    fn ready_file(&self, process: Process) -> PathBuf {
        self.root.join(format!("{}.ready.json", process.folder()))
    }

    fn place(&self) -> Place {
        let Addresses { api, https, http, admin, .. } = self.addresses;
        let control = self.root.join("control");
        let (ca, token_file) = (control.join("local-ca.pem"), control.join("operator.token"));
        Place { api: format!("http://{api}"), https, http: Some(http), admin, ca, token_file }
    }

    fn issue_join_token(&self) {
        let place = self.place();
        let token = fs::read_to_string(&place.token_file).expect("the control plane wrote it");
        let arguments = ["node", "token", "create", "--pop", "fra1", "--ttl", "10m", "--json"];
        let mut command = Command::new(binary("skerry"));
        command.args(arguments).env("SKERRY_API", &place.api).env("SKERRY_TOKEN", token.trim());
        let created: Value = Said::by(&mut command).ok().json();
        let token = created["token"].as_str().expect("a token");
        fs::write(self.root.join("node/join.token"), token).expect("our own directory");
    }

    fn config(&self, process: Process) -> String {
        let Addresses { compiler, api, sync, https, http, admin } = &self.addresses;
        let root = self.root.display();
        let ready = self.ready_file(process);
        let ready = ready.display();
        let (targets, outbound) = match self.setup {
            Setup::Usual => (String::new(), ""),
            Setup::Workbench => {
                (format!("targets = [\"{BASE_TARGET}\"]\n"), "outbound_allow = [\"127.0.0.0/8\"]\n")
            }
        };
        match process {
            Process::Compiler => format!(
                "listen = \"{compiler}\"\ndata_dir = \"{root}/compiler\"\ntoken_file = \"{root}/compiler/token\"\n\
                 ready_file = \"{ready}\"\n{targets}"
            ),
            Process::ControlPlane => format!(
                "api = \"{api}\"\nsync = \"{sync}\"\ndata_dir = \"{root}/control\"\nready_file = \"{ready}\"\n\
                 [compiler]\nurl = \"http://{compiler}\"\ntoken_file = \"{root}/compiler/token\"\n\
                 public_key_file = \"{root}/compiler/compiler.pub\"\n"
            ),
            Process::Node => format!(
                "https = \"{https}\"\nhttp = \"{http}\"\nadmin = \"{admin}\"\ndata_dir = \"{root}/node\"\n\
                 control = \"{sync}\"\njoin_token_file = \"{root}/node/join.token\"\nready_file = \"{ready}\"\n\
                 drain_s = 5\n{outbound}"
            ),
        }
    }
}

impl Drop for Separate {
    fn drop(&mut self) {
        self.stop();
    }
}
