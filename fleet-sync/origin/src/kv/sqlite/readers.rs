//! The connections that read: as many reads at once as there are of them, others wait.

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    returned: Condvar,
}

/// A connection at work. It comes back also when the work panics.
struct Lent<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl Readers {
    /// At least one.
    pub(super) fn new(connections: Vec<Connection>) -> Readers {
        Readers { idle: Mutex::new(connections), returned: Condvar::new() }
    }

    /// Blocks until a connection is free.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        let mut idle = self.idle.lock();
        let connection = loop {
            match idle.pop() {
                Some(connection) => break connection,
                None => self.returned.wait(&mut idle),
            }
        };
        drop(idle);
        let lent = Lent { readers: self, connection: Some(connection) };
        work(lent.connection.as_ref().expect("it is taken only when this is dropped"))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.readers.idle.lock().extend(self.connection.take());
        self.readers.returned.notify_one();
    }
}
