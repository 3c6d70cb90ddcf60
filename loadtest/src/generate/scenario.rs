//! What is asked of a target, and how: a scenario file in TOML.
//!
//! Every number has a bound, so that no file asks for a run without end.

use std::{collections::BTreeMap, fs, ops::RangeInclusive, time::Duration};

use http::{HeaderName, HeaderValue, Method, header, uri::Authority};
use serde::{Deserialize, Serialize};

use super::builtin;

const SECONDS_MAX: f64 = 3600.0;
const CONNECTIONS_MAX: u32 = 10_000;
const THREADS_MAX: u32 = 64;
const STREAMS_MAX: u32 = 1000;
/// Of all slots, connections × streams: each is a task.
const SLOTS_MAX: u64 = 100_000;
const PER_SECOND: RangeInclusive<f64> = 0.01..=1e6;
const BODY_BYTES_MAX: u64 = 1 << 30;
const HOSTS_MAX: u32 = 10_000;
const EXPONENT_MAX: f64 = 10.0;
/// Ten pieces a second, of 64 KiB.
const SLOW_BYTES_PER_SECOND_MAX: u64 = 640 << 10;
const LOOK_EVERY_MAX: Duration = Duration::from_millis(10);
const FILE_BYTES_MAX: u64 = 1 << 20;
const PATH_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// What is asked, as a scenario file says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    pub name: String,
    pub protocol: Protocol,
    pub tls: bool,
    /// Of all threads together.
    pub connections: u32,
    pub threads: u32,
    /// Requests at once on each connection: h2 and h3 only.
    pub streams: u32,
    /// That counts, after the warm-up.
    pub duration: Duration,
    pub warm_up: Duration,
    pub arrivals: Arrivals,
    pub request: RequestShape,
    pub hosts: Hosts,
    /// Every request on a connection of its own; connecting is part of its latency.
    pub new_connection_each: bool,
    pub pace: Pace,
    /// How long the client sleeps between two looks at its sockets; zero: the kernel wakes it with every answer.
    pub look_every: Duration,
    /// After a 503 a connection or stream is silent for so long: who is refused does not ask in a loop.
    pub pause_after_503: Duration,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    H1,
    H2,
    H3,
}

/// When requests start.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// The next when the last was answered: the most a target takes.
    #[default]
    Closed,
    /// At even distances, whether or not the target keeps up; latency counts from the intended start.
    Constant { per_second: f64 },
    /// The same at random distances, as from many independent clients.
    Poisson { per_second: f64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestShape {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    /// Of the request's body; 0 is none.
    pub body_bytes: u64,
}

impl Default for RequestShape {
    fn default() -> RequestShape {
        RequestShape { method: "GET".into(), path: "/".into(), headers: BTreeMap::new(), body_bytes: 0 }
    }
}

/// Which hosts are asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Hosts {
    /// The target's authority.
    #[default]
    One,
    /// `h0.` to `h{count - 1}.` before the target's authority; `h{k}` has the weight 1 / (k + 1)^exponent.
    Zipf { count: u32, exponent: f64 },
    /// Connection n (or stream n of all) asks the nth of these names and no other; after the last comes the first.
    Each { names: Vec<String> },
}

/// How a client behaves on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Pace {
    #[default]
    Normal,
    /// Sends its body drop by drop.
    SlowBody { bytes_per_second: u64 },
    /// Takes the answer drop by drop, over buffers that are small.
    SlowReader { bytes_per_second: u64 },
    /// Asks for `busy_ms`, is silent for `idle_ms`, and so on; arrivals of an open loop keep their mean rate.
    Bursty { busy_ms: u64, idle_ms: u64 },
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("reading the scenario {name} (built in are {})", builtin::names())]
    Read { name: String, source: std::io::Error },
    #[error("the scenario {0} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge(String),
    #[error("the scenario's line {line}: {message}")]
    Toml { line: usize, message: String },
    #[error("the scenario: {}", .0.join("; "))]
    Wrong(Vec<String>),
}

