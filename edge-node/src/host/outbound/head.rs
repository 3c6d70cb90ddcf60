//! The head of a request on its way out, and what of a response's head a guest gets.
//!
//! Framing and the fields of a connection are this side's. `CDN-Loop` (RFC 8586) and the [`deadline`] come from the
//! exchange, whatever the guest wrote there: a guest must not be able to hide a loop.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use artifact::HostName;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header, request, response,
    uri::{Authority, PathAndQuery, Scheme as UriScheme},
};
use http_body::Body as _;

use super::{
    FetchError,
    body::{OpenSlot, Sending},
    deadline::{self, Seals},
    limits,
};
use crate::host::door::Event;

/// What this fleet is called in `CDN-Loop`.
const LOOP_TOKEN: &str = "skerry";

/// RFC 8586.
static CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What an execution may still fetch: one per exchange.
#[derive(Debug)]
pub struct Fetches {
    sent: u32,
    open: Arc<AtomicU32>,
    /// The request's own `CDN-Loop`.
    loops: Vec<HeaderValue>,
    depth: usize,
    deadline: Instant,
}

impl Fetches {
    /// For an exchange that must end by `deadline`.
    pub fn new(deadline: Instant) -> Fetches {
        Fetches { sent: 0, open: Arc::default(), loops: Vec::new(), depth: 0, deadline }
    }

    /// Takes over what the head of a request for `host` says of the chain it belongs to. A deadline can only become
    /// shorter by it; did it? Its fields are taken out of the head.
    pub(super) fn inherit(&mut self, headers: &mut HeaderMap, host: &HostName, seals: &Seals) -> bool {
        self.loops = headers.get_all(&CDN_LOOP).iter().cloned().collect();
        self.depth = self.loops.iter().map(own_tokens).sum();
        let ms = seals.take(headers, host);
        let told = ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let shorter = told.filter(|told| *told < self.deadline);
        self.deadline = shorter.unwrap_or(self.deadline);
        shorter.is_some()
    }

    /// When the whole exchange is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Numbers one more request, from 1.
    pub(super) fn count(&mut self) -> u32 {
        self.sent = self.sent.saturating_add(1);
        self.sent
    }

    /// May the last counted request be sent?
    pub(super) fn admit(&self) -> Result<OpenSlot, FetchError> {
        if self.sent > limits::SUBREQUESTS_MAX {
            return Err(FetchError::TooMany);
        }
        if self.depth >= limits::LOOP_DEPTH_MAX {
            return Err(FetchError::Loop);
        }
        if Instant::now() >= self.deadline {
            return Err(FetchError::Deadline);
        }
        OpenSlot::take(&self.open, limits::SUBREQUESTS_OPEN_MAX).ok_or(FetchError::TooManyOpen)
    }

    /// Requests under way now.
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }
}

/// How often this fleet stands in a `CDN-Loop` value: `cdn-info *("," cdn-info)`, each with parameters.
fn own_tokens(value: &HeaderValue) -> usize {
    let entries = value.as_bytes().split(|c| *c == b',');
    let names = entries.map(|entry| entry.split(|c| *c == b';').next().unwrap_or_default().trim_ascii());
    names.filter(|name| name.eq_ignore_ascii_case(LOOP_TOKEN.as_bytes())).count()
}

/// A checked head, for as many attempts as it takes.
pub struct Outgoing {
    method: Method,
    path: PathAndQuery,
    authority: Authority,
    /// Begins with `Host`.
    headers: HeaderMap,
    /// Says HTTP/1.1 `Content-Length: 0` where there is no body?
    says_empty: bool,
}

impl Outgoing {
    /// Checks what a guest wants to send. `authority` is what the backend gets as `Host`; `sealed_for`, if it is that
    /// host's own server, the name its deadline is sealed for.
    pub fn new(
        head: request::Parts,
        authority: Authority,
        sealed_for: Option<&HostName>,
        fetches: &Fetches,
        seals: &Seals,
    ) -> Result<Outgoing, FetchError> {
        let method = head.method;
        if method == Method::CONNECT || method.as_str().len() > limits::METHOD_BYTES_MAX {
            return Err(FetchError::MethodInvalid);
        }
        let path = match head.uri.path_and_query() {
            Some(path) if path.as_str().starts_with('/') || path.as_str() == "*" => path.clone(),
            // `https://host?query`
            Some(path) => format!("/{}", path.as_str()).parse().map_err(|_| FetchError::UriInvalid)?,
            None => PathAndQuery::from_static("/"),
        };
        if path.as_str().len() > limits::URL_BYTES_MAX {
            return Err(FetchError::UriInvalid);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| FetchError::UriInvalid)?;
        // RFC 9110 §8.6: these anticipate content, and many servers answer 411 without a length.
        let says_empty = [Method::POST, Method::PUT, Method::PATCH].contains(&method)
            || announced_length(&head.headers)? == Some(0);
        let mut headers = outgoing_headers(head.headers, host, fetches)?;
        let left = fetches.deadline.saturating_duration_since(Instant::now());
        seals.write(&mut headers, left.as_millis() as u64, sealed_for);
        Ok(Outgoing { method, path, authority, headers, says_empty })
    }

