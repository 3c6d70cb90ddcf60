//! Static files of an app: a folder → files with their types → blobs, plain and compressed → an index → what is missing is
//! sent.
//!
//! Relied on: `artifact::assets` for the index and every bound. Compressing gives the same bytes each time, so that a blob
//! that was sent once is not sent again. Deliberately absent: watching the folder; a file that changes between reading and
//! sending ends the deploy.

mod kept;
mod send;
mod types;
mod walk;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use artifact::{
    Digest,
    assets::{
        ASSETS_BYTES_MAX, AssetBlob, AssetFile, AssetIndex, Coding, FILE_BYTES_MAX, FILES_MAX, IndexError,
    },
};

use rustix::fs::OFlags;

pub use kept::Kept;
pub use send::Sent;

use self::kept::Variants;
use crate::{
    error::{Error, Result},
    output::Progress,
};

/// Brotli's effort, of 0 to 11: the last two steps take many times as long for a few percent, and a deploy compresses
/// everything.
const BROTLI_QUALITY: u32 = 9;
/// Brotli's window, 4 MiB: as far as browsers go.
const BROTLI_WINDOW_LOG2: u32 = 22;
/// gzip's effort, of 0 to 9.
const GZIP_LEVEL: u32 = 9;
/// A variant is kept if it has at most so many percent of the file: below that it saves no packet.
const VARIANT_PERCENT_MAX: u64 = 95;

/// The static files of an app, ready to be sent.
#[derive(Debug)]
pub struct Site {
    /// Digest of the index, for the deploy.
    pub index: Digest,
    /// Files skipped, and why: for a person.
    pub notes: Vec<String>,
    files: AssetIndex,
    /// Every blob by its digest, the index among them.
    blobs: BTreeMap<Digest, Source>,
}

/// Where a blob's bytes are, and whose they are.
#[derive(Debug)]
struct Source {
    /// The file's path in the folder; for messages.
    path: String,
    bytes: u64,
    from: From,
}

#[derive(Debug)]
enum From {
    Disk(PathBuf),
    Memory(Arc<Vec<u8>>),
}

/// Reads and hashes the files of `folder`, and compresses those whose compressed forms are not kept.
pub fn read(folder: &Path, progress: &Progress, kept: &Kept) -> Result<Site> {
    kept.begin();
    let walked = walk::walk(folder)?;
    if walked.files.len() > FILES_MAX {
        return Err(refused(folder, &IndexError::TooManyFiles(walked.files.len()).to_string()));
    }
    let made = all(&walked.files, folder, progress, kept)?;
    let (mut files, mut blobs) = (BTreeMap::new(), BTreeMap::new());
    for Made { path, disk, file, variants } in made {
        let add = |blobs: &mut BTreeMap<Digest, Source>, blob: &AssetBlob, from| {
            let source = Source { path: path.clone(), bytes: blob.bytes, from };
            blobs.entry(blob.digest).or_insert(source);
        };
        add(&mut blobs, &file.plain, From::Disk(disk));
        for (coding, bytes) in variants {
            if let Some(blob) = file.blob(coding) {
                add(&mut blobs, blob, From::Memory(bytes));
            }
        }
        files.insert(path, file);
    }
    let files = AssetIndex::new(files).map_err(|error| refused(folder, &error.to_string()))?;
    let text = files.encode().map_err(|error| refused(folder, &error.to_string()))?;
    let index = Digest::of(&text);
    let source =
        Source { path: "the index".into(), bytes: text.len() as u64, from: From::Memory(Arc::new(text)) };
    blobs.insert(index, source);
    Ok(Site { index, notes: walked.notes, files, blobs })
}

/// One file, read.
struct Made {
    path: String,
    disk: PathBuf,
    file: AssetFile,
    variants: Variants,
}

/// Each file on one of as many threads as there are cores: compressing is all the work.
fn all(files: &[(String, PathBuf)], folder: &Path, progress: &Progress, kept: &Kept) -> Result<Vec<Made>> {
    let (next, failed, made_bytes) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicU64::new(0));
    let made: Mutex<Vec<Made>> = Mutex::new(Vec::with_capacity(files.len()));
    let first_error = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(files.len()) {
            scope.spawn(|| {
                while !failed.load(Relaxed)
                    && let Some((path, disk)) = files.get(next.fetch_add(1, Relaxed))
                {
                    let one = make(path, disk, folder, kept).and_then(|one| {
                        // They are in memory until they are sent.
                        let bytes: u64 = one.variants.iter().map(|(_, bytes)| bytes.len() as u64).sum();
                        match made_bytes.fetch_add(bytes, Relaxed) + bytes {
                            all if all > ASSETS_BYTES_MAX => {
                                Err(refused(folder, &IndexError::TooManyBytes(all).to_string()))
                            }
                            _ => Ok(one),
                        }
                    });
                    match one {
                        Ok(one) => made.lock().unwrap_or_else(|held| held.into_inner()).push(one),
                        Err(error) => {
                            failed.store(true, Relaxed);
                            first_error.lock().unwrap_or_else(|held| held.into_inner()).get_or_insert(error);
                        }
                    }
                    progress.now(format!("reading static files: {path}"));
                }
            });
        }
    });
    match first_error.into_inner().unwrap_or_else(|held| held.into_inner()) {
        Some(error) => Err(error),
        None => Ok(made.into_inner().unwrap_or_else(|held| held.into_inner())),
    }
}

