//! `POST /v1/kv`: one key-value operation of a node. On a connection of its own, so that values never delay the log.
//!
//! A node may ask for every tenant: it serves all of them, and it has checked that the app declared the store.

use std::time::Duration;

use bytes::Bytes;
use fleet_sync_proto::kv::{Ask, MESSAGE_BYTES_MAX, Message};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::{Body, Refused, whole};
use crate::origin::Origin;

/// Time for a node to send an operation: 8 MiB at 10 Mbit/s.
const BODY_MAX: Duration = Duration::from_secs(10);
/// Time to wait for others' operations. Less than a node waits for its answer.
const TURN_MAX: Duration = Duration::from_secs(2);

pub(super) async fn ask(origin: &Origin, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
    let room = tokio::time::timeout(TURN_MAX, origin.kv_room.acquire()).await;
    let Ok(Ok(_room)) = room else {
        return Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many key-value operations: try again",
        ));
    };
    let limited = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect();
    let collected = tokio::time::timeout(BODY_MAX, limited).await;
    let bytes = collected.ok().and_then(Result::ok).ok_or_else(bad_request)?.to_bytes();
    let message = Message::<Ask>::decode(&bytes).map_err(|_| bad_request())?;
    drop(bytes);
    let said = origin.kv().ask(message).await;
    let said = said.map_err(|error| Refused::internal("doing a key-value operation", &error))?;
    Ok(Response::new(whole(Bytes::from(said.encode()))))
}

fn bad_request() -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "not an operation of this protocol: use a node of the same release")
}
