//! `perf`, as a tool of the machine: may it be used, a recording of one process, and its samples one by one.
//!
//! Sampled is the clock of each thread's own CPU time (`cpu-clock`), which every machine has, virtual ones too, and of which
//! a share of the samples is a share of the time. Names are looked up without what was inlined: that takes `perf` minutes
//! and tells no stage that the function around it does not.

use std::{
    fs,
    io::BufReader,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        atomic::AtomicBool,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{script, tally::Tally};
use crate::{servers::process::Process, stop};

/// Samples a second of each thread that runs. No divisor of anything that ticks.
pub const FREQUENCY: u32 = 799;
/// Copied of a stack with each sample: what a request has between its socket and its guest, in release code.
const STACK_BYTES: u32 = 16 << 10;
/// A recording of 5 s of two busy threads is 135 MB; of many cores it ends earlier.
const FILE_MAX: &str = "512M";
/// What `perf` says then.
const FILE_FULL: &str = "size limit reached";
/// A node's threads are few and stay, so that one is enough, as a rule.
const TRIES: u32 = 3;
/// For `perf` to begin and to end, beside the recording itself.
const BESIDE_TIME_MAX: Duration = Duration::from_secs(30);
/// For reading it: 10,000 stacks are a second, in a build without optimisation some.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(300);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

const INSTALL: &str =
    "perf is not installed: apt-get install linux-perf (Debian), linux-tools-generic (Ubuntu)";
const ALLOW: &str = "run as root, or sysctl kernel.perf_event_paranoid=1 kernel.kptr_restrict=0; a container needs \
                     --cap-add PERFMON,SYSLOG and a seccomp profile that allows perf_event_open";

/// An error with its cure if `perf` is not there or may not look at the kernel: half of a request would be missing.
pub fn usable() -> anyhow::Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let paranoid = read("/proc/sys/kernel/perf_event_paranoid");
    let tried = tool().args(["record", "-q", "-e", "cpu-clock", "-o", "/dev/null", "--", "true"]).output();
    let tried = match tried {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(INSTALL),
        tried => tried.context("starting perf")?,
    };
    // Without the right `perf` leaves the kernel out and says nothing.
    let is_blind = is_user_only(&paranoid, &read("/proc/self/status"));
    let is_nameless = are_hidden(&read("/proc/kallsyms"));
    let said = String::from_utf8_lossy(&tried.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty() && *line != "Error:");
    match () {
        () if !tried.status.success() => {
            bail!("perf may not be used ({}): {ALLOW}", said.unwrap_or("it does not say why"))
        }
        () if is_blind => {
            bail!("perf may not look at the kernel (perf_event_paranoid {}): {ALLOW}", paranoid.trim())
        }
        () if is_nameless => bail!("the kernel hides its functions' names (kptr_restrict): {ALLOW}"),
        () => Ok(()),
    }
}

/// Above 1 only who has CAP_PERFMON or CAP_SYS_ADMIN samples the kernel.
fn is_user_only(paranoid: &str, status: &str) -> bool {
    const PERFMON_OR_ADMIN: u64 = 1 << 38 | 1 << 21;
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    paranoid.trim().parse().is_ok_and(|level: i32| level > 1) && capabilities & PERFMON_OR_ADMIN == 0
}

/// Who may not know addresses is told zeros.
fn are_hidden(kallsyms: &str) -> bool {
    let first = kallsyms.lines().take(100).filter_map(|line| line.split(' ').next());
    first.into_iter().all(|address| address.trim_start_matches('0').is_empty())
}

/// `perf` as this command wants it: nobody's own settings, and nothing fetched.
fn tool() -> Command {
    let mut command = Command::new("perf");
    command.env("PERF_CONFIG", "/dev/null").env("LC_ALL", "C").env_remove("DEBUGINFOD_URLS");
    command
}

/// What `perf` recorded; its file is gone when this is dropped.
pub struct Recording {
    file: PathBuf,
    _perf: Process,
}

impl Recording {
    /// Samples a process for so long.
    pub fn take(pid: u32, time: Duration, stop: &AtomicBool) -> anyhow::Result<Recording> {
        for _ in 0..TRIES {
            if let Some(recording) = Recording::once(pid, time, stop)? {
                return Ok(recording);
            }
        }
        bail!("perf record ended {TRIES} times without a word")
    }

    /// `None`: `perf` ended without a word, as it does if a thread of the process ends while it attaches.
    fn once(pid: u32, time: Duration, stop: &AtomicBool) -> anyhow::Result<Option<Recording>> {
        let folder =
            tempfile::Builder::new().prefix("stages-").tempdir().context("making a folder for perf")?;
        let file = folder.path().join("perf.data");
        let mut command = tool();
        // Its cache of programs, in somebody's home, is left alone.
        command.args(["record", "--no-buildid-cache", "-e", "cpu-clock", "-F", &FREQUENCY.to_string()]);
        command.args(["--call-graph", &format!("dwarf,{STACK_BYTES}"), "--max-size", FILE_MAX]);
        command.args(["-p", &pid.to_string(), "-o"]).arg(&file);
        command.args(["--", "sleep", &time.as_secs_f64().to_string()]);
        let mut perf = Process::start(command, folder)?;
        let deadline = Instant::now() + time + BESIDE_TIME_MAX;
        let status = loop {
            match perf.ended() {
                Some(status) => break status,
                None if stop::told(stop) => bail!("told to stop"),
                None if Instant::now() >= deadline => bail!("perf record did not end"),
                None => thread::sleep(LOOK),
            }
        };
        match (status.success(), perf.said()) {
            (true, _) => {}
            (false, said) if said.contains(FILE_FULL) => {
                eprintln!(
                    "warning: the recording was full ({FILE_MAX}) before its time: it is of the load's beginning"
                );
            }
            (false, said) if said.is_empty() => return Ok(None),
            (false, said) => bail!("perf record ended with {status}: {said}"),
        }
        Ok(Some(Recording { file, _perf: perf }))
    }

