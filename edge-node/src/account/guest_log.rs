//! What guests print: whole lines, bounded per execution, tagged with app, version and request, and printed by a
//! thread of its own.
//!
//! Relies on [`super::queue`]. A full queue drops lines and counts them; the printing thread says how many.

use std::{
    io,
    sync::{Arc, LazyLock, OnceLock},
    time::SystemTime,
};

use parking_lot::Mutex;

use super::{
    live::{self, What, unix_us},
    queue::LineQueue,
};
use crate::{exchange::RequestId, generation::Deployment};

/// Bytes of output one execution may log, [`LINE_OVERHEAD_BYTES`] a line included; the rest is dropped and counted
/// (DESIGN §4).
pub const LOG_BYTES_MAX: usize = 64 * 1024;
/// A longer line is split here: one line of a log is one screen, not one file.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// What a line costs beside its text, so that many short lines are no way around [`LOG_BYTES_MAX`].
pub const LINE_OVERHEAD_BYTES: usize = 128;
/// Characters of the name of a guest's log; what is longer is cut.
pub const NAME_CHARS_MAX: usize = 256;
/// Lines of all guests waiting to be printed: 16 MiB of text when every one is as long as it may be.
const QUEUE_LINES_MAX: usize = 4 * 1024;

/// The process's queue. `None` when no thread could be made; then guests print into the void.
static QUEUE: LazyLock<Option<LineQueue<Line>>> = LazyLock::new(|| match start() {
    Ok(queue) => Some(queue),
    Err(error) => {
        tracing::error!("starting the thread that prints guests' output, which is lost: {error}");
        None
    }
});

fn start() -> io::Result<LineQueue<Line>> {
    let mut dropped_seen = 0;
    LineQueue::start("guest-log", QUEUE_LINES_MAX, move |line: Option<Line>| match line {
        Some(line) => {
            line.note();
            line.print();
        }
        None => {
            // Queue and thread are up when a line arrives, so this never waits.
            let dropped = QUEUE.as_ref().map_or(0, LineQueue::dropped);
            if dropped > dropped_seen {
                tracing::warn!(target: "guest", lines = dropped - dropped_seen, "guests print too fast; lines were dropped");
                dropped_seen = dropped;
            }
        }
    })
}

/// Which of a guest's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Collects one execution's output and passes on its lines. Most executions say nothing: what is needed for lines is made
/// with the first.
#[derive(Default)]
pub struct LogSink(OnceLock<Box<Mutex<Lines>>>);

/// One line on its way to the printing thread.
struct Line {
    time: SystemTime,
    deployment: Arc<Deployment>,
    request: RequestId,
    said: Said,
}

enum Said {
    Text(Stream, Vec<u8>),
    /// Of a log the guest names.
    Entry(String, Vec<u8>),
    /// So many bytes were over the bound.
    Dropped(usize),
}

struct Lines {
    queue: Option<LineQueue<Line>>,
    deployment: Arc<Deployment>,
    request: RequestId,
    pending: [Vec<u8>; 2],
    bytes_left: usize,
    dropped_bytes: usize,
}

impl LogSink {
    /// Takes bytes as the guest wrote them and queues every line they complete.
    pub fn write(&self, whose: Whose<'_>, stream: Stream, bytes: &[u8]) -> Kept {
        let mut lines = self.lines(whose).lock();
        lines.write(stream, bytes);
        lines.kept()
    }

    /// Takes one entry of a named log, at most [`LINE_BYTES_MAX`] of its parts.
    pub fn entry(&self, whose: Whose<'_>, name: &str, text: &[&[u8]]) -> Kept {
        let mut lines = self.lines(whose).lock();
        lines.entry(name, text);
        lines.kept()
    }

    fn lines(&self, whose: Whose<'_>) -> &Mutex<Lines> {
        self.0.get_or_init(|| Lines::into_queue(QUEUE.clone(), whose))
    }
}

/// The execution that speaks.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// What it is an execution of.
    pub deployment: &'a Arc<Deployment>,
    /// Its name.
    pub request: RequestId,
}

/// How much of what an execution has said so far is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// The rest was over the bound.
    Partly,
}

impl Lines {
    fn into_queue(queue: Option<LineQueue<Line>>, whose: Whose<'_>) -> Box<Mutex<Lines>> {
        Box::new(Mutex::new(Lines {
            queue,
            deployment: whose.deployment.clone(),
            request: whose.request,
            pending: [Vec::new(), Vec::new()],
            bytes_left: LOG_BYTES_MAX,
            dropped_bytes: 0,
        }))
    }

