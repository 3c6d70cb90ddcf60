//! One blob that holds a signed statement and the artifact it is about, compressed. This is what the compiler
//! service answers, what the blob store keeps and what a node fetches: nothing to pair up, nothing to mix up.
//!
//! Layout, little-endian: magic `SKERRY\0\x01` · u32 length of the envelope · envelope JSON · zstd frame.

use std::io::{Read, Write};

use crate::{
    dsse::{ENVELOPE_BYTES_MAX, Envelope, EnvelopeError},
    statement::ARTIFACT_BYTES_MAX,
};

const MAGIC: &[u8; 8] = b"SKERRY\0\x01";
const HEAD_BYTES: usize = MAGIC.len() + 4;
/// zstd level 3: on a 1.1 MB artifact as small as level 6 within 4 %, at a third of the time.
const ZSTD_LEVEL: i32 = 3;

/// The largest blob: an incompressible artifact of the largest size, its envelope and zstd's own framing.
pub const CONTAINER_BYTES_MAX: u64 = ARTIFACT_BYTES_MAX + ENVELOPE_BYTES_MAX as u64 + 64 * 1024;

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
    compressed: &'a [u8],
}

/// Puts a signed statement and its artifact together.
pub fn encode(envelope: &Envelope, artifact: &[u8]) -> std::io::Result<Vec<u8>> {
    let json = envelope.to_json();
    let mut blob = Vec::with_capacity(HEAD_BYTES + json.len() + artifact.len() / 3);
    blob.extend_from_slice(MAGIC);
    blob.extend_from_slice(&(json.len() as u32).to_le_bytes());
    blob.extend_from_slice(json.as_bytes());
    let mut zstd = zstd::Encoder::new(blob, ZSTD_LEVEL)?;
    zstd.write_all(artifact)?;
    zstd.finish()
}

impl<'a> Container<'a> {
    /// Reads the outer form.
    pub fn decode(blob: &'a [u8]) -> Result<Container<'a>, ContainerError> {
        let rest = blob.strip_prefix(MAGIC).ok_or(ContainerError::Malformed("wrong first bytes"))?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(ContainerError::Malformed("cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > ENVELOPE_BYTES_MAX || length > rest.len() {
            return Err(ContainerError::Malformed("the envelope's length does not fit"));
        }
        let (json, compressed) = rest.split_at(length);
        Ok(Container { envelope: Envelope::from_json(json)?, compressed })
    }

    /// Decompresses the artifact into `out`, at most `size` bytes (the signed size) and one more to notice excess.
    /// Call it only after the statement's signature was checked.
    pub fn decompress(&self, size: u64, out: &mut impl Write) -> Result<u64, ContainerError> {
        let zstd = zstd::Decoder::with_buffer(self.compressed).map_err(ContainerError::Decompress)?;
        let mut bounded = zstd.take(size.min(ARTIFACT_BYTES_MAX) + 1);
        std::io::copy(&mut bounded, out).map_err(ContainerError::Decompress)
    }
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
    fn decompression_bomb_stops_one_byte_after_the_signed_size() {
        let blob = encode(&envelope(), &vec![0; 10_000_000]).unwrap();
        let mut out = Vec::new();
        assert_eq!(Container::decode(&blob).unwrap().decompress(1_000, &mut out).unwrap(), 1_001);
        assert_eq!(out.len(), 1_001);
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
