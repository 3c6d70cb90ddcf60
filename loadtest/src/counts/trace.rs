//! A thread of another process, run instruction by instruction or from one system call to the next by `ptrace`, and
//! counted. What the thread does is not timed, so nothing else that runs on the machine is in the counts.
//!
//! A serving thread waits for its sockets in `epoll_wait`. From the return of one wait to the beginning of the next is
//! what it does for what came. Relied on: all waits of a thread are one instruction, which is tokio's.
//! Deliberately absent: other processors than x86-64, whose registers have other names.

use std::{thread, time::Duration};

use anyhow::{Context as _, bail};
use nix::{
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Looks for a moment when the thread waits.
const LOOKS_MAX: u32 = 500;
/// Between two of them.
const LOOK: Duration = Duration::from_millis(2);

/// Repetitions of one instruction that count as one. A copy is `rep movsb` on some processors and for some lengths, a byte
/// each, and a loop over vectors of 32 bytes elsewhere: so a copy weighs about as much either way.
pub const REPEATS: u64 = 32;

/// What a run from one wait to the next is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Every instruction. One that repeats itself (`rep movs`) counts once for every [`REPEATS`] times, and once at least.
    Instruction,
    /// Every system call, the wait itself included.
    Call,
}

/// A thread that is stopped, or runs as it is told. Let go when dropped.
pub struct Traced {
    tid: Pid,
    /// Address behind the instruction that waits.
    behind_wait: u64,
    /// The thread is stopped at the entry of a system call and not at an instruction.
    in_call: bool,
    /// It is about to wait for its sockets.
    at_wait: bool,
    /// A signal that came and is still to be delivered.
    signal: Option<Signal>,
    /// Where this thread may run when nothing is traced.
    affinity: Option<CpuSet>,
}

/// A thread that stands still until this is dropped.
pub struct Frozen(Pid);

impl Traced {
    /// Stops a thread while it waits.
    pub fn seize(tid: u32) -> anyhow::Result<Traced> {
        let tid = pid(tid)?;
        seize(tid)?;
        let affinity = beside(tid);
        let mut traced =
            Traced { tid, behind_wait: 0, in_call: false, at_wait: false, signal: None, affinity };
        for _ in 0..LOOKS_MAX {
            interrupt(tid)?;
            let at = registers(tid)?;
            if WAITS.contains(&at.number) && at.is_interrupted {
                traced.behind_wait = at.instruction;
                return Ok(traced);
            }
            ptrace::cont(tid, None).context("letting the thread run")?;
            thread::sleep(LOOK);
        }
        bail!("the thread {tid} was never seen to wait for its sockets")
    }

    /// Runs the thread until it is about to wait for its sockets, and counts. If it waits now, what it waits for must come.
    pub fn run_to_wait(&mut self, by: By) -> anyhow::Result<u64> {
        self.at_wait = false;
        let counted = match by {
            By::Instruction => self.steps(),
            By::Call => self.system_calls(),
        }?;
        self.at_wait = true;
        Ok(counted)
    }

    /// Is it about to wait, and has nothing to do before that?
    pub fn is_at_wait(&self) -> bool {
        self.at_wait
    }

    fn steps(&mut self) -> anyhow::Result<u64> {
        let (mut steps, mut repeats, mut last) = (0, 0, 0);
        loop {
            ptrace::step(self.tid, self.signal.take()).context("stepping the thread")?;
            if !self.stopped()? {
                continue;
            }
            let instruction = instruction(self.tid)?;
            match instruction == last {
                true => repeats += 1,
                false => steps += 1,
            }
            last = instruction;
            if instruction + WAIT_BYTES == self.behind_wait && registers(self.tid)?.will_wait() {
                return Ok(steps + repeats / REPEATS);
            }
        }
    }

    fn system_calls(&mut self) -> anyhow::Result<u64> {
        let mut calls = 0;
        loop {
            ptrace::syscall(self.tid, self.signal.take()).context("running the thread to its next call")?;
            if !self.stopped()? {
                continue;
            }
            self.in_call = !self.in_call;
            if !self.in_call {
                continue;
            }
            let at = registers(self.tid)?;
            calls += 1;
            if at.instruction == self.behind_wait && at.waits_long && WAITS.contains(&at.number) {
                return Ok(calls);
            }
        }
    }

