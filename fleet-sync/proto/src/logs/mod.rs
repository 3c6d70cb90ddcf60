//! Live logs: what the origin asks nodes to tell, and what they tell (docs/design/0017-live-logs.md).
//!
//! The origin says which apps are followed, the whole set each time. A node tells the lines of those apps: first what it
//! remembers, then what comes, numbered per app without a hole, so that a listener knows what it has heard already and
//! what was lost. One message is on its way at a time: the next one waits until the origin has taken it, so that logs never
//! stand before more than one of them in a queue. Deliberately absent: who listens ([`listener`] is what one of them has
//! heard), and where a node remembers lines.

pub mod listener;

use artifact::{
    AppId,
    record::{UnixMs, VersionNumber},
};
use serde::{Deserialize, Serialize};

/// Apps followed at once: as many as there are listeners at most. A message with all of them is 16 KiB.
pub const FOLLOWED_MAX: usize = 64;
/// A node forgets that an app is followed after this, ms, unless it is told again: an origin that died needs nothing.
pub const FOLLOW_MS: u64 = 30_000;
/// While somebody listens, nodes are told again this often, ms: three times before they forget.
pub const FOLLOW_RENEWAL_MS: u64 = 10_000;
/// Bytes of lines in one message, as [`LogLine::bytes`] counts them. Each may be six in JSON: with what stands around a
/// line at most 600 KiB, well within a frame. With one message each 100 ms a node tells 640 KiB/s.
pub const LOGS_BYTES_MAX: usize = 64 * 1024;
/// What a line counts beside its texts, so that many short ones are bounded too: 512 in one message.
pub const LINE_OVERHEAD_BYTES: usize = 128;
/// Bytes of a line's text: the 4 KiB that a guest's line may have, each of them no UTF-8, which makes three bytes of it.
pub const TEXT_BYTES_MAX: usize = 12 * 1024;
/// Bytes of the name of a guest's log: 256 characters.
pub const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a path, as the node's access log keeps them.
pub const PATH_BYTES_MAX: usize = 512;
/// Bytes of a method, a request's id, an error's code.
pub const WORD_BYTES_MAX: usize = 32;

/// Moment in microseconds since 1970, by a node's clock: lines of one millisecond keep their order.
pub type UnixUs = u64;

/// Which apps somebody listens to: all of them, so that repeating it is harmless.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// At most [`FOLLOWED_MAX`]. None: nobody listens.
    pub apps: Vec<Followed>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// The app.
    #[serde(flatten)]
    pub id: AppId,
    /// Changes when a new listener has come: the node then tells again all that it remembers of the app. Never the same
    /// twice, also over restarts of the origin.
    pub asked: u64,
}

/// Lines of followed apps. The node waits for [`crate::ToNode::LogsTaken`] with this number before it tells more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// Counts the messages of one stream.
    pub number: u64,
    /// At most [`FOLLOWED_MAX`], and [`LOGS_BYTES_MAX`] of lines.
    pub apps: Vec<AppLogs>,
}

/// The next lines of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppLogs {
    /// The app.
    #[serde(flatten)]
    pub id: AppId,
    /// The [`Followed::asked`] that this answers: everything remembered was told since, or is being told.
    pub asked: u64,
    /// Names the numbering: when the node began to remember this app, µs by its clock. Another one replaces it.
    pub run: u64,
    /// Number of the first of `lines`. A hole before it is lines that the node lost before it could tell them.
    pub first: u64,
    /// Dense but for `gaps`, in the order in which the node came by them, which is nearly that of their times.
    #[serde(default)]
    pub lines: Vec<LogLine>,
    /// Before the line at this place so many numbers are missing: lines that the node lost, while it kept older ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<(usize, u64)>,
    /// All that was remembered when the app was asked for has been told, with these.
    #[serde(default)]
    pub caught_up: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was said, or when the request ended.
    pub time_us: UnixUs,
    /// The version that said it.
    pub version: VersionNumber,
    /// The request it was said in, as the node's access log names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// What.
    #[serde(flatten)]
    pub said: Said,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Said {
    /// A line of the guest's standard output.
    Stdout {
        /// Without its end. Anything a guest can write: escape it before it meets a terminal.
        text: String,
    },
    /// A line of its standard error.
    Stderr {
        /// The same.
        text: String,
    },
    /// An entry of a log the guest names.
    Log {
        /// The log.
        name: String,
        /// The entry. May have several lines.
        text: String,
    },
    /// The execution said more than one may; the rest is gone.
    Cut {
        /// Bytes of it.
        bytes: u64,
    },
    /// A request has ended.
    Request(RequestLine),
    /// The node had no room for so many lines of this app.
    Dropped {
        /// How many.
        lines: u64,
    },
    /// From a newer node.
    #[serde(other)]
    Unknown,
}