    fn kept(&self) -> Kept {
        if self.dropped_bytes == 0 { Kept::Whole } else { Kept::Partly }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.bytes_left == 0 {
                self.dropped_bytes = self.dropped_bytes.saturating_add(rest.len());
                return;
            }
            let pending = &mut self.pending[stream as usize];
            let room = LINE_BYTES_MAX.saturating_sub(pending.len()); // some: a full line was let go at once
            let reach = rest.len().min(room);
            let (text, after, ended) = match rest[..reach].iter().position(|byte| *byte == b'\n') {
                Some(end) => (&rest[..end], &rest[end + 1..], true),
                None => (&rest[..reach], &rest[reach..], reach == room),
            };
            let taken = text.len().min(self.bytes_left);
            self.bytes_left -= taken;
            self.dropped_bytes += text.len() - taken;
            pending.extend_from_slice(&text[..taken]);
            if ended {
                self.line_ends(stream);
            }
            rest = after;
        }
    }

    fn entry(&mut self, name: &str, text: &[&[u8]]) {
        let bytes: usize = text.iter().map(|part| part.len()).sum();
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let Some(room) = self.bytes_left.checked_sub(LINE_OVERHEAD_BYTES + name.len()) else {
            self.dropped_bytes = self.dropped_bytes.saturating_add(bytes);
            return;
        };
        let taken = bytes.min(room).min(LINE_BYTES_MAX);
        self.dropped_bytes = self.dropped_bytes.saturating_add(bytes - taken);
        self.bytes_left = room - taken;
        let mut kept = Vec::with_capacity(taken);
        for part in text {
            kept.extend_from_slice(&part[..part.len().min(taken - kept.len())]);
        }
        self.push(Said::Entry(name, kept));
    }

    fn line_ends(&mut self, stream: Stream) {
        let text = std::mem::take(&mut self.pending[stream as usize]);
        if text.is_empty() {
            return;
        }
        let Some(bytes_left) = self.bytes_left.checked_sub(LINE_OVERHEAD_BYTES) else {
            self.dropped_bytes += text.len();
            return;
        };
        self.bytes_left = bytes_left;
        self.push(Said::Text(stream, text));
    }

    fn push(&self, said: Said) {
        let Some(queue) = &self.queue else { return };
        let (time, deployment) = (SystemTime::now(), self.deployment.clone());
        if let Err(line) = queue.push(Line { time, deployment, request: self.request, said }) {
            line.deployment.metrics.tail.lost();
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.line_ends(Stream::Stdout);
        self.line_ends(Stream::Stderr);
        if self.dropped_bytes > 0 {
            self.push(Said::Dropped(self.dropped_bytes));
        }
    }
}

impl Line {
    /// Has its app's place remember it.
    fn note(&self) {
        let what = match &self.said {
            Said::Text(Stream::Stdout, text) => What::Stdout(text),
            Said::Text(Stream::Stderr, text) => What::Stderr(text),
            Said::Entry(name, text) => What::Log(name, text),
            Said::Dropped(bytes) => What::Cut(*bytes as u64),
        };
        let (time_us, version, request) = (unix_us(self.time), self.deployment.version, self.request);
        self.deployment.metrics.tail.note(&live::Line { time_us, version, request, what });
    }

