//! The system calls a compile job may make: those of computing, of its pipes and of ending. Any other ends it at once
//! (`SIGSYS`), so that a code generator that was taken over by an upload reaches nothing, whatever a limit forgot.
//!
//! A few calls of libraries that only ask are refused instead, which is what [caps](super::caps) would answer too: glibc's
//! allocator looks into `/proc`, and a panic looks for its own executable.

use std::{collections::BTreeMap, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// What a job needs, beside what it may in part (`bounded`).
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];
/// What is answered with "no" instead of death.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_faccessat,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_prlimit64,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

/// Takes all other calls away from every thread of this process, for good. After [`cap_this_process`](super::caps::cap_this_process),
/// which makes calls that are then forbidden.
pub fn forbid_other_calls() -> io::Result<()> {
    // The strictest of all filters decides. The deadly one is last: after it there is no call to set another.
    for program in [refusing()?, deadly()?] {
        apply_filter_all_threads(&program)
            .map_err(|error| io::Error::other(format!("the kernel takes no seccomp filter: {error}")))?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn deadly() -> io::Result<BpfProgram> {
    let mut rules = always(ALLOWED.iter().chain(REFUSED));
    rules.extend(bounded()?);
    filter(rules, SeccompAction::KillProcess, SeccompAction::Allow)
}

fn refusing() -> io::Result<BpfProgram> {
    filter(always(REFUSED.iter()), SeccompAction::Allow, SeccompAction::Errno(libc::EACCES as u32))
}

fn always<'c>(calls: impl Iterator<Item = &'c libc::c_long>) -> Rules {
    calls.map(|call| (*call, Vec::new())).collect()
}

/// Memory that is never executed, since what is compiled here is not run here; and signals to itself, which is how `abort` ends
/// it: the service, which runs as the same user, is not to be signalled.
fn bounded() -> io::Result<Rules> {
    let none_executable = || one_if(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    Ok(Rules::from([
        (libc::SYS_mmap, none_executable()?),
        (libc::SYS_mprotect, none_executable()?),
        (libc::SYS_tgkill, one_if(0, SeccompCmpOp::Eq, std::process::id().into())?),
    ]))
}

fn one_if(argument: u8, how: SeccompCmpOp, value: u64) -> io::Result<Vec<SeccompRule>> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value);
    let rule = condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(io::Error::other)?;
    Ok(vec![rule])
}

/// A program that answers `listed` for these calls and `others` for all else; death for another architecture's calls.
fn filter(rules: Rules, others: SeccompAction, listed: SeccompAction) -> io::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, others, listed, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}
