//! One line of the stream, as the API says it. What a newer control plane says beside it is kept in the JSON alone.

use artifact::visible;
use serde::Deserialize;

/// A line and its JSON.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Line {
    /// When it was said, in ms since 1970: by the node's clock, or the control plane's for what that says itself.
    #[serde(default)]
    pub time_ms: u64,
    /// The node, if it is one's.
    #[serde(default)]
    pub node: Option<String>,
    /// Its POP.
    #[serde(default)]
    pub pop: Option<String>,
    /// The app's version.
    #[serde(default)]
    pub version: Option<u64>,
    /// The request it was said in.
    #[serde(default)]
    pub request: Option<String>,
    /// Names the node's numbering.
    #[serde(default)]
    pub run: Option<u64>,
    /// Its number there.
    #[serde(default)]
    pub seq: Option<u64>,
    /// What.
    #[serde(flatten)]
    pub said: Said,
    /// The whole line as it came, safe to be looked at.
    #[serde(skip)]
    pub json: String,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Said {
    /// The stream begins; so many nodes are connected.
    Listening {
        /// How many.
        nodes: u64,
    },
    /// A node begins to tell: with which number its line itself says.
    From {
        /// Number of the first line that it had; what is between was not asked for.
        since: u64,
    },
    /// A line of standard output. Hostile until it is made visible.
    Stdout {
        /// The line.
        text: String,
    },
    /// A line of standard error.
    Stderr {
        /// The line.
        text: String,
    },
    /// An entry of a log that the program names.
    Log {
        /// The log.
        name: String,
        /// The entry.
        text: String,
    },
    /// An execution said more than one may.
    Cut {
        /// Bytes that are gone.
        bytes: u64,
    },
    /// A request has ended.
    Request(RequestLine),
    /// Lines are missing here.
    Dropped {
        /// How many.
        lines: u64,
        /// `node`, `reader`, or `away`: said while no stream was open, which only we know.
        #[serde(default)]
        by: String,
    },
    /// The stream ends and is to be asked for anew.
    Again,
    /// The stream ends: all was told.
    End {
        /// Nodes that did not answer in time.
        #[serde(default)]
        unheard: Vec<Place>,
    },
    /// From a newer control plane.
    #[serde(other)]
    Unknown,
}

/// What became of a request, and what it cost.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct RequestLine {
    pub method: String,
    pub path: String,
    /// 0: the client was gone before there was one.
    pub status: u16,
    #[serde(default)]
    pub error: Option<String>,
    pub duration_us: u64,
    pub cpu_us: u64,
    pub instantiate_us: u64,
    pub memory_peak_kib: u64,
}

/// A node and its POP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Place {
    pub node: String,
    pub pop: String,
}

impl Line {
    /// So many lines of the node that `from` is about were told to nobody while no stream was open.
    pub fn missed(from: &Line, lines: u64) -> Line {
        let Line { time_ms, node, pop, .. } = from.clone();
        let json = serde_json::json!({
            "kind": "dropped", "time_ms": time_ms, "node": node, "pop": pop, "lines": lines, "by": "away"
        });
        let said = Said::Dropped { lines, by: "away".into() };
        let json = visible::for_json(&json.to_string()).into_owned();
        Line { time_ms, node, pop, version: None, request: None, run: None, seq: None, said, json }
    }

    /// Reads it; `None` when it is none.
    pub fn parse(text: &str) -> Option<Line> {
        let line: Line = serde_json::from_str(text).ok()?;
        Some(Line { json: visible::for_json(text).into_owned(), ..line })
    }
}
