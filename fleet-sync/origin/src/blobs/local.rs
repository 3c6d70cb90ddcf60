//! Blobs of one machine: files `sha256/ab/<hex>`, written under another name, fsynced, renamed, directory fsynced.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use artifact::Digest;
use async_trait::async_trait;
use bytes::Bytes;

use super::{BlobError, BlobStore};
use crate::files;

/// See the module.
#[derive(Debug, Clone)]
pub struct LocalBlobs {
    root: PathBuf,
}

/// Tells writers of one process apart.
static WRITES: AtomicU64 = AtomicU64::new(0);

impl LocalBlobs {
    /// Blobs under `root/sha256`.
    pub fn open(root: &Path) -> io::Result<LocalBlobs> {
        let root = root.join("sha256");
        fs::create_dir_all(&root)?;
        sweep(&root)?;
        Ok(LocalBlobs { root })
    }

    /// Where a blob lies. Lower-case hex only, so no name leaves the directory.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(hex)
    }

    async fn with<T, F>(&self, doing: &'static str, digest: Digest, work: F) -> Result<T, BlobError>
    where
        T: Send + 'static,
        F: FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
    {
        let path = self.path(digest);
        let done = tokio::task::spawn_blocking(move || work(path)).await;
        match done.unwrap_or_else(|panicked| Err(io::Error::other(panicked))) {
            Ok(done) => Ok(done),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(BlobError::Missing(digest)),
            Err(source) => Err(BlobError::Store { doing, digest, source }),
        }
    }
}

/// Removes what writers left half-way when the process was killed. Only one process writes to the directory.
fn sweep(root: &Path) -> io::Result<()> {
    for directory in fs::read_dir(root)? {
        let directory = directory?.path();
        if !directory.is_dir() {
            continue;
        }
        for file in fs::read_dir(directory)? {
            let file = file?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(".tmp") {
                fs::remove_file(file.path())?;
            }
        }
    }
    Ok(())
}

#[async_trait]
impl BlobStore for LocalBlobs {
    async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let hashed = bytes.clone();
        let digest = tokio::task::spawn_blocking(move || Digest::of(&hashed)).await;
        let digest = digest.map_err(|panicked| BlobError::Store {
            doing: "hashing",
            digest: Digest::ZERO,
            source: io::Error::other(panicked),
        })?;
        let root = self.root.clone();
        self.with("writing", digest, move |path| {
            // There already, and whole? A damaged copy is replaced.
            if fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes.len() as u64)
                && fs::read(&path).is_ok_and(|held| held == bytes)
            {
                return Ok(digest);
            }
            let directory = path.parent().unwrap_or(&root);
            if !directory.exists() {
                fs::create_dir_all(directory)?;
                File::open(&root)?.sync_all()?;
            }
            let unique = format!("{}-{}", std::process::id(), WRITES.fetch_add(1, Ordering::Relaxed));
            files::write_atomically(&path, &unique, files::PUBLIC, &bytes)?;
            Ok(digest)
        })
        .await
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, BlobError> {
        let read = self.with("reading", digest, move |path| {
            let bytes = fs::read(path)?;
            Ok((Digest::of(&bytes) == digest).then_some(bytes))
        });
        read.await?.map(Bytes::from).ok_or(BlobError::Corrupt(digest))
    }

    async fn get_range(&self, digest: Digest, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.with("reading", digest, move |path| {
            let mut file = File::open(path)?;
            let size = file.metadata()?.len();
            let (start, end) = (range.start.min(size), range.end.min(size));
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::with_capacity(end.saturating_sub(start) as usize);
            file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
            Ok(Bytes::from(bytes))
        })
        .await
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, BlobError> {
        match self.with("looking at", digest, |path| Ok(fs::metadata(path)?.len())).await {
            Ok(size) => Ok(Some(size)),
            Err(BlobError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, digest: Digest) -> Result<(), BlobError> {
        match self.with("deleting", digest, fs::remove_file).await {
            Ok(()) | Err(BlobError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn half_written_files_are_swept_at_open_and_blobs_stay() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        let digest = blobs.put(Bytes::from_static(b"whole")).await.unwrap();
        let leftover = blobs.path(digest).with_file_name(format!(".{digest}.1-0.tmp"));
        fs::write(&leftover, b"who").unwrap();
        let blobs = LocalBlobs::open(folder.path()).unwrap();
        assert!(!leftover.exists());
        assert_eq!(blobs.get(digest).await.unwrap(), Bytes::from_static(b"whole"));
    }
}
