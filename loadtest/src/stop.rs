//! Ctrl-C: the first ends what is running, so that the command can say what there was; the second ends the command.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::Context as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// The exit code of a second Ctrl-C, which does not wait for anybody.
const IMPATIENT: i32 = 130;

/// Set by the first signal. What was started ends with whoever holds it.
pub fn when_told() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag down, and raises it.
        flag::register_conditional_shutdown(signal, IMPATIENT, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("listening for Ctrl-C")?;
    }
    Ok(stop)
}

/// Was it told to?
pub fn told(stop: &AtomicBool) -> bool {
    stop.load(Relaxed)
}