    /// May it be sent again after it might have arrived (RFC 9110 §9.2.2)?
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// The message of one HTTP/1.1 attempt.
    pub fn h1(&self, body: Sending) -> Request<Sending> {
        let mut message = self.message(body);
        // hyper writes the length of every other body, and none for a body that is over before it begins.
        if self.says_empty && message.body().size_hint().exact() == Some(0) {
            message.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        message
    }

    fn message(&self, body: Sending) -> Request<Sending> {
        let mut message = Request::new(body);
        *message.method_mut() = self.method.clone();
        *message.uri_mut() = Uri::from(self.path.clone());
        *message.headers_mut() = self.headers.clone();
        message
    }

    /// The message of one HTTP/2 attempt. HTTP/2 is spoken only where TLS chose it.
    pub fn h2(&self, body: Sending) -> Result<Request<Sending>, FetchError> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(UriScheme::HTTPS);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.path.clone());
        let mut message = self.message(body);
        *message.uri_mut() = Uri::from_parts(parts).map_err(|_| FetchError::UriInvalid)?;
        *message.version_mut() = Version::HTTP_2;
        message.headers_mut().remove(header::HOST);
        Ok(message)
    }
}

/// The length a guest announced, if it announced one.
pub fn announced_length(headers: &HeaderMap) -> Result<Option<u64>, FetchError> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(only) = values.next() else { return Ok(None) };
    let length = only.to_str().ok().filter(|text| text.bytes().all(|c| c.is_ascii_digit()));
    match (length.and_then(|text| text.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(FetchError::RequestBody),
    }
}

fn outgoing_headers(given: HeaderMap, host: HeaderValue, fetches: &Fetches) -> Result<HeaderMap, FetchError> {
    check_size(&given).map_err(|()| FetchError::RequestHeadersTooLarge)?;
    let mut headers = HeaderMap::with_capacity(given.len() + 5);
    headers.insert(header::HOST, host);
    let ours =
        [&header::HOST, &header::CONTENT_LENGTH, &header::EXPECT, &CDN_LOOP, &deadline::MS, &deadline::SEAL];
    copy_end_to_end(given, &mut headers, &ours);
    for passed in &fetches.loops {
        headers.append(CDN_LOOP.clone(), passed.clone());
    }
    headers.append(CDN_LOOP.clone(), HeaderValue::from_static(LOOP_TOKEN));
    Ok(headers)
}

/// Copies the fields that are not about one connection only (RFC 9110 §7.6.1), nor of `ours`, in their order.
/// `TE: trailers` stays: gRPC asks for it.
fn copy_end_to_end(from: HeaderMap, to: &mut HeaderMap, ours: &[&HeaderName]) {
    let named: Vec<HeaderName> = from
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|c| *c == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let is_of_connection = |name: &HeaderName| {
        [&header::CONNECTION, &header::TRANSFER_ENCODING, &header::UPGRADE, &KEEP_ALIVE, &PROXY_CONNECTION]
            .contains(&name)
            || named.contains(name)
    };
    let mut current = None;
    for (name, value) in from {
        // The name stands before the first of its values only.
        current = name.or(current);
        let Some(name) = &current else { continue };
        let stays = match *name == header::TE {
            true => value.as_bytes() == b"trailers",
            false => !is_of_connection(name) && !ours.contains(&name),
        };
        if stays {
            to.append(name.clone(), value);
        }
    }
}

fn check_size(headers: &HeaderMap) -> Result<(), ()> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > limits::HEADER_BYTES_MAX || headers.len() > limits::HEADER_FIELDS_MAX {
        Err(())
    } else {
        Ok(())
    }
}

/// What a guest learns of a response before its body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) peer: Option<SocketAddr>,
}

