//! Why a request got an answer of ours instead of its guest's, and what the client sees of it: a status, a stable
//! code and the request's id, never internals.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use crate::{exchange::RequestId, front::OutboundBody};

/// Whose fault it was decides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Client: no valid authority, or a malformed target.
    BadAuthority,
    /// Client: the connection's certificate is not for this host.
    Misdirected,
    /// Client: nothing is deployed for this host and path.
    NoRoute,
    /// Guest: it trapped, or exited with an error, before its response.
    GuestTrap,
    /// Guest: it wanted more memory than its limit and gave up.
    MemoryLimit,
    /// Guest: it overflowed its stack.
    StackLimit,
    /// Guest: it ended without a response.
    NoResponse,
    /// Guest: it used up its CPU time.
    CpuLimit,
    /// Guest: it took longer than its wall time.
    WallLimit,
    /// Node: no room for one more execution now.
    NoRoom,
    /// Node: the version's code could not be fetched, verified or loaded.
    CodeUnavailable,
    /// Node: our bug.
    Internal,
}

impl Failure {
    /// All of them, for metrics and tests.
    pub const ALL: [Failure; 12] = [
        Failure::BadAuthority,
        Failure::Misdirected,
        Failure::NoRoute,
        Failure::GuestTrap,
        Failure::MemoryLimit,
        Failure::StackLimit,
        Failure::NoResponse,
        Failure::CpuLimit,
        Failure::WallLimit,
        Failure::NoRoom,
        Failure::CodeUnavailable,
        Failure::Internal,
    ];

    /// The stable code in bodies, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Failure::BadAuthority => "bad_authority",
            Failure::Misdirected => "misdirected",
            Failure::NoRoute => "no_route",
            Failure::GuestTrap => "guest_trap",
            Failure::MemoryLimit => "memory_limit",
            Failure::StackLimit => "stack_limit",
            Failure::NoResponse => "no_response",
            Failure::CpuLimit => "cpu_limit",
            Failure::WallLimit => "wall_limit",
            Failure::NoRoom => "no_room",
            Failure::CodeUnavailable => "code_unavailable",
            Failure::Internal => "internal",
        }
    }

    /// The status a client gets (DESIGN §4).
    pub fn status(self) -> StatusCode {
        match self {
            Failure::BadAuthority => StatusCode::BAD_REQUEST,
            Failure::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Failure::NoRoute => StatusCode::NOT_FOUND,
            Failure::GuestTrap
            | Failure::MemoryLimit
            | Failure::StackLimit
            | Failure::NoResponse
            | Failure::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::CpuLimit | Failure::WallLimit => StatusCode::GATEWAY_TIMEOUT,
            Failure::NoRoom | Failure::CodeUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer to the client.
    pub fn response(self, id: RequestId) -> Response<OutboundBody> {
        let body = format!("{{\"error\":{{\"code\":\"{}\",\"request_id\":\"{id}\"}}}}\n", self.code());
        let mut response = Response::new(OutboundBody::Full(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_a_full_node_asks_to_retry() {
        let codes: std::collections::HashSet<_> = Failure::ALL.map(Failure::code).into();
        assert_eq!(codes.len(), Failure::ALL.len());
        let response = Failure::NoRoom.response(RequestId::new());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
