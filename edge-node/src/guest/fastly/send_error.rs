//! How a request that failed is told: a status, and for those who ask a struct with the cause.

use super::{
    abi::{Answer, Status},
    memory::{GuestMemory, field},
};
use crate::host::outbound::FetchError;

/// The struct's size: tag, mask, two numbers about DNS of 2 bytes each, a TLS alert and an h2 frame of 1 byte each,
/// padding, an h2 error.
const BYTES: u32 = 20;
const MASK_AT: u32 = 4;
const TLS_ALERT_AT: u32 = 12;
/// The bit of the mask for the TLS alert. Those for DNS and h2 numbers are never set: this host does not know them.
const TLS_ALERT: u32 = 1 << 3;

/// The causes the interface knows, as far as they happen here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Tag {
    Ok = 1,
    DnsTimeout = 2,
    DnsError = 3,
    DestinationNotFound = 4,
    DestinationUnavailable = 5,
    DestinationIpUnroutable = 6,
    ConnectionRefused = 7,
    ConnectionTerminated = 8,
    ConnectionTimeout = 9,
    ConnectionLimitReached = 10,
    TlsCertificateError = 11,
    TlsConfigurationError = 12,
    HttpIncompleteResponse = 13,
    HttpResponseHeaderSectionTooLarge = 14,
    HttpResponseTimeout = 16,
    HttpResponseStatusInvalid = 17,
    HttpUpgradeFailed = 18,
    HttpProtocolError = 19,
    HttpRequestUriInvalid = 21,
    InternalError = 22,
    TlsAlertReceived = 23,
    TlsProtocolError = 24,
}

/// What a failure is called, by tag and by status.
fn names(error: FetchError) -> (Tag, Status) {
    match error {
        FetchError::TooMany | FetchError::TooManyOpen | FetchError::ConnectionLimit => {
            (Tag::ConnectionLimitReached, Status::LimitExceeded)
        }
        FetchError::Loop => (Tag::DestinationUnavailable, Status::Error),
        FetchError::Deadline | FetchError::ResponseTimeout => (Tag::HttpResponseTimeout, Status::Error),
        FetchError::NoBackend => (Tag::DestinationNotFound, Status::Invalid),
        FetchError::NotAllowed => (Tag::DestinationNotFound, Status::HttpUser),
        FetchError::UriInvalid => (Tag::HttpRequestUriInvalid, Status::HttpUser),
        FetchError::MethodInvalid => (Tag::HttpProtocolError, Status::HttpInvalid),
        FetchError::RequestHeadersTooLarge => (Tag::HttpProtocolError, Status::HttpHeadTooLarge),
        FetchError::RequestBody => (Tag::HttpProtocolError, Status::HttpUser),
        FetchError::DnsTimeout => (Tag::DnsTimeout, Status::Error),
        FetchError::DnsError => (Tag::DnsError, Status::Error),
        FetchError::AddressRefused | FetchError::Unreachable => (Tag::DestinationIpUnroutable, Status::Error),
        FetchError::ConnectionRefused => (Tag::ConnectionRefused, Status::Error),
        FetchError::ConnectionTimeout => (Tag::ConnectionTimeout, Status::Error),
        FetchError::ConnectionTerminated => (Tag::ConnectionTerminated, Status::HttpIncomplete),
        FetchError::TlsProtocol => (Tag::TlsProtocolError, Status::Error),
        FetchError::TlsCertificate => (Tag::TlsCertificateError, Status::Error),
        FetchError::TlsConfiguration => (Tag::TlsConfigurationError, Status::Error),
        FetchError::TlsAlert(_) => (Tag::TlsAlertReceived, Status::Error),
        FetchError::ResponseIncomplete => (Tag::HttpIncompleteResponse, Status::HttpIncomplete),
        FetchError::ResponseHeadersTooLarge => {
            (Tag::HttpResponseHeaderSectionTooLarge, Status::HttpHeadTooLarge)
        }
        FetchError::StatusInvalid => (Tag::HttpResponseStatusInvalid, Status::BadStatusCode),
        FetchError::UpgradeFailed => (Tag::HttpUpgradeFailed, Status::Error),
        FetchError::Protocol => (Tag::HttpProtocolError, Status::HttpInvalid),
        FetchError::Internal => (Tag::InternalError, Status::Error),
    }
}

/// What the call that sent or waited answers.
pub(super) fn status(error: FetchError) -> Status {
    names(error).1
}

/// Is there memory for the struct?
pub(super) fn check(memory: &mut GuestMemory<'_>, detail: u32) -> Answer {
    memory.bytes(detail, BYTES)?;
    memory.read_u32_aligned(detail).map(drop)
}

/// Fills the struct: of its fields only those the guest said it knows.
pub(super) fn give(memory: &mut GuestMemory<'_>, detail: u32, error: Option<FetchError>) -> Answer {
    let understood = memory.read_u32(field(detail, MASK_AT)?)?;
    let tag = error.map_or(Tag::Ok, |error| names(error).0);
    memory.write_u32(detail, tag as u32)?;
    let mut given = 0;
    if let Some(FetchError::TlsAlert(number)) = error
        && understood & TLS_ALERT != 0
    {
        memory.bytes_mut(field(detail, TLS_ALERT_AT)?, 1)?.fill(number);
        given |= TLS_ALERT;
    }
    memory.write_u32(field(detail, MASK_AT)?, given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: Option<FetchError>, understood: u32) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[4..8].copy_from_slice(&understood.to_le_bytes());
        give(&mut GuestMemory::new(&mut bytes), 0, error).unwrap();
        bytes
    }

    #[test]
    fn a_field_is_set_only_for_those_who_know_it() {
        let knows = told(Some(FetchError::TlsAlert(48)), u32::MAX);
        assert_eq!((knows[0], knows[4], knows[12]), (23, 8, 48));
        let knows_not = told(Some(FetchError::TlsAlert(48)), 0);
        assert_eq!((knows_not[0], knows_not[4], knows_not[12]), (23, 0, 0));
        assert_eq!(told(None, u32::MAX)[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn no_failure_is_told_as_success() {
        for error in FetchError::ALL {
            assert_ne!(names(error).0, Tag::Ok, "{error}");
            assert_ne!(status(error), Status::Ok, "{error}");
        }
    }

    #[test]
    fn a_struct_outside_of_memory_is_refused() {
        let mut bytes = [0; 24];
        let mut memory = GuestMemory::new(&mut bytes);
        assert_eq!(check(&mut memory, 4), Ok(()));
        assert_eq!(check(&mut memory, 8), Err(Status::Invalid));
        assert_eq!(check(&mut memory, 2), Err(Status::Misaligned));
        assert_eq!(check(&mut memory, u32::MAX - 3), Err(Status::Invalid));
    }
}
