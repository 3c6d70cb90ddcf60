//! What every server process does the same way: log to standard error, stop when asked or when its parent is gone, say
//! where it listens. Used by the three servers' `main`s; deliberately absent: configuration, which each room owns.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
};

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Set to `1` by a parent that holds the other end of standard input: the process stops when that pipe closes, so
/// that it does not outlive a parent which was killed without a chance to say so.
pub const EXIT_WITH_STDIN: &str = "SKERRY_EXIT_WITH_STDIN";

/// One line per event on standard error; the level by `RUST_LOG`, `info` without it.
pub fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

/// What ends a server.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Starts to listen for SIGTERM and SIGINT. Call it inside the runtime, before anything else is started.
    pub fn listen() -> io::Result<Stop> {
        Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Over when the process was asked to stop, or its parent is gone and wished that.
    pub async fn asked(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = parent_gone() => {}
        }
    }
}

async fn parent_gone() {
    if std::env::var_os(EXIT_WITH_STDIN).is_none_or(|value| value != "1") {
        return std::future::pending().await;
    }
    let (send, receive) = tokio::sync::oneshot::channel();
    // A thread of its own: a blocking read must not keep a runtime from ending.
    let reader = std::thread::Builder::new().name("parent".into()).spawn(move || {
        read_to_end(io::stdin());
        let _ = send.send(());
    });
    if reader.is_err() || receive.await.is_err() {
        std::future::pending().await
    }
}

fn read_to_end(mut input: impl io::Read) {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Writes `ready` as JSON to `path`, beside it first and then renamed, so that no reader sees half of it.
pub fn write_ready_file(path: &Path, ready: &impl Serialize) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let mut file = File::create(&beside)?;
    serde_json::to_writer(&mut file, ready)?;
    file.write_all(b"\n")?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_is_whole_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        write_ready_file(&path, &serde_json::json!({"pid": 1})).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"pid\":1}\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_ready_file(&dir.path().join("missing/ready.json"), &1).is_err());
    }

    #[test]
    fn reading_ends_with_the_pipe_and_not_with_its_bytes() {
        let (mut ours, theirs) = io::pipe().map(|(r, w)| (w, r)).unwrap();
        let reader = std::thread::spawn(move || read_to_end(theirs));
        ours.write_all(b"still here").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert!(!reader.is_finished());
        drop(ours);
        reader.join().unwrap();
    }
}
