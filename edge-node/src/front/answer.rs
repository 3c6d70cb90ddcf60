//! What every request passes, whatever carried it: limits → handler → what HTTP asks of a response.
//!
//! Relies on the protocol modules for framing. Deliberately absent: authority and routing, which are the
//! handler's first steps.

use std::{mem, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{self, CONTENT_LENGTH, COOKIE},
    request,
};
use http_body::Body;
use http_body_util::BodyExt;

use super::{
    Connection, Handler, InboundBody, OutboundBody,
    limits::{self, BadHead},
};

/// Fields that speak of one connection. They are the gateway's to write (RFC 9110 §7.6.1), in h2 and h3 a
/// malformed message (RFC 9113 §8.2.2, RFC 9114 §4.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A short plain-text answer of the gateway itself.
pub fn plain(status: StatusCode, text: String) -> Response<OutboundBody> {
    let mut response = Response::new(OutboundBody::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Answers one request.
pub(super) async fn answer<H: Handler>(
    handler: &H,
    mut request: Request<InboundBody>,
    connection: &Arc<Connection>,
    alt_svc: Option<&HeaderValue>,
) -> Response<OutboundBody> {
    if request.version() >= Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    let method = request.method().clone();
    let (head, body) = request.into_parts();
    let checked = limits::check(&head).and_then(|()| check_framing(&head));
    let response = match checked {
        Err(why) => handler.refuse(&head, why, connection),
        Ok(()) => handle_unwinding(handler, Request::from_parts(head, body), connection).await,
    };
    let mut response = finish(response, &method, alt_svc);
    if checked == Err(BadHead::TransferEncoding) {
        // Where this request ends is anybody's guess: nothing after it is read as another (RFC 9112 §6.3).
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a head says about its connection and the framing of its body must be what that connection allows.
fn check_framing(head: &request::Parts) -> Result<(), BadHead> {
    if head.version < Version::HTTP_2 {
        let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
        let chunked = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        // hyper lets `gzip, chunked` pass and would hand the program compressed bytes.
        return if chunked && codings.next().is_none() { Ok(()) } else { Err(BadHead::TransferEncoding) };
    }
    // Malformed in h2 and h3 (RFC 9113 §8.2.2, RFC 9114 §4.2). hyper refuses it in h2, nobody before us in h3.
    let of_connection = CONNECTION_FIELDS.iter().any(|name| head.headers.contains_key(name));
    let other_te = head.headers.get(header::TE).is_some_and(|te| te != "trailers");
    if of_connection || other_te { Err(BadHead::ConnectionFields) } else { Ok(()) }
}

/// A panic in one request is that request's 500, not the end of its neighbours.
async fn handle_unwinding<H: Handler>(
    handler: &H,
    request: Request<InboundBody>,
    connection: &Arc<Connection>,
) -> Response<OutboundBody> {
    let handled = AssertUnwindSafe(handler.handle(request, connection)).catch_unwind();
    handled.await.unwrap_or_else(|_| handler.panicked(connection))
}

/// h2 and h3 clients may split `Cookie` for better compression; programs expect one field
/// (RFC 9113 §8.2.3, RFC 9114 §4.2.1).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Makes a guest's response one that any protocol can send.
fn finish(
    mut response: Response<OutboundBody>,
    method: &Method,
    alt_svc: Option<&HeaderValue>,
) -> Response<OutboundBody> {
    if response.status().is_informational() {
        // 1xx is never the final answer (RFC 9110 §15.2).
        let ours =
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the app answered with an interim status\n".to_owned());
        discard(mem::replace(&mut response, ours).into_body());
    }
    for name in &CONNECTION_FIELDS {
        response.headers_mut().remove(name);
    }
    frame_body(&mut response, method);
    if let Some(alt_svc) = alt_svc {
        response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
    }
    response
}

/// Settles `Content-Length` and drops a body where HTTP has none (RFC 9110 §6.4.1, §8.6).
fn frame_body(response: &mut Response<OutboundBody>, method: &Method) {
    let status = response.status();
    let exact = response.body().size_hint().exact();
    if *method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        // May say what GET would have sent.
        if let Some(length @ 1..) = exact {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        } else if !is_one_length(response.headers()) {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        discard(mem::take(response.body_mut()));
    } else if status == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH);
        discard(mem::take(response.body_mut()));
    } else if exact.is_some() || !is_one_length(response.headers()) {
        // The protocol library writes the true length when it knows it.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
}

/// How much of a body that nobody gets is read, and for how long. A guest that streams on and on must not be kept
/// running by requests that ask for no body.
const DISCARD_BYTES_MAX: usize = 256 * 1024;
const DISCARD_MAX: Duration = Duration::from_secs(2);

/// Reads a body that nobody gets, within bounds. Dropping it at once would say that the client has gone and stop the
/// guest in the middle of what it does beside the body; read, a guest with an ordinary body goes on to its end.
fn discard(mut body: OutboundBody) {
    if !matches!(body, OutboundBody::Boxed(_)) {
        return;
    }
    tokio::task::spawn_local(async move {
        let read = async {
            let mut bytes = 0;
            while bytes < DISCARD_BYTES_MAX
                && let Some(Ok(frame)) = body.frame().await
            {
                bytes += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = tokio::time::timeout(DISCARD_MAX, read).await;
    });
}

fn is_one_length(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let digits = |value: &HeaderValue| {
        value.to_str().is_ok_and(|text| text.parse::<u64>().is_ok() && !text.starts_with('+'))
    };
    values.next().is_some_and(digits) && values.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(method: Method, response: Response<OutboundBody>) -> Response<OutboundBody> {
        finish(response, &method, None)
    }

    #[test]
    fn framing_belongs_to_the_gateway() {
        let response = Response::builder()
            .header("connection", "x-secret")
            .header("transfer-encoding", "chunked")
            .header("content-length", "999")
            .header("upgrade", "h2c")
            .body(OutboundBody::from("hello"))
            .unwrap();
        let response = finished(Method::GET, response);
        assert!(response.headers().is_empty(), "{:?}", response.headers());
        assert_eq!(response.body().size_hint().exact(), Some(5));
    }

    #[test]
    fn head_204_and_304_have_no_body() {
        let hello =
            |status: u16| Response::builder().status(status).body(OutboundBody::from("hello")).unwrap();
        let head = finished(Method::HEAD, hello(200));
        assert!(head.body().is_end_stream());
        assert_eq!(head.headers()["content-length"], "5");
        assert!(finished(Method::GET, hello(304)).body().is_end_stream());
        for (method, status) in [(Method::HEAD, 200), (Method::GET, 304)] {
            let lengths = |lengths: &[&str]| {
                let mut response = Response::builder().status(status).body(OutboundBody::Empty).unwrap();
                for length in lengths {
                    response.headers_mut().append(CONTENT_LENGTH, length.parse().unwrap());
                }
                let response = finished(method.clone(), response);
                response.headers().get_all(CONTENT_LENGTH).iter().cloned().collect::<Vec<_>>()
            };
            assert_eq!(lengths(&["500"]), ["500"], "that of another body");
            for no_length in [&["5", "6"][..], &["+5"], &["x"]] {
                assert!(lengths(no_length).is_empty(), "{no_length:?}");
            }
        }
        let none = finished(Method::GET, hello(204));
        assert!(none.body().is_end_stream() && none.headers().is_empty());
        assert_eq!(finished(Method::GET, hello(103)).status(), 500);
    }

    #[test]
    fn split_cookies_become_one_field() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1".parse().unwrap());
        headers.append("x", "y".parse().unwrap());
        headers.append(COOKIE, "b=2".parse().unwrap());
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    /// Makes one frame, and notes that it was read to its end.
    struct Noting(std::sync::mpsc::Sender<()>, bool);

    impl Body for Noting {
        type Data = bytes::Bytes;
        type Error = crate::front::BodyError;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, crate::front::BodyError>>>
        {
            std::task::Poll::Ready(if mem::replace(&mut self.1, true) {
                let _ = self.0.send(());
                None
            } else {
                Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(b"x"))))
            })
        }
    }

    #[test]
    fn a_body_nobody_gets_is_read_to_its_end() {
        crate::testing::local(async {
            for (method, status) in
                [(Method::HEAD, 200), (Method::GET, 204), (Method::GET, 304), (Method::GET, 103)]
            {
                let (note, noted) = std::sync::mpsc::channel();
                let body = OutboundBody::stream(Noting(note, false));
                let answer = finished(method, Response::builder().status(status).body(body).unwrap());
                assert!(!matches!(answer.body(), OutboundBody::Boxed(_)));
                tokio::task::yield_now().await;
                assert!(noted.try_recv().is_ok(), "{status}");
            }
        });
    }
}
