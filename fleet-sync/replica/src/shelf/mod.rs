//! Artifacts and static files on this node's disk: `blobs/sha256/ab/<hex>`. What is missing or damaged is fetched from the origin by ranged
//! GET, on a connection of its own, once per digest however many ask, and checked before it gets its name.
//!
//! A file here is a container as the compiler made it: still unverified code. Its statement is checked by the node at
//! every load. So is that of the copy in `unpacked`, which is there to be loaded faster. Absent on purpose: eviction (everything a node fetched stays; see docs/design/0004-sync-protocol.md).

mod assets;
mod fetch;
mod unpacked;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use artifact::{
    Digest,
    assets::IndexError,
    container::CONTAINER_BYTES_MAX,
    nack::{Nack, NackCode},
    record::ArtifactRef,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::{dial::DialError, identity::Identity};

/// Artifacts fetched at once: enough to fill a link, few enough to hold in buffers (4 windows of 4 MiB).
const FETCHES_MAX: usize = 4;

/// The same for static files, beside them: a site has many, and no artifact waits until they are here.
const FILES_FETCHES_MAX: usize = 4;

/// How long a part of a blob waits for its rest, across restarts. Its record may be long gone by then.
const PARTIAL_KEPT: Duration = Duration::from_secs(24 * 3600);

/// A handle; clones share everything.
#[derive(Clone)]
pub struct BlobShelf {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    /// Containers in the form that is quicker to load.
    unpacked: PathBuf,
    /// Which sets of static files are all here.
    complete: PathBuf,
    /// Parts of blobs on their way.
    partial: PathBuf,
    origin: fetch::Bulk,
    /// Of artifacts.
    room: Semaphore,
    files_room: Semaphore,
    /// What static files on their way are still to fill of the disk.
    promises: assets::Promises,
    /// One lock for each digest being fetched.
    flights: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// An artifact could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The origin was not reached. Trying again is worth it.
    #[error("reaching the origin for blob {0}")]
    Unreachable(Digest, #[source] DialError),
    /// The connection failed on the way. Trying again resumes.
    #[error("fetching blob {digest}: {why}")]
    Interrupted {
        /// Which blob.
        digest: Digest,
        /// What happened.
        why: String,
    },
    /// No bytes came for [`fetch::PIECE_MAX`](self).
    #[error("fetching blob {digest}: nothing came for {} s", after.as_secs())]
    Timeout {
        /// Which blob.
        digest: Digest,
        /// How long was waited.
        after: Duration,
    },
    /// The origin does not have it, or refuses.
    #[error("the origin answered {status} for blob {digest}")]
    Refused {
        /// Which blob.
        digest: Digest,
        /// HTTP status.
        status: u16,
    },
    /// The bytes are not those of the digest, or not as many as the record says.
    #[error("blob {0} arrived with other bytes than its name says")]
    Mismatch(Digest),
    /// Larger than any of its kind may be.
    #[error("blob {0} is said to have {1} bytes, at most {2}")]
    TooLarge(Digest, u64, u64),
    /// An index of static files that this release cannot use.
    #[error("the index of static files {0} cannot be used")]
    BadIndex(Digest, #[source] IndexError),
    /// No room on the disk.
    #[error("no room on the disk for blob {0}: free some")]
    NoSpace(Digest, #[source] io::Error),
    /// The disk failed.
    #[error("keeping blob {0}: look at the disk")]
    Disk(Digest, #[source] io::Error),
}

impl FetchError {
    fn disk(digest: Digest, error: io::Error) -> FetchError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::NoSpace(digest, error),
            _ => FetchError::Disk(digest, error),
        }
    }

    /// What a node reports upwards.
    pub fn nack(&self) -> Nack {
        let code = match self {
            FetchError::Unreachable(..)
            | FetchError::Interrupted { .. }
            | FetchError::Timeout { .. }
            | FetchError::Refused { .. } => NackCode::FetchTimeout,
            FetchError::Mismatch(_) => NackCode::DigestMismatch,
            FetchError::TooLarge(..) => NackCode::TooLarge,
            FetchError::BadIndex(..) => NackCode::Compat,
            FetchError::NoSpace(..) => NackCode::NoSpace,
            FetchError::Disk(..) => NackCode::Internal,
        };
        let mut detail = self.to_string();
        if let Some(source) = std::error::Error::source(self) {
            detail = format!("{detail}: {source}");
        }
        Nack { code, detail }
    }
}

impl BlobShelf {
    pub(crate) fn open(
        directory: PathBuf,
        control: String,
        identity: Arc<RwLock<Option<Identity>>>,
    ) -> io::Result<BlobShelf> {
        let (root, partial) = (directory.join("sha256"), directory.join("partial"));
        let (unpacked, complete) = (directory.join("unpacked"), directory.join("complete"));
        fs::create_dir_all(&unpacked)?;
        fs::create_dir_all(&complete)?;
        fs::create_dir_all(&root)?;
        fs::create_dir_all(&partial)?;
        sweep(&partial)?;
        let inner = Inner {
            root,
            unpacked,
            complete,
            partial,
            origin: fetch::Bulk::new(control, identity),
            room: Semaphore::new(FETCHES_MAX),
            files_room: Semaphore::new(FILES_FETCHES_MAX),
            flights: Mutex::new(HashMap::new()),
            promises: assets::Promises::default(),
        };
        Ok(BlobShelf { inner: Arc::new(inner) })
    }

    /// The container's bytes: from disk when they are there and whole, else from the origin. Digest checked either way.
    pub async fn get(&self, artifact: &ArtifactRef) -> Result<Vec<u8>, FetchError> {
        if let Some(bytes) = self.local(artifact.blob).await? {
            return Ok(bytes);
        }
        self.fetch(artifact.blob, artifact.blob_bytes, CONTAINER_BYTES_MAX, &self.inner.room).await?;
        // Read back rather than kept from the fetch: what is used is what lies on the disk.
        self.local(artifact.blob).await?.ok_or(FetchError::Mismatch(artifact.blob))
    }

    /// Makes sure that the container is on disk and whole.
    pub async fn ensure(&self, artifact: &ArtifactRef) -> Result<(), FetchError> {
        match self.local(artifact.blob).await? {
            Some(_) => Ok(()),
            None => {
                self.fetch(artifact.blob, artifact.blob_bytes, CONTAINER_BYTES_MAX, &self.inner.room).await
            }
        }
    }

    /// Is a file of the right size there? Says nothing of its bytes.
    pub fn has(&self, artifact: &ArtifactRef) -> bool {
        self.is_here(artifact.blob, artifact.blob_bytes)
    }

    fn is_here(&self, digest: Digest, bytes: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|meta| meta.len() == bytes)
    }

    /// The container's bytes as they lie on the disk, not checked against its digest: for a reader who checks what is
    /// signed in them, and asks [`BlobShelf::ensure`] when it is not right. `None`: no file of the right size. Blocking.
    pub fn read(&self, artifact: &ArtifactRef) -> io::Result<Option<Vec<u8>>> {
        let bytes = match fs::read(self.path(artifact.blob)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((bytes.len() as u64 == artifact.blob_bytes).then_some(bytes))
    }

    /// Where a blob lies. Lower-case hex only, so no name leaves the directory.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.inner.root.join(&hex[..2]).join(hex)
    }

    /// The bytes on disk, if they are those of the digest. A damaged file is removed, and one that cannot be read is replaced by
    /// the next fetch.
    async fn local(&self, digest: Digest) -> Result<Option<Vec<u8>>, FetchError> {
        let path = self.path(digest);
        let read = blocking(move || match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == digest => Ok(Some(bytes)),
            Ok(_) => {
                tracing::warn!(%digest, "a damaged blob on this node's disk; fetching it again");
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(None),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                tracing::error!(%digest, %error, "a blob on this node's disk cannot be read; fetching it again");
                Ok(None)
            }
        });
        read.await.map_err(|error| FetchError::disk(digest, error))
    }

