//! Why a request of a guest got no answer: one variant per cause that `wasi:http`'s `error-code` or Fastly's
//! `send_error_detail` tells apart, and that happens here.

use crate::host::door::{Event, Fact};

/// See the module. A guest may learn all of it: no addresses and no names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FetchError {
    /// Limit: the execution has sent all the requests it may send.
    #[error("the execution has sent all the requests it may send")]
    TooMany,
    /// Limit: as many of its requests are under way as may be at once. A body that is read to its end makes room.
    #[error("as many requests of this execution are under way as may be at once")]
    TooManyOpen,
    /// Limit: the request came from this fleet by way of too many requests of guests (`CDN-Loop`).
    #[error("the chain of requests from this fleet to itself is too long")]
    Loop,
    /// Limit: the execution's own time is over.
    #[error("the time of the whole exchange is over")]
    Deadline,
    /// Guest: no backend of that name.
    #[error("the app has no backend of that name")]
    NoBackend,
    /// Guest: the target is no backend of the app and not on its list of hosts.
    #[error("the target is neither a backend of the app nor on its `outbound` list")]
    NotAllowed,
    /// Guest: a URI, authority or `Host` that is not in its one valid form, or too long.
    #[error("the URI, authority or Host of the request is not valid")]
    UriInvalid,
    /// Guest: a method that cannot be forwarded.
    #[error("the method cannot be forwarded")]
    MethodInvalid,
    /// Guest: more header fields, or more bytes of them, than a request may have.
    #[error("the request has too many or too long header fields")]
    RequestHeadersTooLarge,
    /// Guest: its request's body broke off, or was not as long as announced.
    #[error("the body of the request broke off or was not as long as announced")]
    RequestBody,
    /// The name could not be looked up in time.
    #[error("looking up the name took too long")]
    DnsTimeout,
    /// The name could not be looked up, or has no address.
    #[error("the name could not be looked up")]
    DnsError,
    /// Every address of the target is one that guests may not reach.
    #[error("the target's addresses are not ones that may be reached")]
    AddressRefused,
    /// The target refused the connection.
    #[error("the connection was refused")]
    ConnectionRefused,
    /// Connecting, TLS included, took too long.
    #[error("connecting took too long")]
    ConnectionTimeout,
    /// No way to the target.
    #[error("the target cannot be reached")]
    Unreachable,
    /// The connection ended before there was an answer.
    #[error("the connection ended before there was an answer")]
    ConnectionTerminated,
    /// Limit: the tenant, or the node, has as many connections to backends as it may have.
    #[error("no more connections to backends can be opened now")]
    ConnectionLimit,
    /// TLS: the handshake failed.
    #[error("the TLS handshake failed")]
    TlsProtocol,
    /// TLS: the target's certificate is not valid for its name, or from nobody trusted.
    #[error("the target's certificate is not valid for it")]
    TlsCertificate,
    /// TLS: what the backend's definition says cannot be used: its authorities, client certificate or key.
    #[error("the backend's TLS settings cannot be used")]
    TlsConfiguration,
    /// TLS: the target ended the connection with this alert (RFC 8446 §6).
    #[error("the target sent TLS alert {0}")]
    TlsAlert(u8),
    /// The response broke off within its head.
    #[error("the response is incomplete")]
    ResponseIncomplete,
    /// The response has more header fields, or more bytes of them, than it may have.
    #[error("the response has too many or too long header fields")]
    ResponseHeadersTooLarge,
    /// No response within the first-byte timeout.
    #[error("the response did not begin in time")]
    ResponseTimeout,
    /// The response's status line is not one.
    #[error("the status of the response is not valid")]
    StatusInvalid,
    /// The response switched to a protocol that was not asked for.
    #[error("the response switches the protocol, which was not asked for")]
    UpgradeFailed,
    /// The response breaks the rules of its protocol.
    #[error("the response breaks the protocol")]
    Protocol,
    /// Us.
    #[error("the node could not send the request")]
    Internal,
}

/// What stands before the number in the code of [`FetchError::TlsAlert`] as an event.
const ALERT: &str = "tls_alert:";

impl FetchError {
    /// One of each, for metrics and tests. The place of each is its [`FetchError::index`].
    pub const ALL: [FetchError; 29] = [
        FetchError::TooMany,
        FetchError::TooManyOpen,
        FetchError::Loop,
        FetchError::Deadline,
        FetchError::NoBackend,
        FetchError::NotAllowed,
        FetchError::UriInvalid,
        FetchError::MethodInvalid,
        FetchError::RequestHeadersTooLarge,
        FetchError::RequestBody,
        FetchError::DnsTimeout,
        FetchError::DnsError,
        FetchError::AddressRefused,
        FetchError::ConnectionRefused,
        FetchError::ConnectionTimeout,
        FetchError::Unreachable,
        FetchError::ConnectionTerminated,
        FetchError::ConnectionLimit,
        FetchError::TlsProtocol,
        FetchError::TlsCertificate,
        FetchError::TlsConfiguration,
        FetchError::TlsAlert(0),
        FetchError::ResponseIncomplete,
        FetchError::ResponseHeadersTooLarge,
        FetchError::ResponseTimeout,
        FetchError::StatusInvalid,
        FetchError::UpgradeFailed,
        FetchError::Protocol,
        FetchError::Internal,
    ];

