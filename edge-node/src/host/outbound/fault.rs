//! What went wrong with one attempt: the cause a guest gets, and whether the request may have arrived.

use std::{error::Error, io};

use http::Request;
use hyper::client::conn::TrySendError;

use super::{FetchError, body::Sending, connect::tls_fault};

/// Why an attempt failed.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// What the guest gets if nobody tries again.
    pub error: FetchError,
    /// The origin cannot have acted on the request: it was not sent, or it said so.
    pub is_untouched: bool,
}

impl Fault {
    /// Before anything was sent.
    pub fn untouched(error: FetchError) -> Fault {
        Fault { error, is_untouched: true }
    }

    /// After the request may have arrived.
    pub fn late(error: FetchError) -> Fault {
        Fault { error, is_untouched: false }
    }

    /// A request that got no response. `began`: some of the response had come.
    pub fn of_sending(error: TrySendError<Request<Sending>>, began: bool) -> Fault {
        let unsent = error.message().is_some();
        let (error, refused) = cause(&error.into_error(), began);
        Fault { error, is_untouched: unsent || refused }
    }

    /// Does it speak against the origin?
    pub fn is_the_origins(&self) -> bool {
        match self.error {
            FetchError::DnsTimeout
            | FetchError::DnsError
            | FetchError::ConnectionRefused
            | FetchError::ConnectionTimeout
            | FetchError::Unreachable
            | FetchError::ConnectionTerminated
            | FetchError::TlsProtocol
            | FetchError::TlsCertificate
            | FetchError::TlsAlert(_)
            | FetchError::ResponseIncomplete
            | FetchError::ResponseTimeout
            | FetchError::StatusInvalid
            | FetchError::Protocol => true,
            FetchError::TooMany
            | FetchError::TooManyOpen
            | FetchError::Loop
            | FetchError::Deadline
            | FetchError::NoBackend
            | FetchError::NotAllowed
            | FetchError::UriInvalid
            | FetchError::MethodInvalid
            | FetchError::RequestHeadersTooLarge
            | FetchError::RequestBody
            | FetchError::AddressRefused
            | FetchError::ConnectionLimit
            | FetchError::TlsConfiguration
            | FetchError::ResponseHeadersTooLarge
            | FetchError::UpgradeFailed
            | FetchError::Internal => false,
        }
    }
}

/// The cause, and whether the peer said that it did nothing.
fn cause(error: &hyper::Error, began: bool) -> (FetchError, bool) {
    let mut inner = error.source();
    while let Some(source) = inner {
        if let Some(io) = source.downcast_ref::<io::Error>()
            && let Some(fault) = tls_fault(io)
        {
            return (fault, false);
        }
        if let Some(h2) = source.downcast_ref::<h2::Error>() {
            return h2_cause(h2);
        }
        inner = source.source();
    }
    let cause = if error.is_parse_too_large() {
        FetchError::ResponseHeadersTooLarge
    } else if error.is_parse_status() {
        FetchError::StatusInvalid
    } else if error.is_parse() {
        FetchError::Protocol
    } else if began {
        FetchError::ResponseIncomplete
    } else {
        FetchError::ConnectionTerminated
    };
    (cause, false)
}

fn h2_cause(error: &h2::Error) -> (FetchError, bool) {
    match error.reason() {
        // RFC 9113 §8.7: not processed.
        Some(h2::Reason::REFUSED_STREAM) => (FetchError::ConnectionTerminated, true),
        _ if error.is_io() || error.is_go_away() => (FetchError::ConnectionTerminated, false),
        // Ours, about what the peer sent.
        _ if error.is_library() => (FetchError::Protocol, false),
        Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::HTTP_1_1_REQUIRED) => (FetchError::Protocol, false),
        _ => (FetchError::ConnectionTerminated, false),
    }
}
