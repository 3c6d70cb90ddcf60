//! HTTP/2. A connection is shared by its streams; each slot has a handle of it.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;

use super::{
    body::{self, Reading},
    link::Plan,
    socket::Socket,
    tally::Answer,
};

/// Of each stream and of the connection: an answer does not wait for the client's leave.
const WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Its driver is a task of this thread, and ends with the last handle.
pub async fn connect(plan: &Plan) -> Result<SendRequest<Bytes>, String> {
    let socket = Socket::connect(plan).await?;
    let window = if plan.reading.is_some() { Reading::BUFFER_BYTES } else { WINDOW_BYTES };
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(socket)
        .await
        .map_err(|error| told("HTTP/2 handshake", &error))?;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer is told the same.
        let _ = connection.await;
    });
    Ok(sender)
}

/// One request, and its whole answer.
pub async fn exchange(sender: &mut SendRequest<Bytes>, plan: &Plan, host: usize) -> Result<Answer, String> {
    let request: Request<()> = plan.requests[host].clone();
    poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|error| told("sending", &error))?;
    let (answer, mut stream) =
        sender.send_request(request, plan.body_bytes == 0).map_err(|error| told("sending", &error))?;
    let body = async {
        if plan.body_bytes > 0 {
            send(&mut stream, plan).await?;
        }
        // An answer that comes first does not end the request.
        Ok::<(), String>(())
    };
    let answer = async {
        let (head, mut body) = answer.await.map_err(|error| told("answer", &error))?.into_parts();
        let body = async {
            let mut bytes_in = 0;
            while let Some(piece) = body.data().await {
                let piece = piece.map_err(|error| told("answer", &error))?;
                bytes_in += piece.len() as u64;
                if let Some(reading) = plan.reading {
                    reading.took(piece.len()).await;
                }
                let _ = body.flow_control().release_capacity(piece.len());
            }
            Ok::<u64, String>(bytes_in)
        };
        Ok(Answer { status: head.status.as_u16(), bytes_in: plan.take(body).await? })
    };
    tokio::try_join!(body, answer).map(|((), answer)| answer)
}

async fn send(stream: &mut h2::SendStream<Bytes>, plan: &Plan) -> Result<(), String> {
    let mut left = plan.body_bytes;
    while left > 0 {
        let bytes = body::piece(left.min(plan.piece_bytes));
        left -= bytes.len() as u64;
        whole(stream, bytes, left == 0).await?;
        if let Some(pause) = plan.pause.filter(|_| left > 0) {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}

/// As the target's window allows, so that no body waits in memory.
async fn whole(stream: &mut h2::SendStream<Bytes>, mut bytes: Bytes, last: bool) -> Result<(), String> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let allowed = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(allowed)) => allowed,
            Some(Err(error)) => return Err(told("sending", &error)),
            None => return Err("sending: the target ended the stream".to_owned()),
        };
        let now = bytes.split_to(allowed.min(bytes.len()));
        let end = last && bytes.is_empty();
        stream.send_data(now, end).map_err(|error| told("sending", &error))?;
    }
    Ok(())
}

fn told(step: &str, error: &h2::Error) -> String {
    format!("{step}: {error}")
}
