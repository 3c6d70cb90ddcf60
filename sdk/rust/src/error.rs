//! What goes wrong in a handler: any error, and the status it is answered with.

use std::{error::Error as StdError, fmt};

use http::StatusCode;

use crate::{BodyError, Response, log};

/// Any error, for `?` in handlers.
///
/// Answered by its status with a plain text that tells nothing of the error; the error itself, with all its causes, goes
/// to the log. The status is 500, but for what the client did: 400 for a body that is not what was asked for
/// ([`BodyError::NotText`], JSON that does not fit), 413 for one that is too large.
///
/// ```
/// use skerry::{Error, StatusCode};
///
/// fn port(text: &str) -> Result<u16, Error> {
///     Ok(text.parse()?)
/// }
/// assert_eq!(port("x").unwrap_err().status(), StatusCode::INTERNAL_SERVER_ERROR);
///
/// let denied = Error::new("no such user").with_status(StatusCode::FORBIDDEN);
/// assert_eq!((denied.status().as_u16(), denied.to_string()), (403, "no such user".to_owned()));
/// ```
pub struct Error {
    status: StatusCode,
    cause: Box<dyn StdError + Send + Sync>,
}

impl Error {
    /// An error of this text, answered with 500.
    pub fn new(text: impl Into<String>) -> Error {
        Error { status: StatusCode::INTERNAL_SERVER_ERROR, cause: Box::new(Text(text.into())) }
    }

    /// The same with another status to answer.
    pub fn with_status(mut self, status: StatusCode) -> Error {
        self.status = status;
        self
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it was made of, if it is of that type.
    ///
    /// ```
    /// let error = skerry::Error::from(std::fmt::Error);
    /// assert!(error.cause::<std::fmt::Error>().is_some());
    /// ```
    pub fn cause<E: StdError + 'static>(&self) -> Option<&E> {
        self.cause.downcast_ref()
    }

    /// What a client gets for it; the log gets the rest.
    pub(crate) fn answer(self) -> Response {
        log::error(format_args!("{self:#}"));
        let text = match self.status {
            StatusCode::INTERNAL_SERVER_ERROR => "internal error\n".to_owned(),
            status => format!("{}\n", status.canonical_reason().unwrap_or("error").to_lowercase()),
        };
        Response::text(text).with_status(self.status)
    }
}

/// A text as an error. Std's own prints itself escaped, by code and tables that a small component would have for nothing else.
struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Text {}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(cause: E) -> Error {
        let status = status_of(&cause);
        Error { status, cause: Box::new(cause) }
    }
}

/// Whose fault it is.
fn status_of(cause: &(dyn StdError + 'static)) -> StatusCode {
    if let Some(body) = cause.downcast_ref::<BodyError>() {
        return body.status();
    }
    #[cfg(feature = "json")]
    if cause.is::<crate::json::NotThat>() {
        return StatusCode::BAD_REQUEST;
    }
    StatusCode::INTERNAL_SERVER_ERROR
}

/// Its text; `{:#}` with all causes.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        let mut next = self.cause.source().filter(|_| f.alternate());
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#} ({})", self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("reading the port")
        }
    }

    impl StdError for Outer {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_whole_chain_is_printed_when_asked_for() {
        let error = Error::from(Outer("x".parse::<u8>().unwrap_err()));
        assert_eq!(error.to_string(), "reading the port");
        assert_eq!(format!("{error:#}"), "reading the port: invalid digit found in string");
        assert_eq!(
            format!("{error:?}"),
            "reading the port: invalid digit found in string (500 Internal Server Error)"
        );
    }

    #[test]
    fn the_client_learns_the_status_and_nothing_else() {
        let response = Error::new("the password is 1234").answer();
        assert_eq!(response.status(), 500);
        assert_eq!(crate::block_on(response.into_text()).unwrap(), "internal error\n");
        let response = Error::new("secret").with_status(StatusCode::FORBIDDEN).answer();
        assert_eq!(crate::block_on(response.into_text()).unwrap(), "forbidden\n");
        assert_eq!(Error::from(BodyError::NotText).status(), 400);
        assert_eq!(Error::from(BodyError::TooLarge { bytes_max: 1 }).status(), 413);
    }
}
