//! When to stop: SIGINT or SIGTERM, or the end of standard input for a caller that asks for it
//! (`SKERRY_EXIT_WITH_STDIN=1`, as `up` itself does for the servers).

use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use crate::{
    error::{Error, Result},
    exit::Exit,
};

/// Names the wish to stop when standard input ends; the servers know it too.
pub use process::EXIT_WITH_STDIN;

/// Raised once, never lowered.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Starts listening. A second signal ends the process at once; the servers notice by their standard input.
    pub fn listen() -> Result<Stop> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag down, and raises it.
            flag::register_conditional_shutdown(signal, i32::from(Exit::Failed.code()), raised.clone())
                .and_then(|_| flag::register(signal, raised.clone()))
                .map_err(Error::io("listening for signals"))?;
        }
        if std::env::var_os(EXIT_WITH_STDIN).is_some_and(|value| value == "1") {
            let raised = raised.clone();
            thread::spawn(move || {
                let mut scrap = [0; 256];
                while matches!(std::io::stdin().lock().read(&mut scrap), Ok(1..)) {}
                raised.store(true, Ordering::Relaxed);
            });
        }
        Ok(Stop(raised))
    }

    /// One that no signal raises.
    pub fn by_hand() -> Stop {
        Stop(Arc::default())
    }

    /// From now on the process ends with these last words when it is raised: for what cannot look at it.
    pub fn ends_the_process(&self, words: &'static str) {
        let stop = self.clone();
        thread::spawn(move || {
            while !stop.is_raised() {
                thread::sleep(Duration::from_millis(50));
            }
            eprintln!("{words}");
            std::process::exit(i32::from(Exit::Failed.code()));
        });
    }

    /// Raises it.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Is it time?
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