    /// Sorts its samples.
    pub fn tally(&self, stop: &AtomicBool) -> anyhow::Result<Tally> {
        let complaints = self.file.with_extension("complaints");
        let mut command = tool();
        command.args(["script", "--no-inline", "--show-lost-events", "-F", "comm,tid,ip,sym,dso", "-i"]);
        command.arg(&self.file).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(fs::File::create(&complaints).context("making a log for perf script")?);
        let mut perf = Ended(command.spawn().context("starting perf script")?);
        let tally = perf.read(stop)?;
        let status = perf.0.wait().context("waiting for perf script")?;
        anyhow::ensure!(!stop::told(stop), "told to stop");
        let said = fs::read(&complaints).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[..said.len().min(1000)]).into_owned();
        anyhow::ensure!(status.success(), "perf script ended with {status}: {}", said.trim());
        Ok(tally)
    }
}

/// A `perf script`, ended when dropped.
struct Ended(Child);

impl Ended {
    /// All it says. Told to stop, or after too long a time, it is ended and there is no more.
    fn read(&mut self, stop: &AtomicBool) -> anyhow::Result<Tally> {
        let output = self.0.stdout.take().context("perf script has no output")?;
        let pid =
            i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("the number of perf script")?;
        thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            scope.spawn(move || watch(pid, &is_done, stop));
            let mut tally = Tally::default();
            let read = script::read(BufReader::new(output), |said| tally.add(said));
            drop(done);
            read.map(|()| tally)
        })
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(pid: Pid, is_done: &Receiver<()>, stop: &AtomicBool) {
    let deadline = Instant::now() + SCRIPT_TIME_MAX;
    while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if stop::told(stop) || Instant::now() >= deadline {
            // It is waited for only after this thread has ended, so the number is its own.
            let _ = kill_process(pid, Signal::KILL);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::stages::tally::Thread;

    #[test]
    fn rights_are_read_from_what_the_kernel_says() {
        let nobody = "Name:\tx\nCapEff:\t0000000000000000\n";
        let perfmon = "CapEff:\t0000004000000000\n";
        let root = "CapEff:\t000001ffffffffff\n";
        assert!(is_user_only("2\n", nobody) && is_user_only("3\n", "") && !is_user_only("1\n", nobody));
        assert!(!is_user_only("2\n", perfmon) && !is_user_only("4\n", root));
        assert!(!is_user_only("", nobody), "perf itself will say it");
        assert!(are_hidden("0000000000000000 T _stext\n0000000000000000 T x\n") && are_hidden(""));
        assert!(!are_hidden("0000000000000000 A fixed_percpu_data\nffffffff81000000 T _stext\n"));
    }

    /// A process whose only thread has the name of a serving one: a shell's is that of its file.
    fn serving() -> Process {
        let folder = tempfile::tempdir().unwrap();
        let shell = folder.path().join("serve-7");
        std::os::unix::fs::symlink("/bin/sh", &shell).unwrap();
        let mut command = Command::new(shell);
        command.args(["-c", "while :; do : < /dev/null; done"]);
        Process::start(command, folder).unwrap()
    }

    /// Past the test runner's capture.
    fn skipped(why: &anyhow::Error) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {why:#}");
    }

    /// Skipped where `perf` may not be used, even where nothing may be: a container of CI has no right to it, as a rule.
    #[test]
    fn a_busy_thread_is_recorded_and_sorted_and_nothing_is_left_behind() {
        if let Err(why) = usable() {
            return skipped(&why);
        }
        let stop = AtomicBool::new(false);
        let process = serving();
        let recording = Recording::take(process.pid(), Duration::from_millis(500), &stop).unwrap();
        let sorted = recording.tally(&stop).unwrap().sorted(10.0);
        let serving = sorted.threads.iter().find(|one| one.thread == Thread::Serving).unwrap();
        let kernel = serving.stages.iter().find(|one| one.stage == "kernel: other");
        assert!(kernel.is_some_and(|one| one.samples > 10), "{sorted:?}");
        let file = recording.file.clone();
        drop(recording);
        assert!(!file.exists());
    }

    #[test]
    fn told_to_stop_it_stops() {
        if let Err(why) = usable() {
            return skipped(&why);
        }
        let (start, process) = (Instant::now(), serving());
        let taken = Recording::take(process.pid(), Duration::from_secs(60), &AtomicBool::new(true));
        assert!(taken.is_err_and(|error| error.to_string() == "told to stop"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
