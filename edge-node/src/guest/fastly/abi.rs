//! The conventions of the Fastly Compute core-module interface that every function shares.

/// What a host call answers. Outputs go through pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Status {
    /// The call succeeded.
    Ok = 0,
    /// It failed for a reason without a number of its own.
    Error = 1,
    /// An argument is not what it may be: a pointer outside of memory, an absent header.
    Invalid = 2,
    /// No such handle, or a handle of another kind.
    BadHandle = 3,
    /// The output does not fit; the size it needs was written. The guest asks again.
    BufferTooShort = 4,
    /// This host has no such function or feature. Guests fall back.
    Unsupported = 5,
    /// A pointer to a number is not a multiple of its size.
    Misaligned = 6,
    /// Not valid HTTP: a header name, a method, a URI, a body's framing.
    HttpInvalid = 7,
    /// Valid HTTP that cannot be sent: a request without a host, a backend that does not exist.
    HttpUser = 8,
    /// A body ended before its end.
    HttpIncomplete = 9,
    /// An optional value is absent.
    None = 10,
    /// Header fields beyond the limits.
    HttpHeadTooLarge = 11,
    /// No valid status code.
    BadStatusCode = 12,
    /// A limit of the execution.
    LimitExceeded = 13,
    /// Not yet: trailers before the end of their body.
    Again = 14,
}

/// A host call's result before it becomes a number.
pub(super) type Answer = Result<(), Status>;

/// The number a guest gets.
pub(super) fn code(answer: Answer) -> i32 {
    match answer {
        Ok(()) => Status::Ok as i32,
        Err(status) => status as i32,
    }
}

/// No handle: what SDKs fill their variables with.
pub(super) const INVALID_HANDLE: u32 = u32::MAX - 1;

/// The version of the interface that guests announce in `fastly_abi.init`.
pub(super) const ABI_VERSION: u64 = 1;

/// How the interface numbers HTTP versions.
pub(super) fn version_number(version: http::Version) -> u32 {
    match version {
        http::Version::HTTP_09 => 0,
        http::Version::HTTP_10 => 1,
        http::Version::HTTP_2 => 3,
        http::Version::HTTP_3 => 4,
        _ => 2,
    }
}

/// The other way.
pub(super) fn version(number: u32) -> Result<http::Version, Status> {
    match number {
        0 => Ok(http::Version::HTTP_09),
        1 => Ok(http::Version::HTTP_10),
        2 => Ok(http::Version::HTTP_11),
        3 => Ok(http::Version::HTTP_2),
        4 => Ok(http::Version::HTTP_3),
        _ => Err(Status::Invalid),
    }
}
