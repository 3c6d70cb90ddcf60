//! A stream of bytes whose reads somebody looks at, and hears of what is written. That passes as it is.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Looks at what a stream's reads bring.
pub(crate) trait Reads: Unpin {
    /// A read was polled, with this outcome, and brought so many bytes. What the reader gets instead.
    fn polled(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
        outcome: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>>;

    /// The stream took some bytes.
    fn wrote(&mut self) {}
}

/// See the module.
pub(crate) struct Watched<S, R> {
    stream: S,
    /// Dropped after the stream: it may stand for what is free when that is closed.
    reads: R,
}

impl<S, R> Watched<S, R> {
    /// A stream, and who looks at its reads.
    pub(crate) fn new(stream: S, reads: R) -> Watched<S, R> {
        Watched { stream, reads }
    }
}

impl<S, R: Reads> Watched<S, R> {
    fn heard(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.reads.wrote();
        }
        written
    }
}

impl<S: AsyncRead + Unpin, R: Reads> AsyncRead for Watched<S, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.reads.polled(cx, buffer.filled().len() - before, outcome)
    }
}

impl<S: AsyncWrite + Unpin, R: Reads> AsyncWrite for Watched<S, R> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.heard(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.heard(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
