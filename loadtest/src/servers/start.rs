//! Starting a server until it answers.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use edge_node::lane::NICE_DEFAULT;
use tempfile::TempDir;

use crate::deploy::fleet::Fleet;

use super::{
    APP, HOST, Places, Running, Wire, asking,
    bare::{Library, Ready},
    certificate, family, host,
    lineup::{Kind, Server},
    peers,
    process::Process,
};

/// One that does not answer by then will not.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause between questions.
const LOOK: Duration = Duration::from_millis(10);

/// What is ended when a running server is dropped.
pub enum Held {
    Fleet { fleet: Box<Fleet> },
    Process { _process: Process },
}

impl Server {
    /// Starts it and waits until it answers 200. Gives up when `stop` is set.
    pub fn start(&self, wire: Wire, places: &Places, stop: &AtomicBool) -> anyhow::Result<Running> {
        let started = match &self.kind {
            Kind::Node { guest } => node(guest, wire, places, stop),
            Kind::Bare(library) => bare(*library, stop),
            kind => peer(kind, wire, stop),
        };
        started.with_context(|| format!("starting {}", self.name))
    }
}

/// The shipped binaries as `skerry up` starts them, the slow lane as nice as a node's own default. What else it sets
/// touches no hello: backends on this machine, a shorter end.
fn node(guest: &Path, wire: Wire, places: &Places, stop: &AtomicBool) -> anyhow::Result<Running> {
    fleet(&[(APP, guest)], wire, places, stop)
}

/// One node with the guest of one of the lineup as the app `app`, at [`host`].
pub fn fleet_of(
    app: &str,
    server: &Server,
    wire: Wire,
    places: &Places,
    stop: &AtomicBool,
) -> anyhow::Result<Running> {
    fleet(&[(app, server.guest()?)], wire, places, stop).context("starting a fleet")
}

/// One node with the guests of several of the lineup, each an app of its server's name at [`host`].
pub fn together(
    servers: &[Server],
    wire: Wire,
    places: &Places,
    stop: &AtomicBool,
) -> anyhow::Result<Running> {
    let mut apps = Vec::new();
    for server in servers {
        apps.push((server.name, server.guest()?));
    }
    fleet(&apps, wire, places, stop).context("starting a fleet")
}

fn fleet(apps: &[(&str, &Path)], wire: Wire, places: &Places, stop: &AtomicBool) -> anyhow::Result<Running> {
    let fleet = Box::new(Fleet::start(&places.binaries, NICE_DEFAULT)?);
    let (address, ca) = match wire {
        Wire::H1 => (fleet.http, None),
        Wire::H1Tls | Wire::H2 | Wire::H3 => (fleet.https, Some(fleet.ca.clone())),
    };
    for (app, guest) in apps {
        fleet.deploy(guest, app)?;
        until_ready(stop, || asking::status(address, &host(app), ca.as_deref()), || None)?;
    }
    let ca_pem = ca.map(|ca| fs::read(&ca).context("reading the fleet's authority")).transpose()?;
    Ok(running(address, ca_pem, vec![fleet.node], Held::Fleet { fleet }))
}

fn bare(library: Library, stop: &AtomicBool) -> anyhow::Result<Running> {
    let folder = folder()?;
    let ready_file = folder.path().join("ready.json");
    let mut command = Command::new(std::env::current_exe().context("finding this executable")?);
    command.arg("serve-bare");
    command.arg(match library {
        Library::Hyper => "hyper",
        Library::HyperTls => "hyper-tls",
        Library::Quinn => "quinn",
    });
    command.arg("--ready-file").arg(&ready_file);
    let mut process = Process::start(command, folder)?;
    // It is written when the sockets are bound: who asks from then on is answered.
    let said = || if ready_file.is_file() { Ok(200) } else { bail!("it has not said that it is ready") };
    until_ready(stop, said, || ended(&mut process))?;
    let text = fs::read(&ready_file).context("reading what the server said")?;
    let Ready { address, ca_pem } = serde_json::from_slice(&text).context("reading what the server said")?;
    let pids = vec![process.pid()];
    Ok(running(address, ca_pem.map(String::into_bytes), pids, Held::Process { _process: process }))
}

fn peer(kind: &Kind, wire: Wire, stop: &AtomicBool) -> anyhow::Result<Running> {
    let folder = folder()?;
    let address = asking::free_address()?;
    let ca = match wire {
        Wire::H1 => None,
        Wire::H1Tls | Wire::H2 | Wire::H3 => Some(write_certificate(folder.path())?),
    };
    let command = match kind {
        Kind::Wasmtime { program, guest, tuned } => peers::wasmtime(program, guest, *tuned, address),
        Kind::Viceroy { program, guest } => peers::viceroy(program, guest, address),
        Kind::Workerd { program } => peers::workerd(program, address, folder.path())?,
        Kind::Deno { program } => peers::deno(program, wire, address, folder.path())?,
        Kind::Node { .. } | Kind::Bare(_) => bail!("this is no peer"),
    };
    let mut process = Process::start(command, folder)?;
    until_ready(stop, || asking::status(address, HOST, ca.as_deref()), || ended(&mut process))?;
    let ca_pem = ca.map(|ca| fs::read(&ca).context("reading the certificate")).transpose()?;
    let pids = family(process.pid());
    Ok(running(address, ca_pem, pids, Held::Process { _process: process }))
}

fn folder() -> anyhow::Result<TempDir> {
    tempfile::tempdir().context("making a folder for the server")
}

/// `cert.pem`, which is its own authority, and `key.pem`.
fn write_certificate(folder: &Path) -> anyhow::Result<PathBuf> {
    let (certificate, key) = certificate::pem()?;
    fs::write(folder.join("key.pem"), key).context("writing the server's key")?;
    let file = folder.join("cert.pem");
    fs::write(&file, certificate).context("writing the server's certificate")?;
    Ok(file)
}

fn running(address: SocketAddr, ca_pem: Option<Vec<u8>>, pids: Vec<u32>, held: Held) -> Running {
    Running { address, ca_pem, pids, held }
}

/// Why it will never be ready, if so.
fn ended(process: &mut Process) -> Option<String> {
    process.ended().map(|status| format!("it ended with {status}: {}", process.said()))
}

fn until_ready(
    stop: &AtomicBool,
    status: impl Fn() -> anyhow::Result<u16>,
    mut ended: impl FnMut() -> Option<String>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIME_MAX;
    loop {
        let last = match status() {
            Ok(200) => return Ok(()),
            Ok(status) => format!("it answers {status}"),
            Err(error) => format!("{error:#}"),
        };
        if let Some(why) = ended() {
            bail!("{why}");
        }
        anyhow::ensure!(!stop.load(Relaxed), "told to stop");
        anyhow::ensure!(Instant::now() < deadline, "not ready within {READY_TIME_MAX:?}: {last}");
        thread::sleep(LOOK);
    }
}
