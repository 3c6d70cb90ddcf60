//! A further node of a fleet, with settings of its own.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    fleet::{Fleet, START_S_MAX},
    process::{Owned, binary},
};

/// See the module. It ends when dropped.
pub struct AnotherNode {
    _process: Owned,
    http: SocketAddr,
    data: PathBuf,
}

impl AnotherNode {
    /// Enrols a node in the POP `pop` and starts it with these further lines in its configuration.
    #[track_caller]
    pub fn join(fleet: &Fleet, pop: &str, settings: &str) -> AnotherNode {
        let root = fleet.scratch().join(pop);
        fs::create_dir_all(&root).expect("our own directory");
        let made =
            fleet.skerry(&["node", "token", "create", "--pop", pop, "--ttl", "10m", "--json"]).ok().json();
        fs::write(root.join("join.token"), made["token"].as_str().expect("a token"))
            .expect("our own directory");
        let control = fs::read(fleet.data().join("control.ready.json")).expect("the control plane runs");
        let control: Value = serde_json::from_slice(&control).expect("JSON");
        let (sync, at) = (control["sync"].as_str().expect("an address"), root.display());
        let config = format!(
            "https = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndata_dir = \"{at}/data\"\n\
             control = \"{sync}\"\njoin_token_file = \"{at}/join.token\"\nready_file = \"{at}/ready.json\"\n{settings}\n"
        );
        fs::write(root.join("node.toml"), config).expect("our own directory");
        let mut command = Command::new(binary("edge-node"));
        command.arg("--config").arg(root.join("node.toml"));
        let mut process = Owned::start("edge-node", &mut command, &root.join("edge-node.log"));
        let said = process.wait_ready(&root.join("ready.json"), START_S_MAX);
        let http = said["http"].as_str().and_then(|text| text.parse().ok()).expect("its address");
        AnotherNode { _process: process, http, data: root.join("data") }
    }

    /// Its plain listener.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }
}
