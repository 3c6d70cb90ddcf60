//! What a compile job may use, and how a process takes the rest away from itself.

use std::{io, time::Duration};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

/// The caps of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobCaps {
    /// Address space in bytes (`RLIMIT_AS`). A compile-only engine reserves no pool, so this is close to real memory.
    pub memory_bytes: u64,
    /// Processor time of all threads together, in seconds (`RLIMIT_CPU`).
    pub cpu_s: u64,
    /// Time from start to answer, the machine's other work included. Kept by the parent.
    pub wall: Duration,
}

impl JobCaps {
    /// What the service gives a job. A JS engine of 12.8 MB takes 12 s of processor time, a CPython of 22 MB 10 s, and each 0.4 GB
    /// (compiler built with opt-level 2). Wall time is four times the processor time, because jobs share cores.
    pub const DEFAULT: JobCaps = JobCaps { memory_bytes: 3 << 30, cpu_s: 60, wall: Duration::from_secs(240) };
}

/// Caps this process for good: hard limits, which only a privileged process could raise. To be called with every
/// thread started and before any input is read.
pub fn cap_this_process(caps: &JobCaps) -> io::Result<()> {
    // Dies with its parent (the kernel means the thread that started it: a runtime's worker, which lives as long as
    // the runtime): a killed service leaves no job behind that burns a core.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // What it executes gains nothing, set-user-id files included.
    rustix::thread::set_no_new_privs(true)?;
    limit(Resource::As, caps.memory_bytes)?;
    // SIGXCPU ends it at the soft limit and says why; SIGKILL comes a second later to a process that caught it.
    soft_limit(Resource::Cpu, caps.cpu_s, caps.cpu_s + 1)?;
    // A core file would hold another tenant's program; a written file has no reason.
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Memlock, 0)?;
    limit(Resource::Msgqueue, 0)?;
    // No further process or thread (not enforced by the kernel for root).
    limit(Resource::Nproc, 0)?;
    // Last: nothing can be opened from here on, no file, socket or pipe. 0 and not 3, or a closed standard input would
    // make room for one. What is open stays usable.
    limit(Resource::Nofile, 0)?;
    Ok(())
}

fn limit(resource: Resource, max: u64) -> io::Result<()> {
    soft_limit(resource, max, max)
}

/// Lowers a limit. One that the machine's operator set lower already stays: it cannot and need not be raised.
fn soft_limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(hard, |now| now.min(hard));
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(hard)), maximum: Some(hard) })?)
}
