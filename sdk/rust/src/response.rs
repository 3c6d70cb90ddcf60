//! Responses: the handler's, and those of backends.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{
    Body, Error, Result, Writer,
    headers::{self, Old},
};

/// A response: what a handler answers, or what [`fetch`](fn@crate::fetch) got.
///
/// A body whose length is known is sent with `content-length`. Fields that belong to a connection (`connection`,
/// `transfer-encoding` …) are the host's and left out.
///
/// ```
/// use skerry::{Response, StatusCode};
///
/// let response = Response::text("no such item\n").with_status(StatusCode::NOT_FOUND).with_header("x-tries", "3")?;
/// assert_eq!((response.status().as_u16(), response.header("x-tries")), (404, Some("3")));
/// # Ok::<(), skerry::Error>(())
/// ```
#[derive(Default)]
pub struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Body,
}

impl Response {
    /// 200 with this body and no field.
    pub fn new(body: impl Into<Body>) -> Response {
        Response { body: body.into(), ..Response::default() }
    }

    /// 200 with a plain text (`text/plain; charset=utf-8`).
    pub fn text(text: impl Into<Bytes>) -> Response {
        Response::of_type("text/plain; charset=utf-8", text.into())
    }

    /// 200 with a page (`text/html; charset=utf-8`).
    pub fn html(page: impl Into<Bytes>) -> Response {
        Response::of_type("text/html; charset=utf-8", page.into())
    }

    /// 200 with a value as JSON (`application/json`).
    ///
    /// # Errors
    ///
    /// If the value cannot be JSON, such as a map whose keys are no text.
    ///
    /// ```
    /// #[derive(serde::Serialize)]
    /// struct Item {
    ///     name: &'static str,
    /// }
    /// let response = skerry::Response::json(&Item { name: "tea" })?;
    /// assert_eq!(skerry::block_on(response.into_text())?, r#"{"name":"tea"}"#);
    /// # Ok::<(), skerry::Error>(())
    /// ```
    #[cfg(feature = "json")]
    pub fn json(value: &impl serde::Serialize) -> Result<Response> {
        Ok(Response::of_type(crate::json::CONTENT_TYPE, crate::json::text_of(value)?.into()))
    }

    /// 200 with a body that `write` makes while it is sent. See [`Body::stream`].
    pub fn stream<F>(write: F) -> Response
    where
        F: AsyncFnOnce(&mut Writer) -> Result<()> + 'static,
    {
        Response { body: Body::stream(write), ..Response::default() }
    }

    /// No body, this status.
    pub fn empty(status: StatusCode) -> Response {
        Response { status, ..Response::default() }
    }

    /// 302 to another place.
    ///
    /// # Errors
    ///
    /// If the place has a character that no field may have.
    pub fn redirect(location: &str) -> Result<Response> {
        Response::empty(StatusCode::FOUND).with_header(header::LOCATION, location)
    }

    fn of_type(content_type: &'static str, body: Bytes) -> Response {
        let mut response = Response::new(body);
        response.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Its fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Its fields, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The first value of a field, by its name in any case; `None` also if it is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        headers::text(&self.headers, name)
    }

    /// With another status. 1xx is no answer: the node makes 500 of it.
    pub fn with_status(mut self, status: StatusCode) -> Response {
        self.status = status;
        self
    }

    /// With this field instead of any of that name.
    ///
    /// # Errors
    ///
    /// If name or value is none (RFC 9110 §5.1, §5.5).
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Result<Response>
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
        Error: From<N::Error> + From<V::Error>,
    {
        headers::put(&mut self.headers, name, value, Old::Replaced)?;
        Ok(self)
    }

    /// With this field beside those of that name: `set-cookie`.
    ///
    /// # Errors
    ///
    /// As [`Response::with_header`].
    pub fn with_added_header<N, V>(mut self, name: N, value: V) -> Result<Response>
    where
        N: TryInto<HeaderName>,
        V: TryInto<HeaderValue>,
        Error: From<N::Error> + From<V::Error>,
    {
        headers::put(&mut self.headers, name, value, Old::Kept)?;
        Ok(self)
    }

    /// With another body. A `content-length` that was set is gone.
    pub fn with_body(mut self, body: impl Into<Body>) -> Response {
        self.headers.remove(header::CONTENT_LENGTH);
        self.body = body.into();
        self
    }

    /// Its body, to be read piece by piece.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Its body.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Reads all of its body.
    ///
    /// # Errors
    ///
    /// As [`Body::bytes`], but what a backend sent is not the client's fault: answered with 500.
    pub async fn into_bytes(self) -> Result<Bytes> {
        self.body.bytes().await.map_err(not_the_clients)
    }

    /// Reads all of its body as text.
    ///
    /// # Errors
    ///
    /// As [`Body::text`], but what a backend sent is not the client's fault: answered with 500.
    pub async fn into_text(self) -> Result<String> {
        self.body.text().await.map_err(not_the_clients)
    }

    /// Reads all of its body as JSON.
    ///
    /// # Errors
    ///
    /// As [`Body::bytes`], and if it is no JSON or not of this shape. What a backend sent is not the client's fault:
    /// answered with 500.
    #[cfg(feature = "json")]
    pub async fn into_json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        let bytes = self.into_bytes().await?;
        crate::json::value_of(&bytes).map_err(not_the_clients)
    }

    #[cfg_attr(not(target_os = "wasi"), allow(dead_code))]
    pub(crate) fn into_parts(self) -> (StatusCode, HeaderMap, Body) {
        (self.status, self.headers, self.body)
    }
}

fn not_the_clients(error: Error) -> Error {
    error.with_status(StatusCode::INTERNAL_SERVER_ERROR)
}

impl From<Body> for Response {
    fn from(body: Body) -> Response {
        Response::new(body)
    }
}

impl From<http::Response<Body>> for Response {
    fn from(response: http::Response<Body>) -> Response {
        let (head, body) = response.into_parts();
        Response { status: head.status, headers: head.headers, body }
    }
}

impl From<Response> for http::Response<Body> {
    fn from(response: Response) -> http::Response<Body> {
        let mut made = http::Response::new(response.body);
        *made.status_mut() = response.status;
        *made.headers_mut() = response.headers;
        made
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {:?})", self.status, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn a_response_becomes_one_of_http_and_comes_back() {
        let theirs = http::Response::from(Response::html("<p>").with_status(StatusCode::CREATED));
        assert_eq!(
            (theirs.status(), &theirs.headers()["content-type"]),
            (StatusCode::CREATED, &"text/html; charset=utf-8".parse().unwrap())
        );
        let ours = Response::from(theirs);
        assert_eq!(format!("{ours:?}"), "Response(201 Created, Body(3 bytes))");
        assert_eq!(block_on(ours.into_text()).unwrap(), "<p>");
    }

    #[test]
    fn another_body_has_another_length() {
        let response = Response::text("1234").with_header("content-length", "4").unwrap().with_body("12");
        assert_eq!(response.header("content-length"), None);
    }

    #[test]
    fn cookies_stand_beside_each_other() {
        let response = Response::empty(StatusCode::OK).with_added_header("set-cookie", "a=1").unwrap();
        let response = response.with_added_header("set-cookie", "b=2").unwrap();
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
        assert!(Response::redirect("/\n").is_err());
        assert_eq!(Response::redirect("/x").unwrap().header("location"), Some("/x"));
    }
}
