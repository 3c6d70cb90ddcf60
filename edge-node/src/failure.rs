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
    /// Client: what is deployed there does not answer its method.
    MethodNotAllowed,
    /// Client: the app has static files only, and none at this path.
    NoFile,
    /// Client: the path is that of a static file, which can only be read.
    FileMethod,
    /// Client: its URL is too long.
    UrlTooLong,
    /// Client: its header fields are too many or too long.
    HeadersTooLarge,
    /// Client: its method is none that anybody has heard of.
    MethodTooLong,
    /// Client: how its body is framed cannot be trusted.
    BadFraming,
    /// Client: it went away before it had the whole answer. Never sent to anyone; the status stays what it was.
    ClientGone,
    /// Guest: it trapped, or exited with an error, before its response.
    GuestTrap,
    /// Guest: it wanted more memory than its limit and gave up.
    MemoryLimit,
    /// Guest: it overflowed its stack.
    StackLimit,
    /// Guest: it wanted a larger table than its limit and gave up.
    TableLimit,
    /// Guest: one host call was to copy too much.
    CopyLimit,
    /// Guest: it held too many things of the host.
    ResourceLimit,
    /// Guest: it made the host hold too many bytes.
    HeldLimit,
    /// Guest: it asked for too many random bytes at once.
    RandomLimit,
    /// Guest: it ended without a response.
    NoResponse,
    /// Guest: it answered with an error of its own instead of a response.
    GuestError,
    /// Backend: the guest answered with an error of what it fetched from.
    BackendError,
    /// Guest: it used up its CPU time.
    CpuLimit,
    /// Guest: it took longer than its wall time.
    WallLimit,
    /// Client: the deadline that came with its request, earlier than the app's own, has passed.
    Deadline,
    /// Node: no room for one more execution now.
    NoRoom,
    /// Node: the app has as many executions as one app may have.
    AppBusy,
    /// Node: its memory for guests is in use.
    NodeMemory,
    /// Node: its slow lane has no room for one more long execution.
    SlowLaneFull,
    /// Node: the version's code could not be fetched, verified or loaded.
    CodeUnavailable,
    /// Node: a static file is not on its disk as it should be; it is being fetched again.
    FileUnavailable,
    /// Node: our bug.
    Internal,
}

impl Failure {
    /// All of them, for metrics and tests.
    pub const ALL: [Failure; 32] = [
        Failure::BadAuthority,
        Failure::Misdirected,
        Failure::NoRoute,
        Failure::MethodNotAllowed,
        Failure::NoFile,
        Failure::FileMethod,
        Failure::UrlTooLong,
        Failure::HeadersTooLarge,
        Failure::MethodTooLong,
        Failure::BadFraming,
        Failure::ClientGone,
        Failure::GuestTrap,
        Failure::MemoryLimit,
        Failure::StackLimit,
        Failure::TableLimit,
        Failure::CopyLimit,
        Failure::ResourceLimit,
        Failure::HeldLimit,
        Failure::RandomLimit,
        Failure::NoResponse,
        Failure::GuestError,
        Failure::BackendError,
        Failure::CpuLimit,
        Failure::WallLimit,
        Failure::Deadline,
        Failure::NoRoom,
        Failure::AppBusy,
        Failure::NodeMemory,
        Failure::SlowLaneFull,
        Failure::CodeUnavailable,
        Failure::FileUnavailable,
        Failure::Internal,
    ];

    /// The stable code in bodies, logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Failure::BadAuthority => "bad_authority",
            Failure::Misdirected => "misdirected",
            Failure::NoRoute => "no_route",
            Failure::MethodNotAllowed => "method_not_allowed",
            Failure::NoFile => "no_file",
            Failure::FileMethod => "file_method",
            Failure::UrlTooLong => "url_too_long",
            Failure::HeadersTooLarge => "headers_too_large",
            Failure::MethodTooLong => "method_too_long",
            Failure::BadFraming => "bad_framing",
            Failure::ClientGone => "client_gone",
            Failure::GuestTrap => "guest_trap",
            Failure::MemoryLimit => "memory_limit",
            Failure::StackLimit => "stack_limit",
            Failure::TableLimit => "table_limit",
            Failure::CopyLimit => "copy_limit",
            Failure::ResourceLimit => "resource_limit",
            Failure::HeldLimit => "held_limit",
            Failure::RandomLimit => "random_limit",
            Failure::NoResponse => "no_response",
            Failure::GuestError => "guest_error",
            Failure::BackendError => "backend_error",
            Failure::CpuLimit => "cpu_limit",
            Failure::WallLimit => "wall_limit",
            Failure::Deadline => "deadline",
            Failure::NoRoom => "no_room",
            Failure::AppBusy => "app_busy",
            Failure::NodeMemory => "node_memory",
            Failure::SlowLaneFull => "slow_lane_full",
            Failure::CodeUnavailable => "code_unavailable",
            Failure::FileUnavailable => "file_unavailable",
            Failure::Internal => "internal",
        }
    }

    /// The status a client gets (DESIGN §4).
    pub fn status(self) -> StatusCode {
        match self {
            Failure::BadAuthority | Failure::BadFraming | Failure::ClientGone => StatusCode::BAD_REQUEST,
            Failure::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Failure::NoRoute | Failure::NoFile => StatusCode::NOT_FOUND,
            Failure::MethodNotAllowed | Failure::FileMethod => StatusCode::METHOD_NOT_ALLOWED,
            Failure::UrlTooLong => StatusCode::URI_TOO_LONG,
            Failure::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Failure::MethodTooLong => StatusCode::NOT_IMPLEMENTED,
            Failure::GuestTrap
            | Failure::MemoryLimit
            | Failure::StackLimit
            | Failure::TableLimit
            | Failure::CopyLimit
            | Failure::ResourceLimit
            | Failure::HeldLimit
            | Failure::RandomLimit
            | Failure::NoResponse
            | Failure::GuestError
            | Failure::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Failure::BackendError => StatusCode::BAD_GATEWAY,
            Failure::CpuLimit | Failure::WallLimit | Failure::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Failure::NoRoom
            | Failure::AppBusy
            | Failure::NodeMemory
            | Failure::SlowLaneFull
            | Failure::CodeUnavailable
            | Failure::FileUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Is it the program's doing? Then it speaks against the version; everything else is the client's or the node's.
    pub fn is_guests_fault(self) -> bool {
        matches!(
            self,
            Failure::GuestTrap
                | Failure::MemoryLimit
                | Failure::StackLimit
                | Failure::TableLimit
                | Failure::CopyLimit
                | Failure::ResourceLimit
                | Failure::HeldLimit
                | Failure::RandomLimit
                | Failure::NoResponse
                | Failure::GuestError
                | Failure::CpuLimit
                | Failure::WallLimit
        )
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
        if self == Failure::FileMethod {
            headers.insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
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
        assert!(
            Failure::ALL.iter().enumerate().all(|(at, failure)| *failure as usize == at),
            "metrics index by it"
        );
        let response = Failure::NoRoom.response(RequestId::new());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn twelve_failures_are_the_guests() {
        assert_eq!(Failure::ALL.iter().filter(|failure| failure.is_guests_fault()).count(), 12);
        assert!(!Failure::ClientGone.is_guests_fault() && !Failure::AppBusy.is_guests_fault());
        assert!(!Failure::BackendError.is_guests_fault() && !Failure::Deadline.is_guests_fault());
    }
}
