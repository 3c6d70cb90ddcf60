//! One module for each noun of the command line.

pub mod apps;
pub mod build;
pub mod compiler_key;
pub mod component;
pub mod config;
pub mod convergence;
pub mod deploy;
pub mod init;
pub mod items;
pub mod kv;
pub mod logs;
pub mod node;
pub mod push;
mod queued;
pub mod recompile;
mod released;
mod replaced;
pub mod secrets;
pub mod shell;
pub mod status;
pub mod tenant;
pub mod token;
pub mod verify;
pub mod versions;

use crate::error::{Error, Result};

/// A fresh idempotency key: made once for an invocation, sent with every retry of it.
pub fn idempotency_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Fleet(format!("no randomness for an idempotency key: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
