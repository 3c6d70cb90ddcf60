//! Requests to backends.

use std::{error::Error as StdError, fmt, time::Duration};

use crate::{Request, Response, Result, sys};

/// Sends a request to where its URI says and waits for the head of the answer; its body is read as it comes.
///
/// Nothing is sent before the future is awaited. Several at once: [`join_all`](crate::join_all). A body is sent while the
/// answer is waited for and, if it is not at its end then, while the answer's body is read; what is not sent when the
/// answer is dropped is never sent. An answer of any status is an answer.
///
/// # Errors
///
/// [`FetchError`] if there was no answer; the error of the request's own body, if it has one.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.backend("https://api.example", |_| "3 items");
/// use skerry::{Request, Response, Result, fetch};
///
/// async fn handle(req: Request) -> Result<Response> {
///     let asked = Request::get("https://api.example/items")?.with_header("accept", "text/plain")?;
///     let answer = fetch(asked).await?;
///     Ok(Response::from(answer.into_body())) // passed on as it comes
/// }
/// # let answer = skerry::testing::answer(handle, Request::get("/")?);
/// # assert_eq!(answer.text(), "3 items");
/// # Ok::<(), skerry::Error>(())
/// ```
pub async fn fetch(request: Request) -> Result<Response> {
    with(request, Timeouts::default()).await
}

/// How long parts of an exchange may take; what is not set is the host's.
///
/// ```
/// # let world = skerry::testing::World::new();
/// # world.backend("https://api.example", |_| "3 items");
/// use skerry::{Request, fetch::{self, Timeouts}};
/// use std::time::Duration;
///
/// # skerry::block_on(async {
/// let timeouts = Timeouts { first_byte: Some(Duration::from_millis(300)), ..Timeouts::default() };
/// let answer = fetch::with(Request::get("https://api.example/items")?, timeouts).await?;
/// # assert_eq!(answer.into_text().await?, "3 items");
/// # Ok::<(), skerry::Error>(()) })?;
/// # Ok::<(), skerry::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until it is connected.
    pub connect: Option<Duration>,
    /// From then until the head is there.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the body.
    pub between_bytes: Option<Duration>,
}

/// [`fetch`](fn@fetch) with timeouts of its own.
///
/// # Errors
///
/// As [`fetch`](fn@fetch).
pub async fn with(request: Request, timeouts: Timeouts) -> Result<Response> {
    check(&request)?;
    sys::fetch(request, timeouts).await
}

/// What no host would send.
fn check(request: &Request) -> std::result::Result<(), FetchError> {
    let wrong = |detail: &str| Err(FetchError::new(Cause::BadRequest, detail));
    let uri = request.uri();
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) if !authority.as_str().contains('@') => Ok(()),
        (Some("http" | "https"), Some(_)) => {
            wrong("the URI names a user: send an authorization field instead")
        }
        (Some("http" | "https") | None, None) => wrong("the URI is not absolute"),
        _ => wrong("the URI is neither http nor https"),
    }
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchError {
    /// In one word.
    pub cause: Cause,
    detail: String,
}

/// See [`FetchError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The request is none that can be sent.
    BadRequest,
    /// The host may not send it there.
    Denied,
    /// No server has that name.
    NotFound,
    /// The server is not reached, or hung up.
    Unreachable,
    /// It took too long.
    TimedOut,
    /// TLS failed: a certificate, most often.
    Tls,
    /// What came was no answer, or broke a limit.
    Protocol,
}

impl FetchError {
    /// For a backend in tests that fails.
    pub fn new(cause: Cause, detail: impl Into<String>) -> FetchError {
        FetchError { cause, detail: detail.into() }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self.cause {
            Cause::BadRequest => "cannot be sent",
            Cause::Denied => "may not be sent there",
            Cause::NotFound => "found no server",
            Cause::Unreachable => "did not reach the server",
            Cause::TimedOut => "timed out",
            Cause::Tls => "failed in TLS",
            Cause::Protocol => "got no proper answer",
        };
        write!(f, "the request {cause} ({})", self.detail)
    }
}

impl StdError for FetchError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Url, block_on, testing::World};

    #[test]
    fn what_cannot_be_sent_is_said_to_be_without_asking_the_host() {
        for uri in ["/only/a/path", "ftp://a.example/", "http://me@a.example/"] {
            let error = block_on(fetch(Request::get(uri).unwrap())).unwrap_err();
            assert_eq!(error.cause::<FetchError>().unwrap().cause, Cause::BadRequest, "{uri}");
        }
    }

    #[test]
    fn backends_are_told_apart_and_may_fail() {
        let world = World::new();
        world.backend("http://a.example", |req: Request| format!("a {} {}", req.method(), req.path()));
        world.backend("http://b.example:81", |_| Err::<&str, _>(FetchError::new(Cause::TimedOut, "slow")));
        let url: Url = "http://a.example/x?y#z".parse().unwrap();
        let text = block_on(async { fetch(Request::post(&url)?).await?.into_text().await });
        assert_eq!(text.unwrap(), "a POST /x");
        let cause = |uri: &str| {
            let error = block_on(fetch(Request::get(uri).unwrap())).unwrap_err();
            error.cause::<FetchError>().unwrap().cause
        };
        assert_eq!(cause("http://b.example:81/"), Cause::TimedOut);
        assert_eq!(cause("http://b.example/"), Cause::NotFound);
        assert_eq!(cause("https://a.example/"), Cause::NotFound);
    }
}