/// What became of a request, and what it cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLine {
    /// Its method.
    pub method: String,
    /// Its path, cut at 512 bytes, without the query, which may hold secrets.
    pub path: String,
    /// The answer's status; 0 when the client was gone before it.
    pub status: u16,
    /// Why the node answered instead of the guest, or why the answer broke off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From its head to the end of guest and body, µs.
    pub duration_us: u64,
    /// CPU time of its execution, µs.
    pub cpu_us: u64,
    /// Of it, what it took to make its instance, µs.
    pub instantiate_us: u64,
    /// Its largest memory, KiB.
    pub memory_peak_kib: u64,
}

impl Follow {
    /// Keeps as many apps as may be followed.
    pub fn bounded(mut self) -> Follow {
        self.apps.truncate(FOLLOWED_MAX);
        self
    }
}

impl Logs {
    /// Brings texts and number within their limits. Lines that do not fit leave a hole in the numbers and are thus counted
    /// by whoever listens; nothing of them comes from a node of ours.
    pub fn bounded(mut self) -> Logs {
        self.apps.truncate(FOLLOWED_MAX);
        let mut bytes = 0;
        for app in &mut self.apps {
            app.lines.iter_mut().for_each(LogLine::bound);
            let kept = app.lines.iter().take_while(|line| {
                bytes += line.bytes();
                bytes <= LOGS_BYTES_MAX
            });
            let kept = kept.count();
            app.lines.truncate(kept);
            app.gaps.truncate(kept);
        }
        self
    }
}

impl LogLine {
    /// What it counts of [`LOGS_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        let texts = match &self.said {
            Said::Stdout { text } | Said::Stderr { text } => text.len(),
            Said::Log { name, text } => name.len() + text.len(),
            Said::Request(line) => {
                line.method.len() + line.path.len() + line.error.as_ref().map_or(0, String::len)
            }
            Said::Cut { .. } | Said::Dropped { .. } | Said::Unknown => 0,
        };
        LINE_OVERHEAD_BYTES + self.request.len() + texts
    }

    /// When, in ms since 1970.
    pub fn time_ms(&self) -> UnixMs {
        self.time_us / 1_000
    }

    fn bound(&mut self) {
        cut(&mut self.request, WORD_BYTES_MAX);
        match &mut self.said {
            Said::Stdout { text } | Said::Stderr { text } => cut(text, TEXT_BYTES_MAX),
            Said::Log { name, text } => {
                cut(name, NAME_BYTES_MAX);
                cut(text, TEXT_BYTES_MAX);
            }
            Said::Request(line) => {
                cut(&mut line.method, WORD_BYTES_MAX);
                cut(&mut line.path, PATH_BYTES_MAX);
                line.error.iter_mut().for_each(|error| cut(error, WORD_BYTES_MAX));
            }
            Said::Cut { .. } | Said::Dropped { .. } | Said::Unknown => {}
        }
    }
}

fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{ToNode, ToOrigin, frame};

    pub(crate) fn id(app: &str) -> AppId {
        AppId { tenant: "default".parse().unwrap(), app: app.parse().unwrap() }
    }

    pub(crate) fn line(text: &str) -> LogLine {
        let said = Said::Stdout { text: text.into() };
        LogLine { time_us: 1_000, version: 1, request: "a1".into(), said }
    }

    fn app_logs(lines: Vec<LogLine>) -> AppLogs {
        AppLogs { id: id("shop"), asked: 7, run: 1, first: 3, lines, gaps: vec![(1, 2)], caught_up: true }
    }

    fn read_back<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(message: T) {
        let mut decoder = frame::FrameDecoder::new(100_000);
        decoder.push(&frame::encode(&message, 100_000).unwrap());
        assert_eq!(decoder.next::<T>().unwrap(), Some(message));
    }

    #[test]
    fn every_kind_of_line_is_read_back_as_it_was_written() {
        let request = RequestLine {
            method: "GET".into(),
            path: "/\u{1b}[2J\u{202e}".into(),
            status: 500,
            error: Some("guest_trap".into()),
            duration_us: u64::MAX,
            cpu_us: 2,
            instantiate_us: 3,
            memory_peak_kib: 4,
        };
        let all = [
            Said::Stdout { text: "\0\n\"".into() },
            Said::Stderr { text: String::new() },
            Said::Log { name: "access".into(), text: "é".into() },
            Said::Cut { bytes: u64::MAX },
            Said::Request(request),
            Said::Request(RequestLine::default()),
            Said::Dropped { lines: 1 },
            Said::Unknown,
        ];
        let lines = all.map(|said| LogLine { said, ..line("") }).into();
        read_back(ToOrigin::Logs(Logs { number: 1, apps: vec![app_logs(lines)] }));
        read_back(ToNode::Follow(Follow { apps: vec![Followed { id: id("shop"), asked: u64::MAX }] }));
        read_back(ToNode::Follow(Follow::default()));
        read_back(ToNode::LogsTaken { number: 9 });
    }

    #[test]
    fn a_kind_of_line_from_tomorrow_reads_as_unknown() {
        let line: LogLine =
            serde_json::from_str(r#"{"time_us":1,"version":2,"kind":"dance","to":"music"}"#).unwrap();
        assert_eq!((line.said, line.request), (Said::Unknown, String::new()));
    }

    #[test]
    fn whatever_a_node_says_fits_its_bounds_and_a_frame() {
        let worst = |text: Said| LogLine { request: "\0".repeat(9_999), said: text, ..line("") };
        let text = "\0".repeat(20_000);
        let path = RequestLine {
            path: text.clone(),
            method: text.clone(),
            error: Some(text.clone()),
            ..Default::default()
        };
        for (said, many) in [
            (Said::Stdout { text: String::new() }, 600),
            (Said::Stderr { text: text.clone() }, 10),
            (Said::Log { name: text.clone(), text }, 10),
            (Said::Request(path), 10),
        ] {
            let app = app_logs(vec![worst(said); many]);
            let logs = Logs { number: u64::MAX, apps: vec![app; FOLLOWED_MAX + 9] }.bounded();
            let lines = || logs.apps.iter().flat_map(|app| &app.lines);
            assert!(lines().map(LogLine::bytes).sum::<usize>() <= LOGS_BYTES_MAX);
            assert!(lines().count() > 3 && logs.apps.len() == FOLLOWED_MAX);
            let frame = frame::encode(&ToOrigin::Logs(logs), frame::TO_ORIGIN_BYTES_MAX).unwrap();
            assert!(frame.len() < 600 * 1024, "{}", frame.len());
        }
        let apps = vec![Followed { id: id(&"a".repeat(60)), asked: u64::MAX }; 1_000];
        let follow = Follow { apps }.bounded();
        assert_eq!(follow.apps.len(), FOLLOWED_MAX);
        assert!(frame::encode(&ToNode::Follow(follow), 16 * 1024).is_ok());
    }
}
