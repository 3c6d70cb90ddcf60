//! Connections whose client does not read: hyper waits for it without end, and with the connection waits what the answer holds.
//!
//! A stream notes since when a write of it waits; whoever serves the connection asks, and drops it. Any byte that the
//! system takes is progress, so a slow reader is no stuck one.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::Instant,
};

/// A write that waits for this long has a client that is gone or does not mean to read: far longer than any network
/// needs to lose a packet and send it again.
pub const STALLED: Duration = Duration::from_secs(60);
/// The same once the process is to stop: others' requests have 10 s to end.
pub const STALLED_AT_STOP: Duration = Duration::from_secs(2);
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Since when a write waits.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<Option<Instant>>>);

/// A stream that notes it.
pub struct Noted<S> {
    stream: S,
    waiting: Waiting,
}

impl Waiting {
    /// Resolves when a write has waited for too long.
    pub async fn too_long(self, stopped: watch::Receiver<bool>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let most = if *stopped.borrow() { STALLED_AT_STOP } else { STALLED };
            let since = *self.0.lock();
            if since.is_some_and(|since| since.elapsed() >= most) {
                return;
            }
        }
    }

    fn note<T>(&self, outcome: Poll<T>) -> Poll<T> {
        let mut since = self.0.lock();
        match outcome {
            Poll::Pending => drop(since.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => *since = None,
        }
        outcome
    }
}

impl<S> Noted<S> {
    /// Notes on this stream.
    pub fn new(stream: S) -> (Noted<S>, Waiting) {
        let waiting = Waiting::default();
        (Noted { stream, waiting: waiting.clone() }, waiting)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.waiting.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.waiting.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// After how many seconds a client that reads a byte each `every` is given up.
    async fn given_up_after(every: Option<Duration>, stop: bool) -> Option<u64> {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let (mut noted, waiting) = Noted::new(ours);
        let (_sender, stopped) = watch::channel(stop);
        let began = Instant::now();
        tokio::select! {
            written = noted.write_all(&[0; 100]) => { written.unwrap(); None }
            () = async {
                while let Some(every) = every {
                    tokio::time::sleep(every).await;
                    theirs.read_u8().await.unwrap();
                }
                std::future::pending().await
            } => None,
            () = waiting.too_long(stopped) => Some(began.elapsed().as_secs()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_for_a_minute_is_given_up_and_who_reads_slowly_is_not() {
        assert_eq!(given_up_after(None, false).await, Some(60));
        assert_eq!(given_up_after(Some(Duration::from_secs(55)), false).await, None, "all was written");
        assert_eq!(given_up_after(Some(Duration::from_secs(90)), false).await, Some(60));
        assert_eq!(given_up_after(None, true).await, Some(2), "nobody waits for it at a stop");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_anything_to_write_is_left_alone() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let (mut noted, waiting) = Noted::new(ours);
        noted.write_all(b"answer").await.unwrap();
        let (_sender, stopped) = watch::channel(false);
        let quiet = tokio::time::timeout(Duration::from_secs(3_600), waiting.too_long(stopped)).await;
        assert!(quiet.is_err());
    }
}