    /// Waits for a stop. False: it was for a signal, or for nothing that counts.
    fn stopped(&mut self) -> anyhow::Result<bool> {
        match waitpid(self.tid, Some(WaitPidFlag::__WALL)).context("waiting for the thread")? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) | WaitStatus::PtraceSyscall(_) => Ok(true),
            WaitStatus::Stopped(_, signal) => {
                self.signal = Some(signal);
                Ok(false)
            }
            WaitStatus::PtraceEvent(..) => Ok(false),
            other => bail!("the thread is gone: {other:?}"),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // One that was let run again, because it never waited, is let go by the kernel when this thread ends.
        let _ = ptrace::detach(self.tid, self.signal.take());
        if let Some(affinity) = &self.affinity {
            let _ = sched_setaffinity(None, affinity);
        }
    }
}

impl Frozen {
    /// Stops a thread wherever it is.
    pub fn freeze(tid: u32) -> anyhow::Result<Frozen> {
        let tid = pid(tid)?;
        seize(tid)?;
        interrupt(tid)?;
        Ok(Frozen(tid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

fn pid(tid: u32) -> anyhow::Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(tid).context("a thread's number")?))
}

fn seize(tid: Pid) -> anyhow::Result<()> {
    ptrace::seize(tid, Options::PTRACE_O_TRACESYSGOOD).with_context(|| {
        format!("tracing the thread {tid} (a container may need --cap-add SYS_PTRACE, as for strace)")
    })
}

fn interrupt(tid: Pid) -> anyhow::Result<()> {
    ptrace::interrupt(tid).context("stopping the thread")?;
    match waitpid(tid, Some(WaitPidFlag::__WALL)).context("waiting for the thread to stop")? {
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..) => Ok(()),
        other => bail!("the thread is gone: {other:?}"),
    }
}

/// Moves this thread to the core of the other, if that has but one: handing over from one to the other is then a switch and
/// not a waking of an idle core, which takes a virtual machine ten times as long.
fn beside(tid: Pid) -> Option<CpuSet> {
    let theirs = sched_getaffinity(rustix::process::Pid::from_raw(tid.as_raw())).ok()?;
    let ours = sched_getaffinity(None).ok()?;
    sched_setaffinity(None, &theirs).ok()?;
    Some(ours)
}

/// What is asked of a stopped thread's registers.
struct At {
    instruction: u64,
    /// Of the call it is in, or about to make.
    number: u64,
    /// The call that it was in was broken off by the stop.
    is_interrupted: bool,
    /// The fourth argument is a time to wait, and not none.
    waits_long: bool,
    /// The call's number if the next instruction is one.
    next_number: u64,
}

impl At {
    fn will_wait(&self) -> bool {
        WAITS.contains(&self.next_number) && self.waits_long
    }
}

/// `epoll_wait`, `epoll_pwait`, `epoll_pwait2`.
const WAITS: [u64; 3] = [232, 281, 441];
/// Of `syscall`.
const WAIT_BYTES: u64 = 2;

#[cfg(target_arch = "x86_64")]
fn registers(tid: Pid) -> anyhow::Result<At> {
    let registers = ptrace::getregs(tid).context("reading the thread's registers")?;
    Ok(At {
        instruction: registers.rip,
        number: registers.orig_rax,
        is_interrupted: registers.rax as i64 == -i64::from(rustix::io::Errno::INTR.raw_os_error()),
        waits_long: registers.r10 as u32 != 0,
        next_number: registers.rax,
    })
}

#[cfg(target_arch = "x86_64")]
fn instruction(tid: Pid) -> anyhow::Result<u64> {
    /// Of `rip` in the kernel's `struct user`.
    const OFFSET: usize = 16 * size_of::<u64>();
    let address = ptrace::read_user(tid, OFFSET as ptrace::AddressType);
    Ok(address.context("reading the thread's registers")? as u64)
}

