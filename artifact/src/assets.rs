//! Static files of a version: the index that names them, and its one encoding.
//!
//! A version pins the digest of its index; the index names each file by path, with content type, and the blobs that hold
//! it: as it is, and compressed where that is smaller. Relied on by the CLI, which writes it, the control plane, which
//! checks it against what it holds, and the node, which serves by it. Deliberately absent: bytes of files, and what a
//! request asks for.
//!
//! The encoding is JSON with one form for each index (keys and paths in order, no blanks): what decodes but is not what
//! [`AssetIndex::encode`] writes is refused, so an index has one digest.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Files of one version: a large documentation site. A node holds some 450 bytes in memory for each while it serves them.
pub const FILES_MAX: usize = 10_000;
/// Bytes of one file: what other platforms allow, and what a control plane holds in memory for each upload.
pub const FILE_BYTES_MAX: u64 = 25 << 20;
/// Bytes of all blobs of one version, compressed ones included: every node keeps them on its disk.
pub const ASSETS_BYTES_MAX: u64 = 256 << 20;
/// Bytes of a path. Longer ones do not fit a request line of 8 KiB when each byte is escaped and a prefix stands before.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of a content type.
pub const TYPE_BYTES_MAX: usize = 128;
/// Bytes of an index: 10,000 files with both variants and paths of 100 bytes take 5 MB (500 a file).
pub const INDEX_BYTES_MAX: u64 = 8 << 20;
/// Bytes that are read, checked and sent at once. A reader that is slow holds so many, and no byte leaves before the piece
/// it is in was checked.
pub const PIECE_BYTES: u64 = 64 << 10;

/// The form of the encoding. Another one is not read.
const FORM: u32 = 1;

/// Where a version's index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRef {
    /// Digest of the encoded index.
    pub index: Digest,
    /// Its size in bytes.
    pub index_bytes: u64,
}

/// The files of a version, by path: no leading `/`, as in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetIndex {
    form: u32,
    files: BTreeMap<String, AssetFile>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetFile {
    /// What it is sent as.
    #[serde(rename = "type")]
    pub content_type: String,
    /// As it is.
    pub plain: AssetBlob,
    /// Compressed with Brotli (RFC 7932).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub br: Option<AssetBlob>,
    /// Compressed with gzip (RFC 1952).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gzip: Option<AssetBlob>,
}

/// The bytes of a file in one encoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetBlob {
    /// sha-256 of all of it, and its name in every store.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// sha-256 of each piece of [`PIECE_BYTES`], the last one shorter. None where there is one piece, whose digest is the
    /// blob's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Digest>,
}

/// How the bytes of a file are coded (RFC 9110 §8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// Brotli.
    Br,
    /// gzip.
    Gzip,
}

/// An index is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Over [`INDEX_BYTES_MAX`].
    #[error("the index of the static files has {0} bytes, at most {INDEX_BYTES_MAX}: deploy fewer files")]
    TooLarge(u64),
    /// Not JSON, or of another shape.
    #[error("the index of the static files does not read: {0}")]
    Malformed(String),
    /// Of a later release.
    #[error("the index of the static files has form {0}, this release reads {FORM}: update it")]
    Form(u32),
    /// Another encoding of the same index.
    #[error("the index of the static files is not in its one form")]
    NotCanonical,
    /// Over [`FILES_MAX`].
    #[error("{0} static files, at most {FILES_MAX}")]
    TooManyFiles(usize),
    /// Over [`ASSETS_BYTES_MAX`].
    #[error("the static files have {0} bytes, compressed variants included, at most {ASSETS_BYTES_MAX}")]
    TooManyBytes(u64),
    /// One file.
    #[error("the static file {path:?}: {why}")]
    File {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl AssetBlob {
    /// What names these bytes.
    pub fn of(bytes: &[u8]) -> AssetBlob {
        let several = bytes.len() as u64 > PIECE_BYTES;
        let pieces = match several {
            true => bytes.chunks(PIECE_BYTES as usize).map(Digest::of).collect(),
            false => Vec::new(),
        };
        AssetBlob { digest: Digest::of(bytes), bytes: bytes.len() as u64, pieces }
    }

    /// Are these all of its bytes?
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        *self == AssetBlob::of(bytes)
    }

    /// How many pieces it has; an empty one has none.
    pub fn piece_count(&self) -> u64 {
        self.bytes.div_ceil(PIECE_BYTES)
    }

    /// Where the piece of this number lies, and its digest. `None`: there is no such piece.
    pub fn piece(&self, number: u64) -> Option<(std::ops::Range<u64>, Digest)> {
        let start = number.checked_mul(PIECE_BYTES).filter(|start| *start < self.bytes)?;
        let digest = match self.pieces.is_empty() {
            true => self.digest,
            false => *self.pieces.get(usize::try_from(number).ok()?)?,
        };
        Some((start..(start + PIECE_BYTES).min(self.bytes), digest))
    }

    fn check(&self) -> Result<(), String> {
        if self.bytes > FILE_BYTES_MAX {
            return Err(format!("{} bytes, at most {FILE_BYTES_MAX}", self.bytes));
        }
        let wanted = if self.bytes > PIECE_BYTES { self.piece_count() } else { 0 };
        if self.pieces.len() as u64 != wanted {
            return Err(format!(
                "{} digests of pieces for {} bytes, {wanted} are needed",
                self.pieces.len(),
                self.bytes
            ));
        }
        Ok(())
    }
}

