//! Runs a handler for the host's one request and gives its response back.

use http::{HeaderMap, StatusCode, header};
use wasip2::http::types::{IncomingRequest, OutgoingResponse, ResponseOutparam};

use super::{
    client::ClientRequest,
    fields,
    streams::{Sink, Stopped},
};
use crate::{Body, Error, Handler, Request, Response, block_on, log};

/// The component's export.
pub fn serve<K>(handler: impl Handler<K>, request: IncomingRequest, out: ResponseOutparam) {
    let request = Request::of_client(ClientRequest::new(request));
    let response = block_on(handler.call(request)).unwrap_or_else(Error::answer);
    give(response, out);
}

/// The head first, so that the host may send it while the body is made.
fn give(response: Response, out: ResponseOutparam) {
    let (status, headers, body) = response.into_parts();
    let response = OutgoingResponse::new(fields::of(&headers, announced(status, &headers, &body)));
    if status != StatusCode::OK {
        let _ = response.set_status_code(status.as_u16()); // hosts refuse what is none, and this is one
    }
    if body.is_empty() {
        // A body that nobody asked for is an empty one.
        return ResponseOutparam::set(out, Ok(response));
    }
    let sink = Sink::of(response.body());
    ResponseOutparam::set(out, Ok(response));
    if let Some(sink) = sink {
        send(body, sink);
    }
}

/// The length to be told: where a body has one, and the handler did not tell it.
fn announced(status: StatusCode, headers: &HeaderMap, body: &Body) -> Option<usize> {
    let may = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    body.len().filter(|bytes| may && *bytes > 0 && !headers.contains_key(header::CONTENT_LENGTH))
}

fn send(body: Body, sink: Sink) {
    // What is dropped unfinished is broken off. A client that has gone is nobody's fault.
    if let Err(Stopped::Failed(error)) = body.send(sink) {
        log::error(format_args!("the body of the answer broke off: {error:#}"));
    }
}
