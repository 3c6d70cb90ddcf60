//! Foreign clients: curl for HTTP/1.1 and 2, aioquic for HTTP/3.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use artifact::Digest;

use crate::{command::Said, guests::root};

/// Longest time for one request.
const REQUEST_S_MAX: u64 = 30;

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proto {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS.
    H1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/3 over QUIC.
    H3,
}

impl Proto {
    /// Those of the TLS port. HTTP/3 is left out, and said to be, where its client is not installed.
    pub fn secure() -> Vec<Proto> {
        if h3_is_there() { vec![Proto::H1, Proto::H2, Proto::H3] } else { vec![Proto::H1, Proto::H2] }
    }
}

/// A request to be sent to a node. Unless told otherwise: GET / of `<app>.localhost`.
pub struct Request {
    pub(crate) proto: Proto,
    pub(crate) host: String,
    pub(crate) address: SocketAddr,
    pub(crate) ca: PathBuf,
    method: Option<&'static str>,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    extra: Vec<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status, or 0 if there was no response.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_len: usize,
    /// sha-256 of the body in hex.
    pub body_sha256: String,
    /// The body, or its first 4096 bytes, if it is text.
    pub text: String,
    /// Did the exchange end as it should? False after a reset stream or a body cut short.
    pub complete: bool,
    /// The protocol's version, such as `2`.
    pub version: String,
    /// Milliseconds until the first byte and until the last; only curl says.
    pub times_ms: Option<(u64, u64)>,
}

/// Is the HTTP/3 client installed? If not, says so once for each caller.
pub fn h3_is_there() -> bool {
    let there =
        ["venv", "pydeps"].iter().any(|made| root().join("target").join(made).join("stamp").is_file());
    if !there {
        crate::skipped("HTTP/3: its client is not installed; run tests/clients/setup");
    }
    there
}

impl Request {
    pub(crate) fn new(proto: Proto, host: String, address: SocketAddr, ca: PathBuf) -> Request {
        let (method, path, headers, body, extra) = (None, "/".to_owned(), vec![], None, vec![]);
        Request { proto, host, address, ca, method, path, headers, body, extra }
    }

    /// Path and query.
    pub fn path(mut self, path: &str) -> Request {
        path.clone_into(&mut self.path);
        self
    }

    /// Another method than GET, or POST with a body.
    pub fn method(mut self, method: &'static str) -> Request {
        self.method = Some(method);
        self
    }

    /// One more header.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body.
    pub fn body(mut self, body: &[u8]) -> Request {
        self.body = Some(body.to_vec());
        self
    }

    /// More arguments for the client program.
    pub fn with(mut self, arguments: &[&str]) -> Request {
        self.extra.extend(arguments.iter().map(|argument| argument.to_string()));
        self
    }

    /// Sends it.
    #[track_caller]
    pub fn send(self) -> Response {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let body = self.body.as_ref().map(|body| {
            let path = folder.path().join("request");
            std::fs::write(&path, body).expect("our own directory");
            path
        });
        match self.proto {
            Proto::H3 => self.by_aioquic(body),
            _ => self.by_curl(body, folder.path()),
        }
    }

    fn by_curl(&self, body: Option<PathBuf>, folder: &std::path::Path) -> Response {
        let (head_file, body_file) = (folder.join("head"), folder.join("body"));
        let port = self.address.port();
        let scheme = if self.proto == Proto::Plain { "http" } else { "https" };
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--path-as-is", "--max-time"])
            .arg(REQUEST_S_MAX.to_string())
            .args([if self.proto == Proto::H2 { "--http2" } else { "--http1.1" }, "--write-out"])
            .arg("%{http_code} %{http_version} %{time_starttransfer} %{time_total}")
            .arg("--cacert")
            .arg(&self.ca)
            .args(["--connect-to", &format!("::{}", self.address)])
            .arg("--dump-header")
            .arg(&head_file)
            .arg("--output")
            .arg(&body_file);
        if let Some(method) = self.method {
            curl.args(["--request", method]);
        }
        for (name, value) in &self.headers {
            curl.args(["--header", &format!("{name}: {value}")]);
        }
        if let Some(body) = body {
            // No `Expect: 100-continue`: curl would wait a second for an answer it need not get.
            curl.args(["--header", "expect:", "--data-binary", &format!("@{}", body.display())]);
        }
        let said =
            Said::by(curl.args(&self.extra).arg(format!("{scheme}://{}:{port}{}", self.host, self.path)));
        let words: Vec<&str> = said.out.split(' ').collect();
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        let ms = |at: usize| word(at).parse::<f64>().map(|seconds| (seconds * 1000.0) as u64).ok();
        let body = std::fs::read(&body_file).unwrap_or_default();
        let response = Response {
            status: word(0).parse().unwrap_or(0),
            headers: last_head(&String::from_utf8_lossy(&std::fs::read(&head_file).unwrap_or_default())),
            body_len: body.len(),
            body_sha256: Digest::of(&body).to_string(),
            text: String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned(),
            complete: said.code == 0,
            version: word(1).to_owned(),
            times_ms: ms(2).zip(ms(3)),
        };
        if said.code != 0 {
            eprintln!("curl: {}", said.err.trim());
        }
        response
    }

    fn by_aioquic(&self, body: Option<PathBuf>) -> Response {
        let mut client = Command::new("python3");
        client.arg(root().join("tests/clients/h3.py")).arg("--ca").arg(&self.ca).args([
            "--connect",
            &self.address.to_string(),
            "--timeout",
            &REQUEST_S_MAX.to_string(),
        ]);
        if let Some(method) = self.method {
            client.args(["--method", method]);
        }
        for (name, value) in &self.headers {
            client.args(["--header", &format!("{name}: {value}")]);
        }
        if let Some(body) = body {
            client.arg("--data-file").arg(body);
        }
        let url = format!("https://{}:{}{}", self.host, self.address.port(), self.path);
        let said = Said::by(client.args(&self.extra).arg(url));
        assert_ne!(said.code, 2, "the HTTP/3 client was called wrongly: {said}");
        let report = said.json();
        let field = |pair: &serde_json::Value| {
            let text = |at: usize| pair[at].as_str().unwrap_or_default().to_owned();
            (text(0).to_lowercase(), text(1))
        };
        Response {
            status: report["status"].as_u64().unwrap_or(0) as u16,
            headers: report["headers"]
                .as_array()
                .map(|pairs| pairs.iter().map(field).collect())
                .unwrap_or_default(),
            body_len: report["body_len"].as_u64().unwrap_or(0) as usize,
            body_sha256: report["body_sha256"].as_str().unwrap_or_default().to_owned(),
            text: report["body_text"].as_str().unwrap_or_default().to_owned(),
            complete: report["stream_reset"].is_null() && report["closed"].is_null() && said.err.is_empty(),
            version: "3".to_owned(),
            times_ms: None,
        }
    }
}

/// Fields of the last head: interim responses come first.
fn last_head(text: &str) -> Vec<(String, String)> {
    let heads = text.replace("\r\n", "\n");
    let last = heads.trim_end().rsplit("\n\n").next().unwrap_or_default();
    let field =
        |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    last.lines().skip(1).filter_map(field).collect()
}

impl Response {
    /// Checks the status; returns itself, to go on.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All fields of that name.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Is the body exactly this?
    pub fn is_body(&self, body: &[u8]) -> bool {
        self.complete && self.body_len == body.len() && self.body_sha256 == Digest::of(body).to_string()
    }
}
