//! One compile as a process of its own, which never holds the key.
//!
//! Compiling is work on hostile input: a 1.3 MB module can take 26 s and 2 GB, and a bug in the code generator would
//! run as whoever compiles. So the [child] caps itself before it reads a byte, and the [parent] bounds what is left:
//! wall time, the size of the answer, and what an exit means. The [frame] is the child's one answer.
//!
//! Absent, and part of a later issue: seccomp, an own user id, no network namespace (`docs/design/0002-compile-jobs.md`).

pub mod caps;
pub mod child;
mod exit;
pub mod frame;
pub mod parent;

pub use caps::JobCaps;
pub use parent::JobRunner;
