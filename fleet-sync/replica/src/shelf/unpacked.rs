//! Beside a small artifact lies a copy that needs no decompressing, `blobs/unpacked/<hex of the blob>`: half of the time
//! that a program takes to load. Nothing depends on it. It is written once its container was loaded well, without waiting
//! for the disk; it is trusted no more than the container; and what is not right with it shows at the load, which then
//! takes the container.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
};

use artifact::record::ArtifactRef;

use super::BlobShelf;

/// Of a larger artifact none is kept: its digest takes longer than anything else.
pub const UNPACKED_BYTES_MAX: u64 = 4 << 20;
/// This much of the disk stays free for what a node cannot do without: records, artifacts, logs.
const FREE_BYTES_MIN: u64 = 4 << 30;

impl BlobShelf {
    /// The copy's bytes as they lie on the disk. `None`: there is none. Blocking.
    pub fn read_unpacked(&self, artifact: &ArtifactRef) -> Option<Vec<u8>> {
        fs::read(self.unpacked_path(artifact)).ok()
    }

    /// Keeps a copy for later loads, unless one is there, it is large, or the disk is rather full. Blocking.
    pub fn keep_unpacked(
        &self,
        artifact: &ArtifactRef,
        native_bytes: u64,
        unpack: impl FnOnce() -> Option<Vec<u8>>,
    ) -> io::Result<()> {
        let path = self.unpacked_path(artifact);
        if native_bytes > UNPACKED_BYTES_MAX || path.exists() {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&self.inner.unpacked)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_BYTES_MIN {
            return Ok(());
        }
        let Some(bytes) = unpack() else { return Ok(()) };
        // Its own name: two loads of one artifact do not write into one file.
        let part =
            self.inner.partial.join(format!("{}.unpacked-{:?}", artifact.blob, std::thread::current().id()));
        let written = File::create(&part).and_then(|mut file| file.write_all(&bytes));
        match written {
            Ok(()) => fs::rename(&part, &path),
            Err(error) => {
                let _ = fs::remove_file(&part);
                Err(error)
            }
        }
    }

    /// Removes a copy that turned out not to be right.
    pub fn forget_unpacked(&self, artifact: &ArtifactRef) {
        let _ = fs::remove_file(self.unpacked_path(artifact));
    }

    fn unpacked_path(&self, artifact: &ArtifactRef) -> PathBuf {
        self.inner.unpacked.join(artifact.blob.to_string())
    }
}

#[cfg(test)]
mod tests {
    use artifact::{Digest, Fingerprint, Profile, Target};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_copy_is_kept_once_and_only_of_a_small_artifact() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = BlobShelf::open(folder.path().to_owned(), "localhost:1".into(), Arc::default()).unwrap();
        let artifact = |blob| ArtifactRef {
            target: Target::X86_64V3,
            profile: Profile::Serve,
            fingerprint: Fingerprint(Digest::ZERO),
            blob: Digest::of(blob),
            blob_bytes: 1,
        };
        let (small, large) = (artifact(b"small"), artifact(b"large"));
        shelf.keep_unpacked(&small, 10, || Some(b"unpacked".to_vec())).unwrap();
        shelf.keep_unpacked(&small, 10, || unreachable!("it is there")).unwrap();
        shelf.keep_unpacked(&large, UNPACKED_BYTES_MAX + 1, || unreachable!("it is too large")).unwrap();
        if shelf.read_unpacked(&small).is_none() {
            eprintln!("SKIPPED: less than 4 GiB of this disk are free");
            return;
        }
        assert_eq!(shelf.read_unpacked(&small).as_deref(), Some(&b"unpacked"[..]));
        assert_eq!(shelf.read_unpacked(&large), None);
        shelf.forget_unpacked(&small);
        assert_eq!(shelf.read_unpacked(&small), None);
    }
}
