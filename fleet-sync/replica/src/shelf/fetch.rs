//! One blob over the bulk connection, resumed where the last attempt ended.

use std::{path::Path, sync::Arc, time::Duration};

use artifact::Digest;
use bytes::Bytes;
use fleet_sync_proto::enrol::BLOBS_PATH;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use parking_lot::RwLock;
use tokio::{fs, io::AsyncWriteExt as _};

use super::FetchError;
use crate::{identity::Identity, kept::Kept};

/// Longest wait for the answer's head, or for the next piece of its body.
const PIECE_MAX: Duration = Duration::from_secs(10);
/// Attempts in one fetch, each resuming the one before. More are made by whoever asked, with back-off.
const ATTEMPTS_MAX: usize = 3;

/// The bulk connection.
pub(super) struct Bulk(Kept);

impl Bulk {
    pub(super) fn new(control: String, identity: Arc<RwLock<Option<Identity>>>) -> Bulk {
        Bulk(Kept::new(control, identity))
    }

    /// Brings `partial` to `size` bytes. Whether they are the right ones is the caller's to check.
    pub(super) async fn fetch(&self, digest: Digest, size: u64, partial: &Path) -> Result<(), FetchError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(digest, size, partial).await {
                Err(FetchError::Interrupted { .. }) if attempts < ATTEMPTS_MAX => self.0.forget(),
                Err(error) => {
                    self.0.forget();
                    return Err(error);
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn attempt(&self, digest: Digest, size: u64, partial: &Path) -> Result<(), FetchError> {
        let disk = |error| FetchError::disk(digest, error);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(partial).await.map_err(disk)?;
        let mut have = file.metadata().await.map_err(disk)?.len();
        if have > size {
            file.set_len(0).await.map_err(disk)?;
            have = 0;
        }
        if have == size {
            return Ok(()); // whole, or wrong: the digest tells
        }
        let response = self.ask(digest, have).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(response.headers(), have) => {}
            StatusCode::OK => {
                file.set_len(0).await.map_err(disk)?;
                have = 0;
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                // The origin's blob has another size than the record says, or it answered another range.
                file.set_len(0).await.map_err(disk)?;
                return Err(FetchError::Mismatch(digest));
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                // The connection outlived its certificate: a new one shows the renewed one.
                let why = format!("the origin answered {status} to this node's certificate");
                return Err(FetchError::Interrupted { digest, why });
            }
            status => return Err(FetchError::Refused { digest, status: status.as_u16() }),
        }
        let mut body = response.into_body();
        loop {
            let frame = match tokio::time::timeout(PIECE_MAX, body.frame()).await {
                Err(_) => return Err(FetchError::Timeout { digest, after: PIECE_MAX }),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(interrupted(digest, &error)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            have += bytes.len() as u64;
            if have > size {
                file.set_len(0).await.map_err(disk)?;
                return Err(FetchError::Mismatch(digest));
            }
            file.write_all(&bytes).await.map_err(disk)?;
            // Before the next await: an attempt that is dropped leaves no write behind it.
            file.flush().await.map_err(disk)?;
        }
        match have == size {
            true => Ok(()),
            false => Err(FetchError::Interrupted { digest, why: format!("{have} of {size} bytes came") }),
        }
    }

    async fn ask(
        &self,
        digest: Digest,
        from: u64,
    ) -> Result<http::Response<hyper::body::Incoming>, FetchError> {
        let unreachable = |error| FetchError::Unreachable(digest, error);
        let connection = self.0.get().await.map_err(unreachable)?;
        let mut request = Request::get(format!("{BLOBS_PATH}{digest}"));
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let body = Empty::<Bytes>::new().boxed_unsync();
        let request = request.body(body).expect("hex, digits and constants make a valid request");
        let answer = connection.sender.clone().send_request(request);
        match tokio::time::timeout(PIECE_MAX, answer).await {
            Ok(answer) => answer.map_err(|error| interrupted(digest, &error)),
            Err(_) => Err(FetchError::Timeout { digest, after: PIECE_MAX }),
        }
    }
}

fn starts_at(headers: &http::HeaderMap, at: u64) -> bool {
    let start = headers
        .get(header::CONTENT_RANGE)
        .and_then(|range| range.to_str().ok())
        .and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
    start == Some(at)
}

fn interrupted(digest: Digest, error: &dyn std::error::Error) -> FetchError {
    FetchError::Interrupted { digest, why: error.to_string() }
}
