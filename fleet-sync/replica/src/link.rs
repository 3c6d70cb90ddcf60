//! One stream to the origin: renew if due → dial → open → pump frames both ways, until something ends it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fleet_sync_proto::{
    ToNode,
    enrol::STREAM_PATH,
    frame::{FrameDecoder, FrameError, TO_NODE_BYTES_MAX},
};
use futures_util::stream;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::{
    dial::{self, DialError},
    renewal,
    replica::Inner,
};

/// Frames on their way up: acks and reports. Full means that the origin does not read; the stream is given up then.
const OUTGOING_FRAMES_MAX: usize = 64;
/// Messages on their way to the follower. When it is busy, the origin waits.
const INCOMING_MAX: usize = 8;
/// Time for the origin to open the stream.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// What a link tells the loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// The stream is open; frames go in here.
    Connected(mpsc::Sender<Bytes>),
    Message(Box<ToNode>),
    /// The last event.
    Ended(LinkError),
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("this node's certificate has expired and could not be renewed")]
    Certificate,
    #[error("dialling the control plane")]
    Dial(#[from] DialError),
    #[error("the stream broke")]
    Http(#[from] hyper::Error),
    #[error("the control plane did not open the stream within 10 s")]
    Timeout,
    #[error("the control plane refused the stream ({0})")]
    Refused(StatusCode),
    #[error("the control plane sent something else than frames")]
    Frame(#[from] FrameError),
    #[error("the control plane closed the stream")]
    Closed,
}

/// A running link; dropping it closes the stream.
pub(crate) struct Link {
    pub(crate) events: mpsc::Receiver<Event>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(crate) fn open(replica: Arc<Inner>) -> Link {
        let (tell, events) = mpsc::channel(INCOMING_MAX);
        let task = tokio::spawn(async move {
            let error = match run(&replica, &tell).await {
                Ok(()) => LinkError::Closed,
                Err(error) => error,
            };
            let _ = tell.send(Event::Ended(error)).await; // nobody listening: the link was dropped
        });
        Link { events, task }
    }
}

async fn run(replica: &Arc<Inner>, tell: &mpsc::Sender<Event>) -> Result<(), LinkError> {
    if !renewal::renew_if_due(replica).await {
        return Err(LinkError::Certificate);
    }
    let identity = replica.identity().ok_or(LinkError::Certificate)?;
    let mut connection = dial::dial(&replica.config.control, dial::as_node(&identity)?).await?;
    let (frames, queued) = mpsc::channel::<Bytes>(OUTGOING_FRAMES_MAX);
    let outgoing = stream::unfold(queued, |mut queued| async move {
        let frame = queued.recv().await?;
        Some((Ok(Frame::data(frame)), queued))
    });
    let request = Request::post(STREAM_PATH).body(StreamBody::new(outgoing).boxed_unsync());
    let request = request.expect("a constant path makes a valid request");
    let opened = tokio::time::timeout(OPEN_MAX, connection.sender.send_request(request)).await;
    let response = opened.map_err(|_| LinkError::Timeout)??;
    if response.status() != StatusCode::OK {
        return Err(LinkError::Refused(response.status()));
    }
    if tell.send(Event::Connected(frames)).await.is_err() {
        return Ok(());
    }
    let mut decoder = FrameDecoder::new(TO_NODE_BYTES_MAX);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        decoder.push(&bytes);
        while let Some(message) = decoder.next()? {
            if tell.send(Event::Message(Box::new(message))).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(decoder.finish()?)
}
