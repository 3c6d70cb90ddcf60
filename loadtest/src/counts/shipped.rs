//! The node as it is shipped, in a fleet of its own: what its serving thread does for one request.
//!
//! A request that is stepped takes most of a second, so time has to be kept out of the count. The thread that ticks the
//! epoch stands still meanwhile. A stepped guest is billed for that second all the same, and its app goes to the slow lane
//! until it has made up for it, so it is asked in between as often as that takes. What is left: the bill of a slice over
//! a millisecond is looked up twice, which is the same in every count.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use edge_node::lane::NICE_DEFAULT;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    asker::{Asker, Wire},
    trace::{By, Frozen, Traced},
};
use crate::deploy::fleet::Fleet;

/// For all counts of one app: quiet, they take some ten seconds.
const COUNT_TIME_MAX: Duration = Duration::from_secs(300);
/// Before anything counts: code is loaded, slots are warm, the app is trusted.
const WARM_UP: u64 = 400;
/// Page faults are counted over so many.
const FAULTS_OVER: u64 = 1_000;
/// Requests whose system calls are counted.
const CALLS_OVER: usize = 33;
/// Requests whose instructions are counted.
const STEPPED: usize = 9;
/// Between requests whose calls are counted. The node reads its thread's CPU time once a millisecond: so in each of them.
const REST: Duration = Duration::from_millis(2);
/// An answer that does not come by then takes more than one wait of the node.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Good executions that an app owes for each millisecond it held the thread (`edge_node::lane::standing`).
const OWED_PER_MS: u64 = 4;

/// A fleet whose node is the binary that was asked for.
pub struct Shipped {
    fleet: Fleet,
    _binaries: TempDir,
}

/// What one request costs the serving thread.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub instructions: f64,
    pub system_calls: f64,
    pub page_faults: f64,
}

impl Shipped {
    /// Starts the servers in `binaries` with `node` as the node.
    pub fn start(binaries: &Path, node: &Path) -> anyhow::Result<Shipped> {
        anyhow::ensure!(
            node.is_file(),
            "{} is missing; cargo build --release -p edge-node, or name another with --node",
            node.display()
        );
        // Not in the machine's folder for such things: links do not cross file systems.
        let folder = tempfile::Builder::new().prefix("counts-").tempdir_in(binaries);
        let folder =
            folder.with_context(|| format!("making a folder for the servers in {}", binaries.display()))?;
        for name in ["skerry", "control-plane", "aot-compiler"] {
            link(&binaries.join(name), &folder.path().join(name))?;
        }
        link(node, &folder.path().join("edge-node"))?;
        let fleet = Fleet::start(folder.path(), NICE_DEFAULT)?;
        Ok(Shipped { fleet, _binaries: folder })
    }

    /// Deploys a guest as an app of its name.
    pub fn deploy(&self, wasm: &Path, app: &str) -> anyhow::Result<()> {
        self.fleet.deploy(wasm, app).map(drop)
    }

    /// Counts requests to an app.
    pub fn count(&self, app: &str, wire: Wire) -> anyhow::Result<Spent> {
        let address = match wire {
            Wire::H1 => self.fleet.http,
            Wire::H2Tls => self.fleet.https,
        };
        let _deadline = Deadline::of(self.fleet.node, COUNT_TIME_MAX)?;
        let before = serving(self.fleet.node)?;
        let asker = Asker::connect(wire, address, &format!("{app}.localhost:{}", address.port()))?;
        asker.ask(WARM_UP, Duration::ZERO).context("warming up")?;
        let thread = busiest(&before, &serving(self.fleet.node)?)?;
        Ok(Spent {
            page_faults: self.page_faults(thread, &asker)?,
            system_calls: self.system_calls(thread, &asker).context("counting system calls")?,
            instructions: self.instructions(thread, &asker).context("counting instructions")?,
        })
    }

    fn page_faults(&self, thread: u32, asker: &Asker) -> anyhow::Result<f64> {
        let path = task(self.fleet.node, thread).join("stat");
        let faults = || {
            let text = fs::read_to_string(&path).context("reading the node's page faults")?;
            crate::counters::minor_faults(&text).context("reading the node's page faults")
        };
        let before = faults()?;
        asker.ask(FAULTS_OVER, Duration::ZERO)?;
        Ok((faults()? - before) as f64 / FAULTS_OVER as f64)
    }

    fn system_calls(&self, thread: u32, asker: &Asker) -> anyhow::Result<f64> {
        let mut traced = Traced::seize(thread)?;
        let counts = (0..CALLS_OVER).map(|_| one(&mut traced, By::Call, asker)).collect::<Result<_, _>>();
        median(counts?)
    }

