//! The control plane as its clients meet it: a real server on a loopback port, a real log, and (where native code is
//! made) the real compiler service as its own process.

mod access;
mod assets;
mod compiler_faults;
mod compiler_keys;
mod deploys;
mod harness;
mod hosts;
mod idempotency;
mod process;
mod recompiles;
mod stores;
mod uploads;
