//! The node as it is shipped, in a fleet of its own: what its serving thread does for one request.
//!
//! A request that is stepped takes most of a second, so time has to be kept out of the count. The thread that ticks the
//! epoch stands still meanwhile. A stepped guest is billed for that second all the same, and its app goes to the slow lane
//! until it has made up for it, so it is asked in between until the slow lane's threads have nothing to do with it any more:
//! that is seen, not reckoned from the time, which on a busy machine says nothing. What is left: the bill of a slice over
//! a millisecond is looked up twice, which is the same in every count.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use edge_node::lane::NICE_DEFAULT;
use tempfile::TempDir;

use super::{
    asker::{Asker, Wire},
    deadline::Deadline,
    trace::{By, Frozen, Traced},
};
use crate::deploy::fleet::Fleet;

/// Without an answer or a counted request. On a quiet machine a stepped request takes most of a second.
const STALL_TIME_MAX: Duration = Duration::from_secs(120);
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
/// Requests between two looks at whether the app begins on the serving thread again.
const MAKING_UP: u64 = 64;
/// An execution in the slow lane takes its thread more than this many times as much.
const SLOW_NS_MIN: u64 = 1_000;
/// Looks, by which the most that an app can owe is paid (`OWED_MAX` of `edge_node::lane::standing`), twice.
const LOOKS_MAX: u64 = 2 * (1 << 16) / MAKING_UP;

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
        let node = self.fleet.node;
        let before = running(node, "serve-")?;
        let deadline = Deadline::of(node, STALL_TIME_MAX)?;
        let asker = Asker::connect(wire, address, &format!("{app}.localhost:{}", address.port()))?;
        asker.ask(WARM_UP, Duration::ZERO).context("warming up")?;
        let thread = busiest(&before, &running(node, "serve-")?)?;
        let counting = Counting { node, thread, asker, deadline };
        Ok(Spent {
            page_faults: counting.page_faults()?,
            system_calls: counting.system_calls().context("counting system calls")?,
            instructions: counting.instructions().context("counting instructions")?,
        })
    }
}

/// Requests to one app over one connection.
struct Counting {
    /// Its process.
    node: u32,
    /// Whose the connection is.
    thread: u32,
    asker: Asker,
    deadline: Deadline,
}

impl Counting {
    fn page_faults(&self) -> anyhow::Result<f64> {
        let path = task(self.node, self.thread).join("stat");
        let faults = || {
            let text = fs::read_to_string(&path).context("reading the node's page faults")?;
            crate::counters::minor_faults(&text).context("reading the node's page faults")
        };
        let before = faults()?;
        self.asker.ask(FAULTS_OVER, Duration::ZERO)?;
        self.deadline.put_off();
        Ok((faults()? - before) as f64 / FAULTS_OVER as f64)
    }

    fn system_calls(&self) -> anyhow::Result<f64> {
        let mut traced = Traced::seize(self.thread)?;
        let counts = (0..CALLS_OVER).map(|_| self.one(&mut traced, By::Call)).collect::<Result<_, _>>();
        median(counts?)
    }

    fn instructions(&self) -> anyhow::Result<f64> {
        let _frozen = Frozen::freeze(named(self.node, "epoch")?)?;
        let mut counts = Vec::new();
        for _ in 0..STEPPED {
            let mut traced = Traced::seize(self.thread)?;
            counts.push(self.one(&mut traced, By::Instruction)?);
            drop(traced);
            self.make_up().context("making up for it")?;
        }
        median(counts)
    }

    /// One request, from the node's waiting for it to its waiting for the next.
    fn one(&self, traced: &mut Traced, by: By) -> anyhow::Result<u64> {
        if !traced.is_at_wait() {
            traced.run_to_wait(by)?;
        }
        self.asker.begin(1, REST)?;
        let mut spent = traced.run_to_wait(by)?;
        while !self.asker.has_answered(ANSWER_TIME_MAX)? {
            spent += traced.run_to_wait(by)?;
        }
        self.deadline.put_off();
        Ok(spent)
    }

    /// Asks until the app's executions cost the slow lane nothing, and once more to be warm.
    fn make_up(&self) -> anyhow::Result<()> {
        for _ in 0..LOOKS_MAX {
            let before = running(self.node, "slow-")?;
            self.asker.ask(MAKING_UP, Duration::ZERO)?;
            self.deadline.put_off();
            if spent(&before, &running(self.node, "slow-")?) < SLOW_NS_MIN * MAKING_UP {
                return self.asker.ask(WARM_UP, Duration::ZERO);
            }
        }
        bail!("the app is still in the slow lane after {} requests", LOOKS_MAX * MAKING_UP)
    }
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

/// The threads whose names begin so, and the nanoseconds each was on a core.
fn running(process: u32, name: &str) -> anyhow::Result<Vec<(u32, u64)>> {
    let named = threads(process)?.into_iter().filter(|(_, of)| of.starts_with(name));
    let reading = || format!("reading the CPU time of a thread {name}N of the node");
    named
        .map(|(number, _)| {
            let stat = fs::read_to_string(task(process, number).join("schedstat")).with_context(reading)?;
            let ns = stat.split(' ').next().and_then(|ns| ns.parse().ok());
            Ok((number, ns.with_context(reading)?))
        })
        .collect()
}

/// Of all of them together, in nanoseconds.
fn spent(before: &[(u32, u64)], after: &[(u32, u64)]) -> u64 {
    let sum = |of: &[(u32, u64)]| of.iter().map(|(_, ns)| ns).sum::<u64>();
    sum(after).saturating_sub(sum(before))
}

/// Whose connection it is: the kernel chooses one of the threads.
fn busiest(before: &[(u32, u64)], after: &[(u32, u64)]) -> anyhow::Result<u32> {
    let spent = |(thread, ns): &(u32, u64)| {
        let was = before.iter().find(|(number, _)| number == thread).map_or(0, |(_, ns)| *ns);
        ns.saturating_sub(was)
    };
    let busiest = after.iter().max_by_key(|now| spent(now));
    busiest.map(|(thread, _)| *thread).context("the node has no thread that serves")
}

/// The same file under another name, or a copy where that cannot be.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    let from = fs::canonicalize(from).with_context(|| format!("{} is missing", from.display()))?;
    if fs::hard_link(&from, to).is_err() {
        fs::copy(&from, to).with_context(|| format!("copying {}", from.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_spent_is_told_for_each_and_for_all() {
        // The last began in between.
        let (before, after) = ([(7, 900), (8, 100)], [(7, 950), (8, 400), (9, 200)]);
        assert_eq!(busiest(&before, &after).unwrap(), 8);
        assert_eq!(spent(&before, &after), 50 + 300 + 200);
        assert_eq!(spent(&after, &before), 0, "one that has ended spent nothing");
        assert!(busiest(&before, &[]).is_err());
    }
}
