//! One JSON line per request, written by a thread of its own. A full queue drops lines and counts them: a slow disk
//! must not slow a request.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::Entry;
use crate::failure::Failure;

/// Lines waiting for the writer: about 4 MB.
const QUEUE_LINES_MAX: usize = 16 * 1024;
/// Bytes of a path that are logged.
const PATH_BYTES_MAX: usize = 512;

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    queue: mpsc::SyncSender<AccessLine>,
    dropped: Arc<AtomicU64>,
}

/// One request.
#[derive(Serialize)]
pub struct AccessLine {
    time_ms: u64,
    request: String,
    protocol: &'static str,
    peer: String,
    method: String,
    host: String,
    path: String,
    /// 0 when the client was gone before the response.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    duration_us: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    run: Option<RunLine>,
}

#[derive(Serialize)]
struct RunLine {
    app: String,
    version: u64,
    cpu_us: u64,
    instantiate_us: u64,
    memory_peak_kib: u64,
}

impl AccessLine {
    pub(super) fn new(entry: &Entry, status: u16, failure: Option<Failure>) -> AccessLine {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = entry.path.floor_char_boundary(PATH_BYTES_MAX);
        AccessLine {
            time_ms: now.as_millis() as u64,
            request: entry.id.to_string(),
            protocol: entry.protocol.name(),
            peer: entry.peer.to_string(),
            method: entry.method.to_string(),
            host: entry.host.clone(),
            path: entry.path[..end].to_owned(),
            status,
            error: failure.map(Failure::code),
            duration_us: entry.started.elapsed().as_micros() as u64,
            run: entry.run.as_ref().map(|(deployment, bill)| RunLine {
                app: deployment.id.to_string(),
                version: deployment.version,
                cpu_us: bill.cpu_ns() / 1_000,
                instantiate_us: bill.instantiate_ns() / 1_000,
                memory_peak_kib: bill.memory_peak_bytes() / 1_024,
            }),
        }
    }
}

impl AccessLog {
    /// A log that writes to `out` from its own thread, which ends when the last handle is dropped.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<AccessLog> {
        let (queue, lines) = mpsc::sync_channel(QUEUE_LINES_MAX);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_lines(&lines, out))?;
        Ok(AccessLog { queue, dropped: Arc::default() })
    }

    /// Queues a line, or drops and counts it.
    pub fn write(&self, line: AccessLine) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Lines dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

fn write_lines(lines: &mpsc::Receiver<AccessLine>, out: impl Write) {
    let mut out = io::BufWriter::new(out);
    while let Ok(line) = lines.recv() {
        write_line(&mut out, &line);
        while let Ok(line) = lines.try_recv() {
            write_line(&mut out, &line);
        }
        // A closed pipe or full disk loses lines, not requests.
        let _ = out.flush();
    }
}

fn write_line(out: &mut impl Write, line: &AccessLine) {
    if serde_json::to_writer(&mut *out, line).is_ok() {
        let _ = out.write_all(b"\n");
    }
}
