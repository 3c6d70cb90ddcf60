//! Framing of the stream: u32 big-endian length, then that many bytes of JSON. Each direction has a hard maximum that
//! writer and reader both enforce, so that a peer can make the other hold one frame of that size and no more.

use artifact::{
    dsse::ENVELOPE_BYTES_MAX,
    record::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX},
};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of the length in front.
const HEAD_BYTES: usize = 4;
/// Largest frame to a node: a full batch as JSON strings (quotes and backslashes inside a record double, nothing in
/// JSON text grows more), quotes and comma a record, and one envelope.
pub const TO_NODE_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX + 3 * BATCH_RECORDS_MAX + ENVELOPE_BYTES_MAX + 1024;
/// Largest frame to the origin: 256 failures of 1 KiB, each byte escaped to six at worst, or 2,000 counters of ~300 bytes, or
/// log lines of 600 KiB.
pub const TO_ORIGIN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A frame that cannot be. The peer is at fault (or, when encoding, we are).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than this direction allows.
    #[error("a frame of {bytes} bytes, at most {max}")]
    TooLarge {
        /// What was announced.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A length of zero.
    #[error("an empty frame")]
    Empty,
    /// Not the JSON of a message.
    #[error("a malformed message: {0}")]
    Malformed(String),
    /// The stream ended inside a frame.
    #[error("the stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// How many are missing at least.
        missing: usize,
    },
}

/// The frame of a message, or [`FrameError::TooLarge`].
pub fn encode(message: &impl Serialize, bytes_max: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEAD_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let bytes = frame.len() - HEAD_BYTES;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= bytes_max);
    let length = length.ok_or(FrameError::TooLarge { bytes, max: bytes_max })?;
    frame[..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Cuts a byte stream into messages. Holds at most one frame and what was pushed with its end.
#[derive(Debug)]
pub struct FrameDecoder {
    bytes_max: usize,
    held: Vec<u8>,
    /// How much of `held` is consumed.
    at: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames over `bytes_max`.
    pub fn new(bytes_max: usize) -> FrameDecoder {
        FrameDecoder { bytes_max, held: Vec::new(), at: 0 }
    }

    /// Takes bytes as they come. Call [`FrameDecoder::next`] until it gives `None` before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.extend_from_slice(bytes);
    }

    /// The next whole message. After an error the stream is unusable and must be closed.
    #[allow(clippy::should_implement_trait, reason = "generic over the message, so it is no iterator")]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.held[self.at..];
        let Some((head, rest)) = rest.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*head) as usize;
        if bytes > self.bytes_max {
            return Err(FrameError::TooLarge { bytes, max: self.bytes_max });
        }
        if bytes == 0 {
            return Err(FrameError::Empty);
        }
        let Some(body) = rest.get(..bytes) else { return Ok(None) };
        let message =
            serde_json::from_slice(body).map_err(|error| FrameError::Malformed(error.to_string()))?;
        self.at += HEAD_BYTES + bytes;
        Ok(Some(message))
    }

    /// The stream has ended: was it between two frames?
    pub fn finish(&self) -> Result<(), FrameError> {
        let rest = &self.held[self.at..];
        if rest.is_empty() {
            return Ok(());
        }
        let whole = match rest.split_first_chunk::<HEAD_BYTES>() {
            Some((head, _)) => HEAD_BYTES + u32::from_be_bytes(*head) as usize,
            None => HEAD_BYTES,
        };
        Err(FrameError::Truncated { missing: whole.saturating_sub(rest.len()).max(1) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn oversize_is_refused_from_its_length_alone_on_both_sides() {
        let mut decoder = FrameDecoder::new(100);
        decoder.push(&101u32.to_be_bytes());
        assert_eq!(decoder.next::<String>(), Err(FrameError::TooLarge { bytes: 101, max: 100 }));
        assert_eq!(encode(&"x".repeat(99), 100), Err(FrameError::TooLarge { bytes: 101, max: 100 }));
        assert!(encode(&"x".repeat(98), 100).is_ok());
    }

    #[test]
    fn empty_garbage_and_truncated_frames_are_named() {
        let mut decoder = FrameDecoder::new(100);
        decoder.push(&[0, 0, 0, 0]);
        assert_eq!(decoder.next::<String>(), Err(FrameError::Empty));

        let mut decoder = FrameDecoder::new(100);
        decoder.push(&[0, 0, 0, 1, b'{']);
        assert!(matches!(decoder.next::<String>(), Err(FrameError::Malformed(_))));

        let frame = encode(&"abc", 100).unwrap();
        for cut in 0..frame.len() {
            let mut decoder = FrameDecoder::new(100);
            decoder.push(&frame[..cut]);
            assert_eq!(decoder.next::<String>(), Ok(None), "cut at {cut}");
            assert_eq!(decoder.finish().is_ok(), cut == 0, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn messages_survive_any_chunking(
            messages in prop::collection::vec(".{0,40}", 0..12),
            chunks in prop::collection::vec(1usize..17, 1..20),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|text| encode(text, 1_000).unwrap()).collect();
            let (mut decoder, mut seen, mut rest) = (FrameDecoder::new(1_000), Vec::new(), stream.as_slice());
            for size in chunks.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, later) = rest.split_at((*size).min(rest.len()));
                decoder.push(chunk);
                while let Some(text) = decoder.next::<String>().unwrap() {
                    seen.push(text);
                }
                rest = later;
            }
            prop_assert_eq!(seen, messages);
            prop_assert_eq!(decoder.finish(), Ok(()));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = FrameDecoder::new(64);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next::<serde_json::Value>() {}
            let _ = decoder.finish();
        }
    }
}
