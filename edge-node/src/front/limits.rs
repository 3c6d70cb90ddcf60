//! Every bound of the front in one table, and the check of a request head that is the same on h1, h2 and h3.
//!
//! Relied on by every listener. Deliberately absent: timers for slow request bodies, limits per source
//! address, overload steps, all of which come with the front-door issue; and limits of an execution, which belong to
//! the deployment.
//!
//! Known and planned with the front-door issue: an h1 request with both `Content-Length` and `Transfer-Encoding:
//! chunked` is read as chunked and not refused. hyper takes `Content-Length` away before anybody sees the head
//! (RFC 9112 §6.1 allows that); the node forwards no h1, so that nobody behind it can disagree about the length.

use std::time::Duration;

use http::{StatusCode, header, request};

/// Longest method, in bytes; longer is 501. The longest registered one has 17.
pub const METHOD_BYTES_MAX: usize = artifact::manifest::bounds::METHOD_BYTES_MAX;
/// Longest path with query, in bytes; longer is 414. What CDNs and browsers agree on.
pub const URL_BYTES_MAX: usize = 8 * 1024;
/// All field names and values of a request together, in bytes; more is 431.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Field lines of a request, the authority counted as one; more is 431. Also what hyper's h1 parser keeps
/// without allocating.
pub const HEADER_FIELDS_MAX: usize = 100;
/// What a protocol library may hold of one head before it refuses by itself. Must admit every head that
/// [`check`] admits: 64 KiB fields + 8 KiB URL + 32 bytes per field as HPACK and QPACK count
/// (RFC 9113 §6.5.2) for 104 fields + 1 KiB for method, scheme and names of pseudo-fields = 76.3 KiB.
pub const HEAD_BYTES_HELD_MAX: usize = 80 * 1024;

/// From accepted TCP connection to finished TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a request head to its last; on a new connection from its start. In h1 a head whose beginning came
/// with the request before it has [`IDLE_TIMEOUT`] until more of it comes, and this from then on.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request in flight.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a reader may take no byte of an answer that is there (h1), or none of its pieces of 64 KiB (h2: that is 2 KiB/s;
/// h3: of 16 KiB): then the connection (h1) or the stream is dropped, with what it holds. nginx waits 60 s.
pub const STALL_MAX: Duration = Duration::from_secs(30);
/// How long a connection that was told to go may take to say goodbye.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is read, and thrown away, of a request body that was answered without being read (`unread`).
pub const UNREAD_BYTES_MAX: usize = 256 * 1024;
/// Streams of one connection whose rest is held back at once: each has a stream's window of the connection's.
pub const UNREAD_HELD_MAX: usize = 4;
/// How long that may take, and how long more than that is held back before its stream is reset or its connection closed.
pub const UNREAD_WAIT: Duration = Duration::from_secs(2);

/// Connections of one worker on one listener. More stay in the kernel's backlog until one ends.
pub const CONNECTIONS_PER_WORKER_MAX: usize = 10_000;
/// TCP: bytes of answers that the kernel takes ahead of what the client can be sent.
pub const TCP_UNSENT_BYTES: u32 = 128 * 1024;
/// Connections the kernel completes before we accept them.
pub const BACKLOG: i32 = 1024;
/// Pause after an accept that failed for want of descriptors or memory, so that the loop does not spin.
pub const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Streams, that is requests, open at once on one h2 or h3 connection (RFC 9113 §6.5.2 advises >= 100).
pub const STREAMS_PER_CONNECTION_MAX: u32 = 100;
/// h2: body bytes a client may send ahead on one stream.
pub const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// h2: the same over all streams of a connection.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// h2: response bytes held per stream for a client that reads slowly.
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// h2: largest frame we take, the protocol's own minimum.
pub const H2_FRAME_BYTES_MAX: u32 = 16 * 1024;
/// h2: streams reset by the client before we saw them (rapid reset); more ends the connection.
pub const H2_PENDING_RESETS_MAX: usize = 20;
/// h2: streams a client made us reset (MadeYouReset); more ends the connection.
pub const H2_LOCAL_RESETS_MAX: usize = 256;
/// h2: how often a silent peer is asked whether it is still there, and how long it may take to answer.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// See [`H2_PING_INTERVAL`].
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// QUIC: body bytes a client may send ahead on one stream. quinn's default is 1.25 MB.
pub const QUIC_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// QUIC: the same over a connection. quinn's default is unlimited.
pub const QUIC_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// QUIC: unacknowledged response bytes held per connection. quinn's default is 10 MB.
pub const QUIC_SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// QUIC: one-way streams: h3 uses three (control, QPACK encoder and decoder), the rest is for grease.
pub const QUIC_UNI_STREAMS_MAX: u32 = 8;
/// QUIC: handshakes not yet accepted by us. quinn's default is 65,536.
pub const QUIC_INCOMING_MAX: usize = 1024;
/// QUIC: bytes held for one such handshake. quinn's default is 10 MiB.
pub const QUIC_INCOMING_BYTES: u64 = 64 * 1024;
/// QUIC: bytes held for all of them. quinn's default is 100 MiB.
pub const QUIC_INCOMING_TOTAL_BYTES: u64 = 8 * 1024 * 1024;
/// QUIC: handshakes in progress above which a client must first prove its address by a Retry packet.
pub const QUIC_HANDSHAKES_UNPROVEN_MAX: usize = 250;
/// QUIC: kernel buffer of the socket, each direction; best effort, the kernel caps it.
pub const UDP_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// h3: what is written at once, and must be taken within [`STALL_MAX`].
pub const H3_SEND_BYTES_MAX: usize = 16 * 1024;
/// h3: longest frame other than DATA on a request stream: a head, trailers, or one of unknown type. The h3 crate
/// itself would collect any announced length. A longer head is a stream error, where h1 and h2 still say 431.
pub const H3_FRAME_BYTES_MAX: u64 = HEAD_BYTES_HELD_MAX as u64;
/// h3: the same on the control stream: SETTINGS, GOAWAY, PRIORITY_UPDATE and the like.
pub const H3_CONTROL_FRAME_BYTES_MAX: u64 = 4 * 1024;

