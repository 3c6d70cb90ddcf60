//! One compile as a process of its own, which never holds the key.
//!
//! Compiling is work on hostile input: a 1.3 MB module can take 26 s and 2 GB, and a bug in the code generator would
//! run as whoever compiles. So the [child] caps itself before it reads a byte, and the [parent] bounds what is left:
//! wall time, the size of the answer, and what an exit means. The [frame] is the child's one answer.
//! What is asked and answered is [work]. The [filter] takes the system calls away that compiling does not need.
//!
//! Absent: an own user id and namespaces (`docs/design/0002-compile-jobs.md`); without calls there is nothing to reach by them.

pub mod caps;
pub mod child;
mod exit;
pub mod filter;
pub mod frame;
pub mod parent;
pub mod work;

pub use caps::JobCaps;
pub use parent::JobRunner;
pub use work::{JobAnswer, Reuse, Work};
