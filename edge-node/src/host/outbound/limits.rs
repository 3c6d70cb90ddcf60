//! Every bound of outbound requests in one table.

use std::time::Duration;

/// Requests one execution may send (DESIGN §4).
pub const SUBREQUESTS_MAX: u32 = crate::limits::EXECUTION.subrequests;
/// Of them, under way at once: from the call to the end of the response's body (DESIGN §4).
pub const SUBREQUESTS_OPEN_MAX: u32 = crate::limits::EXECUTION.subrequests_open;
/// How often this fleet may stand in the `CDN-Loop` of a request that wants to fetch: self-calls end at this depth.
pub const LOOP_DEPTH_MAX: usize = 3;

/// All field names and values of a request or of a response, in bytes; as at the front.
pub const HEADER_BYTES_MAX: usize = crate::front::limits::HEADER_BYTES_MAX;
/// Field lines of a request or of a response; as at the front.
pub const HEADER_FIELDS_MAX: usize = crate::front::limits::HEADER_FIELDS_MAX;
/// What a protocol library may hold of one head before it refuses by itself; as at the front.
pub const HEAD_BYTES_HELD_MAX: usize = crate::front::limits::HEAD_BYTES_HELD_MAX;
/// Bytes of path and query; as at the front.
pub const URL_BYTES_MAX: usize = crate::front::limits::URL_BYTES_MAX;
/// Longest method, in bytes; as at the front.
pub const METHOD_BYTES_MAX: usize = crate::front::limits::METHOD_BYTES_MAX;

/// From the first lookup to the end of the TLS handshake, where neither request nor backend says otherwise: three
/// round trips around the world, and one lost packet (1 s until it is sent again, RFC 6298 §2).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// From the request's last byte to the response's head. What users of CDNs are used to.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Between two pieces of a response's body. What users of CDNs are used to.
pub const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the answer of a lookup is used. Short: the system's resolver does not tell how long it may be.
pub const LOOKUP_AGE_MAX: Duration = Duration::from_secs(5);
/// How long a lookup that failed is not tried again.
pub const LOOKUP_FAILURE_AGE_MAX: Duration = Duration::from_secs(1);
/// One lookup, the wait for its turn included. The thread it blocks may go on for longer.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups under way at once in the node: each blocks a thread. More wait for their turn. Of a tenant at most a third of
/// those that are left (`share`): whose names answer slowly waits for itself.
pub const LOOKUPS_AT_ONCE_MAX: usize = 16;
/// Lookups of one tenant that are under way or wait; more fail at once.
pub const LOOKUPS_WAITING_PER_TENANT_MAX: usize = 64;
/// Names whose answer is remembered: about 200 bytes each.
pub const LOOKUPS_KEPT_MAX: usize = 4_096;
/// Addresses of one name that are tried, both families together.
pub const ADDRESSES_MAX: usize = 6;
/// An attempt that is not through after this long gets company by the next address (RFC 8305 §5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// TLS settings kept for reuse, with their session tickets: about 10 KiB each when used. Of a tenant at most a third of the
/// places that are left (`share`); more of its own take the place of those that it did not use for longest.
pub const TLS_SETTINGS_KEPT_MAX: usize = 1_024;
/// Servers per TLS settings whose session tickets are kept.
pub const TLS_SESSIONS_MAX: usize = 64;

/// Connections to backends of one node, in use or idle: a descriptor and about 40 KiB each. Of a tenant at most a third of
/// those that are left (`share`), which is a quarter of all for one that is alone; idle ones make room for others.
pub const CONNECTIONS_MAX: usize = 8_192;
/// Idle HTTP/1.1 connections of one thread to one origin. More are closed when they become idle.
pub const IDLE_PER_ORIGIN_MAX: usize = 32;
/// How long a connection may be idle: servers commonly close theirs after 60 s or more.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// How often it is looked whether a connection is idle for too long, at most. One whose program wants less is not lent
/// again after that, and closed a little later.
pub const IDLE_LOOK_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// What may come over a connection that nobody uses, before it is closed: nobody pays for reading it. What was on its way
/// when a response was dropped, which is a stream's window at most, and 16 KiB for pings, settings and the like.
pub const UNUSED_BYTES_MAX: usize = H2_STREAM_WINDOW_BYTES as usize + 16 * 1024;
/// What one look at such a connection counts beside the bytes that it brings: TLS's own messages bring none.
pub const UNUSED_READ_BYTES: usize = 64;

/// HTTP/2: requests at once on one connection; further ones open another.
pub const H2_STREAMS_MAX: u32 = 32;
/// HTTP/2: response bytes held per stream for a guest that reads slowly (DESIGN §4).
pub const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// HTTP/2: the same over a connection: no guest can hold up another.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = H2_STREAMS_MAX * H2_STREAM_WINDOW_BYTES;
/// HTTP/2: request bytes held per stream for a backend that reads slowly (DESIGN §4).
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2: how often a silent backend is asked whether it is still there, and how long it may take to answer.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// See [`H2_PING_INTERVAL`].
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Failures in a row that make an origin be passed over.
pub const FAILURES_TO_DOWN: u32 = 3;
/// How long it is passed over when nothing probes it: then requests try it again.
pub const DOWN_FOR: Duration = Duration::from_secs(10);
/// Retries and failovers of a backend, as a part of its requests, in percent: an outage is not made worse by us.
pub const RETRY_PERCENT: u32 = 20;
/// Retries a backend always has at hand after a time without: a backend of few requests could not retry otherwise.
pub const RETRIES_SAVED_MAX: u32 = 10;
/// Attempts of one request, the first included.
pub const ATTEMPTS_MAX: usize = 3;
/// Backends whose origins' state is kept: about 500 bytes each.
pub const GROUPS_MAX: usize = 4_096;
/// Of them, of one tenant: a quarter, so that one tenant cannot take the node's.
pub const GROUPS_PER_TENANT_MAX: usize = GROUPS_MAX / 4;
/// Failed probes in a row that make an origin be passed over: one lost packet is no outage.
pub const PROBES_TO_DOWN: u32 = 2;
/// A probe's whole time: connect, head and nothing more.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// A backend that no request used for so long is not probed any more.
pub const PROBED_UNUSED_MAX: Duration = Duration::from_secs(60);
/// Backends probed at once by one node.
pub const PROBED_MAX: usize = 1_024;
/// Of them, of one tenant: a quarter, so that one tenant cannot take the node's.
pub const PROBED_PER_TENANT_MAX: usize = PROBED_MAX / 4;
