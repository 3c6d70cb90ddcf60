//! One blob that holds a signed statement and the artifact it is about, compressed. This is what the compiler
//! service answers, what the blob store keeps and what a node fetches: nothing to pair up, nothing to mix up.
//!
//! Layout, little-endian: magic `SKERRY\0\x01` · u32 length of the envelope · envelope JSON · zstd frame.
//!
//! A node may keep a second form of it for itself, which never travels: magic `SKERRY\0\x02`, and the artifact as it is
//! instead of the frame. Decompressing is half of what loading a small program takes. It is trusted no more than the
//! first form: what counts is the statement, and the digest of what is mapped.

use std::io::{Read, Write};

use crate::{
    dsse::{ENVELOPE_BYTES_MAX, Envelope, EnvelopeError},
    statement::ARTIFACT_BYTES_MAX,
};

const MAGIC: &[u8; 8] = b"SKERRY\0\x01";
const MAGIC_UNPACKED: &[u8; 8] = b"SKERRY\0\x02";
const HEAD_BYTES: usize = MAGIC.len() + 4;
/// zstd level 3: on a 1.1 MB artifact as small as level 6 within 4 %, at a third of the time.
const ZSTD_LEVEL: i32 = 3;

/// Up to this size an artifact is decompressed in one piece: most are smaller, and the memory for it is taken for a
/// moment only.
const AT_ONCE_BYTES_MAX: u64 = 8 << 20;

/// The largest blob: an incompressible artifact of the largest size, its envelope and zstd's own framing.
pub const CONTAINER_BYTES_MAX: u64 = ARTIFACT_BYTES_MAX + ENVELOPE_BYTES_MAX as u64 + 64 * 1024;

/// Bytes at the start of a container that say how long its head is.
pub const HEAD_START_BYTES: usize = HEAD_BYTES;

/// How many bytes of a container hold the statement and what stands before it, by its first [`HEAD_START_BYTES`]. So many are
/// enough for [`Container::decode`] where only the statement is wanted.
pub fn head_bytes(start: &[u8]) -> Result<usize, ContainerError> {
    let rest = start.strip_prefix(MAGIC).ok_or(ContainerError::Malformed("wrong first bytes"))?;
    let (length, _) = rest.split_first_chunk::<4>().ok_or(ContainerError::Malformed("cut short"))?;
    match u32::from_le_bytes(*length) as usize {
        length if length <= ENVELOPE_BYTES_MAX => Ok(HEAD_BYTES + length),
        _ => Err(ContainerError::Malformed("the envelope's length does not fit")),
    }
}

