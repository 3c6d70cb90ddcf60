//! Two lanes for guests: the fast one is the serving thread itself, the slow one a thread of low scheduling weight
//! beside it.
//!
//! A guest begins inline on the serving thread. One that outlives its tick moves to the slow lane with everything it
//! has, so an endless loop holds a serving thread for one tick, and the kernel gives the core to fresh requests before
//! it gives it to the loop. Apps that did so lately begin in the slow lane ([`standing`]). Guests that only wait stay
//! where they are. What was measured and rejected: `docs/design/0008-lanes.md`.
//!
//! | Module | One job |
//! |---|---|
//! | [`standing`] | where an execution begins |
//! | [`slow`] | the slow lane of a worker: its thread, its door, what is in it |
//! | `turns` | which of the guests in it goes next: fair by tenant |

pub mod slow;
pub mod standing;
mod turns;

pub use slow::{Full, Job, Lanes, NICE_DEFAULT, Settings, SlowLane, Ticket};
pub use standing::{End, Standing, Who};

/// How often the epoch advances: what a guest may use of a serving thread at once, and in all.
pub const TICK_NS: u64 = 1_000_000;

/// Where an execution begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// On the serving thread.
    Fast,
    /// In the slow lane, which costs a healthy guest a change of threads.
    Slow,
}