    /// Single flight: the first fetches, the others wait and find it there.
    async fn fetch(
        &self,
        digest: Digest,
        bytes: u64,
        bytes_max: u64,
        room: &Semaphore,
    ) -> Result<(), FetchError> {
        if bytes > bytes_max {
            return Err(FetchError::TooLarge(digest, bytes, bytes_max));
        }
        let flight = self.inner.flights.lock().entry(digest).or_default().clone();
        let _landing = Landing { shelf: self, digest };
        let _turn = flight.lock().await;
        if self.is_here(digest, bytes) && self.local(digest).await?.is_some() {
            return Ok(());
        }
        let _room = room.acquire().await.expect("this semaphore is never closed");
        let partial = self.inner.partial.join(digest.to_string());
        self.inner.origin.fetch(digest, bytes, &partial).await?;
        let (path, root) = (self.path(digest), self.inner.root.clone());
        let whole = blocking(move || keep(digest, &partial, &path, &root)).await;
        match whole.map_err(|error| FetchError::disk(digest, error))? {
            true => Ok(()),
            false => Err(FetchError::Mismatch(digest)),
        }
    }
}

impl std::fmt::Debug for BlobShelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobShelf").field("root", &self.inner.root).finish_non_exhaustive()
    }
}

/// Forgets a flight when its last passenger leaves, also when that one is dropped half-way.
struct Landing<'a> {
    shelf: &'a BlobShelf,
    digest: Digest,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.shelf.inner.flights.lock();
        // Two: the table's and our own `flight`, which is dropped right after this.
        if flights.get(&self.digest).is_some_and(|flight| Arc::strong_count(flight) <= 2) {
            flights.remove(&self.digest);
        }
    }
}

