//! What may be a handler, and what it may return.

use std::future::Future;

use http::StatusCode;

use crate::{Error, Request, Response, Result};

/// What a handler may return.
///
/// ```
/// use skerry::{IntoResponse, StatusCode};
///
/// assert_eq!("text".into_response()?.header("content-type"), Some("text/plain; charset=utf-8"));
/// assert_eq!(StatusCode::NO_CONTENT.into_response()?.status(), 204);
/// # Ok::<(), skerry::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no response",
    note = "a handler returns a `Response`, a text, a `StatusCode`, or a `Result` of one of these"
)]
pub trait IntoResponse {
    /// The response, or the error that is answered and logged instead.
    ///
    /// # Errors
    ///
    /// The handler's own.
    fn into_response(self) -> Result<Response>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Result<Response> {
        Ok(self)
    }
}

/// 200 with a plain text.
impl IntoResponse for &'static str {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(self))
    }
}

/// 200 with a plain text.
impl IntoResponse for String {
    fn into_response(self) -> Result<Response> {
        Ok(Response::text(self))
    }
}

/// This status, no body.
impl IntoResponse for StatusCode {
    fn into_response(self) -> Result<Response> {
        Ok(Response::empty(self))
    }
}

impl<R: IntoResponse, E: Into<Error>> IntoResponse for Result<R, E> {
    fn into_response(self) -> Result<Response> {
        self.map_err(E::into)?.into_response()
    }
}

/// A function from a request to anything that is a response, `async` or not. `Kind` tells which, and is inferred.
///
/// ```
/// use skerry::{Handler, Request, Response, Result, block_on};
///
/// fn plain(_: Request) -> &'static str {
///     "plain"
/// }
/// async fn waiting(mut req: Request) -> Result<Response> {
///     Ok(Response::text(req.bytes().await?))
/// }
/// async fn text<K>(handler: impl Handler<K>) -> Result<String> {
///     handler.call(Request::post("/")?.with_body("body")).await?.into_text().await
/// }
/// assert_eq!(block_on(text(plain))?, "plain");
/// assert_eq!(block_on(text(waiting))?, "body");
/// # Ok::<(), skerry::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    note = "a handler takes a `skerry::Request` and returns a `Response`, a text, a `StatusCode`, or a `Result` of one of \
            these; it may be `async`"
)]
pub trait Handler<Kind> {
    /// Answers a request.
    fn call(&self, request: Request) -> impl Future<Output = Result<Response>>;
}

/// The kind of a function that returns a response.
pub enum Plain {}
/// The kind of a function that returns a future of one.
pub enum Waiting {}

impl<F, R> Handler<Plain> for F
where
    F: Fn(Request) -> R,
    R: IntoResponse,
{
    async fn call(&self, request: Request) -> Result<Response> {
        self(request).into_response()
    }
}

impl<F, T> Handler<Waiting> for F
where
    F: Fn(Request) -> T,
    T: Future<Output: IntoResponse>,
{
    async fn call(&self, request: Request) -> Result<Response> {
        self(request).await.into_response()
    }
}

/// Says natively what is wrong with a handler that could not be exported.
#[cfg(not(target_os = "wasi"))]
pub fn check<K>(_: impl Handler<K>) {}
