//! Static files on this node's disk: the index of a version and its blobs, beside the artifacts and named alike. When all
//! of them are there, an empty file `blobs/complete/<digest of the index>` says so: a node that starts, and a release of the same
//! files, need not look at ten thousand of them.
//!
//! What lies here is checked again at every read (the node's work): a file that vanished or rotted after its fetch is
//! [`BlobShelf::mend`]ed, and nobody is sent other bytes meanwhile.

use std::{collections::BTreeMap, fs, io, ops::Range, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use artifact::{
    Digest,
    assets::{AssetIndex, FILE_BYTES_MAX, INDEX_BYTES_MAX, IndexRef},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;

use super::{BlobShelf, FetchError, blocking};

/// Blobs of one version asked for at once; the shelf lets fewer through.
const ASKED_AT_ONCE_MAX: usize = 8;
/// This much of the disk stays free for what a node cannot do without: records, artifacts, logs. Static files are the one
/// thing here that a tenant makes large.
const FREE_BYTES_MIN: u64 = 512 << 20;

impl BlobShelf {
    /// Makes sure that the index and every blob it names are on disk. What is there stays, so a fetch that broke off goes
    /// on where it was.
    pub async fn ensure_assets(&self, at: &IndexRef) -> Result<(), FetchError> {
        if self.has_assets(at) {
            return Ok(());
        }
        if at.index_bytes > INDEX_BYTES_MAX {
            return Err(FetchError::TooLarge(at.index, at.index_bytes, INDEX_BYTES_MAX));
        }
        self.mend(at.index, at.index_bytes).await?;
        let (shelf, at_disk) = (self.clone(), *at);
        let missing = blocking(move || shelf.missing(&at_disk)).await;
        let (missing, _promised) = missing.map_err(|error| FetchError::disk(at.index, error))??;
        let fetches: Vec<_> =
            missing.into_iter().map(|(digest, bytes)| self.ensure_blob(digest, bytes)).collect();
        stream::iter(fetches).buffer_unordered(ASKED_AT_ONCE_MAX).try_collect::<()>().await?;
        let mark = self.complete_path(at.index);
        let marked = blocking(move || fs::write(mark, b"")).await;
        marked.map_err(|error| FetchError::disk(at.index, error))
    }

    /// Were all of them here once, and is their index still? Says nothing of their bytes.
    pub fn has_assets(&self, at: &IndexRef) -> bool {
        self.complete_path(at.index).exists() && self.path(at.index).exists()
    }

    /// The index, checked. `None`: it is not here, or damaged. Blocking.
    pub fn read_index(&self, at: &IndexRef) -> io::Result<Option<AssetIndex>> {
        match fs::read(self.path(at.index)) {
            Ok(text) if Digest::of(&text) == at.index => Ok(AssetIndex::decode(&text).ok()),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A part of a blob as it lies on the disk, not checked: for a reader who has a digest of it. Blocking.
    pub fn read_part(&self, digest: Digest, part: Range<u64>) -> io::Result<Vec<u8>> {
        let file = fs::File::open(self.path(digest))?;
        let mut bytes = vec![0; usize::try_from(part.end.saturating_sub(part.start)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, part.start)?;
        Ok(bytes)
    }

    /// Fetches a blob again if what is here is not whole.
    pub async fn mend(&self, digest: Digest, bytes: u64) -> Result<(), FetchError> {
        match self.local(digest).await? {
            Some(_) => Ok(()),
            None => self.ensure_blob(digest, bytes).await,
        }
    }

    /// What is to be fetched, if there is room for it beside what others are to fetch.
    fn missing(&self, at: &IndexRef) -> io::Result<Result<Missing, FetchError>> {
        let text = fs::read(self.path(at.index))?;
        let index = match AssetIndex::decode(&text) {
            Ok(index) => index,
            Err(error) => return Ok(Err(FetchError::BadIndex(at.index, error))),
        };
        let named: BTreeMap<Digest, u64> =
            index.blobs().map(|(_, _, blob)| (blob.digest, blob.bytes)).collect();
        let missing: BTreeMap<_, _> =
            named.into_iter().filter(|(digest, bytes)| !self.is_here(*digest, *bytes)).collect();
        let wanted: u64 = missing.values().sum();
        let free = || {
            let disk = rustix::fs::statvfs(&self.inner.root)?;
            Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
        };
        match self.inner.promises.take(wanted, free)? {
            Ok(promised) => Ok(Ok((missing, promised))),
            Err(free) => {
                let why = format!("{wanted} bytes are needed and {FREE_BYTES_MIN} stay free; {free} are");
                let full = io::Error::new(io::ErrorKind::StorageFull, why);
                Ok(Err(FetchError::NoSpace(at.index, full)))
            }
        }
    }

    async fn ensure_blob(&self, digest: Digest, bytes: u64) -> Result<(), FetchError> {
        if self.is_here(digest, bytes) {
            return Ok(());
        }
        self.fetch(digest, bytes, FILE_BYTES_MAX.max(INDEX_BYTES_MAX), &self.inner.files_room).await
    }

    fn complete_path(&self, index: Digest) -> PathBuf {
        self.inner.complete.join(index.to_string())
    }
}

/// Blobs that are not here, with their sizes, and room for them.
type Missing = (BTreeMap<Digest, u64>, Promised);

/// Bytes of the disk that fetches under way are still to fill: each would see them as free.
#[derive(Debug, Clone, Default)]
pub(super) struct Promises(Arc<Mutex<u64>>);

/// Some of them, until they are here or the fetch has ended.
struct Promised {
    of: Promises,
    bytes: u64,
}

impl Promises {
    /// So many bytes of the disk; or what of it is free, if that is too little. What is half here counts twice.
    fn take(&self, bytes: u64, free: impl FnOnce() -> io::Result<u64>) -> io::Result<Result<Promised, u64>> {
        let mut promised = self.0.lock();
        let free = free()?.saturating_sub(*promised);
        if !has_room(bytes, free) {
            return Ok(Err(free));
        }
        *promised += bytes;
        Ok(Ok(Promised { of: self.clone(), bytes }))
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        *self.of.0.lock() -= self.bytes;
    }
}

/// Do so many bytes fit a disk that has so many free?
fn has_room(wanted: u64, free: u64) -> bool {
    wanted == 0 || wanted.saturating_add(FREE_BYTES_MIN) <= free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetches_at_once_do_not_count_on_the_same_bytes() {
        let promises = Promises::default();
        let take = |bytes| promises.take(bytes, || Ok(FREE_BYTES_MIN + 100)).unwrap();
        let one = take(60).ok().unwrap();
        assert_eq!(take(41).err(), Some(FREE_BYTES_MIN + 40));
        let two = take(40).ok().unwrap();
        assert!(take(1).is_err() && take(0).is_ok());
        drop(one);
        assert!(take(60).is_ok());
        drop(two);
        assert!(take(100).is_ok() && take(101).is_err());
    }

    #[test]
    fn a_disk_is_not_filled_to_its_end_with_files() {
        for (wanted, free, fits) in [
            (0, 0, true),
            (1, FREE_BYTES_MIN, false),
            (1, FREE_BYTES_MIN + 1, true),
            (u64::MAX, u64::MAX - 1, false),
        ] {
            assert_eq!(has_room(wanted, free), fits, "{wanted} of {free}");
        }
    }
}
