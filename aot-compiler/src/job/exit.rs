//! What the end of a job without an answer means, in words for the uploader.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use artifact::compile::{Refusal, RefusalCode};
use rustix::process::Signal;

use super::JobCaps;
use crate::intake::{Shape, refuse};

/// The refusal for a job that ended by anything but success. `stderr` is its last words, for telling causes apart;
/// they never reach the uploader.
/// `shape` is that of the program, if it was admitted.
pub(super) fn refusal(status: ExitStatus, stderr: &str, caps: &JobCaps, shape: Option<Shape>) -> Refusal {
    if ["memory allocation of", "Cannot allocate memory", "out of memory"]
        .iter()
        .any(|words| stderr.contains(words))
    {
        return out_of_memory(caps, shape);
    }
    let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
    if signal(Signal::XCPU) {
        let message = format!(
            "compiling took more than {} s of processor time, the limit of a compile job: {}",
            caps.cpu_s,
            cure(shape)
        );
        return refuse(RefusalCode::JobLimit, message);
    }
    if stderr.contains("overflowed its stack") {
        let message =
            "compiling ran out of stack, a limit of the compile job: nest blocks and types less deeply";
        return refuse(RefusalCode::JobLimit, message);
    }
    if signal(Signal::SYS) {
        let message = "the compile job made a system call that compiling does not need, and was ended for it";
        return refuse(RefusalCode::Internal, message);
    }
    if signal(Signal::KILL) {
        let message =
            "the compile job was killed from outside; the machine may be short of memory: try again later";
        return refuse(RefusalCode::Internal, message);
    }
    refuse(
        RefusalCode::Internal,
        format!("the compile job failed ({status}); the compiler's log has its last words"),
    )
}

/// The job ran into its cap on memory.
pub(crate) fn out_of_memory(caps: &JobCaps, shape: Option<Shape>) -> Refusal {
    let message = format!(
        "compiling took more than {} MiB of memory, the limit of a compile job: {}",
        caps.memory_bytes >> 20,
        cure(shape)
    );
    refuse(RefusalCode::JobLimit, message)
}

/// The job was still running when its time was over. It had less than a quarter of a core then, or it would have met its cap of
/// processor time first: the machine's fault.
pub(super) fn out_of_time(caps: &JobCaps) -> Refusal {
    let message = format!(
        "compiling was not done within {} s, because the compiler had other work: try again later",
        caps.wall.as_secs_f32()
    );
    refuse(RefusalCode::Busy, message)
}

/// What the uploader can do.
fn cure(shape: Option<Shape>) -> String {
    let of = shape.map(|shape| format!("; {}", shape.most_to_compile())).unwrap_or_default();
    format!("make the largest functions smaller{of}")
}
