//! Bringing a fleet up: leftovers → ports → compiler → control plane → join token → node. And down again.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use artifact::Target;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::{
    config,
    layout::{Layout, write_whole},
    part::{self, COMPILER, CONTROL, NODE, Part, Role},
    ports,
    ready::Ready,
    stop::Stop,
};
use crate::{
    api::Api,
    args::Up,
    credentials::Credentials,
    error::{Error, Result},
    output::Progress,
};

/// The POP of the only node.
const POP: &str = "local";
/// The join token is used within the second; the rest is for a machine that swaps.
const JOIN_TOKEN_S: u64 = 600;
/// How long the node may take from serving to its first word to the control plane, before that is said.
const CONNECT_S_MAX: u64 = 10;
/// How long a server may take to finish its requests when asked to stop.
const STOP_S_MAX: u64 = 10;
/// How long servers of an `up` that was killed may take to notice.
const LEFTOVER_S_MAX: u64 = 12;

/// A running fleet.
pub struct Fleet {
    /// In the order they were started.
    pub parts: Vec<Part>,
    /// Where everything is.
    pub ready: Ready,
    /// A client with the operator's token.
    pub api: Api,
}

#[derive(Deserialize)]
struct CompilerReady {
    listen: SocketAddr,
}

#[derive(Deserialize)]
struct ControlReady {
    api: SocketAddr,
    sync: SocketAddr,
}

#[derive(Deserialize)]
struct NodeReady {
    https: SocketAddr,
    http: Option<SocketAddr>,
    admin: SocketAddr,
}

/// Starts everything; what was started is stopped again if something fails.
pub fn fleet(args: &Up, layout: &Layout, stop: &Stop) -> Result<Fleet> {
    let servers = part::find_servers()?;
    await_leftovers(layout)?;
    ports::require_free(args.https, "--https", true)?;
    ports::require_free(args.api, "--api", false)?;
    if let Some(http) = args.http {
        ports::require_free(http, "--http", false)?;
    }
    let geo_database = geo_database(args)?;
    let progress = Progress::start("starting the compiler");

    let compiler_config =
        |listen| config::Compiler { targets: compile_for(args), ..config::Compiler::new(layout, listen) };
    config::write(layout, COMPILER.short, &compiler_config(config::ANY_LOCAL_PORT))?;
    let mut compiler = Guarded::start(COMPILER, &servers, layout)?;
    let CompilerReady { listen } = compiler.part().wait_ready(stop)?;

    progress.now("starting the control plane");
    let control_config = |api, sync, https| config::Control::new(layout, api, sync, https, listen);
    config::write(layout, CONTROL.short, &control_config(args.api, config::ANY_LOCAL_PORT, args.https))?;
    let mut control = Guarded::start(CONTROL, &servers, layout)?;
    let ControlReady { api, sync } = control.part().wait_ready(stop)?;

    progress.now("starting the node");
    let token_file = layout.data("control").join("operator.token");
    let client = client(layout, api, &token_file)?;
    // A new token at every start: a node that has joined before does not look at it, and it expires unused.
    let token = client.create_node_token(POP, Duration::from_secs(JOIN_TOKEN_S))?.token;
    write_whole(&config::join_token_file(layout), token.as_bytes())?;
    let node_config = |https, http| config::Node {
        geo_database: geo_database.clone(),
        slow_lane_nice: args.slow_lane_nice,
        ..config::Node::new(layout, sync, https, http)
    };
    config::write(layout, NODE.short, &node_config(args.https, args.http))?;
    let mut node = Guarded::start(NODE, &servers, layout)?;
    let NodeReady { https, http, admin } = node.part().wait_ready(stop)?;
    await_connected(&client, node.part(), stop)?;

    // From here on the ports are known: a server that is restarted comes back at the same ones.
    config::write(layout, COMPILER.short, &compiler_config(listen))?;
    config::write(layout, CONTROL.short, &control_config(api, sync, https))?;
    let fixed = config::Node { admin, ..node_config(https, http) };
    config::write(layout, NODE.short, &fixed)?;

    let parts = vec![compiler.keep(), control.keep(), node.keep()];
    let processes = parts.iter().map(|part| (part.server.to_owned(), part.pid())).collect();
    let ca = layout.data("control").join("local-ca.pem");
    let api = format!("http://{api}");
    let ready = Ready { api, https, http, admin, ca, token_file, pid: std::process::id(), processes };
    Ok(Fleet { parts, ready, api: client })
}