#[cfg(not(target_arch = "x86_64"))]
fn registers(_: Pid) -> anyhow::Result<At> {
    bail!("threads are traced on x86-64 only")
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction(_: Pid) -> anyhow::Result<u64> {
    bail!("threads are traced on x86-64 only")
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        net::UdpSocket,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// Its name, for starting this test binary again as the traced process.
    const TRACED: &str = "counts::trace::tests::the_process_that_is_traced";
    /// What that process says before its thread and its port.
    const SAYS: &str = "traced: ";

    /// Does as many rounds of work as it is told to, and says how many it did.
    #[test]
    #[ignore = "started by the tests below"]
    fn the_process_that_is_traced() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let thread = rustix::thread::gettid().as_raw_nonzero();
            println!("\n{SAYS}{thread} {}", socket.local_addr().unwrap().port());
            loop {
                let mut rounds = [0; 8];
                let (_, from) = socket.recv_from(&mut rounds).await.unwrap();
                (0..u64::from_le_bytes(rounds)).for_each(|round| {
                    std::hint::black_box(round);
                });
                socket.send_to(&rounds, from).await.unwrap();
            }
        });
    }

    struct Started {
        child: Child,
        thread: u32,
        client: UdpSocket,
    }

    impl Started {
        fn start() -> Started {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([TRACED, "--exact", "--ignored", "--nocapture"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            let said = lines.find_map(|line| Some(line.strip_prefix(SAYS)?.to_owned())).unwrap();
            let (thread, port) = said.split_once(' ').unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(("127.0.0.1", port.parse().unwrap())).unwrap();
            Started { child, thread: thread.parse().unwrap(), client }
        }

        fn count(&self, traced: &mut Traced, by: By, rounds: u64) -> u64 {
            self.client.send(&rounds.to_le_bytes()).unwrap();
            let counted = traced.run_to_wait(by).unwrap();
            assert_eq!(self.client.recv(&mut [0; 8]).unwrap(), 8);
            counted
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn instructions_grow_with_the_work_and_nothing_else() {
        let started = Started::start();
        let mut traced = Traced::seize(started.thread).unwrap();
        traced.run_to_wait(By::Instruction).unwrap();
        assert!(traced.is_at_wait());
        // The least of some: beside a full machine the runtime sometimes does some 1,300 instructions more.
        let counts = [200, 400, 600].map(|rounds| {
            let some = (0..5).map(|_| started.count(&mut traced, By::Instruction, rounds));
            some.min().unwrap_or_default()
        });
        let (first, second) = (counts[1] - counts[0], counts[2] - counts[1]);
        assert!(first > 200 && first.abs_diff(second) < first / 20, "{counts:?}");
    }

    #[test]
    fn system_calls_are_the_same_every_time() {
        let started = Started::start();
        let mut traced = Traced::seize(started.thread).unwrap();
        traced.run_to_wait(By::Call).unwrap();
        let counts = [10, 1_000, 20].map(|rounds| started.count(&mut traced, By::Call, rounds));
        // Receive, send, receive again in vain, and wait.
        assert!(counts[0] >= 3 && counts.iter().all(|count| *count == counts[0]), "{counts:?}");
    }

    #[test]
    fn a_thread_that_is_let_go_runs_on_and_a_frozen_one_does_not_meanwhile() {
        let started = Started::start();
        drop(Traced::seize(started.thread).unwrap());
        started.client.send(&1_u64.to_le_bytes()).unwrap();
        assert_eq!(started.client.recv(&mut [0; 8]).unwrap(), 8);
        started.client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let frozen = Frozen::freeze(started.thread).unwrap();
        started.client.send(&1_u64.to_le_bytes()).unwrap();
        assert!(started.client.recv(&mut [0; 8]).is_err(), "it is frozen");
        drop(frozen);
        started.client.set_read_timeout(None).unwrap();
        assert_eq!(started.client.recv(&mut [0; 8]).unwrap(), 8);
    }
}
