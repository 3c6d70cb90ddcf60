//! The shipped node as a process of its own, in a memory cgroup of its own where one can be made.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::memory::{self, Group, Memory, Source};
use crate::{servers::process::Process, stop, under_load::metrics::Metrics};

/// A node that is not up by then will not be.
const READY_TIME_MAX: Duration = Duration::from_secs(120);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(20);

/// How a node is started, each time the same.
pub struct Settings {
    pub binary: PathBuf,
    /// Identity, copy of the log and artifacts: kept from one start to the next.
    pub folder: PathBuf,
    pub control: SocketAddr,
    pub join_token: String,
    pub code_bytes_max: u64,
    pub threads: Option<u32>,
}

/// A running node. Dropping it ends it.
pub struct Node {
    process: Process,
    /// After the process, which fields are dropped in the order of: a group with somebody in it cannot be removed.
    group: Option<Group>,
    pub http: SocketAddr,
    admin: SocketAddr,
    /// Starting it took so long, until it said that it serves.
    pub start: Duration,
}

/// The part of the ready file that is needed here.
#[derive(Deserialize)]
struct Ready {
    http: SocketAddr,
    admin: SocketAddr,
}

impl Settings {
    /// Starts the node and waits until it serves what it knows.
    pub fn start(&self, stop: &AtomicBool) -> anyhow::Result<Node> {
        anyhow::ensure!(
            self.binary.is_file(),
            "{} is missing; cargo build --release -p edge-node, or name its folder with --binaries",
            self.binary.display()
        );
        let config = self.folder.join("node.toml");
        let ready_file = self.folder.join("ready.json");
        fs::write(&config, self.text(&ready_file)).context("writing the node's configuration")?;
        let _ = fs::remove_file(&ready_file);
        let group = Group::make();
        let started = Instant::now();
        let logs = tempfile::tempdir().context("making a folder for the node's log")?;
        let mut process = Process::start(self.command(&config, group.as_ref()), logs)?;
        let ready = await_ready(&mut process, &ready_file, stop)?;
        let start = started.elapsed();
        Ok(Node { process, group, http: ready.http, admin: ready.admin, start })
    }

    /// A shell enters the group and becomes the node: so all of the node's memory is charged to it.
    fn command(&self, config: &Path, group: Option<&Group>) -> Command {
        let mut command = match group {
            Some(group) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(group.entrance()).arg(&self.binary);
                shell
            }
            None => Command::new(&self.binary),
        };
        command.env("SKERRY_EXIT_WITH_STDIN", "1").arg("--config").arg(config);
        command
    }

    fn text(&self, ready_file: &Path) -> String {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut table = toml::Table::new();
        let mut set = |key: &str, value: String| drop(table.insert(key.to_owned(), value.into()));
        for listener in ["https", "http", "admin"] {
            set(listener, "127.0.0.1:0".to_owned());
        }
        set("data_dir", path("data"));
        set("control", self.control.to_string());
        set("join_token_file", path("join-token"));
        set("ready_file", ready_file.display().to_string());
        set("access_log", path("access.log"));
        table.insert("code_bytes_max".to_owned(), (self.code_bytes_max as i64).into());
        if let Some(threads) = self.threads {
            table.insert("threads".to_owned(), i64::from(threads).into());
        }
        table.to_string()
    }

    /// Puts the join token where the node looks for it.
    pub fn write_token(&self) -> anyhow::Result<()> {
        fs::write(self.folder.join("join-token"), &self.join_token).context("writing the join token")
    }
}

impl Node {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it takes of the machine's memory, and who says so.
    pub fn memory(&self) -> anyhow::Result<(Memory, Source)> {
        if let Some(memory) = self.group.as_ref().and_then(Group::memory) {
            return Ok((memory, Source::Cgroup));
        }
        let memory = memory::of_process(self.pid()).context("reading the node's memory from /proc")?;
        Ok((memory, Source::Proc))
    }

    /// Its metrics.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::of(self.admin)
    }

    /// The end of its log.
    pub fn said(&self) -> String {
        self.process.said()
    }
}

fn await_ready(process: &mut Process, ready_file: &Path, stop: &AtomicBool) -> anyhow::Result<Ready> {
    let deadline = Instant::now() + READY_TIME_MAX;
    loop {
        if let Ok(text) = fs::read(ready_file) {
            return serde_json::from_slice(&text).context("reading the ready file");
        }
        if let Some(status) = process.ended() {
            bail!("the node did not start: {status}: {}", process.said());
        }
        stop::check(stop)?;
        anyhow::ensure!(Instant::now() < deadline, "not ready within {READY_TIME_MAX:?}: {}", process.said());
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_configuration_is_one_that_it_reads() {
        let settings = Settings {
            binary: "edge-node".into(),
            folder: "/tmp/x".into(),
            control: ([127, 0, 0, 1], 1).into(),
            join_token: String::new(),
            code_bytes_max: 1 << 20,
            threads: Some(1),
        };
        let config = edge_node::config::Config::parse(&settings.text(Path::new("/tmp/x/ready"))).unwrap();
        assert_eq!((config.code_bytes_max, config.threads), (1 << 20, std::num::NonZero::new(1)));
    }
}
