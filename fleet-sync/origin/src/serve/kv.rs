//! `POST /v1/kv`: one key-value operation of a node. On a connection of its own, so that values never delay the log.
//!
//! A node may ask for every tenant: it serves all of them, and it has checked that the app declared the store.

use std::time::Duration;

use bytes::Bytes;
use fleet_sync_proto::kv::{Ask, MESSAGE_BYTES_MAX, Message};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Body, Refused, whole};
use crate::origin::Origin;

/// Time for a node to send an operation: as long as it waits for the answer, 5 s and 8 MiB at 1 MiB/s.
const BODY_MAX: Duration = Duration::from_secs(13);
/// Operations up to this size take no room while they come in: 32 streams of a connection are 2 MiB.
const ROOMLESS_BYTES_MAX: u64 = 64 * 1024;
/// Larger operations that one connection may send at once: slow ones hold up those of their node alone.
pub(super) const LARGE_PER_CONNECTION_MAX: usize = 4;
/// KiB of larger operations of all nodes that come in at once: 512 MiB.
pub(crate) const INCOMING_KIB_MAX: usize = 512 * 1024;
/// Time to wait for others' operations. Less than a node waits for its answer.
const TURN_MAX: Duration = Duration::from_secs(2);

/// `large` are the places of the connection. The operation is read before it takes its turn: a node that sends slowly must
/// not keep others from theirs.
pub(super) async fn ask(
    origin: &Origin,
    request: Request<Incoming>,
    large: &Semaphore,
) -> Result<Response<Body>, Refused> {
    let body = request.into_body();
    let bytes = body.size_hint().upper().unwrap_or(u64::MAX).min(MESSAGE_BYTES_MAX as u64);
    let incoming = tokio::time::timeout(TURN_MAX, incoming(origin, large, bytes)).await;
    let Ok(_incoming) = incoming else { return Err(busy()) };
    let limited = Limited::new(body, MESSAGE_BYTES_MAX).collect();
    let collected = tokio::time::timeout(BODY_MAX, limited).await;
    let bytes = collected.ok().and_then(Result::ok).ok_or_else(bad_request)?.to_bytes();
    let message = Message::<Ask>::decode(&bytes).map_err(|_| bad_request())?;
    drop(bytes);
    let room = tokio::time::timeout(TURN_MAX, origin.kv_room.acquire()).await;
    let Ok(Ok(_room)) = room else { return Err(busy()) };
    let said = origin.kv().ask(message).await;
    let said = said.map_err(|error| Refused::internal("doing a key-value operation", &error))?;
    Ok(Response::new(whole(Bytes::from(said.encode()))))
}

/// Room for what comes in, held until it was done.
async fn incoming<'r>(
    origin: &'r Origin,
    large: &'r Semaphore,
    bytes: u64,
) -> Option<(SemaphorePermit<'r>, SemaphorePermit<'r>)> {
    if bytes <= ROOMLESS_BYTES_MAX {
        return None;
    }
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    let own = large.acquire().await.expect("this semaphore is never closed");
    let all = origin.kv_incoming.acquire_many(kib).await.expect("this semaphore is never closed");
    Some((own, all))
}

fn busy() -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too many key-value operations: try again")
}

fn bad_request() -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "not an operation of this protocol: use a node of the same release")
}