impl Fleet {
    /// Stops the parts, the one that serves first, all within one time limit. Does nothing the second time.
    pub fn stop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(STOP_S_MAX);
        for mut part in self.parts.drain(..).rev() {
            part.stop(deadline);
        }
    }
}

/// For a project in the making the levels of this machine's architecture are enough: half of the work at every save.
fn compile_for(args: &Up) -> Vec<Target> {
    let here = |target: &Target| target.triple().starts_with(std::env::consts::ARCH);
    if args.this_machine_only { Target::ALL.into_iter().filter(here).collect() } else { Vec::new() }
}

/// Absolute, since the node need not stand where this process does.
fn geo_database(args: &Up) -> Result<Option<PathBuf>> {
    let found = |path: &PathBuf| {
        fs::canonicalize(path)
            .map_err(Error::io(format!("finding the geography database {}", path.display())))
    };
    args.geo_database.as_ref().map(found).transpose()
}

fn client(layout: &Layout, api: SocketAddr, token_file: &Path) -> Result<Api> {
    let token = fs::read_to_string(token_file)
        .map_err(Error::io(format!("reading the operator's token {}", token_file.display())))?;
    Api::new(Credentials {
        api: format!("http://{api}"),
        token: token.trim().to_owned(),
        tenant: None,
        ca: None,
        cure: format!("the control plane's log is {}", layout.log(CONTROL.server).display()),
        fleet: None,
    })
}

/// Waits until the control plane knows the node, so that the first deploy waits for it. A node that is not let in (its
/// directory was restored without the control plane's, or it was revoked) serves what it has: that is said, and
/// nothing is stopped.
fn await_connected(api: &Api, node: &mut Part, stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(CONNECT_S_MAX);
    while !api.nodes()?.iter().any(|node| node.connected) {
        if node.ended().is_some() {
            return Err(super::failed(NODE.server, "ended before it reached the control plane", node.log()));
        }
        if stop.is_raised() {
            return Err(Error::Fleet("stopped before the fleet was up".into()));
        }
        if Instant::now() >= deadline {
            eprintln!("{}", not_connected(node.log()));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn not_connected(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().next_back().unwrap_or("(nothing)");
    format!(
        "warning: {} serves what it has, but did not reach the control plane in {CONNECT_S_MAX} s; deploys will not \
         arrive. Its last word: {last}\n  its log is {}; to let it join anew, stop this fleet and remove the \
         node's directory",
        NODE.server,
        log.display()
    )
}

/// Servers of an `up` that was killed end by themselves; two on one data directory would be a disaster. A process
/// is one of ours only if its command line names this fleet's configuration file.
fn await_leftovers(layout: &Layout) -> Result<()> {
    let Some(before) =
        fs::read(layout.fleet_file()).ok().and_then(|text| serde_json::from_slice::<Ready>(&text).ok())
    else {
        return Ok(());
    };
    let alive = || -> Vec<u32> {
        let ours = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            [COMPILER, CONTROL, NODE]
                .iter()
                .any(|role| line.split('\0').any(|argument| Path::new(argument) == layout.config(role.short)))
        };
        before.processes.values().copied().filter(ours).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(LEFTOVER_S_MAX);
    while !alive().is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    for pid in alive() {
        eprintln!("killing process {pid}, left over from the fleet that ran here before");
        if let Some(pid) = Pid::from_raw(pid as i32) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(())
}

/// A part that is stopped unless it is kept: for the time when the rest may still fail to start.
struct Guarded(Option<Part>);

impl Guarded {
    fn start(role: Role, servers: &Path, layout: &Layout) -> Result<Guarded> {
        Part::start(role, servers, layout).map(|part| Guarded(Some(part)))
    }

    fn part(&mut self) -> &mut Part {
        self.0.as_mut().expect("taken only by keep, which consumes self")
    }

    fn keep(mut self) -> Part {
        self.0.take().expect("taken only here, and self is consumed")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(part) = &mut self.0 {
            part.stop(Instant::now() + Duration::from_secs(STOP_S_MAX));
        }
    }
}
