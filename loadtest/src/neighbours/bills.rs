//! What killed guests cost by their own bill, read from the node's access log as it is written.

use std::{collections::HashMap, io, sync::Arc};

use parking_lot::Mutex;
use serde::Deserialize;

/// Bytes of one line at most: a longer one is not the node's.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The log's other end. Clones see the same lines.
#[derive(Clone, Default)]
pub struct Bills(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    line: Vec<u8>,
    /// CPU of executions in µs, by app (`tenant/app`) and how they ended.
    cpu_us: HashMap<(String, Option<String>), Vec<f64>>,
}

#[derive(Deserialize)]
struct Line {
    app: Option<String>,
    error: Option<String>,
    cpu_us: Option<u64>,
}

impl Bills {
    /// CPU in µs of the executions of apps named `app`, whoever's, that ended like this; forgotten afterwards.
    pub fn take(&self, app: &str, error: Option<&str>) -> Vec<f64> {
        let mut kept = self.0.lock();
        let of_app = |key: &&(String, Option<String>)| {
            key.0.split('/').next_back() == Some(app) && key.1.as_deref() == error
        };
        let keys: Vec<_> = kept.cpu_us.keys().filter(of_app).cloned().collect();
        keys.iter().flat_map(|key| kept.cpu_us.remove(key).unwrap_or_default()).collect()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.lock().cpu_us.clear();
    }
}

impl Kept {
    fn keep(&mut self) {
        let line = std::mem::take(&mut self.line);
        // The good tenant's lines are many and tell nothing here.
        let Ok(Line { app: Some(app), error, cpu_us: Some(cpu_us) }) = serde_json::from_slice(&line) else {
            return;
        };
        if !app.ends_with("/good") {
            self.cpu_us.entry((app, error)).or_default().push(cpu_us as f64);
        }
    }
}

impl io::Write for Bills {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.lock();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if kept.line.len() + piece.len() <= LINE_BYTES_MAX {
                kept.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                kept.keep();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_in_pieces() {
        let mut bills = Bills::default();
        let lines = "{\"app\":\"t1/loop\",\"error\":\"cpu_limit\",\"cpu_us\":50100}\n{\"app\":\"t/good\",\"cpu_us\":9}\n";
        for piece in lines.as_bytes().chunks(7) {
            bills.write_all(piece).unwrap();
        }
        assert_eq!(bills.take("loop", Some("cpu_limit")), [50_100.0]);
        assert!(bills.take("loop", Some("cpu_limit")).is_empty() && bills.take("good", None).is_empty());
    }
}
