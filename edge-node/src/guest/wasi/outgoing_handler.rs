//! Sending a guest's request, and what comes back: `outgoing-handler`, `future-incoming-response`,
//! `incoming-response`.

use std::{
    mem,
    task::{Context, Poll, Waker, ready},
};

use http::{Request, Uri, uri};
use wasmtime::{Result, component::Resource};

use super::{
    At, Cx, State,
    fields::{Fields, announced_length},
    handles::Holds,
    http_types::{DnsError, ErrorCode, Scheme, TlsAlert},
    incoming::IncomingBody,
    outgoing_request::{Draft, OutgoingRequest, RequestOptions, parse_path},
    poll::Pollable,
};
use crate::{
    front::limits::HEADER_BYTES_MAX,
    host::{
        body::Incoming,
        outbound::{self, Fetch, FetchError, RequestBody, Target},
        pipe::HELD_BYTES_MAX,
        wait,
    },
};

/// Bytes of a request that is under way: what its body is ahead of its backend, and a head.
const UNDER_WAY_BYTES: usize = HELD_BYTES_MAX + HEADER_BYTES_MAX;

/// A response on its way.
pub enum FutureIncomingResponse {
    /// It may still come.
    Waiting(Box<Fetch>),
    /// It is there.
    Here(Box<Result<IncomingResponse, ErrorCode>>),
    /// The guest has it.
    Taken,
}

/// A response from outside.
pub struct IncomingResponse {
    status: u16,
    fields: Fields,
    body: Option<Box<Incoming>>,
}

/// The same until the guest has it: when a head came is not the guest's to know.
impl Holds for FutureIncomingResponse {
    fn held_bytes(&self) -> usize {
        match self {
            FutureIncomingResponse::Waiting(_) | FutureIncomingResponse::Here(_) => UNDER_WAY_BYTES,
            FutureIncomingResponse::Taken => 0,
        }
    }
}

impl Holds for IncomingResponse {
    fn held_bytes(&self) -> usize {
        self.fields.held_bytes() + self.body.as_ref().map_or(0, |body| body.held_bytes())
    }
}

impl FutureIncomingResponse {
    /// Waits for the head.
    pub fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        if let FutureIncomingResponse::Waiting(fetch) = self {
            let head = ready!(fetch.poll_head(task));
            let response = head.map(|response| {
                let (head, body) = response.into_parts();
                let fields = Fields::received(head.headers);
                IncomingResponse { status: head.status.as_u16(), fields, body: Some(Box::new(body)) }
            });
            *self = FutureIncomingResponse::Here(Box::new(response.map_err(ErrorCode::from)));
        }
        Poll::Ready(())
    }
}

/// Links what a guest imports of it.
pub(super) fn define(at: &mut At<'_>, name: &str) -> Result<bool> {
    match name {
        "handle" => at.func_wrap(name, handle),
        "[method]future-incoming-response.subscribe" => at.func_wrap(name, subscribe),
        "[method]future-incoming-response.get" => at.func_wrap(name, get),
        "[method]incoming-response.status" => at.func_wrap(name, status),
        "[method]incoming-response.headers" => at.func_wrap(name, headers),
        "[method]incoming-response.consume" => at.func_wrap(name, consume),
        _ => return Ok(false),
    }?;
    Ok(true)
}

fn handle(
    mut cx: Cx<'_>,
    (request, options): (Resource<OutgoingRequest>, Option<Resource<RequestOptions>>),
) -> Result<(Result<Resource<FutureIncomingResponse>, ErrorCode>,)> {
    let state = cx.data_mut();
    let State { handles, exchange, .. } = state;
    let draft = *handles.take(request)?.0;
    let options = options.map(|options| handles.take(options)).transpose()?.unwrap_or_default();
    let sent = request_of(draft).and_then(|request| {
        outbound::send(exchange, Target::Url, request, options.0).map_err(ErrorCode::from)
    });
    Ok((match sent {
        Ok(fetch) => Ok(state.push(FutureIncomingResponse::Waiting(Box::new(fetch)))?),
        Err(error) => Err(error),
    },))
}

