//! A whole fleet of its own: `skerry up` in a folder that is removed afterwards, and `skerry deploy` towards it.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use crate::under_load::metrics::Metrics;

/// A fleet that is not up by then will not be.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// A fleet that has not stopped by then is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(20);

/// A running fleet. Dropping it stops it.
pub struct Fleet {
    skerry: PathBuf,
    up: Child,
    folder: TempDir,
    pub https: SocketAddr,
    pub http: SocketAddr,
    /// Where the node tells its metrics.
    admin: SocketAddr,
    pub ca: PathBuf,
    /// Process id of the node.
    pub node: u32,
}

/// The part of the ready file that is needed here.
#[derive(Deserialize)]
struct Ready {
    https: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
    ca: PathBuf,
    processes: BTreeMap<String, u32>,
}

/// What `skerry deploy --json` says, as far as it is needed here.
#[derive(Debug, Clone, Deserialize)]
pub struct Deployed {
    pub version: u64,
    pub compile_ms: f64,
    pub publish_ms: f64,
    pub active_ms: f64,
    pub targets: Vec<String>,
}

impl Fleet {
    /// Starts the binaries in `binaries`; ports are picked by the kernel. `nice` is that of the node's slow lane.
    pub fn start(binaries: &Path, nice: u8) -> anyhow::Result<Fleet> {
        let skerry = binaries.join("skerry");
        anyhow::ensure!(
            skerry.is_file(),
            "{} is missing; cargo build --release -p aot-compiler -p control-plane -p edge-node -p skerry-cli",
            skerry.display()
        );
        let folder = tempfile::tempdir().context("making a folder for the fleet")?;
        let ready_file = folder.path().join("ready.json");
        let output = fs::File::create(folder.path().join("up.log")).context("making the fleet's log")?;
        let mut up = Command::new(&skerry)
            .args(["up", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .args(["--slow-lane-nice", &nice.to_string(), "--data"])
            .arg(data(&folder))
            .arg("--ready-file")
            .arg(&ready_file)
            // It ends when this process does, however that ends; a Ctrl-C at the terminal is for this one to act upon.
            .stdin(Stdio::piped())
            .env("SKERRY_EXIT_WITH_STDIN", "1")
            .process_group(0)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {} up", skerry.display()))?;
        let ready = await_ready(&mut up, &ready_file).and_then(|ready| {
            let node = ready.processes.get("edge-node").copied();
            Ok((node.context("the fleet has no edge-node")?, ready))
        });
        match ready {
            Ok((node, Ready { https, http, admin, ca, .. })) => {
                Ok(Fleet { skerry, up, folder, https, http, admin, ca, node })
            }
            Err(error) => {
                let _ = up.kill();
                let _ = up.wait();
                let log = fs::read_to_string(folder.path().join("up.log")).unwrap_or_default();
                Err(error.context(format!("skerry up said: {}", log.trim())))
            }
        }
    }

    /// Where programs to deploy can be put.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the command line's deploy to its end: the node serves the app.
    pub fn deploy(&self, wasm: &Path, app: &str) -> anyhow::Result<Deployed> {
        let output = self.skerry(&["deploy", "--app", app, "--json"], Some(wasm))?;
        serde_json::from_slice(&output).context("reading what skerry deploy said")
    }

    /// The same for another tenant than the fleet's own.
    pub fn deploy_for(&self, tenant: &str, wasm: &Path, app: &str) -> anyhow::Result<()> {
        self.skerry(&["deploy", "--tenant", tenant, "--app", app, "--json"], Some(wasm)).map(drop)
    }

    /// Deploys without waiting for the node.
    pub fn deploy_soon(&self, wasm: &Path, app: &str) -> anyhow::Result<()> {
        self.skerry(&["deploy", "--app", app, "--no-wait", "--json"], Some(wasm)).map(drop)
    }

    /// Makes a tenant.
    pub fn tenant(&self, name: &str) -> anyhow::Result<()> {
        self.skerry(&["tenant", "create", name], None).map(drop)
    }

    /// The node's metrics.
    pub fn metrics(&self) -> anyhow::Result<Metrics> {
        Metrics::of(self.admin)
    }

    /// What the command line said on standard output.
    fn skerry(&self, arguments: &[&str], file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
        let what = arguments[0];
        let mut command = Command::new(&self.skerry);
        command.args(arguments).args(file).arg("--data").arg(data(&self.folder)).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("starting skerry {what}"))?;
        anyhow::ensure!(
            output.status.success(),
            "skerry {what} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("fleet")
}

fn await_ready(up: &mut Child, ready_file: &Path) -> anyhow::Result<Ready> {
    let deadline = Instant::now() + READY_TIME_MAX;
    loop {
        if let Ok(text) = fs::read(ready_file) {
            return serde_json::from_slice(&text).context("reading the ready file");
        }
        if let Some(status) = up.try_wait().context("waiting for skerry up")? {
            bail!("the fleet did not start: {status}");
        }
        anyhow::ensure!(Instant::now() < deadline, "the fleet was not ready within {READY_TIME_MAX:?}");
        thread::sleep(LOOK);
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.up.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIME_MAX;
        while matches!(self.up.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.up.kill();
                let _ = self.up.wait();
                return;
            }
            thread::sleep(LOOK);
        }
    }
}
