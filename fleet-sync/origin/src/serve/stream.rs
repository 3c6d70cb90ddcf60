//! `POST /v1/stream`: the shell around the publisher of one node. It reads frames and the log, signs, and sends;
//! every decision is the state machine's.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use artifact::NodeName;
use bytes::Bytes;
use fleet_sync_proto::{
    Hello, ToNode,
    frame::{self, FrameDecoder, FrameError, TO_NODE_BYTES_MAX, TO_ORIGIN_BYTES_MAX},
    inspect::Inspect,
    logs::Follow,
    publisher::{Cut, Input, Output, Publisher},
};
use futures_util::stream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::Instant,
};

use super::Body;
use crate::{clock::now_ms, log::LogError, nodes::StreamId, origin::Origin};

/// Frames between the publisher and the socket. Above this the node is slow, and waits.
const QUEUE_FRAMES_MAX: usize = 4;
/// A node that takes no frame for this long is cut; it catches up when it comes back.
const SEND_MAX: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(1);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the node closed it")]
    Closed,
    #[error("the origin stops")]
    Stopping,
    #[error("the node was revoked")]
    Revoked,
    #[error("another stream of the node took its place")]
    Replaced,
    #[error("the node said it is {said}, its certificate names another")]
    OtherNode { said: NodeName },
    #[error("the node takes no data")]
    Stuck,
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error("framing")]
    Frame(#[from] FrameError),
    #[error("reading from the node")]
    Body(#[from] hyper::Error),
    #[error("reading the log")]
    Log(#[from] LogError),
}

/// Answers at once and goes on in a task of its own.
pub(super) fn open(
    origin: Arc<Origin>,
    node: NodeName,
    request: Request<Incoming>,
    stopping: watch::Receiver<bool>,
) -> Response<Body> {
    let (frames, queued) = mpsc::channel::<Bytes>(QUEUE_FRAMES_MAX);
    let outgoing = stream::unfold(queued, |mut queued| async move {
        let frame = queued.recv().await?;
        Some((Ok(Frame::data(frame)), queued))
    });
    tokio::spawn(async move {
        let publisher = Publisher::new(now_ms(), origin.position());
        let head = origin.head.subscribe();
        let mut followed = origin.listeners.followed();
        followed.mark_changed(); // somebody may be listening already
        let asked = origin.inspections.asked();
        let mut session = Session { origin, node, publisher, frames, open: None, taken: None };
        let end = session.run(request.into_body(), head, followed, asked, stopping).await;
        if let Some((id, _)) = session.open {
            session.origin.nodes.disconnected(&session.node, id);
        }
        match end {
            End::Closed | End::Stopping | End::Body(_) => {
                tracing::info!(node = %session.node, %end, "stream ended")
            }
            _ => tracing::warn!(node = %session.node, error = &end as &dyn std::error::Error, "stream ended"),
        }
    });
    Response::new(StreamBody::new(outgoing).boxed_unsync())
}

struct Session {
    origin: Arc<Origin>,
    node: NodeName,
    publisher: Publisher,
    frames: mpsc::Sender<Bytes>,
    /// Set by the first hello. The receiver resolves when another stream takes over.
    open: Option<(StreamId, oneshot::Receiver<()>)>,
    /// Lines that the node is to be told were taken, and when.
    taken: Option<(Instant, u64)>,
}

impl Session {
    async fn run(
        &mut self,
        mut body: Incoming,
        mut head: watch::Receiver<fleet_sync_proto::Position>,
        mut followed: watch::Receiver<Follow>,
        mut asked: broadcast::Receiver<Inspect>,
        mut stopping: watch::Receiver<bool>,
    ) -> End {
        let mut decoder = FrameDecoder::new(TO_ORIGIN_BYTES_MAX);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = super::stopped(&mut stopping) => Err(End::Stopping),
                () = replaced(&mut self.open) => Err(End::Replaced),
                changed = head.changed() => {
                    let position = *head.borrow_and_update();
                    if changed.is_err() {
                        Err(End::Stopping)
                    } else if self.origin.is_revoked(&self.node) {
                        Err(End::Revoked)
                    } else {
                        self.handle(Input::Head(position)).await
                    }
                }
                number = taken(self.taken) => {
                    self.taken = None;
                    self.publisher.handle(now_ms(), Input::LogsTaken);
                    self.send(&ToNode::LogsTaken { number }).await
                }
                changed = followed.changed() => {
                    let follow = followed.borrow_and_update().clone();
                    match changed {
                        Ok(()) => self.handle(Input::Follow(follow)).await,
                        Err(_) => Err(End::Stopping),
                    }
                }
                asked = asked.recv() => match asked {
                    Ok(inspect) => self.handle(Input::Inspect(inspect)).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => Ok(()), // who asked waits only so long
                    Err(broadcast::error::RecvError::Closed) => Err(End::Stopping),
                },
                _ = tick.tick() => self.handle(Input::Tick).await,
                frame = body.frame() => match frame {
                    None => Err(decoder.finish().map_or_else(End::Frame, |()| End::Closed)),
                    Some(Err(error)) => Err(End::Body(error)),
                    Some(Ok(frame)) => self.received(&mut decoder, frame).await,
                },
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn received(&mut self, decoder: &mut FrameDecoder, frame: Frame<Bytes>) -> Result<(), End> {
        let Ok(bytes) = frame.into_data() else { return Ok(()) };
        decoder.push(&bytes);
        while let Some(message) = decoder.next()? {
            self.handle(Input::Message(message)).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, input: Input) -> Result<(), End> {
        let mut todo = VecDeque::from(self.publisher.handle(now_ms(), input));
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Identified(hello) => self.identified(&hello)?,
                Output::Read { after } => {
                    let batch = self.origin.read(after).await?;
                    let (chain, records) = (batch.chain, batch.records);
                    todo.extend(self.publisher.handle(now_ms(), Input::Records { after, chain, records }));
                }
                Output::Batch { records, checkpoint } => {
                    let checkpoint = self.origin.signer.sign(checkpoint);
                    self.send(&ToNode::Batch { records, checkpoint }).await?;
                }
                Output::Heartbeat(checkpoint) => {
                    let checkpoint = self.origin.signer.sign(checkpoint);
                    self.send(&ToNode::Heartbeat { checkpoint }).await?;
                }
                Output::Reset { reason, checkpoint } => {
                    let head = checkpoint.rev;
                    tracing::error!(node = %self.node, ?reason, head, "a node follows another log than ours: was the log restored from an old copy?");
                    self.origin.nodes.left_log(&self.node, reason, self.publisher.sent(), head);
                    let checkpoint = self.origin.signer.sign(checkpoint);
                    self.send(&ToNode::Reset { reason, checkpoint }).await?;
                }
                Output::Acked(ack) => self.origin.nodes.acked(&self.node, ack),
                Output::Reported(report) => self.origin.nodes.reported(&self.node, report.bounded()),
                Output::Follow(follow) => self.send(&ToNode::Follow(follow)).await?,
                Output::Inspect(inspect) => self.send(&ToNode::Inspect(inspect)).await?,
                Output::Inspected(said) => self.origin.inspections.answered(&self.node, said),
                Output::Told(logs) => {
                    let Some(pop) = self.origin.nodes.pop(&self.node) else { return Err(End::Revoked) };
                    let number = logs.number;
                    self.taken = Some((self.origin.listeners.told(&self.node, &pop, logs), number));
                }
                Output::Cut(cut) => return Err(cut.into()),
            }
        }
        Ok(())
    }

    fn identified(&mut self, hello: &Hello) -> Result<(), End> {
        if hello.node != self.node {
            return Err(End::OtherNode { said: hello.node.clone() });
        }
        if self.open.is_some() {
            self.origin.nodes.reintroduced(hello);
            return Ok(());
        }
        self.open = self.origin.nodes.connected(hello);
        tracing::info!(node = %self.node, rev = hello.position.rev, serving = hello.serving, "a node follows");
        if self.open.is_none() { Err(End::Revoked) } else { Ok(()) }
    }

    async fn send(&mut self, message: &ToNode) -> Result<(), End> {
        let frame = Bytes::from(frame::encode(message, TO_NODE_BYTES_MAX)?);
        match tokio::time::timeout(SEND_MAX, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Stuck),
        }
    }
}

/// Resolves when the node may tell more lines.
async fn taken(taken: Option<(Instant, u64)>) -> u64 {
    match taken {
        Some((due, number)) => {
            tokio::time::sleep_until(due).await;
            number
        }
        None => std::future::pending().await,
    }
}

/// Resolves when another stream of the same node has opened; never before this one has.
async fn replaced(open: &mut Option<(StreamId, oneshot::Receiver<()>)>) {
    match open {
        Some((_, cut)) => {
            let _ = cut.await;
        }
        None => std::future::pending().await,
    }
}