impl AssetFile {
    /// The blob that holds it in this coding.
    pub fn blob(&self, coding: Coding) -> Option<&AssetBlob> {
        match coding {
            Coding::Identity => Some(&self.plain),
            Coding::Br => self.br.as_ref(),
            Coding::Gzip => self.gzip.as_ref(),
        }
    }

    /// Its blobs.
    pub fn blobs(&self) -> impl Iterator<Item = (Coding, &AssetBlob)> {
        Coding::ALL.into_iter().filter_map(|coding| Some((coding, self.blob(coding)?)))
    }

    fn check(&self) -> Result<(), String> {
        if self.content_type.is_empty() || self.content_type.len() > TYPE_BYTES_MAX {
            return Err(format!(
                "a content type of {} bytes, 1 to {TYPE_BYTES_MAX}",
                self.content_type.len()
            ));
        }
        if !self.content_type.bytes().all(|c| (b' '..=b'~').contains(&c)) {
            return Err("its content type has characters other than visible ASCII".into());
        }
        self.blobs().try_for_each(|(coding, blob)| blob.check().map_err(|why| format!("{coding}: {why}")))
    }
}

impl Coding {
    /// All of them.
    pub const ALL: [Coding; 3] = [Coding::Identity, Coding::Br, Coding::Gzip];

    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl AssetIndex {
    /// An index of these files, checked.
    pub fn new(files: BTreeMap<String, AssetFile>) -> Result<AssetIndex, IndexError> {
        let index = AssetIndex { form: FORM, files };
        index.check()?;
        Ok(index)
    }

    /// Its one encoding.
    pub fn encode(&self) -> Result<Vec<u8>, IndexError> {
        let text = serde_json::to_vec(self).map_err(|error| IndexError::Malformed(error.to_string()))?;
        match text.len() as u64 > INDEX_BYTES_MAX {
            true => Err(IndexError::TooLarge(text.len() as u64)),
            false => Ok(text),
        }
    }

    /// Reads an encoded index, refusing what [`AssetIndex::encode`] does not write and what is over a bound.
    pub fn decode(text: &[u8]) -> Result<AssetIndex, IndexError> {
        #[derive(Deserialize)]
        struct Head {
            form: u32,
        }
        if text.len() as u64 > INDEX_BYTES_MAX {
            return Err(IndexError::TooLarge(text.len() as u64));
        }
        let malformed = |error: serde_json::Error| IndexError::Malformed(error.to_string());
        let Head { form } = serde_json::from_slice(text).map_err(malformed)?;
        if form != FORM {
            return Err(IndexError::Form(form));
        }
        let index: AssetIndex = serde_json::from_slice(text).map_err(malformed)?;
        index.check()?;
        match index.encode()? == text {
            true => Ok(index),
            false => Err(IndexError::NotCanonical),
        }
    }

    /// The files, by path.
    pub fn files(&self) -> &BTreeMap<String, AssetFile> {
        &self.files
    }

    /// Every blob of every file, with its file's path. One that several files share comes several times.
    pub fn blobs(&self) -> impl Iterator<Item = (&str, Coding, &AssetBlob)> {
        self.files
            .iter()
            .flat_map(|(path, file)| file.blobs().map(move |(coding, blob)| (path.as_str(), coding, blob)))
    }

    fn check(&self) -> Result<(), IndexError> {
        if self.files.len() > FILES_MAX {
            return Err(IndexError::TooManyFiles(self.files.len()));
        }
        for (path, file) in &self.files {
            check_path(path)
                .and_then(|()| file.check())
                .map_err(|why| IndexError::File { path: path.chars().take(200).collect(), why })?;
        }
        let bytes = self.blobs().map(|(_, _, blob)| blob.bytes).sum();
        match bytes > ASSETS_BYTES_MAX {
            true => Err(IndexError::TooManyBytes(bytes)),
            false => Ok(()),
        }
    }
}

/// May a file have this path? Segments between single `/`, none of them a dot segment, no control characters: so no request's
/// path can name what it seems not to.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err(format!("a path of {} bytes, 1 to {PATH_BYTES_MAX}", path.len()));
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        return Err("its path has an empty, '.' or '..' segment".into());
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Err("its path has a control character or a backslash".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> AssetFile {
        AssetFile {
            content_type: "text/plain; charset=utf-8".into(),
            plain: AssetBlob::of(bytes),
            br: None,
            gzip: None,
        }
    }

    fn index(files: impl IntoIterator<Item = (&'static str, AssetFile)>) -> AssetIndex {
        AssetIndex::new(files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect()).unwrap()
    }

    #[test]
    fn the_written_form_is_fixed_and_reads_back() {
        let mut page = file(b"page");
        page.br = Some(AssetBlob::of(b"br"));
        let index = index([("b.txt", file(b"")), ("a/b.html", page)]);
        let text = index.encode().unwrap();
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            concat!(
                r#"{"form":1,"files":{"a/b.html":{"type":"text/plain; charset=utf-8","#,
                r#""plain":{"digest":"db99de0e5d8de82ae5c09fafe79d5f2e47c60d92a18cffe1f8fc08fb9c9f8ef3","bytes":4},"#,
                r#""br":{"digest":"DIGEST","bytes":2}},"#,
                r#""b.txt":{"type":"text/plain; charset=utf-8","#,
                r#""plain":{"digest":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","bytes":0}}}}"#
            )
            .replace("db99de0e5d8de82ae5c09fafe79d5f2e47c60d92a18cffe1f8fc08fb9c9f8ef3", &Digest::of(b"page").to_string())
            .replace("DIGEST", &Digest::of(b"br").to_string())
        );
        assert_eq!(AssetIndex::decode(&text).unwrap(), index);
    }

    #[test]
    fn another_form_of_the_same_index_is_refused() {
        let text =
            String::from_utf8(index([("a", file(b"1")), ("b", file(b"2"))]).encode().unwrap()).unwrap();
        let one = text.find("\"a\"").unwrap();
        let two = text.find("\"b\"").unwrap();
        let (a, b) = (&text[one..two - 1], &text[two..text.len() - 2]);
        let swapped = format!("{}{b},{a}}}}}", &text[..one]);
        let twice = format!("{}{a},{a},{b}}}}}", &text[..one]);
        for other in [format!("{text} "), swapped, twice, text.replace(":1,\"files", ": 1,\"files")] {
            assert_eq!(AssetIndex::decode(other.as_bytes()), Err(IndexError::NotCanonical), "{other}");
        }
        let newer = text.replacen("\"form\":1", "\"form\":2", 1);
        assert_eq!(AssetIndex::decode(newer.as_bytes()), Err(IndexError::Form(2)));
        let unknown = text.replacen("\"form\":1", "\"form\":1,\"x\":1", 1);
        assert!(matches!(AssetIndex::decode(unknown.as_bytes()), Err(IndexError::Malformed(_))));
    }

    #[test]
    fn pieces_cover_a_blob_and_name_their_bytes() {
        let bytes: Vec<u8> = (0..2 * PIECE_BYTES + 7).map(|n| (n % 251) as u8).collect();
        let blob = AssetBlob::of(&bytes);
        let mut at = 0;
        for number in 0..blob.piece_count() {
            let (range, digest) = blob.piece(number).unwrap();
            assert_eq!(range.start, at);
            assert_eq!(digest, Digest::of(&bytes[range.start as usize..range.end as usize]));
            at = range.end;
        }
        assert_eq!((at, blob.piece_count(), blob.piece(3)), (blob.bytes, 3, None));
        assert_eq!(AssetBlob::of(b"x").piece(0), Some((0..1, Digest::of(b"x"))));
        assert_eq!(AssetBlob::of(b"").piece(0), None);
        assert!(blob.is_of(&bytes) && !blob.is_of(&bytes[1..]));
    }

    #[test]
    fn paths_that_could_mean_another_file_are_refused() {
        for good in ["a", "a/b.css", ".well-known/x", "ä ö/ü", "a..b", "a%2fb"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        let long = "x".repeat(PATH_BYTES_MAX + 1);
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", &long] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_bound_is_checked() {
        let refused = |path: &str, change: &dyn Fn(&mut AssetFile)| {
            let mut file = file(b"x");
            change(&mut file);
            AssetIndex::new([(path.to_owned(), file)].into()).unwrap_err().to_string()
        };
        let no_change: &dyn Fn(&mut AssetFile) = &|_| {};
        assert!(refused("../x", no_change).contains("'..' segment"));
        assert!(refused("x", &|file| file.content_type = "a\r\nb: c".into()).contains("visible ASCII"));
        assert!(refused("x", &|file| file.content_type = String::new()).contains("content type of 0 bytes"));
        assert!(refused("x", &|file| file.plain.bytes = FILE_BYTES_MAX + 1).contains("at most 26214400"));
        assert!(refused("x", &|file| file.plain.bytes = PIECE_BYTES + 1).contains("2 are needed"));
        assert!(refused("x", &|file| file.plain.pieces = vec![Digest::ZERO]).contains("0 are needed"));
        let many = (0..=FILES_MAX).map(|n| (n.to_string(), file(b"x"))).collect();
        assert_eq!(AssetIndex::new(many), Err(IndexError::TooManyFiles(FILES_MAX + 1)));
        let largest = AssetBlob::of(&vec![0; FILE_BYTES_MAX as usize]);
        let large =
            (0..11).map(|n| (n.to_string(), AssetFile { plain: largest.clone(), ..file(b"x") })).collect();
        assert!(matches!(AssetIndex::new(large), Err(IndexError::TooManyBytes(_))));
        let huge = vec![b' '; INDEX_BYTES_MAX as usize + 1];
        assert!(matches!(AssetIndex::decode(&huge), Err(IndexError::TooLarge(_))));
    }
}
