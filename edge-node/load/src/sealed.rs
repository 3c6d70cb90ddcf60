//! Native code in anonymous memory that nobody can change any more: a memfd with every seal.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    ptr::NonNull,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// Sealed bytes: readable, mappable, immutable. The pages are RAM that cannot be evicted; the code cache counts them.
pub struct SealedCode {
    file: File,
    pages: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pages are a shared read-only mapping of a sealed file: immutable for as long as `self` lives.
#[allow(unsafe_code)]
unsafe impl Send for SealedCode {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for SealedCode {}

impl SealedCode {
    /// An empty memory file to write the code into.
    pub fn writer() -> io::Result<impl Write + Into<OwnedFd>> {
        let fd = memfd_create(c"skerry-code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        Ok(File::from(fd))
    }

    /// Seals what was written.
    #[allow(unsafe_code)]
    pub fn seal(writer: impl Write + Into<OwnedFd>) -> io::Result<SealedCode> {
        let file = File::from(writer.into());
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let bytes = file.metadata()?.len() as usize;
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an artifact has at least one byte"));
        }
        // SAFETY: a fresh mapping at an address the kernel chooses aliases nothing of ours; the file is sealed
        // against writing and shrinking, so the pages neither change nor vanish (no SIGBUS) while mapped.
        let pages =
            unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, &file, 0) }?;
        let pages = NonNull::new(pages.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(SealedCode { file, pages, bytes })
    }

    /// A path that opens this very file within this process.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// The file itself.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl AsRef<[u8]> for SealedCode {
    #[allow(unsafe_code)]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped for `bytes` bytes in `seal`, unmapped only in `drop`, immutable in between.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr(), self.bytes) }
    }
}

impl Drop for SealedCode {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: exactly the range mapped in `seal`; no slice of it outlives `self`.
        let _ = unsafe { munmap(self.pages.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_code_can_be_read_but_not_written_grown_or_shrunk() {
        let mut writer = SealedCode::writer().unwrap();
        writer.write_all(b"code").unwrap();
        let sealed = SealedCode::seal(writer).unwrap();
        assert_eq!(sealed.as_ref(), b"code");
        let mut file = sealed.file().unwrap();
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.set_len(100).is_err());
        assert!(
            std::fs::OpenOptions::new()
                .write(true)
                .open(sealed.path())
                .and_then(|mut f| f.write_all(b"x"))
                .is_err()
        );
        assert_eq!(sealed.as_ref(), b"code");
    }
}