/// The bytes are no container, or hold something else than they say.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Wrong magic or a length that does not fit.
    #[error("not a signed artifact: {0}")]
    Malformed(&'static str),
    /// The envelope inside.
    #[error("reading the envelope of a signed artifact")]
    Envelope(#[from] EnvelopeError),
    /// zstd refused it.
    #[error("decompressing the artifact")]
    Decompress(#[source] std::io::Error),
}

/// A container taken apart. Nothing in it is trusted yet.
#[derive(Debug)]
pub struct Container<'a> {
    /// The statement's envelope.
    pub envelope: Envelope,
    artifact: Artifact<'a>,
}

#[derive(Debug)]
enum Artifact<'a> {
    Compressed(&'a [u8]),
    Unpacked(&'a [u8]),
}

/// Puts a signed statement and its artifact together.
pub fn encode(envelope: &Envelope, artifact: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut zstd = zstd::Encoder::new(head(MAGIC, envelope, artifact.len() / 3), ZSTD_LEVEL)?;
    zstd.write_all(artifact)?;
    zstd.finish()
}

/// Everything before the artifact, with room for so many bytes of it.
fn head(magic: &[u8; 8], envelope: &Envelope, room: usize) -> Vec<u8> {
    let json = envelope.to_json();
    let mut blob = Vec::with_capacity(HEAD_BYTES + json.len() + room);
    blob.extend_from_slice(magic);
    blob.extend_from_slice(&(json.len() as u32).to_le_bytes());
    blob.extend_from_slice(json.as_bytes());
    blob
}

impl<'a> Container<'a> {
    /// Reads the outer form.
    pub fn decode(blob: &'a [u8]) -> Result<Container<'a>, ContainerError> {
        let (rest, is_unpacked) = match (blob.strip_prefix(MAGIC), blob.strip_prefix(MAGIC_UNPACKED)) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(ContainerError::Malformed("wrong first bytes")),
        };
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(ContainerError::Malformed("cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > ENVELOPE_BYTES_MAX || length > rest.len() {
            return Err(ContainerError::Malformed("the envelope's length does not fit"));
        }
        let (json, bytes) = rest.split_at(length);
        let artifact = if is_unpacked { Artifact::Unpacked(bytes) } else { Artifact::Compressed(bytes) };
        Ok(Container { envelope: Envelope::from_json(json)?, artifact })
    }

    /// The same in the form that a node keeps for itself. `size` as for [`Container::decompress`].
    pub fn unpack(&self, size: u64) -> Result<Vec<u8>, ContainerError> {
        let room = usize::try_from(size.min(ARTIFACT_BYTES_MAX)).unwrap_or(0);
        let mut blob = head(MAGIC_UNPACKED, &self.envelope, room);
        self.decompress(size, &mut blob)?;
        Ok(blob)
    }

    /// Decompresses the artifact into `out`, at most `size` bytes (the signed size) and one more to notice excess; a small
    /// one with excess is refused at once.
    /// Call it only after the statement's signature was checked.
    pub fn decompress(&self, size: u64, out: &mut impl Write) -> Result<u64, ContainerError> {
        let compressed = match self.artifact {
            Artifact::Unpacked(bytes) => {
                let bytes =
                    &bytes[..bytes.len().min(usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1))];
                out.write_all(bytes).map_err(ContainerError::Decompress)?;
                return Ok(bytes.len() as u64);
            }
            Artifact::Compressed(bytes) => bytes,
        };
        if size <= AT_ONCE_BYTES_MAX {
            return decompress_at_once(compressed, size, out);
        }
        let zstd = zstd::Decoder::with_buffer(compressed).map_err(ContainerError::Decompress)?;
        let mut bounded = zstd.take(size.min(ARTIFACT_BYTES_MAX) + 1);
        std::io::copy(&mut bounded, out).map_err(ContainerError::Decompress)
    }
}

/// Without zstd's window, and written in one piece.
fn decompress_at_once(compressed: &[u8], size: u64, out: &mut impl Write) -> Result<u64, ContainerError> {
    let mut buffer = Vec::with_capacity(size as usize + 1);
    let mut zstd = zstd::bulk::Decompressor::new().map_err(ContainerError::Decompress)?;
    zstd.decompress_to_buffer(compressed, &mut buffer).map_err(ContainerError::Decompress)?;
    out.write_all(&buffer).map_err(ContainerError::Decompress)?;
    Ok(buffer.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Compiler, SecretKey};

    fn envelope() -> Envelope {
        SecretKey::<Compiler>::from_seed([1; 32]).sign("application/test", b"{}")
    }

    #[test]
    fn round_trips() {
        let artifact = vec![7; 100_000];
        let blob = encode(&envelope(), &artifact).unwrap();
        assert!(blob.len() < 1_000);
        let container = Container::decode(&blob).unwrap();
        assert_eq!(container.envelope, envelope());
        let mut out = Vec::new();
        container.decompress(100_000, &mut out).unwrap();
        assert_eq!(out, artifact);
    }

    #[test]
    fn the_unpacked_form_holds_the_same_and_no_more_than_was_signed() {
        let artifact = vec![7; 100_000];
        let blob = encode(&envelope(), &artifact).unwrap();
        let unpacked = Container::decode(&blob).unwrap().unpack(100_000).unwrap();
        let container = Container::decode(&unpacked).unwrap();
        assert_eq!(container.envelope, envelope());
        let mut out = Vec::new();
        assert_eq!(container.decompress(100_000, &mut out).unwrap(), 100_000);
        assert_eq!(out, artifact);
        assert_eq!(container.decompress(1_000, &mut Vec::new()).unwrap(), 1_001, "excess shows");
    }

    #[test]
    fn the_head_alone_is_enough_for_the_statement() {
        let blob = encode(&envelope(), &vec![7; 100_000]).unwrap();
        let head = head_bytes(&blob[..HEAD_START_BYTES]).unwrap();
        assert!(head < blob.len());
        assert_eq!(Container::decode(&blob[..head]).unwrap().envelope, envelope());
        assert!(Container::decode(&blob[..head - 1]).is_err());
        let mut long = blob.clone();
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        for start in [&blob[..HEAD_START_BYTES - 1], &long, b"\x7fELF"] {
            assert!(head_bytes(start).is_err());
        }
    }

    #[test]
    fn decompression_bomb_stops_one_byte_after_the_signed_size() {
        let blob = encode(&envelope(), &vec![0; 10_000_000]).unwrap();
        let container = Container::decode(&blob).unwrap();
        let mut out = Vec::new();
        assert!(container.decompress(1_000, &mut out).is_err() && out.is_empty(), "in one piece");
        let size = AT_ONCE_BYTES_MAX + 1;
        assert_eq!(container.decompress(size, &mut out).unwrap(), size + 1, "in pieces");
        assert_eq!(out.len() as u64, size + 1);
    }

    #[test]
    fn truncated_and_foreign_bytes_are_refused_not_panicked_on() {
        let blob = encode(&envelope(), b"code").unwrap();
        for length in 0..blob.len() {
            if let Ok(container) = Container::decode(&blob[..length]) {
                let mut out = Vec::new();
                assert!(container.decompress(4, &mut out).is_err() || out != b"code", "cut at {length}");
            }
        }
        assert!(Container::decode(b"\x7fELF").is_err());
        let mut long = blob;
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Container::decode(&long).is_err());
    }
}
