//! The threads that read static files. They are for nothing else: a disk that is slow holds back no record, release or
//! activation, which wait on the side runtime's. What waits for one of them is bounded by who asks: each request that reads has
//! room ([`super::body::Room`]), and gives it back when its read has ended.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Threads of a node. A disk answers many reads at once, and most are answered by the kernel's memory; hashing a piece takes
/// 50 µs of a core, which belongs to guests.
const THREADS: usize = 4;

type Read = Box<dyn FnOnce() + Send>;

/// Running threads. They end when this is dropped, after what they do; what waits is dropped with it.
pub struct Readers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    reads: VecDeque<Read>,
    closed: bool,
}

impl Readers {
    pub fn start() -> io::Result<Readers> {
        let readers = Readers(Arc::default());
        for number in 0..THREADS {
            let shared = readers.0.clone();
            thread::Builder::new().name(format!("files-{number}")).spawn(move || shared.serve())?;
        }
        Ok(readers)
    }

    /// Has a thread do this, whether somebody waits for what it gives or not. First come, first served. An error tells that it
    /// panicked, or that the node ends.
    pub fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (tell, told) = oneshot::channel();
        self.0.queue.lock().reads.push_back(Box::new(move || drop(tell.send(read()))));
        self.0.work.notify_one();
        told
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.reads);
        drop(queue);
        drop(left);
        self.0.work.notify_all();
    }
}

impl Shared {
    fn serve(&self) {
        let mut queue = self.queue.lock();
        loop {
            if let Some(read) = queue.reads.pop_front() {
                drop(queue);
                if catch_unwind(AssertUnwindSafe(read)).is_err() {
                    tracing::error!("reading static files panicked");
                }
                queue = self.queue.lock();
            } else if queue.closed {
                return;
            } else {
                self.work.wait(&mut queue);
            }
        }
    }
}

#[cfg(test)]
impl Readers {
    /// Reads that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.0.queue.lock().reads.len()
    }

    /// Keeps every thread busy until what is returned is dropped.
    pub fn keep_busy(&self) -> Vec<std::sync::mpsc::Sender<()>> {
        use std::sync::mpsc;
        let begin = || {
            let ((hold, held), (begun, has_begun)) = (mpsc::channel::<()>(), mpsc::channel());
            drop(self.read(move || {
                begun.send(()).unwrap();
                let _ = held.recv();
            }));
            has_begun.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
            hold
        };
        (0..THREADS).map(|_| begin()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_reads_alone_and_reads_go_on_that_nobody_waits_for() {
        let readers = Readers::start().unwrap();
        for _ in 0..2 * THREADS {
            let read: Result<(), _> = readers.read(|| panic!("a test's own")).blocking_recv();
            assert!(read.is_err());
        }
        let held = readers.keep_busy();
        let (say, said) = std::sync::mpsc::channel();
        drop(readers.read(move || say.send(thread::current().name().map(str::to_owned)).unwrap()));
        assert!(said.try_recv().is_err(), "all threads are busy");
        drop(held);
        let name = said.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert!(name.is_some_and(|name| name.starts_with("files-")));
    }
}
