//! One JSON line per request, written by a thread of its own. A full queue drops lines and counts them: a slow disk
//! must not slow a request.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Entry,
    live::{Ended, Line, What, unix_us},
    queue::LineQueue,
};
use crate::failure::Failure;

/// Lines waiting for the writer. A place is a few hundred bytes and allocated at once; a line holds up to 512 bytes of
/// path, 253 of host name and 32 of method of its own: 10 MiB when every line is as long as it may be. It also keeps
/// its deployment, which many lines share, and nothing of the request's own buffers.
const QUEUE_LINES_MAX: usize = 8 * 1024;
/// Bytes that are written at once when there are as many: some 200 lines.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog(LineQueue<AccessLine>);

/// One ended request, still in its own types: text is made of it by the writer.
pub struct AccessLine {
    entry: Entry,
    time: SystemTime,
    duration: Duration,
    status: u16,
    failure: Option<Failure>,
}

impl AccessLine {
    pub(super) fn new(entry: Entry, status: u16, failure: Option<Failure>) -> AccessLine {
        let duration = entry.started.elapsed();
        AccessLine { entry, time: SystemTime::now(), duration, status, failure }
    }

    /// Has its app's place remember it.
    fn note(&self) {
        let Some((deployment, bill)) = &self.entry.run else { return };
        let ended = Ended {
            method: self.entry.method.as_str(),
            path: &self.entry.path,
            status: self.status,
            failure: self.failure,
            duration_us: self.duration.as_micros() as u64,
            cpu_us: bill.cpu_ns() / 1_000,
            instantiate_us: bill.instantiate_ns() / 1_000,
            memory_peak_kib: bill.memory_peak_bytes() / 1_024,
        };
        let (time_us, request) = (unix_us(self.time), self.entry.id);
        deployment.metrics.tail.note(&Line {
            time_us,
            version: deployment.version,
            request,
            what: What::Request(ended),
        });
    }

    /// Its JSON form and a line end. Written by hand: at 100,000 lines a second a serializer's fields and texts were 4 % of
    /// all the node did. What needs no escapes has none: an id, numbers, host names and methods, which are tokens.
    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let entry = &self.entry;
        let time_ms = self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        write!(
            out,
            r#"{{"time_ms":{time_ms},"request":"{}","protocol":"{}","peer":"{}","method":"{}","host":"#,
            entry.id,
            entry.protocol.name(),
            entry.peer,
            entry.method
        )?;
        match &entry.host {
            Some(host) => write!(out, r#""{host}""#)?,
            None => out.write_all(b"null")?,
        }
        out.write_all(br#","path":"#)?;
        serde_json::to_writer(&mut *out, &entry.path)?;
        // 0 when the client was gone before the response.
        write!(out, r#","status":{}"#, self.status)?;
        if let Some(failure) = self.failure {
            write!(out, r#","error":"{}""#, failure.code())?;
        }
        write!(out, r#","duration_us":{}"#, self.duration.as_micros())?;
        if let Some((deployment, bill)) = &entry.run {
            write!(
                out,
                r#","app":"{}","version":{},"cpu_us":{},"instantiate_us":{},"memory_peak_kib":{}"#,
                deployment.id,
                deployment.version,
                bill.cpu_ns() / 1_000,
                bill.instantiate_ns() / 1_000,
                bill.memory_peak_bytes() / 1_024
            )?;
        }
        out.write_all(b"}\n")
    }
}

impl AccessLog {
    /// A log that writes to `out` from its own thread, which ends when the last handle is dropped.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<AccessLog> {
        let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, out);
        let queue = LineQueue::start("access-log", QUEUE_LINES_MAX, move |line| {
            let written = match line {
                Some(line) => {
                    AccessLine::note(&line);
                    AccessLine::write_to(&line, &mut out)
                }
                None => out.flush(),
            };
            drop(written); // a closed pipe or full disk loses lines, not requests
        });
        queue.map(AccessLog)
    }

    /// Queues a line, or drops and counts it.
    pub fn write(&self, line: AccessLine) {
        if let Err(AccessLine { entry: Entry { run: Some((deployment, _)), .. }, .. }) = self.0.push(line) {
            deployment.metrics.tail.lost();
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{account::Account, exchange::RequestId, testing::connection};
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_when_the_last_holder_lets_go_and_is_one_line_whatever_is_in_it() {
        let written = Written::default();
        let log = AccessLog::start(written.clone()).unwrap();
        let (head, ()) =
            http::Request::get("http://a.example/p%0A\"q?secret=1").body(()).unwrap().into_parts();
        let host = "a.example".parse().ok();
        let account = Account::open(&head, host, &connection(), RequestId::new(), None, &log);
        account.responded(http::StatusCode::NOT_FOUND);
        account.ended(Some(Failure::NoRoute));
        let second = account.clone();
        drop(account);
        assert!(written.0.lock().is_empty());
        drop(second);
        while written.0.lock().is_empty() {
            std::thread::yield_now();
        }
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["status"], &line["error"]), (&404.into(), &"no_route".into()));
        assert_eq!((&line["host"], &line["path"]), (&"a.example".into(), &"/p%0A\"q".into()));
        assert!(!text.contains("secret"), "queries may hold secrets and are not logged");
    }

    #[test]
    fn a_line_holds_little_of_a_long_request() {
        let log = AccessLog::start(io::sink()).unwrap();
        let target = format!("http://a.example/{}", "p".repeat(8_000));
        let method = "M".repeat(8_000);
        let request = http::Request::builder().method(method.as_str()).uri(target).body(()).unwrap();
        let (head, ()) = request.into_parts();
        let account = Account::open(&head, None, &connection(), RequestId::new(), None, &log);
        let (entry, _) = account.entry.as_ref().unwrap();
        assert_eq!((entry.path.len(), entry.method.as_str().len()), (512, 32));
    }

    #[test]
    fn a_request_that_nobody_waited_for_is_the_clients_doing() {
        let written = Written::default();
        let log = AccessLog::start(written.clone()).unwrap();
        let (head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        drop(Account::open(&head, None, &connection(), RequestId::new(), None, &log));
        while written.0.lock().is_empty() {
            std::thread::yield_now();
        }
        let line: serde_json::Value = serde_json::from_slice(&written.0.lock()).unwrap();
        assert_eq!((&line["status"], &line["error"]), (&0.into(), &"client_gone".into()));
    }
}
