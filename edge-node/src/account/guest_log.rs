//! What guests print: whole lines, bounded per execution, tagged with app, version and request.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{exchange::RequestId, generation::Deployment};

/// Bytes of output one execution may log; the rest is dropped and counted (DESIGN §4).
pub const LOG_BYTES_MAX: usize = 64 * 1024;
/// A longer line is cut here: one line of a log is one screen, not one file.
pub const LINE_BYTES_MAX: usize = 4 * 1024;

/// Which of a guest's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Collects one execution's output and passes on its lines. Clones share one bound.
#[derive(Clone)]
pub struct LogSink(Arc<Mutex<Lines>>);

struct Lines {
    deployment: Arc<Deployment>,
    request: RequestId,
    pending: [Vec<u8>; 2],
    bytes_left: usize,
    dropped_bytes: usize,
}

impl LogSink {
    /// A sink for one execution.
    pub fn new(deployment: &Arc<Deployment>, request: RequestId) -> LogSink {
        let pending = [Vec::new(), Vec::new()];
        LogSink(Arc::new(Mutex::new(Lines {
            deployment: deployment.clone(),
            request,
            pending,
            bytes_left: LOG_BYTES_MAX,
            dropped_bytes: 0,
        })))
    }

    /// Takes bytes as the guest wrote them and emits every line they complete.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        self.0.lock().write(stream, bytes);
    }
}

impl Lines {
    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let taken = bytes.len().min(self.bytes_left);
        self.bytes_left -= taken;
        self.dropped_bytes += bytes.len() - taken;
        let mut rest = &bytes[..taken];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.pending[stream as usize]);
            line.extend_from_slice(&rest[..end]);
            self.emit(stream, &line);
            rest = &rest[end + 1..];
        }
        let pending = &mut self.pending[stream as usize];
        pending.extend_from_slice(rest);
        if pending.len() >= LINE_BYTES_MAX {
            let line = std::mem::take(pending);
            self.emit(stream, &line);
        }
    }

    fn emit(&self, stream: Stream, line: &[u8]) {
        let shown = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]);
        // Escaped, so that no guest forges a line or drives an operator's terminal.
        let line = shown.escape_debug();
        let Deployment { id, version, .. } = &*self.deployment;
        let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        tracing::info!(target: "guest", app = %id, version, request = %self.request, stream, "{line}");
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.pending[stream as usize]);
            if !rest.is_empty() {
                self.emit(stream, &rest);
            }
        }
        if self.dropped_bytes > 0 {
            let Deployment { id, version, .. } = &*self.deployment;
            tracing::warn!(
                target: "guest", app = %id, version, request = %self.request, dropped_bytes = self.dropped_bytes,
                "output over {LOG_BYTES_MAX} bytes an execution was dropped"
            );
        }
    }
}