/// Removes parts that nobody came back for. Younger ones stay: a restart in the middle of a fetch resumes it.
fn sweep(partial: &Path) -> io::Result<()> {
    for part in fs::read_dir(partial)? {
        let part = part?;
        let age = part.metadata()?.modified()?.elapsed().unwrap_or_default();
        if age > PARTIAL_KEPT {
            fs::remove_file(part.path())?;
        }
    }
    Ok(())
}

/// Gives the fetched bytes their name, durably, if they are the right ones; else removes them.
fn keep(digest: Digest, partial: &Path, path: &Path, root: &Path) -> io::Result<bool> {
    let file = fs::File::open(partial)?;
    if Digest::of(&fs::read(partial)?) != digest {
        fs::remove_file(partial)?;
        return Ok(false);
    }
    file.sync_all()?;
    let directory = path.parent().unwrap_or(root);
    if !directory.exists() {
        fs::create_dir_all(directory)?;
        fs::File::open(root)?.sync_all()?;
    }
    fs::rename(partial, path)?;
    fs::File::open(directory)?.sync_all()?;
    Ok(true)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => Err(io::Error::other(panicked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_nobody_came_back_for_are_swept_at_open() {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("partial");
        fs::create_dir_all(&partial).unwrap();
        let (old, young) = (partial.join("old"), partial.join("young"));
        fs::write(&young, b"half").unwrap();
        let file = fs::File::create(&old).unwrap();
        file.set_modified(std::time::SystemTime::now() - PARTIAL_KEPT - Duration::from_secs(1)).unwrap();
        BlobShelf::open(folder.path().to_owned(), "localhost:1".into(), Arc::default()).unwrap();
        assert!(!old.exists() && young.exists());
    }

    #[tokio::test]
    async fn a_blob_that_cannot_be_read_is_as_if_it_were_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = BlobShelf::open(folder.path().to_owned(), "localhost:1".into(), Arc::default()).unwrap();
        let digest = Digest::of(b"blob");
        // A folder is read with an error, as a bad sector would be.
        fs::create_dir_all(shelf.path(digest)).unwrap();
        assert!(shelf.local(digest).await.unwrap().is_none());
    }
}
