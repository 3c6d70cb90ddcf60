//! A package: gzip around tar, `<name>/fastly.toml` and `<name>/bin/main.wasm` in it. It may be anybody's, so it is
//! unpacked in memory, once, with every size bounded, and nothing in it is unpacked again.
//!
//! Relied on: `flate2` checks length and checksum of what it inflates; `tar` reads headers, long names and pax records.
//! What they could be tricked with is bounded below them (the inflated stream) and checked above them (kind, path and
//! length of each entry).

use std::{
    cell::Cell,
    collections::BTreeMap,
    io::{self, Read},
};

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType};

/// Bytes of a package's file: Fastly's own bound.
pub const FILE_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// Entries, directories included.
pub const ENTRIES_MAX: usize = 1_000;
/// Bytes of what is in it, headers included.
pub const UNPACKED_BYTES_MAX: u64 = 100 * 1024 * 1024;
/// How often larger it may be unpacked. Programs reach 3 to 10; deflate's most is about 1,030.
pub const RATIO_MAX: u64 = 100;
/// Up to here the ratio is not asked: padding alone makes a tiny package large.
pub const RATIO_FREE_BYTES: u64 = 1024 * 1024;
/// Bytes of a path in it.
pub const PATH_BYTES_MAX: usize = 1024;

/// A package's files.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder everything is in.
    pub folder: String,
    /// Contents by path in the folder.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Why a package is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadPackage {
    /// The inflated stream is over a bound.
    #[error(
        "it unpacks to more than {0} bytes; it may have {UNPACKED_BYTES_MAX}, and {RATIO_MAX} times its own size \
         once that is above {RATIO_FREE_BYTES}"
    )]
    TooLarge(u64),
    /// More than [`ENTRIES_MAX`].
    #[error("it has more than {ENTRIES_MAX} entries")]
    TooMany,
    /// It ends too early.
    #[error("it is cut off; fetch or make it again")]
    CutOff,
    /// Neither gzip nor tar, or damaged.
    #[error("it is not a whole tar.gz: {0}")]
    Broken(io::Error),
    /// Something follows what it says it is.
    #[error("it goes on after its end")]
    GoesOn,
    /// A link, device or other thing that a program does not need.
    #[error("{path:?} in it is {kind}; only files and folders are accepted")]
    Kind {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A path that leads out of it, or none at all.
    #[error("{path:?} in it {why}")]
    Path {
        /// The entry.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No file at all.
    #[error("it is empty")]
    Empty,
}

/// Unpacks a package.
pub fn unpack(bytes: &[u8]) -> Result<Unpacked, BadPackage> {
    let by_ratio = (bytes.len() as u64).saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    let bytes_max = by_ratio.min(UNPACKED_BYTES_MAX);
    let over = Cell::new(false);
    let mut stream = Bounded { inner: GzDecoder::new(bytes), left: bytes_max, over: &over };
    let unpacked = entries(&mut stream).and_then(|unpacked| at_end(&mut stream).map(|()| unpacked));
    // What the bound broke off looks like damage to those above it.
    let unpacked = if over.get() { Err(BadPackage::TooLarge(bytes_max)) } else { unpacked }?;
    match stream.inner.into_inner().is_empty() {
        true => Ok(unpacked),
        false => Err(BadPackage::GoesOn),
    }
}

fn entries(stream: impl Read) -> Result<Unpacked, BadPackage> {
    let mut archive = Archive::new(stream);
    let (mut folder, mut files) = (None, BTreeMap::new());
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        if count >= ENTRIES_MAX {
            return Err(BadPackage::TooMany);
        }
        let Some((path, contents)) = file(entry.map_err(broken)?)? else { continue };
        let bad = |why| BadPackage::Path { path: path.clone(), why };
        let (top, inside) = path.split_once('/').ok_or_else(|| bad("is not in a folder"))?;
        if folder.get_or_insert_with(|| top.to_owned()) != top {
            return Err(bad("is in another folder than the files before it"));
        }
        if files.insert(inside.to_owned(), contents).is_some() {
            return Err(bad("is there twice"));
        }
    }
    Ok(Unpacked { folder: folder.ok_or(BadPackage::Empty)?, files })
}

/// A file with its clean path; `None` for what has no contents.
fn file(mut entry: Entry<'_, impl Read>) -> Result<Option<(String, Vec<u8>)>, BadPackage> {
    let raw = entry.path_bytes().into_owned();
    let shown = || String::from_utf8_lossy(raw.get(..raw.len().min(200)).unwrap_or_default()).into_owned();
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => None,
        EntryType::Directory => {
            return path(&raw).map(|_| None).map_err(|why| BadPackage::Path { path: shown(), why });
        }
        EntryType::XGlobalHeader => return Ok(None),
        EntryType::Symlink => Some("a symbolic link"),
        EntryType::Link => Some("a hard link"),
        EntryType::Char | EntryType::Block => Some("a device"),
        EntryType::Fifo => Some("a pipe"),
        EntryType::GNUSparse => Some("a file with holes"),
        _ => Some("of an unknown kind"),
    };
    let kind = match kind {
        None if has_holes(&mut entry)? => Some("a file with holes"),
        kind => kind,
    };
    if let Some(kind) = kind {
        return Err(BadPackage::Kind { path: shown(), kind });
    }
    let path = path(&raw).map_err(|why| BadPackage::Path { path: shown(), why })?;
    let (mut contents, size) = (Vec::new(), entry.size());
    entry.read_to_end(&mut contents).map_err(broken)?;
    match contents.len() as u64 == size {
        true => Ok(Some((path, contents))),
        false => Err(BadPackage::CutOff),
    }
}

/// Newer sparse files look like ordinary ones, but for a pax record.
fn has_holes(entry: &mut Entry<'_, impl Read>) -> Result<bool, BadPackage> {
    let Some(records) = entry.pax_extensions().map_err(broken)? else { return Ok(false) };
    for record in records {
        if record.map_err(broken)?.key_bytes().starts_with(b"GNU.sparse") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A relative path of plain names, `.` left out.
fn path(raw: &[u8]) -> Result<String, &'static str> {
    if raw.len() > PATH_BYTES_MAX {
        return Err("has too long a name");
    }
    let text = std::str::from_utf8(raw).map_err(|_| "has a name that is not UTF-8")?;
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has a control character or a backslash in its name");
    }
    if text.starts_with('/') {
        return Err("is an absolute path");
    }
    let mut parts = Vec::new();
    for part in text.strip_suffix('/').unwrap_or(text).split('/') {
        match part {
            "." => {}
            "" => return Err("has an empty name in its path"),
            ".." => return Err("leads out of the package"),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// After its end a tar has zeros alone; and only reading on to the end checks gzip's own checksum.
fn at_end(stream: &mut impl Read) -> Result<(), BadPackage> {
    let mut block = [0; 8 * 1024];
    loop {
        match stream.read(&mut block).map_err(broken)? {
            0 => return Ok(()),
            n if block.iter().take(n).all(|byte| *byte == 0) => {}
            _ => return Err(BadPackage::GoesOn),
        }
    }
}

fn broken(error: io::Error) -> BadPackage {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BadPackage::CutOff,
        _ => BadPackage::Broken(error),
    }
}

/// Lets a number of bytes through, and notes when there would be more.
struct Bounded<'c, R> {
    inner: R,
    left: u64,
    over: &'c Cell<bool>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !buffer.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => {
                    self.over.set(true);
                    Err(io::Error::other("it is too large"))
                }
            };
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.inner.read(buffer.get_mut(..room).unwrap_or_default())?;
        self.left -= n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[path = "package_tests.rs"]
mod tests;