/// The file's own words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    protocol: Protocol,
    tls: Option<bool>,
    connections: u32,
    #[serde(default = "one")]
    threads: u32,
    #[serde(default = "one")]
    streams: u32,
    duration_seconds: f64,
    #[serde(default)]
    warm_up_seconds: f64,
    #[serde(default)]
    arrivals: Arrivals,
    #[serde(default)]
    request: RequestShape,
    #[serde(default)]
    hosts: Hosts,
    #[serde(default)]
    new_connection_each: bool,
    #[serde(default)]
    pace: Pace,
    #[serde(default)]
    look_every_us: u64,
    #[serde(default)]
    pause_after_503_ms: u64,
    #[serde(default)]
    seed: u64,
}

fn one() -> u32 {
    1
}

impl Scenario {
    /// The longest that counts.
    pub const TIME_MAX: Duration = Duration::from_secs(SECONDS_MAX as u64);

    /// Every mistake of a file is told at once.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            ScenarioError::Toml { line, message: error.message().lines().collect::<Vec<_>>().join(" ") }
        })?;
        let mut wrong = Vec::new();
        let duration = seconds("duration_seconds", file.duration_seconds, &mut wrong);
        let warm_up = seconds("warm_up_seconds", file.warm_up_seconds, &mut wrong);
        let scenario = Scenario {
            name: file.name,
            protocol: file.protocol,
            tls: file.tls.unwrap_or(file.protocol == Protocol::H3),
            connections: file.connections,
            threads: file.threads,
            streams: file.streams,
            duration,
            warm_up,
            arrivals: file.arrivals,
            request: file.request,
            hosts: file.hosts,
            new_connection_each: file.new_connection_each,
            pace: file.pace,
            look_every: Duration::from_micros(file.look_every_us),
            pause_after_503: Duration::from_millis(file.pause_after_503_ms),
            seed: file.seed,
        };
        scenario.check(&mut wrong);
        if wrong.is_empty() { Ok(scenario) } else { Err(ScenarioError::Wrong(wrong)) }
    }

    /// A built-in one, or the file of that path.
    pub fn named(name: &str) -> Result<Scenario, ScenarioError> {
        if let Some(text) = builtin::text(name) {
            return Scenario::parse(text);
        }
        let read = |source| ScenarioError::Read { name: name.to_owned(), source };
        if fs::metadata(name).map_err(read)?.len() > FILE_BYTES_MAX {
            return Err(ScenarioError::TooLarge(name.to_owned()));
        }
        Scenario::parse(&fs::read_to_string(name).map_err(read)?)
    }

    /// One that was changed since it was parsed, by a command's options say.
    pub fn checked(self) -> Result<Scenario, ScenarioError> {
        let mut wrong = Vec::new();
        self.check(&mut wrong);
        if wrong.is_empty() { Ok(self) } else { Err(ScenarioError::Wrong(wrong)) }
    }

    /// The same in an open loop, whose client must be woken in time.
    pub fn arriving(self, arrivals: Arrivals) -> Scenario {
        Scenario { arrivals, look_every: Duration::ZERO, ..self }
    }

    /// Requests that can be under way at once.
    pub fn slots(&self) -> u64 {
        u64::from(self.connections) * u64::from(self.streams)
    }

    fn check(&self, wrong: &mut Vec<String>) {
        let mut must = |holds: bool, text: String| {
            if !holds {
                wrong.push(text);
            }
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        must(
            (1..=64).contains(&self.name.len()) && self.name.bytes().all(plain),
            "name must be 1 to 64 of letters, digits, - and _".into(),
        );
        must(
            (1..=CONNECTIONS_MAX).contains(&self.connections),
            format!("connections must be 1 to {CONNECTIONS_MAX}"),
        );
        must((1..=THREADS_MAX).contains(&self.threads), format!("threads must be 1 to {THREADS_MAX}"));
        must(self.threads <= self.connections, "threads must not be more than connections".into());
        must((1..=STREAMS_MAX).contains(&self.streams), format!("streams must be 1 to {STREAMS_MAX}"));
        must(
            self.slots() <= SLOTS_MAX,
            format!("connections times streams must not be more than {SLOTS_MAX}"),
        );
        must(
            self.pause_after_503.as_secs_f64() <= SECONDS_MAX,
            format!("pause_after_503_ms must be at most {}", SECONDS_MAX * 1e3),
        );
        must(!self.duration.is_zero(), "duration_seconds must be above 0".into());
        must(
            self.protocol != Protocol::H1 || self.streams == 1,
            "streams are for h2 and h3: an h1 connection has one request at a time".into(),
        );
        must(
            self.protocol != Protocol::H3 || self.tls,
            "h3 is always encrypted: leave tls out or make it true".into(),
        );
        must(
            !self.new_connection_each || self.streams == 1,
            "new_connection_each leaves one request to a connection: streams must be 1".into(),
        );
        if let Arrivals::Constant { per_second } | Arrivals::Poisson { per_second } = self.arrivals {
            must(
                PER_SECOND.contains(&per_second),
                format!("arrivals.per_second must be {} to {}", PER_SECOND.start(), PER_SECOND.end()),
            );
        }
        match &self.hosts {
            Hosts::One => {}
            Hosts::Zipf { count, exponent } => {
                must((1..=HOSTS_MAX).contains(count), format!("hosts.count must be 1 to {HOSTS_MAX}"));
                must(
                    (0.0..=EXPONENT_MAX).contains(exponent),
                    format!("hosts.exponent must be 0 to {EXPONENT_MAX}"),
                );
            }
            Hosts::Each { names } => {
                must(
                    (1..=HOSTS_MAX as usize).contains(&names.len()),
                    format!("hosts.names must be 1 to {HOSTS_MAX}"),
                );
                for name in names.iter().filter(|name| name.parse::<Authority>().is_err()) {
                    must(false, format!("hosts.names: {name:?} is not a host with or without a port"));
                }
            }
        }
        match self.pace {
            Pace::Normal => {}
            Pace::SlowBody { bytes_per_second } => {
                let speeds = 1..=SLOW_BYTES_PER_SECOND_MAX;
                must(
                    speeds.contains(&bytes_per_second),
                    format!("pace.bytes_per_second must be 1 to {}", speeds.end()),
                );
                must(self.request.body_bytes > 0, "a slow body needs request.body_bytes".into());
            }
            Pace::SlowReader { bytes_per_second } => {
                let speeds = 1..=SLOW_BYTES_PER_SECOND_MAX;
                must(
                    speeds.contains(&bytes_per_second),
                    format!("pace.bytes_per_second must be 1 to {}", speeds.end()),
                );
            }
            Pace::Bursty { busy_ms, idle_ms } => {
                let times = 1..=SECONDS_MAX as u64 * 1000;
                must(
                    times.contains(&busy_ms) && times.contains(&idle_ms),
                    format!("pace.busy_ms and pace.idle_ms must be 1 to {}", times.end()),
                );
            }
        }
        must(
            self.look_every <= LOOK_EVERY_MAX,
            format!("look_every_us must be at most {}", LOOK_EVERY_MAX.as_micros()),
        );
        must(
            self.look_every.is_zero() || self.arrivals == Arrivals::Closed,
            "look_every_us is for closed loops: what arrives at fixed times must start then".into(),
        );
        self.request.check(wrong);
    }
}

