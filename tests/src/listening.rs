//! `skerry logs -f` while it runs.

use crate::{fleet::Fleet, process::Owned, wait_for};

/// A running command. Stopped when dropped.
pub struct Listening(Owned);

impl Fleet {
    /// Starts `skerry` with the operator's credentials, for a command that does not end by itself. What it says goes to a
    /// file of this name.
    pub fn start_skerry(&self, name: &str, arguments: &[&str]) -> Listening {
        let mut command = self.command(&self.token(), arguments);
        Listening(Owned::start("skerry", &mut command, &self.scratch().join(name)))
    }
}

impl Listening {
    /// What it said so far.
    pub fn said(&self) -> String {
        self.0.said()
    }

    /// Waits until it has said a line with all of these in it, and gives that.
    #[track_caller]
    pub fn line_with(&self, parts: &[&str]) -> String {
        wait_for(&format!("a line with {parts:?} in:\n{}", self.said()), 20, || {
            let said = self.said();
            let found = said.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            found.map(str::to_owned)
        })
    }

    /// Ctrl-C; gives the exit code.
    #[track_caller]
    pub fn interrupt(mut self) -> Option<i32> {
        self.0.end_by(rustix::process::Signal::INT)
    }
}
