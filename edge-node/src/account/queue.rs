//! A bounded queue with a writing thread of its own: how lines leave a serving thread. A full queue drops and counts,
//! because a slow disk or terminal must not slow a request.
//!
//! Deliberately absent: waiting for room, and waiting for the writer at the end of the process: lines still queued
//! then are lost.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

/// How long the writer sleeps between two looks at its queue: longer lets more lines wait, shorter wakes more often.
const NAP: Duration = Duration::from_millis(5);

/// The sending end. A clone is one count, since every request makes one; the thread ends when the last one is dropped.
pub(super) struct LineQueue<T>(Arc<Sending<T>>);

struct Sending<T> {
    lines: mpsc::SyncSender<T>,
    dropped: AtomicU64,
}

impl<T> Clone for LineQueue<T> {
    fn clone(&self) -> LineQueue<T> {
        LineQueue(self.0.clone())
    }
}

impl<T: Send + 'static> LineQueue<T> {
    /// Starts the thread `name`. `write` gets every line, and `None` whenever no more are waiting: the time to flush.
    /// `lines_max` places are allocated at once.
    pub(super) fn start(
        name: &str,
        lines_max: usize,
        mut write: impl FnMut(Option<T>) + Send + 'static,
    ) -> io::Result<LineQueue<T>> {
        let (lines, queued) = mpsc::sync_channel(lines_max);
        thread::Builder::new().name(name.into()).spawn(move || {
            while let Ok(line) = queued.recv() {
                write(Some(line));
                queued.try_iter().for_each(|line| write(Some(line)));
                write(None);
                // While it sleeps nobody has to wake it: a sender's wake-up would cost a request 4 to 5 µs.
                thread::sleep(NAP);
            }
        })?;
        Ok(LineQueue(Arc::new(Sending { lines, dropped: AtomicU64::new(0) })))
    }

    /// Queues a line, or counts it as dropped and gives it back.
    pub(super) fn push(&self, line: T) -> Result<(), T> {
        self.0.lines.try_send(line).map_err(|error| {
            self.0.dropped.fetch_add(1, Relaxed);
            match error {
                mpsc::TrySendError::Full(line) | mpsc::TrySendError::Disconnected(line) => line,
            }
        })
    }

    /// Lines dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_stuck_writer_costs_lines_and_no_time() {
        let (release, released) = mpsc::channel::<()>();
        let (seen, written) = mpsc::channel();
        let queue = LineQueue::start("stuck", 2, move |line| {
            if let Some(line) = line {
                let _ = seen.send(line);
                let _ = released.recv();
            }
        })
        .unwrap();
        queue.push(0).unwrap();
        assert_eq!(written.recv(), Ok(0));
        let refused: Vec<_> = (1..=5).filter_map(|line| queue.push(line).err()).collect(); // would hang here
        assert_eq!(refused, [3, 4, 5]);
        assert_eq!(queue.dropped(), 3);
        drop((release, queue));
        assert_eq!(written.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