    /// The guest's text is a quoted, escaped field and the last one: a guest can forge neither a line nor a field, nor
    /// drive an operator's terminal.
    fn print(&self) {
        let Deployment { id, version, .. } = &*self.deployment;
        let request = &self.request;
        match &self.said {
            Said::Text(stream, text) => {
                let stream = if *stream == Stream::Stdout { "stdout" } else { "stderr" };
                let line = String::from_utf8_lossy(text);
                tracing::info!(target: "guest", app = %id, version, %request, stream, ?line, "printed");
            }
            Said::Entry(name, text) => {
                let line = String::from_utf8_lossy(text);
                tracing::info!(target: "guest", app = %id, version, %request, log = ?name, ?line, "logged");
            }
            Said::Dropped(bytes) => tracing::warn!(
                target: "guest", app = %id, version, %request, dropped_bytes = bytes,
                "output over {LOG_BYTES_MAX} bytes an execution was dropped"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, sync::mpsc, time::Duration};

    use super::*;

    /// What an execution that writes `pieces` has printed at its end: its lines, and the bytes it lost.
    fn printed(pieces: &[&[u8]]) -> (Vec<String>, usize) {
        logged(|sink, whose| {
            for piece in pieces {
                sink.write(whose, Stream::Stdout, piece);
            }
        })
    }

    fn logged(say: impl FnOnce(&LogSink, Whose<'_>)) -> (Vec<String>, usize) {
        let (seen, lines) = mpsc::channel();
        let queue = LineQueue::start("test", QUEUE_LINES_MAX, move |line| {
            let _ = line.map(|line: Line| seen.send(line.said));
        });
        let deployment = Arc::new(crate::testing::deployment("log", 1, Default::default()));
        let whose = Whose { deployment: &deployment, request: RequestId::new() };
        let sink = LogSink(OnceLock::from(Lines::into_queue(Some(queue.unwrap()), whose)));
        say(&sink, whose);
        drop(sink);
        let (mut texts, mut dropped) = (Vec::new(), 0);
        while let Ok(said) = lines.recv_timeout(Duration::from_secs(10)) {
            match said {
                Said::Text(_, text) | Said::Entry(_, text) => texts.push(String::from_utf8(text).unwrap()),
                Said::Dropped(bytes) => dropped = bytes,
            }
        }
        (texts, dropped)
    }

    #[test]
    fn whole_lines_leave_and_empty_ones_do_not() {
        let (lines, dropped) = printed(&[b"one\n\n\ntw", b"o\nthree"]);
        assert_eq!((lines, dropped), (vec!["one".into(), "two".into(), "three".into()], 0));
    }

    #[test]
    fn short_lines_are_no_way_around_the_bound() {
        let (lines, dropped) = printed(&[&b"a\n".repeat(LOG_BYTES_MAX)]);
        assert!(lines.len() <= LOG_BYTES_MAX / LINE_OVERHEAD_BYTES, "{} lines", lines.len());
        // The ends of lines are not text; what comes after the bound is not looked at, and counts as it is.
        let written = 2 * LOG_BYTES_MAX;
        assert!(
            lines.len() > 400 && (written - 3 * lines.len()..=written - 2 * lines.len()).contains(&dropped),
            "{} lines, {dropped} dropped",
            lines.len()
        );
    }

    #[test]
    fn one_long_line_is_split_and_the_bound_holds() {
        let (lines, dropped) = printed(&[&[b'x'; LOG_BYTES_MAX * 2]]);
        let bytes: usize = lines.iter().map(String::len).sum();
        assert!(
            lines.len() == 15 && lines.iter().all(|line| line.len() == LINE_BYTES_MAX),
            "{}",
            lines.len()
        );
        assert_eq!(bytes + dropped, LOG_BYTES_MAX * 2);
    }

    #[test]
    fn of_an_entry_a_line_is_kept_and_the_rest_counted() {
        let long = vec![b'x'; 1 << 20];
        let (lines, dropped) = logged(|sink, whose| {
            assert_eq!(sink.entry(whose, "a", &[b"warn", b": ", b"empty"]), Kept::Whole);
            assert_eq!(sink.entry(whose, "a", &[b"info: ", &long, b"end"]), Kept::Partly);
        });
        assert_eq!(lines, ["warn: empty".to_owned(), format!("info: {}", "x".repeat(LINE_BYTES_MAX - 6))]);
        assert_eq!(dropped, 6 + long.len() + 3 - LINE_BYTES_MAX);
    }

    #[test]
    fn lines_that_find_no_room_are_said_to_who_follows_the_app() {
        let metrics = crate::account::metrics::Metrics::new().unwrap();
        let mut deployment = crate::testing::deployment("log", 1, Default::default());
        deployment.metrics = metrics.version(&deployment.id, 1);
        let deployment = Arc::new(deployment);
        let (noted, seen) = mpsc::channel();
        let (go_on, stuck) = mpsc::channel::<()>();
        let queue = LineQueue::start("test", 2, move |line: Option<Line>| {
            if let Some(line) = line {
                let _ = noted.send(()); // once it is out of the queue
                let _ = stuck.recv();
                line.note();
            }
        });
        let whose = Whose { deployment: &deployment, request: RequestId::new() };
        let sink = LogSink(OnceLock::from(Lines::into_queue(Some(queue.unwrap()), whose)));
        sink.write(whose, Stream::Stdout, b"1\n");
        seen.recv().unwrap();
        sink.write(whose, Stream::Stdout, b"2\n3\n4\n5\n6\n");
        drop((sink, go_on));
        seen.iter().for_each(drop); // until the thread has ended
        let said = |ms: u64| {
            let now = live::Now { us: live::Now::get().us + ms * 1_000, ..live::Now::get() };
            metrics.live.tell(now).into_iter().flat_map(|app| app.lines).map(|line| line.said)
        };
        let followed = fleet_sync_replica::logs::Followed { id: deployment.id.clone(), asked: 1 };
        metrics.live.follow(live::Now::get(), fleet_sync_replica::logs::Follow { apps: vec![followed] });
        use fleet_sync_replica::logs::Said;
        let text = |text: &str| Said::Stdout { text: text.into() };
        let wanted = [Said::Dropped { lines: 3 }, text("1"), text("2"), text("3")];
        assert_eq!(said(100).collect::<Vec<_>>(), wanted);
    }

    /// Keeps the fields of one event in the order a subscriber gets them.
    #[derive(Default, Clone)]
    struct Fields(Arc<Mutex<String>>);

    impl tracing::field::Visit for Fields {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            let _ = write!(self.0.lock(), "{}={value:?} ", field.name());
        }
    }

    impl tracing::Subscriber for Fields {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut self.clone());
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn a_guest_cannot_forge_a_field_or_a_line() {
        let deployment = Arc::new(crate::testing::deployment("log", 1, Default::default()));
        let text = b"ok\" app=default/victim \x1b[2J\r\nx".to_vec();
        let (time, said) = (SystemTime::now(), Said::Text(Stream::Stderr, text));
        let line = Line { time, deployment, request: RequestId::new(), said };
        let fields = Fields::default();
        tracing::subscriber::with_default(fields.clone(), || line.print());
        let seen = fields.0.lock().clone();
        assert!(seen.starts_with("message=printed app="), "{seen}");
        assert!(seen.ends_with(r#"line="ok\" app=default/victim \u{1b}[2J\r\nx" "#), "{seen}");
    }
}
