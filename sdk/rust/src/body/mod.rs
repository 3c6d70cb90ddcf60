//! Bodies: whole in memory, coming from outside, or made piece by piece. All are read the same way.

mod made;

use std::{
    error::Error as StdError,
    fmt,
    future::poll_fn,
    mem,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use self::made::Made;
pub use self::made::Writer;
use crate::Result;
#[cfg(target_os = "wasi")]
use crate::sys;

/// Bytes that [`Body::bytes`] and [`Body::text`] read at most, unless told otherwise: 32 MiB, a quarter of what an
/// execution on Skerry may use by default, since collecting may hold it twice while it grows.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// A body of a request or response: whole, or read piece by piece as it comes.
///
/// Made of bytes or text by `into`, or by a function that writes it ([`Body::stream`]). A body from outside that becomes
/// the body of an answer or of another request is passed on piece by piece and never held as a whole.
///
/// ```
/// use skerry::{Body, block_on};
///
/// let mut body = Body::stream(async |out| {
///     out.write("one\n").await;
///     out.write("two\n").await;
///     Ok(())
/// });
/// assert_eq!(body.len(), None);
/// assert_eq!(block_on(body.chunk())?.as_deref(), Some(&b"one\n"[..]));
/// assert_eq!(block_on(body.text())?, "two\n");
/// # Ok::<(), skerry::Error>(())
/// ```
#[derive(Default)]
pub struct Body(Inner);

enum Inner {
    Whole(Bytes),
    Streamed(Box<dyn Pieces>),
}

/// A body that comes or is made. Behind a trait, so that a program without such bodies has none of the code they need, nor
/// its imports.
pub(crate) trait Pieces {
    /// The next piece, of at least one byte; `None` at the end and after an error.
    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Result<Option<Bytes>>>;

    /// Sends all of it to the client: [`sys::pump_all`], and nothing else.
    #[cfg(target_os = "wasi")]
    fn send(self: Box<Self>, sink: sys::Sink) -> Result<(), sys::Stopped>;
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It broke off: whoever sent it has gone or broke the protocol. Answered with 400.
    BrokenOff,
    /// It is no UTF-8. Answered with 400.
    NotText,
    /// It has more bytes than may be read. Answered with 413.
    TooLarge {
        /// How many may be read.
        bytes_max: usize,
    },
}

impl Body {
    /// Nothing.
    pub fn empty() -> Body {
        Body::default()
    }

    /// A body that `write` makes while it is sent: what it writes goes on at once, and it goes on when that was taken.
    /// An error ends the body without its end, so that whoever reads it knows; it goes to the log.
    ///
    /// ```
    /// use skerry::{Body, Response};
    ///
    /// let response = Response::from(Body::stream(async |out| {
    ///     for n in 0..3 {
    ///         out.write(format!("{n}\n")).await;
    ///     }
    ///     Ok(())
    /// }));
    /// # assert_eq!(skerry::block_on(response.into_text())?, "0\n1\n2\n");
    /// # Ok::<(), skerry::Error>(())
    /// ```
    pub fn stream<F>(write: F) -> Body
    where
        F: AsyncFnOnce(&mut Writer) -> Result<()> + 'static,
    {
        Body::streamed(Box::new(Made::by(write)))
    }

    pub(crate) fn streamed(pieces: Box<dyn Pieces>) -> Body {
        Body(Inner::Streamed(pieces))
    }

    /// The next piece, of at least one byte; `None` at the end. How large pieces are is the sender's and the host's.
    ///
    /// # Errors
    ///
    /// [`BodyError::BrokenOff`], or what the function of [`Body::stream`] returned. After an error it is at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        match &mut self.0 {
            Inner::Whole(bytes) => Ok(Some(mem::take(bytes)).filter(|bytes| !bytes.is_empty())),
            Inner::Streamed(pieces) => poll_fn(|task| pieces.poll_chunk(task)).await,
        }
    }

    /// All that is left of it.
    ///
    /// # Errors
    ///
    /// As [`Body::chunk`]; [`BodyError::TooLarge`] beyond [`BODY_BYTES_MAX`].
    pub async fn bytes(self) -> Result<Bytes> {
        self.bytes_up_to(BODY_BYTES_MAX).await
    }

    /// The same with another bound, in bytes.
    ///
    /// ```
    /// use skerry::{Body, BodyError, block_on};
    ///
    /// let error = block_on(Body::from("four").bytes_up_to(3)).unwrap_err();
    /// assert_eq!(error.cause(), Some(&BodyError::TooLarge { bytes_max: 3 }));
    /// ```
    pub async fn bytes_up_to(mut self, bytes_max: usize) -> Result<Bytes> {
        let fits =
            |bytes: usize| if bytes > bytes_max { Err(BodyError::TooLarge { bytes_max }) } else { Ok(()) };
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        fits(first.len())?;
        let Some(second) = self.chunk().await? else { return Ok(first) };
        fits(first.len() + second.len())?;
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while let Some(piece) = self.chunk().await? {
            fits(all.len() + piece.len())?;
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// All that is left of it, as text.
    ///
    /// # Errors
    ///
    /// As [`Body::bytes`]; [`BodyError::NotText`] if it is no UTF-8.
    pub async fn text(self) -> Result<String> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8(bytes.into()).map_err(|_| BodyError::NotText)?)
    }

    /// Its length in bytes, if that is known before it is read.
    pub fn len(&self) -> Option<usize> {
        match &self.0 {
            Inner::Whole(bytes) => Some(bytes.len()),
            Inner::Streamed(_) => None,
        }
    }

    /// Is it known to be empty?
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Sends all of it to the client.
    #[cfg(target_os = "wasi")]
    pub(crate) fn send(self, sink: sys::Sink) -> Result<(), sys::Stopped> {
        match self.0 {
            Inner::Whole(bytes) => sink.write_whole(&bytes),
            Inner::Streamed(pieces) => pieces.send(sink),
        }
    }
}

