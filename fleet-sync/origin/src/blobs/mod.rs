//! The blob store's seam: immutable bytes named by their sha-256. Uploaded programs and signed artifacts.

pub mod conformance;
mod local;

use std::ops::Range;

use artifact::Digest;
use async_trait::async_trait;
use bytes::Bytes;

pub use local::LocalBlobs;

/// Where blobs are kept.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Keeps the bytes, durable on return. Putting the same bytes again is harmless.
    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError>;

    /// The whole blob. The bytes are those of the digest, or [`BlobError::Corrupt`].
    async fn get(&self, digest: Digest) -> Result<Bytes, BlobError>;

    /// Part of a blob, cut at its end. Not checked against the digest: the reader of the last part does that.
    async fn get_range(&self, digest: Digest, range: Range<u64>) -> Result<Bytes, BlobError>;

    /// Its size in bytes, or `None` when it is not there.
    async fn size(&self, digest: Digest) -> Result<Option<u64>, BlobError>;

    /// Is it there?
    async fn exists(&self, digest: Digest) -> Result<bool, BlobError> {
        Ok(self.size(digest).await?.is_some())
    }

    /// Removes it. Removing what is not there is harmless.
    async fn delete(&self, digest: Digest) -> Result<(), BlobError>;
}

/// A blob could not be kept or had.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not there.
    #[error("there is no blob {0}")]
    Missing(Digest),
    /// What is there is not what the name says.
    #[error("blob {0} is damaged: restore it from a copy, or deploy the app again")]
    Corrupt(Digest),
    /// The store failed.
    #[error("{doing} blob {digest}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// With which blob.
        digest: Digest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
