//! The values of `wasi:http/types`: methods, schemes, errors.

use http::Method as HttpMethod;
use wasmtime::{
    Result,
    component::{ComponentType, Lift, Lower, Resource, WasmStr},
};

use super::{At, Cx, error::IoError};
use crate::front::BodyError;

/// A request's method.
#[derive(Debug, Clone, PartialEq, ComponentType, Lower)]
#[component(variant)]
pub enum Method {
    #[component(name = "get")]
    Get,
    #[component(name = "head")]
    Head,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "connect")]
    Connect,
    #[component(name = "options")]
    Options,
    #[component(name = "trace")]
    Trace,
    #[component(name = "patch")]
    Patch,
    #[component(name = "other")]
    Other(String),
}

impl From<&HttpMethod> for Method {
    fn from(method: &HttpMethod) -> Method {
        match *method {
            HttpMethod::GET => Method::Get,
            HttpMethod::HEAD => Method::Head,
            HttpMethod::POST => Method::Post,
            HttpMethod::PUT => Method::Put,
            HttpMethod::DELETE => Method::Delete,
            HttpMethod::CONNECT => Method::Connect,
            HttpMethod::OPTIONS => Method::Options,
            HttpMethod::TRACE => Method::Trace,
            HttpMethod::PATCH => Method::Patch,
            ref other => Method::Other(other.as_str().to_owned()),
        }
    }
}

impl Method {
    /// As the rest of the house knows it; `None` when it is no token.
    pub fn to_http(&self) -> Option<HttpMethod> {
        Some(match self {
            Method::Get => HttpMethod::GET,
            Method::Head => HttpMethod::HEAD,
            Method::Post => HttpMethod::POST,
            Method::Put => HttpMethod::PUT,
            Method::Delete => HttpMethod::DELETE,
            Method::Connect => HttpMethod::CONNECT,
            Method::Options => HttpMethod::OPTIONS,
            Method::Trace => HttpMethod::TRACE,
            Method::Patch => HttpMethod::PATCH,
            Method::Other(name) => HttpMethod::from_bytes(name.as_bytes()).ok()?,
        })
    }
}

/// A method as a guest says it: a name of its own stays where it is until it was looked at.
#[derive(ComponentType, Lift)]
#[component(variant)]
pub enum SaidMethod {
    #[component(name = "get")]
    Get,
    #[component(name = "head")]
    Head,
    #[component(name = "post")]
    Post,
    #[component(name = "put")]
    Put,
    #[component(name = "delete")]
    Delete,
    #[component(name = "connect")]
    Connect,
    #[component(name = "options")]
    Options,
    #[component(name = "trace")]
    Trace,
    #[component(name = "patch")]
    Patch,
    #[component(name = "other")]
    Other(WasmStr),
}

impl SaidMethod {
    /// One of the interface, or the name of another.
    pub fn known(self) -> Result<Method, WasmStr> {
        Ok(match self {
            SaidMethod::Get => Method::Get,
            SaidMethod::Head => Method::Head,
            SaidMethod::Post => Method::Post,
            SaidMethod::Put => Method::Put,
            SaidMethod::Delete => Method::Delete,
            SaidMethod::Connect => Method::Connect,
            SaidMethod::Options => Method::Options,
            SaidMethod::Trace => Method::Trace,
            SaidMethod::Patch => Method::Patch,
            SaidMethod::Other(name) => return Err(name),
        })
    }
}

/// The same of a scheme.
#[derive(ComponentType, Lift)]
#[component(variant)]
pub enum SaidScheme {
    #[component(name = "HTTP")]
    Http,
    #[component(name = "HTTPS")]
    Https,
    #[component(name = "other")]
    Other(WasmStr),
}

/// A URL's scheme.
#[derive(Debug, Clone, PartialEq, ComponentType, Lower)]
#[component(variant)]
pub enum Scheme {
    #[component(name = "HTTP")]
    Http,
    #[component(name = "HTTPS")]
    Https,
    #[component(name = "other")]
    Other(String),
}

/// Why fields were not changed.
#[derive(Debug, Clone, Copy, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum HeaderError {
    #[component(name = "invalid-syntax")]
    InvalidSyntax,
    #[component(name = "forbidden")]
    Forbidden,
    #[component(name = "immutable")]
    Immutable,
}

/// What a name server said.
#[derive(Debug, Clone, Default, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct DnsError {
    #[component(name = "rcode")]
    pub rcode: Option<String>,
    #[component(name = "info-code")]
    pub info_code: Option<u16>,
}

