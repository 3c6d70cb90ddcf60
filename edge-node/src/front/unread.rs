//! A request body of h1 or h2, and what becomes of the part of it that nobody reads.
//!
//! An answer may be complete before its request is: a wrong method, a file, a guest that looks at no body. Ending the
//! stream (h2) or the connection (h1) at once is allowed, and loses answers: what the client is about to send meets
//! something closed, and there are clients (curl 7.88) that report that and throw the answer away. So the rest is
//! read and thrown away for a while. h3 needs none of this: it can ask for the end of one direction
//! (RFC 9114 §4.1).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{runtime::Handle, time::Instant};

use super::{
    InboundBody,
    limits::{UNREAD_BYTES_MAX, UNREAD_HELD_MAX, UNREAD_WAIT},
};

/// A request body as it comes in from an h1 or h2 connection.
pub struct HyperBody {
    /// `None` after its end.
    incoming: Option<Incoming>,
    /// Where the rest is read if this is dropped before its end.
    runtime: Handle,
    /// May it be? Who expects a word first sends nothing without it: reading would be that word, after the answer.
    may_be_read: bool,
    discarding: Discarding,
}

/// How many bodies of one connection are read for nobody.
#[derive(Debug, Clone, Default)]
pub struct Discarding(Arc<AtomicUsize>);

impl Discarding {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    fn one_more(&self) -> One {
        self.0.fetch_add(1, Relaxed);
        One(self.clone())
    }
}

/// One of them, while it is read.
struct One(Discarding);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Takes a request with its body in ours. Called on the serving thread.
pub fn receive(request: Request<Incoming>, discarding: &Discarding) -> Request<InboundBody> {
    if request.body().is_end_stream() {
        return request.map(|_| InboundBody::Empty);
    }
    let may_be_read = !request.headers().contains_key(header::EXPECT);
    let (runtime, discarding) = (Handle::current(), discarding.clone());
    request.map(|incoming| {
        InboundBody::Hyper(HyperBody { incoming: Some(incoming), runtime, may_be_read, discarding })
    })
}

impl HyperBody {
    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        match frame {
            Some(Ok(_)) => self.may_be_read = true,
            Some(Err(_)) | None => self.incoming = None,
        }
        Poll::Ready(frame)
    }
}

impl Drop for HyperBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream())
            && self.may_be_read
        {
            self.runtime.spawn(discard(incoming, self.discarding.one_more()));
        }
    }
}

/// Reads what is left, within bounds. A body over the bounds is held back, not read: its client finds the answer
/// while it waits. Not of many at once: what is held back of each is missing from the connection's window.
async fn discard(mut incoming: Incoming, one: One) {
    let until = Instant::now() + UNREAD_WAIT;
    let mut bytes = 0;
    while bytes < UNREAD_BYTES_MAX {
        match tokio::time::timeout_at(until, incoming.frame()).await {
            Ok(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Ok(_) | Err(_) => return,
        }
    }
    if one.0.count() <= UNREAD_HELD_MAX {
        tokio::time::sleep_until(until).await;
    }
}
