//! A process and what it starts, ended together: each is the leader of a process group of its own, so that a launcher
//! of npm does not leave its program behind, and Ctrl-C reaches this command alone, which then ends them.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tempfile::TempDir;

/// A process that has not stopped by then is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(10);
/// Bytes of a log's end that are shown.
const LOG_BYTES_SHOWN: usize = 1000;

/// Dropping it ends it.
pub struct Process {
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

impl Process {
    /// Starts it. Its log goes to `folder`, which lives as long as it does.
    pub fn start(mut command: Command, folder: TempDir) -> anyhow::Result<Process> {
        let log = folder.path().join("log");
        let output = fs::File::create(&log).context("making a log")?;
        let child = command
            .env("RUST_BACKTRACE", "0")
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
        Ok(Process { child, log, _folder: folder })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_SHOWN)..]).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let deadline = Instant::now() + STOP_TIME_MAX;
        // The leader is taken from the process table first: until then it counts as one of its group.
        while self.ended().is_none() || test_kill_process_group(group).is_ok() {
            if Instant::now() >= deadline {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK);
        }
    }
}

/// A process and all that descends from it: a launcher's CPU is not its program's.
pub fn family(pid: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let children = parents.iter().filter(|(child, of)| *of == parent && !family.contains(child));
        let children: Vec<u32> = children.map(|(child, _)| *child).collect();
        family.extend(children);
        next += 1;
    }
    family
}

/// The fourth field; the second is a name in parentheses that may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command, tempfile::tempdir().unwrap()).unwrap()
    }

    fn until<T>(what: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = what() {
                return found;
            }
            assert!(Instant::now() < deadline, "it did not happen");
            thread::sleep(LOOK);
        }
    }

    #[test]
    fn what_a_launcher_started_is_of_its_family_and_ends_with_it() {
        let launcher = shell("sleep 60 & wait");
        let child = until(|| match family(launcher.pid())[..] {
            [_, child] => Some(child),
            _ => None,
        });
        drop(launcher);
        until(|| parent(child).is_none().then_some(()));
    }

    #[test]
    fn one_that_does_not_listen_is_killed() {
        let stubborn = shell("trap '' TERM; echo up; while :; do sleep 60; done");
        until(|| (stubborn.said() == "up").then_some(()));
        let pid = stubborn.pid();
        drop(stubborn);
        assert_eq!(parent(pid), None);
    }
}
