//! Starting a fleet of either kind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use crate::{
    fleet::{Fleet, Place, Runner, START_S_MAX},
    process::{Owned, binary},
    separate::Separate,
};

/// How to start a fleet.
pub struct FleetBuilder {
    pub(crate) kind: Kind,
    pub(crate) project: Option<PathBuf>,
    pub(crate) directory: Option<Arc<TempDir>>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Up,
    Separate(Setup),
}

/// How separate processes are configured.
#[derive(Clone, Copy)]
pub(crate) enum Setup {
    /// As the defaults are.
    Usual,
    /// For large programs of users: native code of this machine's base level alone, and backends on loopback.
    Workbench,
}

impl FleetBuilder {
    /// On the directory of a fleet that ran before.
    pub fn on(mut self, directory: Arc<TempDir>) -> FleetBuilder {
        self.directory = Some(directory);
        self
    }

    /// `skerry up PROJECT`.
    pub fn with_project(mut self, project: &Path) -> FleetBuilder {
        self.project = Some(project.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Fleet {
        let directory =
            self.directory.unwrap_or_else(|| Arc::new(tempfile::tempdir().expect("a temporary directory")));
        let data = directory.path().join("fleet");
        let (runner, place) = match self.kind {
            Kind::Up => start_up(directory.path(), &data, self.project.as_deref()),
            Kind::Separate(setup) => {
                let (separate, place) = Separate::start_all(&data, setup);
                (Runner::Separate(Box::new(separate)), place)
            }
        };
        Fleet { runner: Mutex::new(runner), place: Mutex::new(place), directory }
    }
}

fn start_up(scratch: &Path, data: &Path, project: Option<&Path>) -> (Runner, Place) {
    let ready = scratch.join("ready.json");
    let _ = fs::remove_file(&ready);
    let any = "127.0.0.1:0";
    let mut command = Command::new(binary("skerry"));
    command.arg("up").args(project).arg("--data").arg(data).arg("--ready-file").arg(&ready);
    command.args(["--https", any, "--http", any, "--api", any]);
    let mut up = Owned::start("skerry up", &mut command, &scratch.join("up.log"));
    let found = up.wait_ready(&ready, START_S_MAX);
    let text =
        |key: &str| found[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {found}")).to_owned();
    let address = |key: &str| text(key).parse().unwrap_or_else(|_| panic!("{key} is no address in {found}"));
    let place = Place {
        api: text("api"),
        https: address("https"),
        http: Some(address("http")),
        admin: address("admin"),
        ca: text("ca").into(),
        token_file: text("token_file").into(),
    };
    (Runner::Up(up), place)
}
