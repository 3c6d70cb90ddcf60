//! Ctrl-C: the first ends what is running, so that the command can say what there was; the second ends the command.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// The exit code of a second Ctrl-C, which does not wait for anybody.
const IMPATIENT: i32 = 130;
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(50);
/// What a report says of itself then.
pub const STOPPED: &str = "before its end; this is what there was";

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

/// In the middle of work: an error if it was told to.
pub fn check(stop: &AtomicBool) -> anyhow::Result<()> {
    anyhow::ensure!(!told(stop), "told to stop");
    Ok(())
}

/// Sleeps; an error as soon as it is told to.
pub fn sleep(time: Duration, stop: &AtomicBool) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    loop {
        check(stop)?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(LOOK));
    }
}

/// What work came to that may have been cut: was it? What went wrong because of that is no news.
pub fn cut(done: anyhow::Result<()>, stop: &AtomicBool) -> anyhow::Result<bool> {
    match told(stop) {
        true => Ok(true),
        false => done.map(|()| false),
    }
}

/// When all is printed: a command that was cut has failed.
pub fn whole(stopped: bool) -> anyhow::Result<()> {
    anyhow::ensure!(!stopped, "it was told to stop: this is what there was");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_work_that_was_cut_is_no_news_and_any_other_is() {
        let broke = || Err(anyhow::anyhow!("it broke"));
        let (running, stopped) = (AtomicBool::new(false), AtomicBool::new(true));
        assert!(cut(broke(), &stopped).unwrap() && cut(Ok(()), &stopped).unwrap());
        assert!(!cut(Ok(()), &running).unwrap() && cut(broke(), &running).is_err());
        assert!(whole(true).is_err() && whole(false).is_ok());
    }

    #[test]
    fn a_sleep_ends_when_it_is_told_to() {
        let stop = AtomicBool::new(false);
        assert!(sleep(Duration::ZERO, &stop).is_ok());
        thread::scope(|scope| {
            let asleep = scope.spawn(|| sleep(Duration::from_secs(600), &stop));
            stop.store(true, Relaxed);
            assert!(asleep.join().unwrap().is_err());
        });
    }
}