/// What a TLS peer said.
#[derive(Debug, Clone, Default, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct TlsAlert {
    #[component(name = "alert-id")]
    pub alert_id: Option<u8>,
    #[component(name = "alert-message")]
    pub alert_message: Option<String>,
}

/// Which field was too large.
#[derive(Debug, Clone, Default, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub struct FieldSize {
    #[component(name = "field-name")]
    pub field_name: Option<String>,
    #[component(name = "field-size")]
    pub field_size: Option<u32>,
}

/// What can go wrong with a message: names and order are the interface's.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub enum ErrorCode {
    #[component(name = "DNS-timeout")]
    DnsTimeout,
    #[component(name = "DNS-error")]
    DnsError(DnsError),
    #[component(name = "destination-not-found")]
    DestinationNotFound,
    #[component(name = "destination-unavailable")]
    DestinationUnavailable,
    #[component(name = "destination-IP-prohibited")]
    DestinationIpProhibited,
    #[component(name = "destination-IP-unroutable")]
    DestinationIpUnroutable,
    #[component(name = "connection-refused")]
    ConnectionRefused,
    #[component(name = "connection-terminated")]
    ConnectionTerminated,
    #[component(name = "connection-timeout")]
    ConnectionTimeout,
    #[component(name = "connection-read-timeout")]
    ConnectionReadTimeout,
    #[component(name = "connection-write-timeout")]
    ConnectionWriteTimeout,
    #[component(name = "connection-limit-reached")]
    ConnectionLimitReached,
    #[component(name = "TLS-protocol-error")]
    TlsProtocolError,
    #[component(name = "TLS-certificate-error")]
    TlsCertificateError,
    #[component(name = "TLS-alert-received")]
    TlsAlertReceived(TlsAlert),
    #[component(name = "HTTP-request-denied")]
    HttpRequestDenied,
    #[component(name = "HTTP-request-length-required")]
    HttpRequestLengthRequired,
    #[component(name = "HTTP-request-body-size")]
    HttpRequestBodySize(Option<u64>),
    #[component(name = "HTTP-request-method-invalid")]
    HttpRequestMethodInvalid,
    #[component(name = "HTTP-request-URI-invalid")]
    HttpRequestUriInvalid,
    #[component(name = "HTTP-request-URI-too-long")]
    HttpRequestUriTooLong,
    #[component(name = "HTTP-request-header-section-size")]
    HttpRequestHeaderSectionSize(Option<u32>),
    #[component(name = "HTTP-request-header-size")]
    HttpRequestHeaderSize(Option<FieldSize>),
    #[component(name = "HTTP-request-trailer-section-size")]
    HttpRequestTrailerSectionSize(Option<u32>),
    #[component(name = "HTTP-request-trailer-size")]
    HttpRequestTrailerSize(FieldSize),
    #[component(name = "HTTP-response-incomplete")]
    HttpResponseIncomplete,
    #[component(name = "HTTP-response-header-section-size")]
    HttpResponseHeaderSectionSize(Option<u32>),
    #[component(name = "HTTP-response-header-size")]
    HttpResponseHeaderSize(FieldSize),
    #[component(name = "HTTP-response-body-size")]
    HttpResponseBodySize(Option<u64>),
    #[component(name = "HTTP-response-trailer-section-size")]
    HttpResponseTrailerSectionSize(Option<u32>),
    #[component(name = "HTTP-response-trailer-size")]
    HttpResponseTrailerSize(FieldSize),
    #[component(name = "HTTP-response-transfer-coding")]
    HttpResponseTransferCoding(Option<String>),
    #[component(name = "HTTP-response-content-coding")]
    HttpResponseContentCoding(Option<String>),
    #[component(name = "HTTP-response-timeout")]
    HttpResponseTimeout,
    #[component(name = "HTTP-upgrade-failed")]
    HttpUpgradeFailed,
    #[component(name = "HTTP-protocol-error")]
    HttpProtocolError,
    #[component(name = "loop-detected")]
    LoopDetected,
    #[component(name = "configuration-error")]
    ConfigurationError,
    #[component(name = "internal-error")]
    InternalError(Option<String>),
}

/// Bytes of a text in an error that a guest answers with: it is kept until the guest ends, and read in a log.
const ERROR_TEXT_BYTES_MAX: usize = 1024;

