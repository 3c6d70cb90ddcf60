//! `skerry dev` on a folder: started, listened to, asked, stopped.

use std::{net::SocketAddr, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{Proto, Request, Response},
    command::without_surroundings,
    process::{Owned, binary, is_alive},
    wait_for,
};

/// How long the first round may take: a debug compiler, and a project's own tools.
const FIRST_S_MAX: u64 = 180;

/// A running `skerry dev`, stopped when dropped.
pub struct Dev {
    process: Owned,
    folder: std::path::PathBuf,
    _log: TempDir,
}

impl Dev {
    /// Starts it on ports that the system picks.
    pub fn start(folder: &Path) -> Dev {
        let log = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(binary("skerry"));
        without_surroundings(&mut command);
        command.args(["dev", "--https", "127.0.0.1:0"]).arg(folder);
        let process = Owned::start("skerry dev", &mut command, &log.path().join("dev.log"));
        Dev { process, folder: folder.to_owned(), _log: log }
    }

    /// Everything it has said.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Waits until it has said `text` this often.
    pub fn wait_said(&self, text: &str, times: usize) {
        wait_for(&format!("{text:?} ({times} times)"), FIRST_S_MAX, || {
            (self.said().matches(text).count() >= times).then_some(())
        });
    }

    /// Asks its app.
    pub fn get(&self, app: &str) -> Response {
        let file = self.folder.join(".skerry/skerry.json");
        let ready: Value = serde_json::from_slice(&std::fs::read(file).expect("it is up")).expect("JSON");
        let text = |key: &str| ready[key].as_str().expect("a text").to_owned();
        let address: SocketAddr = text("https").parse().expect("an address");
        Request::new(Proto::H2, format!("{app}.localhost"), address, text("ca").into()).send()
    }

    /// Stops it as a terminal does, and gives all it has said. A fleet that it only used goes on.
    pub fn stopped(mut self) -> String {
        assert_eq!(self.process.interrupt(), Some(0));
        self.said()
    }

    /// Stops it as a terminal does; its exit code, once all it started is gone.
    pub fn stop(mut self) -> Option<i32> {
        let file = self.folder.join(".skerry/skerry.json");
        let ready: Option<Value> =
            std::fs::read(file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let code = self.process.interrupt();
        for pid in
            ready.iter().filter_map(|ready| ready["processes"].as_object()).flat_map(|pids| pids.values())
        {
            let pid = pid.as_u64().expect("a process id") as u32;
            assert!(!is_alive(pid), "process {pid} is still there");
        }
        code
    }
}