    fn instructions(&self, thread: u32, asker: &Asker) -> anyhow::Result<f64> {
        let _frozen = Frozen::freeze(named(self.fleet.node, "epoch")?)?;
        let mut counts = Vec::new();
        for _ in 0..STEPPED {
            let start = Instant::now();
            let mut traced = Traced::seize(thread)?;
            counts.push(one(&mut traced, By::Instruction, asker)?);
            drop(traced);
            let held_ms = start.elapsed().as_millis() as u64;
            asker.ask(OWED_PER_MS * held_ms + WARM_UP, Duration::ZERO).context("making up for it")?;
        }
        median(counts)
    }
}

/// Ends a node that takes too long, so that nobody waits for a thread of it for ever: then it is told that the thread is gone.
/// Dropped before, it does nothing.
struct Deadline {
    _done: mpsc::Sender<()>,
}

impl Deadline {
    fn of(process: u32, time: Duration) -> anyhow::Result<Deadline> {
        let node = i32::try_from(process).ok().and_then(Pid::from_raw).context("the node's number")?;
        let (_done, done) = mpsc::channel();
        let watch = move || {
            if done.recv_timeout(time) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("the node did not finish its requests within {time:?} and is ended");
                let _ = kill_process(node, Signal::KILL);
            }
        };
        thread::Builder::new()
            .name("deadline".into())
            .spawn(watch)
            .context("starting the deadline's thread")?;
        Ok(Deadline { _done })
    }
}

/// One request, from the node's waiting for it to its waiting for the next.
fn one(traced: &mut Traced, by: By, asker: &Asker) -> anyhow::Result<u64> {
    if !traced.is_at_wait() {
        traced.run_to_wait(by)?;
    }
    asker.begin(1, REST)?;
    let mut spent = traced.run_to_wait(by)?;
    while !asker.has_answered(ANSWER_TIME_MAX)? {
        spent += traced.run_to_wait(by)?;
    }
    Ok(spent)
}

fn median(mut counts: Vec<u64>) -> anyhow::Result<f64> {
    counts.sort_unstable();
    counts.get(counts.len() / 2).map(|count| *count as f64).context("nothing was counted")
}

fn task(process: u32, thread: u32) -> PathBuf {
    format!("/proc/{process}/task/{thread}").into()
}

/// Threads of a process: number and name.
fn threads(process: u32) -> anyhow::Result<Vec<(u32, String)>> {
    let listing = || format!("listing the threads of the node, process {process}");
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/task")).with_context(listing)? {
        let name = entry.with_context(listing)?.file_name();
        let number = name.to_string_lossy().parse().with_context(listing)?;
        // One that has ended meanwhile is none.
        let Ok(comm) = fs::read_to_string(task(process, number).join("comm")) else { continue };
        threads.push((number, comm.trim().to_owned()));
    }
    Ok(threads)
}

fn named(process: u32, name: &str) -> anyhow::Result<u32> {
    let found = threads(process)?.into_iter().find(|(_, comm)| comm == name);
    found.map(|(number, _)| number).with_context(|| format!("the node has no thread {name:?}"))
}

/// The serving threads, and the nanoseconds each was on a core.
fn serving(process: u32) -> anyhow::Result<Vec<(u32, u64)>> {
    let serving = threads(process)?.into_iter().filter(|(_, name)| name.starts_with("serve-"));
    serving
        .map(|(number, _)| {
            let stat = fs::read_to_string(task(process, number).join("schedstat"));
            let stat = stat.context("reading the CPU time of a serving thread")?;
            let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok());
            Ok((number, ns.context("reading the CPU time of a serving thread")?))
        })
        .collect()
}

/// Whose connection it is: the kernel chooses one of the threads.
fn busiest(before: &[(u32, u64)], after: &[(u32, u64)]) -> anyhow::Result<u32> {
    let spent = |(thread, ns): &(u32, u64)| {
        let was = before.iter().find(|(number, _)| number == thread).map_or(0, |(_, ns)| *ns);
        ns.saturating_sub(was)
    };
    after
        .iter()
        .max_by_key(|now| spent(now))
        .map(|(thread, _)| *thread)
        .context("the node has no thread that serves")
}

/// The same file under another name, or a copy where that cannot be.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    let from = fs::canonicalize(from).with_context(|| format!("{} is missing", from.display()))?;
    if fs::hard_link(&from, to).is_err() {
        fs::copy(&from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(())
}