/// The request that a guest described, if it is one.
fn request_of(draft: Draft) -> Result<Request<RequestBody>, ErrorCode> {
    // Checked here, too: a guest need neither ask for a body nor finish it.
    if draft.body.is_none() && announced_length(draft.fields.map()).is_some_and(|length| length > 0) {
        return Err(ErrorCode::HttpRequestBodySize(Some(0)));
    }
    let method = draft.method.to_http().ok_or(ErrorCode::HttpRequestMethodInvalid)?;
    let scheme = match draft.scheme {
        Some(Scheme::Https) | None => uri::Scheme::HTTPS,
        Some(Scheme::Http) => uri::Scheme::HTTP,
        Some(Scheme::Other(name)) => match name.to_ascii_lowercase().as_str() {
            "https" => uri::Scheme::HTTPS,
            "http" => uri::Scheme::HTTP,
            _ => return Err(ErrorCode::HttpProtocolError),
        },
    };
    let path = match draft.path_with_query.as_deref() {
        None | Some("") => uri::PathAndQuery::from_static("/"),
        Some(path) => parse_path(path).ok_or(ErrorCode::HttpRequestUriInvalid)?,
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(draft.authority.as_deref().unwrap_or_default())
        .path_and_query(path)
        .build()
        .map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    let body = match draft.body {
        None => RequestBody::Empty,
        Some(mut reader) => match reader.take_whole() {
            Some(whole) if whole.is_empty() => RequestBody::Empty,
            Some(whole) => RequestBody::Full(whole),
            None => RequestBody::Stream(http_body_util::BodyExt::boxed_unsync(reader)),
        },
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = draft.fields.into_map();
    Ok(request)
}

fn subscribe(
    mut cx: Cx<'_>,
    (future,): (Resource<FutureIncomingResponse>,),
) -> Result<(Resource<Pollable>,)> {
    Ok((cx.data_mut().push_child(Pollable::Parent, &future)?,))
}

type Response = Option<Result<Result<Resource<IncomingResponse>, ErrorCode>, ()>>;

fn get(mut cx: Cx<'_>, (future,): (Resource<FutureIncomingResponse>,)) -> Result<(Response,)> {
    let state = cx.data_mut();
    let State { handles, exchange, .. } = state;
    let future = handles.get_mut(&future)?;
    if let FutureIncomingResponse::Taken = future {
        return Ok((Some(Err(())),));
    }
    // That it is ready is learned; a replay then finds the head on its tape.
    let found = wait::ready_now(&exchange.door, |task| match future.poll(task) {
        Poll::Ready(()) => vec![0],
        Poll::Pending => vec![],
    });
    if found.is_empty() || future.poll(&mut Context::from_waker(Waker::noop())).is_pending() {
        return Ok((None,));
    }
    let FutureIncomingResponse::Here(response) = mem::replace(future, FutureIncomingResponse::Taken) else {
        return Ok((None,));
    };
    Ok((Some(Ok(match *response {
        Ok(response) => Ok(state.push(response)?),
        Err(error) => Err(error),
    })),))
}

fn status(cx: Cx<'_>, (response,): (Resource<IncomingResponse>,)) -> Result<(u16,)> {
    Ok((cx.data().handles.get(&response)?.status,))
}

fn headers(mut cx: Cx<'_>, (response,): (Resource<IncomingResponse>,)) -> Result<(Resource<Fields>,)> {
    let state = cx.data_mut();
    let fields = state.handles.get(&response)?.fields.share();
    Ok((state.push(fields)?,))
}

fn consume(
    mut cx: Cx<'_>,
    (response,): (Resource<IncomingResponse>,),
) -> Result<(Result<Resource<IncomingBody>, ()>,)> {
    let state = cx.data_mut();
    let Some(body) = state.handles.get_mut(&response)?.body.take() else { return Ok((Err(()),)) };
    Ok((Ok(state.push(IncomingBody::boxed(body))?),))
}

impl From<FetchError> for ErrorCode {
    fn from(error: FetchError) -> ErrorCode {
        match error {
            FetchError::TooMany | FetchError::TooManyOpen | FetchError::ConnectionLimit => {
                ErrorCode::ConnectionLimitReached
            }
            FetchError::Loop => ErrorCode::LoopDetected,
            FetchError::Deadline | FetchError::ResponseTimeout => ErrorCode::HttpResponseTimeout,
            FetchError::NoBackend => ErrorCode::DestinationNotFound,
            FetchError::NotAllowed => ErrorCode::HttpRequestDenied,
            FetchError::UriInvalid => ErrorCode::HttpRequestUriInvalid,
            FetchError::MethodInvalid => ErrorCode::HttpRequestMethodInvalid,
            FetchError::RequestHeadersTooLarge => ErrorCode::HttpRequestHeaderSectionSize(None),
            FetchError::RequestBody => ErrorCode::HttpRequestBodySize(None),
            FetchError::DnsTimeout => ErrorCode::DnsTimeout,
            FetchError::DnsError => ErrorCode::DnsError(DnsError::default()),
            FetchError::AddressRefused => ErrorCode::DestinationIpProhibited,
            FetchError::ConnectionRefused => ErrorCode::ConnectionRefused,
            FetchError::ConnectionTimeout => ErrorCode::ConnectionTimeout,
            FetchError::Unreachable => ErrorCode::DestinationIpUnroutable,
            FetchError::ConnectionTerminated => ErrorCode::ConnectionTerminated,
            FetchError::TlsProtocol => ErrorCode::TlsProtocolError,
            FetchError::TlsCertificate => ErrorCode::TlsCertificateError,
            FetchError::TlsConfiguration => ErrorCode::ConfigurationError,
            FetchError::TlsAlert(number) => {
                ErrorCode::TlsAlertReceived(TlsAlert { alert_id: Some(number), alert_message: None })
            }
            FetchError::ResponseIncomplete => ErrorCode::HttpResponseIncomplete,
            FetchError::ResponseHeadersTooLarge => ErrorCode::HttpResponseHeaderSectionSize(None),
            FetchError::StatusInvalid | FetchError::Protocol => ErrorCode::HttpProtocolError,
            FetchError::UpgradeFailed => ErrorCode::HttpUpgradeFailed,
            FetchError::Internal => ErrorCode::InternalError(None),
        }
    }
}