impl Default for Inner {
    fn default() -> Inner {
        Inner::Whole(Bytes::new())
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Body {
        Body(Inner::Whole(bytes.into()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len() {
            Some(bytes) => write!(f, "Body({bytes} bytes)"),
            None => f.write_str("Body(streamed)"),
        }
    }
}

impl BodyError {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            BodyError::BrokenOff | BodyError::NotText => StatusCode::BAD_REQUEST,
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::BrokenOff => f.write_str("the body broke off"),
            BodyError::NotText => f.write_str("the body is no UTF-8"),
            BodyError::TooLarge { bytes_max } => write!(f, "the body has more than {bytes_max} bytes"),
        }
    }
}

impl StdError for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, block_on};

    fn pieces(pieces: &'static [&'static str]) -> Body {
        Body::stream(async move |out| {
            for piece in pieces {
                out.write(*piece).await;
            }
            Ok(())
        })
    }

    #[test]
    fn what_is_whole_comes_in_one_piece() {
        let mut body = Body::from("text");
        assert_eq!(body.len(), Some(4));
        assert_eq!(block_on(body.chunk()).unwrap().unwrap(), "text");
        assert!(block_on(body.chunk()).unwrap().is_none() && body.is_empty());
        assert!(block_on(Body::empty().chunk()).unwrap().is_none());
    }

    #[test]
    fn pieces_are_collected_and_empty_ones_are_none() {
        for written in [&["a"][..], &["a", "b"], &["", "a", "", "b", "c", ""], &[]] {
            assert_eq!(block_on(pieces(written).text()).unwrap(), written.concat());
        }
    }

    #[test]
    fn more_than_may_be_read_is_refused_wherever_it_comes() {
        for written in [&["abcd"][..], &["ab", "cd"], &["a", "b", "c", "d"]] {
            let error = block_on(pieces(written).bytes_up_to(3)).unwrap_err();
            assert_eq!(error.cause(), Some(&BodyError::TooLarge { bytes_max: 3 }), "{written:?}");
            assert_eq!(block_on(pieces(written).bytes_up_to(4)).unwrap(), "abcd");
        }
    }

    #[test]
    fn a_body_that_fails_gives_what_it_had_and_then_its_error() {
        let mut body = Body::stream(async |out| {
            out.write("a").await;
            Err(Error::new("gone"))
        });
        assert_eq!(block_on(body.chunk()).unwrap().unwrap(), "a");
        assert_eq!(block_on(body.chunk()).unwrap_err().to_string(), "gone");
        assert!(block_on(body.chunk()).unwrap().is_none());
    }

    #[test]
    fn bytes_that_are_no_text_are_said_to_be() {
        let error = block_on(Body::from(&b"\xff"[..]).text()).unwrap_err();
        assert_eq!(error.cause(), Some(&BodyError::NotText));
    }
}