impl ErrorCode {
    /// The same with its texts cut.
    pub fn cut(mut self) -> ErrorCode {
        let text = match &mut self {
            ErrorCode::DnsError(DnsError { rcode: text, .. })
            | ErrorCode::TlsAlertReceived(TlsAlert { alert_message: text, .. })
            | ErrorCode::HttpRequestHeaderSize(Some(FieldSize { field_name: text, .. }))
            | ErrorCode::HttpRequestTrailerSize(FieldSize { field_name: text, .. })
            | ErrorCode::HttpResponseHeaderSize(FieldSize { field_name: text, .. })
            | ErrorCode::HttpResponseTrailerSize(FieldSize { field_name: text, .. })
            | ErrorCode::HttpResponseTransferCoding(text)
            | ErrorCode::HttpResponseContentCoding(text)
            | ErrorCode::InternalError(text) => text,
            _ => return self,
        };
        if let Some(text) = text.as_mut().filter(|text| text.len() > ERROR_TEXT_BYTES_MAX) {
            text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
            text.shrink_to_fit();
        }
        self
    }
}

/// Who is to blame for an error that a guest answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// What it fetched from.
    Backend,
    /// Itself.
    Guest,
}

impl ErrorCode {
    /// An answer with this code is 502 for a backend's fault and 500 for the guest's (docs/design/0009-wasi-host.md).
    pub fn blame(&self) -> Blame {
        match self {
            ErrorCode::DnsTimeout
            | ErrorCode::DnsError(_)
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused
            | ErrorCode::ConnectionTerminated
            | ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::ConnectionLimitReached
            | ErrorCode::TlsProtocolError
            | ErrorCode::TlsCertificateError
            | ErrorCode::TlsAlertReceived(_)
            | ErrorCode::HttpResponseIncomplete
            | ErrorCode::HttpResponseHeaderSectionSize(_)
            | ErrorCode::HttpResponseHeaderSize(_)
            | ErrorCode::HttpResponseBodySize(_)
            | ErrorCode::HttpResponseTrailerSectionSize(_)
            | ErrorCode::HttpResponseTrailerSize(_)
            | ErrorCode::HttpResponseTransferCoding(_)
            | ErrorCode::HttpResponseContentCoding(_)
            | ErrorCode::HttpResponseTimeout
            | ErrorCode::HttpUpgradeFailed
            | ErrorCode::HttpProtocolError
            | ErrorCode::LoopDetected => Blame::Backend,
            ErrorCode::HttpRequestDenied
            | ErrorCode::HttpRequestLengthRequired
            | ErrorCode::HttpRequestBodySize(_)
            | ErrorCode::HttpRequestMethodInvalid
            | ErrorCode::HttpRequestUriInvalid
            | ErrorCode::HttpRequestUriTooLong
            | ErrorCode::HttpRequestHeaderSectionSize(_)
            | ErrorCode::HttpRequestHeaderSize(_)
            | ErrorCode::HttpRequestTrailerSectionSize(_)
            | ErrorCode::HttpRequestTrailerSize(_)
            | ErrorCode::ConfigurationError
            | ErrorCode::InternalError(_) => Blame::Guest,
        }
    }
}

impl From<BodyError> for ErrorCode {
    fn from(error: BodyError) -> ErrorCode {
        match error {
            BodyError::ClientProtocol(_) | BodyError::BackendProtocol(_) => ErrorCode::HttpProtocolError,
            BodyError::BackendTimeout => ErrorCode::ConnectionReadTimeout,
            BodyError::ClientGone
            | BodyError::BackendGone
            | BodyError::GuestAborted
            | BodyError::GuestLimit
            | BodyError::FileUnavailable
            | BodyError::Shutdown => ErrorCode::ConnectionTerminated,
        }
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "http-error-code" => at.func_wrap(name, http_error_code)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn http_error_code(cx: Cx<'_>, (error,): (Resource<IoError>,)) -> Result<(Option<ErrorCode>,)> {
    Ok((Some(cx.data().handles.get(&error)?.0.clone()),))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_an_error_is_cut() {
        let long = "é".repeat(ERROR_TEXT_BYTES_MAX);
        let ErrorCode::InternalError(Some(text)) = ErrorCode::InternalError(Some(long.clone())).cut() else {
            panic!("another error")
        };
        assert_eq!(text.len(), ERROR_TEXT_BYTES_MAX);
        let odd = TlsAlert { alert_id: Some(1), alert_message: Some(format!("x{long}")) };
        let ErrorCode::TlsAlertReceived(cut) = ErrorCode::TlsAlertReceived(odd).cut() else {
            panic!("another error")
        };
        assert_eq!((cut.alert_id, cut.alert_message.unwrap().len()), (Some(1), ERROR_TEXT_BYTES_MAX - 1));
        let short = ErrorCode::HttpResponseContentCoding(Some("gzip".into()));
        assert_eq!(short.clone().cut(), short);
    }
}