    /// The stable code in metrics and recordings; that of an alert without its number.
    pub fn code(self) -> &'static str {
        match self {
            FetchError::TooMany => "too_many",
            FetchError::TooManyOpen => "too_many_open",
            FetchError::Loop => "loop",
            FetchError::Deadline => "deadline",
            FetchError::NoBackend => "no_backend",
            FetchError::NotAllowed => "not_allowed",
            FetchError::UriInvalid => "uri_invalid",
            FetchError::MethodInvalid => "method_invalid",
            FetchError::RequestHeadersTooLarge => "request_headers_too_large",
            FetchError::RequestBody => "request_body",
            FetchError::DnsTimeout => "dns_timeout",
            FetchError::DnsError => "dns_error",
            FetchError::AddressRefused => "address_refused",
            FetchError::ConnectionRefused => "connection_refused",
            FetchError::ConnectionTimeout => "connection_timeout",
            FetchError::Unreachable => "unreachable",
            FetchError::ConnectionTerminated => "connection_terminated",
            FetchError::ConnectionLimit => "connection_limit",
            FetchError::TlsProtocol => "tls_protocol",
            FetchError::TlsCertificate => "tls_certificate",
            FetchError::TlsConfiguration => "tls_configuration",
            FetchError::TlsAlert(_) => "tls_alert",
            FetchError::ResponseIncomplete => "response_incomplete",
            FetchError::ResponseHeadersTooLarge => "response_headers_too_large",
            FetchError::ResponseTimeout => "response_timeout",
            FetchError::StatusInvalid => "status_invalid",
            FetchError::UpgradeFailed => "upgrade_failed",
            FetchError::Protocol => "protocol",
            FetchError::Internal => "internal",
        }
    }

    /// Its place in [`FetchError::ALL`].
    pub fn index(self) -> usize {
        let place = FetchError::ALL.iter().position(|known| known.code() == self.code());
        place.unwrap_or(FetchError::ALL.len() - 1)
    }

    /// As an event's text, the alert's number included.
    fn text(self) -> String {
        match self {
            FetchError::TlsAlert(number) => format!("{ALERT}{number}"),
            other => other.code().to_owned(),
        }
    }

    fn from_text(text: &str) -> Option<FetchError> {
        if let Some(number) = text.strip_prefix(ALERT) {
            return number.parse().ok().map(FetchError::TlsAlert);
        }
        FetchError::ALL.into_iter().find(|known| known.code() == text)
    }
}

/// A request that was started, or not.
impl Fact for Result<(), FetchError> {
    fn event(&self) -> Event {
        match self {
            Ok(()) => Event::Number(0),
            Err(error) => Event::Failed(error.text()),
        }
    }

    fn recall(event: Event) -> Option<Self> {
        match event {
            Event::Number(0) => Some(Ok(())),
            Event::Failed(text) => FetchError::from_text(&text).map(Err),
            _ => None,
        }
    }
}

/// The head that came back, with the peer's address; or why none did.
impl Fact for Result<super::Head, FetchError> {
    fn event(&self) -> Event {
        match self {
            Ok(head) => head.event(),
            Err(error) => Event::Failed(error.text()),
        }
    }

    fn recall(event: Event) -> Option<Self> {
        match event {
            Event::Head(line, headers) => super::Head::recall(&line, headers).map(Ok),
            Event::Failed(text) => FetchError::from_text(&text).map(Err),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_come_back_from_a_recording() {
        for (place, error) in FetchError::ALL.into_iter().enumerate() {
            assert_eq!(error.index(), place, "{error:?}");
            let fact: Result<(), FetchError> = Err(error);
            assert_eq!(Result::<(), FetchError>::recall(fact.event()), Some(fact));
        }
        let alert: Result<(), FetchError> = Err(FetchError::TlsAlert(116));
        assert_eq!(Result::<(), FetchError>::recall(alert.event()), Some(alert));
        assert_eq!(FetchError::TlsAlert(116).index(), FetchError::TlsAlert(0).index());
        assert_eq!(Result::<(), FetchError>::recall(Event::Failed("else".into())), None);
    }
}