impl Head {
    /// Checks what came back.
    pub(super) fn new(head: response::Parts, peer: SocketAddr) -> Result<Head, FetchError> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(FetchError::UpgradeFailed);
        }
        check_size(&head.headers).map_err(|()| FetchError::ResponseHeadersTooLarge)?;
        let mut headers = HeaderMap::with_capacity(head.headers.len());
        copy_end_to_end(head.headers, &mut headers, &[]);
        Ok(Head { version: head.version, status: head.status, headers, peer: Some(peer) })
    }

    pub(super) fn event(&self) -> Event {
        let peer = self.peer.map(|peer| format!(" {peer}")).unwrap_or_default();
        Event::Head(format!("{:?} {}{peer}", self.version, self.status.as_u16()), self.headers.clone())
    }

    pub(super) fn recall(line: &str, headers: HeaderMap) -> Option<Head> {
        let mut words = line.split(' ');
        let version = match words.next()? {
            "HTTP/1.0" => Version::HTTP_10,
            "HTTP/1.1" => Version::HTTP_11,
            "HTTP/2.0" => Version::HTTP_2,
            _ => return None,
        };
        let status = StatusCode::from_bytes(words.next()?.as_bytes()).ok()?;
        let peer = words.next().map(str::parse).transpose().ok()?;
        Some(Head { version, status, headers, peer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetches() -> Fetches {
        Fetches::new(Instant::now() + Duration::from_secs(60))
    }

    fn outgoing(request: Request<()>, fetches: &Fetches) -> Result<Outgoing, FetchError> {
        let authority = Authority::from_static("origin.example");
        Outgoing::new(request.into_parts().0, authority, Some(&origin()), fetches, &seals())
    }

    fn seals() -> Seals {
        Seals::of(Some(artifact::seal::SecretsKey::from_bytes([1; 32])))
    }

    fn inherit(fetches: &mut Fetches, headers: &mut HeaderMap) -> bool {
        fetches.inherit(headers, &origin(), &seals())
    }

    fn origin() -> HostName {
        "origin.example".parse().unwrap()
    }

    #[test]
    fn what_speaks_of_a_connection_or_of_framing_is_ours() {
        let request = Request::get("https://a.example/x?y")
            .header("host", "evil.example")
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "5")
            .header("proxy-connection", "close")
            .header("transfer-encoding", "chunked")
            .header("content-length", "7")
            .header("upgrade", "websocket")
            .header("te", "gzip")
            .header("expect", "100-continue")
            .header("cdn-loop", "hidden")
            .header("skerry-deadline-ms", "9999999")
            .header("skerry-deadline-seal", "forged")
            .header("trailer", "x-sum")
            .header("x-own", "kept")
            .body(())
            .unwrap();
        let message = outgoing(request, &fetches()).unwrap().h1(Sending::Empty);
        let names: Vec<&str> = message.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(
            names,
            ["host", "trailer", "x-own", "cdn-loop", "skerry-deadline-ms", "skerry-deadline-seal"]
        );
        assert_ne!(message.headers()["skerry-deadline-seal"], "forged");
        assert_eq!(message.headers()["host"], "origin.example");
        assert_eq!(message.headers()["cdn-loop"], "skerry");
        let ms: u64 = message.headers()["skerry-deadline-ms"].to_str().unwrap().parse().unwrap();
        assert!((59_000..=60_000).contains(&ms), "{ms}");
        assert_eq!(message.uri(), "/x?y");

        let request = Request::get("/").header("te", "trailers").body(()).unwrap();
        let message = outgoing(request, &fetches()).unwrap().h2(Sending::Empty).unwrap();
        assert_eq!(message.uri(), "https://origin.example/");
        assert!(!message.headers().contains_key("host") && message.headers().contains_key("te"));
    }

    #[test]
    fn bad_heads_are_refused() {
        let long = format!("/{}", "x".repeat(limits::URL_BYTES_MAX));
        let many = (0..=limits::HEADER_FIELDS_MAX).fold(Request::get("/"), |b, _| b.header("x", "y"));
        let large = Request::get("/").header("x", "y".repeat(limits::HEADER_BYTES_MAX));
        for (request, error) in [
            (Request::connect("a.example:443"), FetchError::MethodInvalid),
            (Request::builder().method("X".repeat(33).as_str()), FetchError::MethodInvalid),
            (Request::get(long), FetchError::UriInvalid),
            (many, FetchError::RequestHeadersTooLarge),
            (large, FetchError::RequestHeadersTooLarge),
        ] {
            assert_eq!(outgoing(request.body(()).unwrap(), &fetches()).err(), Some(error));
        }
    }

    #[test]
    fn lengths_are_read_strictly() {
        let length = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_LENGTH, value.parse().unwrap());
            }
            announced_length(&headers)
        };
        assert_eq!((length(&[]), length(&["12"])), (Ok(None), Ok(Some(12))));
        for bad in [&["+1"][..], &["1", "1"], &["a"], &[""], &["99999999999999999999"]] {
            assert_eq!(length(bad), Err(FetchError::RequestBody), "{bad:?}");
        }
    }

    #[test]
    fn a_chain_through_this_fleet_ends_at_its_depth() {
        for (values, depth) in [
            (&[][..], 0),
            (&["other; v=1"][..], 0),
            (&["skerry"][..], 1),
            (&["other, Skerry;v=2 ,skerryx"][..], 1),
            (&["skerry,skerry", "SKERRY"][..], 3),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&CDN_LOOP, value.parse().unwrap());
            }
            let mut fetches = fetches();
            inherit(&mut fetches, &mut headers);
            fetches.count();
            assert_eq!(fetches.depth, depth, "{values:?}");
            let refused = (depth >= limits::LOOP_DEPTH_MAX).then_some(FetchError::Loop);
            assert_eq!(fetches.admit().err(), refused);
            let message = outgoing(Request::get("/").body(()).unwrap(), &fetches).unwrap().h1(Sending::Empty);
            let sent: usize = message.headers().get_all(&CDN_LOOP).iter().map(own_tokens).sum();
            assert_eq!(sent, depth + 1, "one more for whoever comes next");
        }
    }

    #[test]
    fn a_deadline_is_inherited_when_it_is_shorter() {
        for (told, ms) in [(500, 500), (90_000, 60_000)] {
            let (mut fetches, mut headers) = (fetches(), HeaderMap::new());
            seals().write(&mut headers, told, Some(&origin()));
            assert_eq!(inherit(&mut fetches, &mut headers), told == ms);
            let left = fetches.deadline().saturating_duration_since(Instant::now());
            assert!(left <= Duration::from_millis(ms), "{told}");
            assert!(left + Duration::from_millis(400) > Duration::from_millis(ms), "{told}");
        }
        let (mut over, mut headers) = (fetches(), HeaderMap::new());
        seals().write(&mut headers, 0, Some(&origin()));
        inherit(&mut over, &mut headers);
        assert_eq!(over.admit().err(), Some(FetchError::Deadline));
    }

    #[test]
    fn a_deadline_that_the_fleet_did_not_set_is_not_inherited() {
        let mut headers: HeaderMap = [(deadline::MS.clone(), "0".parse().unwrap())].into_iter().collect();
        let mut fetches = fetches();
        assert!(!inherit(&mut fetches, &mut headers));
        assert!(fetches.admit().is_ok() && headers.is_empty());
    }

    #[test]
    fn thirty_two_in_all_and_six_at_once() {
        let mut fetches = fetches();
        let mut open = Vec::new();
        for number in 1..=limits::SUBREQUESTS_OPEN_MAX {
            assert_eq!(fetches.count(), number);
            open.push(fetches.admit().unwrap());
        }
        fetches.count();
        assert_eq!(fetches.admit().err(), Some(FetchError::TooManyOpen));
        assert_eq!(fetches.open(), limits::SUBREQUESTS_OPEN_MAX, "a refused one takes no slot");
        open.clear();
        while fetches.count() < limits::SUBREQUESTS_MAX {
            fetches.admit().unwrap();
        }
        assert!(fetches.admit().is_ok());
        fetches.count();
        assert_eq!(fetches.admit().err(), Some(FetchError::TooMany));
    }

    #[test]
    fn a_response_keeps_its_fields_but_those_of_the_connection() {
        let peer: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let response = |builder: response::Builder| Head::new(builder.body(()).unwrap().into_parts().0, peer);
        let good =
            http::Response::builder().header("connection", "x-hop").header("x-hop", "1").header("x-own", "1");
        let head =
            response(good.header("transfer-encoding", "chunked").header("content-length", "3")).unwrap();
        let names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-own", "content-length"]);
        let Event::Head(line, headers) = head.event() else { panic!("a head") };
        assert_eq!(line, "HTTP/1.1 200 192.0.2.1:80");
        assert_eq!(Head::recall(&line, headers), Some(head));

        assert_eq!(response(http::Response::builder().status(101)), Err(FetchError::UpgradeFailed));
        let large = http::Response::builder().header("x", "y".repeat(limits::HEADER_BYTES_MAX));
        assert_eq!(response(large), Err(FetchError::ResponseHeadersTooLarge));
    }
}