fn make(path: &str, disk: &Path, folder: &Path, kept: &Kept) -> Result<Made> {
    let bytes = read_bounded(disk, folder, path)?;
    let (content_type, compresses) = types::of(path);
    let mut file =
        AssetFile { content_type: content_type.into(), plain: AssetBlob::of(&bytes), br: None, gzip: None };
    let variants = match compresses {
        false => Vec::new(),
        true => kept
            .get(file.plain.digest, || compressed(&bytes))
            .map_err(Error::io(format!("compressing {}", disk.display())))?,
    };
    for (coding, variant) in &variants {
        let blob = Some(AssetBlob::of(variant));
        match coding {
            Coding::Br => file.br = blob,
            Coding::Gzip | Coding::Identity => file.gzip = blob,
        }
    }
    Ok(Made { path: path.to_owned(), disk: disk.to_owned(), file, variants })
}

/// The forms that save something.
fn compressed(bytes: &[u8]) -> io::Result<Variants> {
    let saves = |variant: &Vec<u8>| variant.len() as u64 * 100 <= bytes.len() as u64 * VARIANT_PERCENT_MAX;
    let forms = [(Coding::Br, brotli(bytes)?), (Coding::Gzip, gzip(bytes)?)];
    let saving = forms.into_iter().filter(|(_, variant)| saves(variant));
    Ok(saving.map(|(coding, variant)| (coding, Arc::new(variant))).collect())
}

/// A file's bytes; no more of them than a file may have, however it grows meanwhile.
fn read_bounded(disk: &Path, folder: &Path, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open(disk).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(Error::io(format!("reading {}", disk.display())))?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(refused(
            folder,
            &format!("{path} has more than {FILE_BYTES_MAX} bytes, the most a file may have"),
        )),
        false => Ok(bytes),
    }
}

/// Opens what the walk saw as a file: neither a link that came since nor a pipe without a writer.
fn open(disk: &Path) -> io::Result<fs::File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(disk)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file any more")),
    }
}

fn brotli(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, BROTLI_QUALITY, BROTLI_WINDOW_LOG2);
    writer.write_all(bytes)?;
    writer.flush()?;
    Ok(writer.into_inner())
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
    writer.write_all(bytes)?;
    writer.finish()
}

fn refused(folder: &Path, why: &str) -> Error {
    Error::Rejected {
        doing: format!("reading the static files in {}", folder.display()),
        code: "bad_assets".into(),
        message: why.to_owned(),
        mistakes: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn quiet() -> Progress {
        Progress::start("")
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    #[test]
    fn text_has_variants_that_unpack_to_it_where_they_save_something() {
        let page = b"<p>hello</p>".repeat(200);
        let noise: Vec<u8> =
            (0..2000_u32).flat_map(|n| Digest::of(&n.to_be_bytes()).as_bytes()[..1].to_vec()).collect();
        let folder = folder(&[
            ("index.html", &page),
            ("a/noise.txt", &noise),
            ("a/image.png", &page),
            ("tiny.css", b"a"),
        ]);
        let site = read(folder.path(), &quiet(), &Kept::default()).unwrap();
        let files = site.files.files();
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            ["a/image.png", "a/noise.txt", "index.html", "tiny.css"]
        );
        let codings = |path: &str| files[path].blobs().map(|(coding, _)| coding).collect::<Vec<_>>();
        assert_eq!(codings("index.html"), Coding::ALL);
        for plain in ["a/noise.txt", "a/image.png", "tiny.css"] {
            assert_eq!(codings(plain), [Coding::Identity], "{plain}");
        }
        let From::Memory(br) = &site.blobs[&files["index.html"].br.as_ref().unwrap().digest].from else {
            panic!()
        };
        let mut unpacked = Vec::new();
        brotli::Decompressor::new(&br[..], 4096).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, page);
        let From::Memory(gzip) = &site.blobs[&files["index.html"].gzip.as_ref().unwrap().digest].from else {
            panic!()
        };
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, page);

        let again = read(folder.path(), &quiet(), &Kept::default()).unwrap();
        assert_eq!(again.index, site.index, "the same folder gives the same blobs");
    }

    #[test]
    fn what_is_too_large_or_too_many_is_refused_by_name() {
        let folder = folder(&[("small.txt", b"x")]);
        let huge = fs::File::create(folder.path().join("huge.bin")).unwrap();
        huge.set_len(FILE_BYTES_MAX + 1).unwrap();
        let error = read(folder.path(), &quiet(), &Kept::default()).unwrap_err().to_string();
        assert!(error.contains("huge.bin has more than 26214400 bytes"), "{error}");
        huge.set_len(FILE_BYTES_MAX).unwrap();
        for copy in 0..10 {
            fs::hard_link(folder.path().join("huge.bin"), folder.path().join(format!("huge-{copy}.bin")))
                .unwrap();
        }
        let error = read(folder.path(), &quiet(), &Kept::default()).unwrap_err().to_string();
        assert!(error.contains("more than 268435456 bytes"), "{error}");
    }
}
