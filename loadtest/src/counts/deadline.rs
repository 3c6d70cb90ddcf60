//! Ends a node that does nothing any more, so that nobody waits for a thread of it for ever. What counts is how long it did
//! nothing, not how long it took: on a busy machine everything takes its time.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Who waits for a thread of the process is told that it is gone. Dropped before, it does nothing.
pub struct Deadline(Sender<()>);

impl Deadline {
    /// Ends the process when for so long nothing was [`Deadline::put_off`].
    pub fn of(process: u32, time: Duration) -> anyhow::Result<Deadline> {
        let node = i32::try_from(process).ok().and_then(Pid::from_raw).context("the node's number")?;
        // Its number may be another's by then: it is no child of this process.
        let node = pidfd_open(node, PidfdFlags::empty()).context("opening the node's process")?;
        let (done, told) = mpsc::channel();
        let watch = move || {
            if has_stalled(&told, time) {
                eprintln!("the node did nothing for {time:?} and is ended");
                let _ = pidfd_send_signal(&node, Signal::KILL);
            }
        };
        thread::Builder::new()
            .name("deadline".into())
            .spawn(watch)
            .context("starting the deadline's thread")?;
        Ok(Deadline(done))
    }

    /// Something was done.
    pub fn put_off(&self) {
        let _ = self.0.send(());
    }
}

fn has_stalled(told: &Receiver<()>, time: Duration) -> bool {
    loop {
        match told.recv_timeout(time) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{Child, Command},
    };

    use super::*;

    const TIME: Duration = Duration::from_millis(500);

    fn sleeping() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn what_does_nothing_is_ended() {
        let mut sleeping = sleeping();
        let _deadline = Deadline::of(sleeping.id(), TIME).unwrap();
        assert_eq!(sleeping.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    #[test]
    fn what_goes_on_is_not_and_what_was_dropped_neither() {
        let mut sleeping = sleeping();
        let deadline = Deadline::of(sleeping.id(), TIME).unwrap();
        for _ in 0..15 {
            thread::sleep(TIME / 10);
            deadline.put_off();
        }
        drop(deadline);
        thread::sleep(TIME * 2);
        assert!(sleeping.try_wait().unwrap().is_none());
        sleeping.kill().unwrap();
        sleeping.wait().unwrap();
    }
}