/// How long a client may remember that we speak h3, in seconds.
pub const ALT_SVC_AGE_S: u32 = 86_400;

/// Why a request head is refused before anybody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// Over [`METHOD_BYTES_MAX`].
    #[error("the method is longer than {METHOD_BYTES_MAX} bytes")]
    Method,
    /// Over [`URL_BYTES_MAX`].
    #[error("the URL is longer than {URL_BYTES_MAX} bytes")]
    Url,
    /// Over [`HEADER_BYTES_MAX`].
    #[error("the header fields are longer than {HEADER_BYTES_MAX} bytes")]
    HeaderBytes,
    /// Over [`HEADER_FIELDS_MAX`].
    #[error("there are more than {HEADER_FIELDS_MAX} header fields")]
    HeaderFields,
    /// h1: another transfer coding than `chunked`, or more than one.
    #[error("the only transfer coding is `chunked`")]
    TransferEncoding,
    /// h2, h3: a field that speaks of an h1 connection.
    #[error("a field of this request speaks of its connection")]
    ConnectionFields,
}

impl BadHead {
    /// All of them.
    pub const ALL: [BadHead; 6] = [
        BadHead::Method,
        BadHead::Url,
        BadHead::HeaderBytes,
        BadHead::HeaderFields,
        BadHead::TransferEncoding,
        BadHead::ConnectionFields,
    ];

    /// The status it is refused with (RFC 9110 §15.5.15 and §15.6.2, RFC 6585 §5, RFC 9112 §6.1).
    pub fn status(self) -> StatusCode {
        match self {
            BadHead::Method => StatusCode::NOT_IMPLEMENTED,
            BadHead::Url => StatusCode::URI_TOO_LONG,
            BadHead::HeaderBytes | BadHead::HeaderFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            BadHead::TransferEncoding | BadHead::ConnectionFields => StatusCode::BAD_REQUEST,
        }
    }
}

/// Holds a request head to the limits. The authority counts as one field and no bytes, whether it came as
/// `Host` or as `:authority`, so that the answer does not depend on the protocol.
pub fn check(head: &request::Parts) -> Result<(), BadHead> {
    if head.method.as_str().len() > METHOD_BYTES_MAX {
        return Err(BadHead::Method);
    }
    let url_bytes = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if url_bytes > URL_BYTES_MAX {
        return Err(BadHead::Url);
    }
    let authority_only_in_uri = !head.headers.contains_key(header::HOST) && head.uri.authority().is_some();
    if head.headers.len() + usize::from(authority_only_in_uri) > HEADER_FIELDS_MAX {
        return Err(BadHead::HeaderFields);
    }
    let header_bytes: usize = head
        .headers
        .iter()
        .filter(|(name, _)| *name != header::HOST)
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if header_bytes > HEADER_BYTES_MAX {
        return Err(BadHead::HeaderBytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(build: impl FnOnce(request::Builder) -> request::Builder) -> request::Parts {
        build(Request::builder()).body(()).unwrap().into_parts().0
    }

    fn with_fields(mut head: request::Parts, count: usize, value_bytes: usize) -> request::Parts {
        for index in 0..count {
            let name = format!("x-{index:04}").parse::<http::HeaderName>().unwrap();
            head.headers.insert(name, "v".repeat(value_bytes).parse().unwrap());
        }
        head
    }

    #[test]
    fn each_limit_is_inclusive_and_refused_by_its_own_status() {
        let url = |bytes: usize| head(|b| b.uri(format!("/{}", "a".repeat(bytes - 1))).header("host", "a.b"));
        assert_eq!(check(&url(URL_BYTES_MAX)), Ok(()));
        assert_eq!(check(&url(URL_BYTES_MAX + 1)).unwrap_err().status(), 414);

        let method = |bytes: usize| head(|b| b.method("M".repeat(bytes).as_str()).header("host", "a.b"));
        assert_eq!(check(&method(METHOD_BYTES_MAX)), Ok(()));
        assert_eq!(check(&method(METHOD_BYTES_MAX + 1)).unwrap_err().status(), 501);

        let h1 = || head(|b| b.uri("/").header("host", "a.b"));
        assert_eq!(check(&with_fields(h1(), HEADER_FIELDS_MAX - 1, 1)), Ok(()));
        assert_eq!(check(&with_fields(h1(), HEADER_FIELDS_MAX, 1)), Err(BadHead::HeaderFields));
        let h2 = || head(|b| b.uri("https://a.b/"));
        assert_eq!(check(&with_fields(h2(), HEADER_FIELDS_MAX - 1, 1)), Ok(()));
        assert_eq!(check(&with_fields(h2(), HEADER_FIELDS_MAX, 1)), Err(BadHead::HeaderFields));

        // 64 fields of 6 + 1018 bytes are 64 KiB.
        assert_eq!(check(&with_fields(h1(), 64, 1018)), Ok(()));
        assert_eq!(check(&with_fields(h1(), 64, 1019)).unwrap_err().status(), 431);
    }
}
