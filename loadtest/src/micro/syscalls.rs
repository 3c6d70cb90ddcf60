//! System calls of a cycle, counted from outside: `strace -c` over a process of our own that runs N cycles, and one
//! that runs 2 N. The difference is what N cycles in steady state asked of the kernel; starting, linking and warming up
//! cancel out. Only the measuring thread is traced.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::PathBuf, process::Command};

use anyhow::Context as _;
use artifact::{Digest, Lane};
use serde::{Deserialize, Serialize};

use super::{
    guest::{Bench, Guest},
    host::Host,
    measure, runtime,
};

/// Cycles of the shorter run at least and at most: enough to see one call in a hundred cycles, and done in seconds.
const CYCLES: (u64, u64) = (20, 5_000);
/// Rarer than this is the epoch's tick and the like, not part of every cycle.
const SHOWN_PER_CYCLE_MIN: f64 = 0.005;

/// The result, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Counted {
    /// System calls of one cycle, in all and by name.
    Counted { per_cycle: f64, by_name: BTreeMap<String, f64> },
    /// Not known.
    NotCounted { reason: String },
}

/// What the traced process runs.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    guest: PathBuf,
    #[arg(long)]
    cycles: u64,
}

/// A guest as it is handed to the traced process.
#[derive(Serialize, Deserialize)]
struct Handed {
    name: String,
    lane: Lane,
    wasm: Digest,
    wasm_bytes: usize,
    container: PathBuf,
}

/// Counts the system calls of about `cycles` cycles.
pub fn count(guest: &Guest, cycles: u64) -> anyhow::Result<Counted> {
    let cycles = cycles.clamp(CYCLES.0, CYCLES.1);
    let folder = tempfile::tempdir().context("making a folder for the traced process")?;
    let container = folder.path().join("container");
    fs::write(&container, &guest.container).context("handing the guest to the traced process")?;
    let Guest { name, lane, wasm, wasm_bytes, .. } = guest;
    let handed = Handed { name: name.clone(), lane: *lane, wasm: *wasm, wasm_bytes: *wasm_bytes, container };
    let handed_file = folder.path().join("guest.json");
    fs::write(&handed_file, serde_json::to_vec(&handed)?)
        .context("handing the guest to the traced process")?;

    let mut runs = Vec::new();
    for cycles in [cycles, 2 * cycles] {
        let summary = folder.path().join("summary");
        let traced = Command::new("strace")
            .args(["-qq", "-c", "-o"])
            .arg(&summary)
            .arg("--")
            .arg(std::env::current_exe().context("finding this executable")?)
            .args(["cycles", "--cycles", &cycles.to_string(), "--guest"])
            .arg(&handed_file)
            .output();
        let output = match traced {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Counted::NotCounted { reason: "strace is not installed".to_owned() });
            }
            traced => traced.context("starting strace")?,
        };
        if !output.status.success() {
            let reason = format!("strace: {}", String::from_utf8_lossy(&output.stderr).trim());
            return Ok(Counted::NotCounted { reason });
        }
        runs.push(parse(&fs::read_to_string(&summary).context("reading what strace counted")?));
    }
    Ok(difference(&runs[0], &runs[1], cycles))
}

/// The traced process.
pub fn child(args: &Args) -> anyhow::Result<()> {
    let handed: Handed = serde_json::from_slice(&fs::read(&args.guest)?).context("reading the guest")?;
    let Handed { name, lane, wasm, wasm_bytes, container } = handed;
    let guest = Guest { name, lane, wasm, wasm_bytes, container: fs::read(container)? };
    let bench = Bench::new()?;
    let host = Host::new(&bench, &guest)?;
    runtime()?.block_on(measure::cycles(&host, args.cycles)).map(|_| ())
}

/// Calls by name. A line of the table is `% time, seconds, µs a call, calls, [errors,] name`.
fn parse(summary: &str) -> BTreeMap<String, u64> {
    let lines = summary.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let calls = fields.get(3)?.parse().ok()?;
        Some(((*fields.last()?).to_owned(), calls))
    });
    lines.filter(|(name, _)| name != "total").collect()
}

fn difference(short: &BTreeMap<String, u64>, long: &BTreeMap<String, u64>, cycles: u64) -> Counted {
    let more = |(name, calls): (&String, &u64)| {
        let before = short.get(name).copied().unwrap_or(0);
        (name.clone(), calls.saturating_sub(before) as f64 / cycles as f64)
    };
    let by_name: BTreeMap<String, f64> =
        long.iter().map(more).filter(|(_, calls)| *calls >= SHOWN_PER_CYCLE_MIN).collect();
    Counted::Counted { per_cycle: by_name.values().sum(), by_name }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 51.20    0.000100           1       100           ioctl
  9.00    0.000010           5         2         1 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.000110                   102         1 total
";

    #[test]
    fn only_what_grows_with_the_cycles_is_a_cycles() {
        let short = parse(SHORT);
        assert_eq!(short, [("ioctl".to_owned(), 100), ("openat".to_owned(), 2)].into());
        let long = [("ioctl".to_owned(), 300), ("openat".to_owned(), 2), ("futex".to_owned(), 20)].into();
        let by_name = [("futex".to_owned(), 0.2), ("ioctl".to_owned(), 2.0)].into();
        assert_eq!(difference(&short, &long, 100), Counted::Counted { per_cycle: 2.2, by_name });
    }
}