impl RequestShape {
    fn check(&self, wrong: &mut Vec<String>) {
        match Method::from_bytes(self.method.as_bytes()) {
            Ok(method) if method != Method::CONNECT => {}
            _ => wrong.push(format!("request.method {:?} is not one that can be asked", self.method)),
        }
        if !self.path.starts_with('/')
            || self.path.len() > PATH_BYTES_MAX
            || !self.path.bytes().all(|byte| byte.is_ascii_graphic())
        {
            wrong.push(format!(
                "request.path must begin with / and be at most {PATH_BYTES_MAX} printable ASCII bytes"
            ));
        }
        if self.body_bytes > BODY_BYTES_MAX {
            wrong.push(format!("request.body_bytes must not be above {BODY_BYTES_MAX}"));
        }
        if self.headers.len() > HEADERS_MAX {
            wrong.push(format!("request.headers must not be more than {HEADERS_MAX}"));
        }
        for (name, value) in &self.headers {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(known) if OURS.contains(&known) => {
                    wrong.push(format!("request.headers: {name} is set by the generator"));
                }
                Ok(_) if HeaderValue::from_str(value).is_ok() => {}
                _ => wrong.push(format!("request.headers: {name:?} = {value:?} is not a header")),
            }
        }
    }
}

/// They frame the request.
const OURS: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::EXPECT,
    header::TE,
];

fn seconds(key: &str, seconds: f64, wrong: &mut Vec<String>) -> Duration {
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        return Duration::from_secs_f64(seconds);
    }
    wrong.push(format!("{key} must be at most {SECONDS_MAX}"));
    Duration::from_secs(1)
}
