//! Follows the frame boundaries of an h3 stream (RFC 9114 §7.1) without keeping a byte of it.
//!
//! A pure state machine: bytes in, a verdict out. Deliberately absent: what the frames mean, which is the h3
//! crate's.

use super::limits::{H3_CONTROL_FRAME_BYTES_MAX, H3_FRAME_BYTES_MAX};

const DATA_FRAME: u64 = 0x00;
const CONTROL_STREAM: u64 = 0x00;

/// Why a stream is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It announced a frame, other than DATA, that nobody will hold.
    TooLong,
    /// It ended inside a frame.
    CutOff,
}

/// Watches one stream.
#[derive(Debug)]
pub(super) struct FrameGuard {
    state: State,
    other_bytes_max: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the type of a one-way stream.
    StreamType(Varint),
    /// In, or before, a frame's type.
    Type(Varint),
    /// In a frame's length.
    Length { is_data: bool, length: Varint },
    /// In a frame's payload, so many bytes before its end.
    Payload(u64),
    /// A one-way stream without frames, such as QPACK's.
    Unframed,
}

/// A QUIC variable-length integer (RFC 9000 §16) in the making.
#[derive(Debug, Clone, Copy, Default)]
struct Varint {
    value: u64,
    /// `None` before the first byte.
    bytes_left: Option<u8>,
}

impl Varint {
    /// Takes one byte; the value when it was the last.
    fn push(&mut self, byte: u8) -> Option<u64> {
        let left = match self.bytes_left {
            None => {
                self.value = u64::from(byte & 0x3f);
                (1u8 << (byte >> 6)) - 1
            }
            Some(left) => {
                self.value = self.value << 8 | u64::from(byte);
                left - 1
            }
        };
        self.bytes_left = Some(left);
        (left == 0).then_some(self.value)
    }
}

impl FrameGuard {
    /// For a stream opened by a request.
    pub(super) fn request_stream() -> FrameGuard {
        FrameGuard { state: State::Type(Varint::default()), other_bytes_max: H3_FRAME_BYTES_MAX }
    }

    /// For a one-way stream, whose first integer says what it is.
    pub(super) fn one_way_stream() -> FrameGuard {
        FrameGuard {
            state: State::StreamType(Varint::default()),
            other_bytes_max: H3_CONTROL_FRAME_BYTES_MAX,
        }
    }

    /// Follows the next bytes of the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Unframed => return Ok(()),
                State::Payload(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    bytes = &bytes[skipped..];
                    if *left == 0 {
                        self.state = State::Type(Varint::default());
                    }
                    continue;
                }
                State::StreamType(kind) => {
                    if let Some(kind) = kind.push(byte) {
                        self.state = if kind == CONTROL_STREAM {
                            State::Type(Varint::default())
                        } else {
                            State::Unframed
                        };
                    }
                }
                State::Type(kind) => {
                    if let Some(kind) = kind.push(byte) {
                        self.state = State::Length { is_data: kind == DATA_FRAME, length: Varint::default() };
                    }
                }
                State::Length { is_data, length } => {
                    let is_data = *is_data;
                    if let Some(length) = length.push(byte) {
                        if !is_data && length > self.other_bytes_max {
                            return Err(Fault::TooLong);
                        }
                        self.state =
                            if length == 0 { State::Type(Varint::default()) } else { State::Payload(length) };
                    }
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// The stream ended.
    pub(super) fn end(&self) -> Result<(), Fault> {
        match self.state {
            State::Type(Varint { bytes_left: None, .. }) | State::StreamType(_) | State::Unframed => Ok(()),
            State::Type(_) | State::Length { .. } | State::Payload(_) => Err(Fault::CutOff),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(chunks: &[&[u8]]) -> Result<(), Fault> {
        let mut guard = FrameGuard::request_stream();
        chunks.iter().try_for_each(|chunk| guard.feed(chunk))?;
        guard.end()
    }

    #[test]
    fn whole_frames_pass_and_cut_ones_do_not() {
        let head: &[u8] = b"\x01\x03abc";
        let data: &[u8] = b"\x00\x05hello";
        assert_eq!(run(&[]), Ok(()));
        assert_eq!(run(&[head, data, b"\x00\x00", data, b"\x21\x00"]), Ok(()));
        for cut in 1..data.len() {
            assert_eq!(run(&[head, &data[..cut]]), Err(Fault::CutOff), "{cut}");
        }
        assert_eq!(run(&[head, b"\x00\x0a12345", b""]), Err(Fault::CutOff));
    }

    #[test]
    fn only_data_may_be_long() {
        // 0x80 prefix: a length of 30 bits.
        let announce = |kind: u8, length: u32| {
            let mut bytes = vec![kind];
            bytes.extend_from_slice(&(length | 0x8000_0000).to_be_bytes());
            bytes
        };
        let mut guard = FrameGuard::request_stream();
        assert_eq!(guard.feed(&announce(1, H3_FRAME_BYTES_MAX as u32)), Ok(()));
        for kind in [1, 0x21] {
            let mut guard = FrameGuard::request_stream();
            assert_eq!(guard.feed(&announce(kind, H3_FRAME_BYTES_MAX as u32 + 1)), Err(Fault::TooLong));
        }
        let mut guard = FrameGuard::request_stream();
        assert_eq!(guard.feed(&announce(0, 1 << 29)), Ok(()));
        let mut control = FrameGuard::one_way_stream();
        assert_eq!(control.feed(&[0]), Ok(()));
        assert_eq!(control.feed(&announce(0x21, 1 << 20)), Err(Fault::TooLong));
        let mut qpack = FrameGuard::one_way_stream();
        assert_eq!(qpack.feed(&[2, 0xff, 0xff, 0xff]), Ok(()));
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(bytes in proptest::collection::vec(0u8..72, 0..64), at in 0usize..64) {
            let (one, two) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(run(&[&bytes]), run(&[one, two]));
        }
    }
}
