//! `GET /v1/blobs/<sha-256>`: the bytes, or the part from one offset on (`Range: bytes=N-` or `bytes=N-M`, RFC 9110 §14).
//! Read and sent piece by piece: a slow node holds one piece in memory.

use artifact::Digest;
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, Response, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, RANGE},
};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use super::{Body, Refused};
use crate::{blobs::BlobError, origin::Origin};

/// Bytes read and sent at once.
const PIECE_BYTES: u64 = 256 * 1024;

pub(super) async fn get(origin: &Origin, name: &str, headers: &HeaderMap) -> Result<Response<Body>, Refused> {
    let missing = || Refused::new(StatusCode::NOT_FOUND, "there is no such blob");
    let digest: Digest = name.parse().map_err(|_| missing())?;
    let blobs = origin.blobs();
    let size = match blobs.size(digest).await {
        Ok(size) => size.ok_or_else(missing)?,
        Err(error) => return Err(Refused::internal("looking at a blob", &error)),
    };
    let (start, end, status) = match headers.get(RANGE).map(|range| parse_range(range, size)) {
        None | Some(Range::Ignored) => (0, size, StatusCode::OK),
        Some(Range::Part(start, end)) => (start, end, StatusCode::PARTIAL_CONTENT),
        Some(Range::Beyond) => {
            return Err(Refused::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("the blob has {size} bytes"),
            ));
        }
    };
    let pieces = stream::unfold(start, move |at| {
        let blobs = blobs.clone();
        async move {
            if at >= end {
                return None;
            }
            let piece = blobs.get_range(digest, at..(at + PIECE_BYTES).min(end)).await;
            // Fewer bytes than announced end the body in an error, not in silence.
            let piece = piece.and_then(|piece: Bytes| match piece.is_empty() {
                true => Err(BlobError::Corrupt(digest)),
                false => Ok(piece),
            });
            match piece {
                Ok(piece) => {
                    let next = at + piece.len() as u64;
                    Some((Ok(Frame::data(piece)), next))
                }
                Err(error) => {
                    tracing::error!(%digest, error = %error, "sending a blob");
                    Some((Err(std::io::Error::other(error)), end))
                }
            }
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {start}-{}/{size}", end - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits and ASCII punctuation"));
    }
    Ok(response)
}

#[derive(Debug, PartialEq)]
enum Range {
    /// From, and up to but not including.
    Part(u64, u64),
    /// Nothing of it is there.
    Beyond,
    /// A form we do not answer; the whole blob is a correct answer to it.
    Ignored,
}

fn parse_range(range: &HeaderValue, size: u64) -> Range {
    let parsed = range.to_str().ok().and_then(|text| {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let last: u64 = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
        Some((first.parse::<u64>().ok()?, last))
    });
    match parsed {
        Some((first, last)) if first > last => Range::Ignored,
        Some((first, _)) if first >= size => Range::Beyond,
        Some((first, last)) => Range::Part(first, last.saturating_add(1).min(size)),
        None => Range::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-", Range::Part(0, 10)),
            ("bytes=3-5", Range::Part(3, 6)),
            ("bytes=9-99", Range::Part(9, 10)),
            ("bytes=10-", Range::Beyond),
            ("bytes=5-3", Range::Ignored),
            ("bytes=-3", Range::Ignored),
            ("bytes=1-2,4-5", Range::Ignored),
            ("bytes=0-18446744073709551615", Range::Part(0, 10)),
            ("lines=1-2", Range::Ignored),
        ] {
            assert_eq!(parse_range(&HeaderValue::from_static(text), 10), expected, "{text}");
        }
    }
}
