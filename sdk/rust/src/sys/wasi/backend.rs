//! Sends a request and takes the head of its answer.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
};

use http::{Method, StatusCode, Uri};
use wasip2::http::{
    outgoing_handler,
    types::{
        ErrorCode, FutureIncomingResponse, IncomingResponse, Method as WasiMethod, OutgoingRequest,
        RequestOptions, Scheme,
    },
};

use super::{
    fields, nanoseconds,
    streams::{IncomingBody, Sink, Stopped, Upload, pump},
};
use crate::{
    Body, Request, Response, Result,
    executor::wait,
    fetch::{Cause, FetchError, Timeouts},
};

pub(crate) async fn fetch(mut request: Request, timeouts: Timeouts) -> Result<Response> {
    let body = request.take_body();
    let length = body.len().filter(|bytes| *bytes > 0 && request.header("content-length").is_none());
    let outgoing = OutgoingRequest::new(fields::of(request.headers(), length));
    address(&outgoing, request.method(), request.uri())
        .map_err(|()| FetchError::new(Cause::BadRequest, "the host takes no such method or URI"))?;
    let sink = if body.is_empty() { None } else { Sink::of(outgoing.body()) };

    let future = outgoing_handler::handle(outgoing, options(timeouts)).map_err(failed)?;
    let mut upload: Option<Upload> = sink.map(|sink| Box::pin(pump(body, sink)) as Upload);
    answered(&future, &mut upload).await?;
    match future.get() {
        Some(Ok(Ok(response))) => Ok(received(&response, upload)),
        Some(Ok(Err(code))) => Err(failed(code).into()),
        Some(Err(())) | None => Err(FetchError::new(Cause::Protocol, "the host has no answer").into()),
    }
}

fn address(outgoing: &OutgoingRequest, method: &Method, uri: &Uri) -> Result<(), ()> {
    outgoing.set_method(&wasi_method(method))?;
    outgoing.set_scheme(Some(&if uri.scheme_str() == Some("https") {
        Scheme::Https
    } else {
        Scheme::Http
    }))?;
    outgoing.set_authority(uri.authority().map(|authority| authority.as_str()))?;
    outgoing.set_path_with_query(Some(uri.path_and_query().map_or("/", |target| target.as_str())))
}

fn wasi_method(method: &Method) -> WasiMethod {
    match *method {
        Method::GET => WasiMethod::Get,
        Method::HEAD => WasiMethod::Head,
        Method::POST => WasiMethod::Post,
        Method::PUT => WasiMethod::Put,
        Method::DELETE => WasiMethod::Delete,
        Method::CONNECT => WasiMethod::Connect,
        Method::OPTIONS => WasiMethod::Options,
        Method::TRACE => WasiMethod::Trace,
        Method::PATCH => WasiMethod::Patch,
        ref other => WasiMethod::Other(other.as_str().to_owned()),
    }
}

fn options(timeouts: Timeouts) -> Option<RequestOptions> {
    if timeouts == Timeouts::default() {
        return None;
    }
    let options = RequestOptions::new();
    // A host that does not know a timeout goes on without it, as the interface says.
    let _ = options.set_connect_timeout(timeouts.connect.map(nanoseconds));
    let _ = options.set_first_byte_timeout(timeouts.first_byte.map(nanoseconds));
    let _ = options.set_between_bytes_timeout(timeouts.between_bytes.map(nanoseconds));
    Some(options)
}

/// Waits for the head while the body is sent. A body that nobody takes is no error yet: the head says why.
async fn answered(future: &FutureIncomingResponse, upload: &mut Option<Upload>) -> Result<()> {
    let mut head = pin!(wait(future.subscribe()));
    poll_fn(|task| {
        if let Some(Poll::Ready(sent)) = upload.as_mut().map(|upload| upload.as_mut().poll(task)) {
            *upload = None;
            if let Err(Stopped::Failed(error)) = sent {
                return Poll::Ready(Err(error));
            }
        }
        head.as_mut().poll(task).map(Ok)
    })
    .await
}

fn received(response: &IncomingResponse, upload: Option<Upload>) -> Response {
    let status = StatusCode::from_u16(response.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = fields::read(&response.headers());
    let body = response.consume().ok().and_then(IncomingBody::of);
    let body = body.map_or_else(Body::empty, |body| Body::streamed(Box::new(body.with_upload(upload))));
    let mut received = Response::from(body).with_status(status);
    *received.headers_mut() = headers;
    received
}

/// What a program can tell apart; the host's own word for it stands behind.
fn failed(code: ErrorCode) -> FetchError {
    let cause = match &code {
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Cause::TimedOut,
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => Cause::NotFound,
        ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTerminated
        | ErrorCode::ConnectionLimitReached => Cause::Unreachable,
        ErrorCode::DestinationIpProhibited | ErrorCode::HttpRequestDenied | ErrorCode::LoopDetected => {
            Cause::Denied
        }
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            Cause::Tls
        }
        ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestTrailerSectionSize(_)
        | ErrorCode::HttpRequestTrailerSize(_) => Cause::BadRequest,
        ErrorCode::HttpResponseIncomplete
        | ErrorCode::HttpResponseHeaderSectionSize(_)
        | ErrorCode::HttpResponseHeaderSize(_)
        | ErrorCode::HttpResponseBodySize(_)
        | ErrorCode::HttpResponseTrailerSectionSize(_)
        | ErrorCode::HttpResponseTrailerSize(_)
        | ErrorCode::HttpResponseTransferCoding(_)
        | ErrorCode::HttpResponseContentCoding(_)
        | ErrorCode::HttpUpgradeFailed
        | ErrorCode::HttpProtocolError
        | ErrorCode::ConfigurationError
        | ErrorCode::InternalError(_) => Cause::Protocol,
    };
    FetchError::new(cause, format!("{code:?}"))
}
