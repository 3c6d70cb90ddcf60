//! Answers: status and body of each outcome, in one place.

use artifact::compile::{
    ADVICE_HEADER, Advice, FUNCTIONS_COMPILED_HEADER, FUNCTIONS_FOUND_HEADER, FUNCTIONS_SHARED_HEADER,
    Refusal, RefusalCode,
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;

use crate::functions::Counts;

/// When a busy compiler is worth another try, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

/// A refusal and the status it travels with.
#[derive(Debug)]
pub struct Failed {
    status: StatusCode,
    /// The body.
    pub refusal: Refusal,
}

impl Failed {
    /// The caller asked for something that cannot be.
    pub fn bad_request(refusal: Refusal) -> Failed {
        Failed { status: StatusCode::BAD_REQUEST, refusal }
    }

    /// The body is over its limit.
    pub fn too_large(refusal: Refusal) -> Failed {
        Failed { status: StatusCode::PAYLOAD_TOO_LARGE, refusal }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        let status = match refusal.code {
            RefusalCode::Empty
            | RefusalCode::NotWasm
            | RefusalCode::Invalid
            | RefusalCode::WrongWorld
            | RefusalCode::WrongModule
            | RefusalCode::UnknownImport
            | RefusalCode::Limit
            | RefusalCode::JobLimit => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalCode::Busy => StatusCode::SERVICE_UNAVAILABLE,
            RefusalCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failed { status, refusal }
    }
}

/// A signed artifact, what its uploader may like to know, how much of it was there already, and whether any could have been. The
/// advice has been bounded.
pub fn container(blob: Vec<u8>, advice: &[Advice], functions: Counts, shared: bool) -> Response {
    let header = |name, count: u64| (HeaderName::from_static(name), HeaderValue::from(count));
    let advice = (!advice.is_empty()).then(|| HeaderValue::from_bytes(&encode(&advice)).ok()).flatten();
    let advice = advice.map(|advice| (HeaderName::from_static(ADVICE_HEADER), advice));
    let shared = shared.then(|| header(FUNCTIONS_SHARED_HEADER, 1));
    let counts = [
        header(FUNCTIONS_FOUND_HEADER, functions.found),
        header(FUNCTIONS_COMPILED_HEADER, functions.compiled),
    ];
    let headers = counts.into_iter().chain(shared).chain(advice);
    with(StatusCode::OK, "application/octet-stream", blob, headers)
}

/// A prepared program.
pub fn program(wasm: Vec<u8>) -> Response {
    with(StatusCode::OK, "application/wasm", wasm, [])
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Response {
    with(StatusCode::OK, "application/json", encode(value), [])
}

/// A refusal as JSON.
pub fn refusal(failed: Failed) -> Response {
    let retry =
        (failed.status == StatusCode::SERVICE_UNAVAILABLE).then_some((header::RETRY_AFTER, RETRY_AFTER_S));
    with(failed.status, "application/json", encode(&failed.refusal), retry)
}

/// One text for a missing and a wrong token. The body is a refusal like any other, which callers can read.
pub fn unauthorized() -> Response {
    let message =
        "the compiler's bearer token is missing or wrong: give the caller the compiler's token file".into();
    let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    let refusal = Refusal { code: RefusalCode::Internal, message };
    with(StatusCode::UNAUTHORIZED, "application/json", encode(&refusal), [challenge])
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("wire types have only string keys and finite numbers")
}

fn with(
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().extend(headers);
    response
}
