//! Packs on the disk, bounded for each tenant and in all; those that were not asked for longest go first.
//!
//! A folder for each tenant, a file for each pack, named by digests. Nothing is synced: what a crash leaves half-written is found by its
//! digests and compiled again. Every failure of the disk is a line in the log and a function that is compiled. All methods block.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Learned, Pack, PackName, pack::PACK_BYTES_MAX};

/// Packs on the disk at most: each is looked at when one is added.
pub const PACKS_MAX: usize = 4_096;
/// The part of them that one tenant may have, so that tiny ones of many apps leave others' alone.
const TENANT_PART: usize = 8;
/// How long packs follow from each other before one is begun anew, in seconds: a week. So whatever is in one, it does not stay.
pub const PACK_AGE_S_MAX: u64 = 7 * 24 * 3600;
const PACK_EXTENSION: &str = "pack";

/// How much of the disk packs may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShelfLimits {
    /// All of them, in bytes.
    pub bytes_max: u64,
    /// Those of one tenant.
    pub tenant_bytes_max: u64,
}

/// The packs of a folder.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    limits: ShelfLimits,
    /// Held while packs are put and counted.
    turn: Mutex<()>,
    /// Numbers temporary files.
    written: AtomicU64,
}

/// A pack's file.
struct Standing {
    path: PathBuf,
    bytes: u64,
    asked: SystemTime,
}

impl Shelf {
    /// The shelf of a folder, made when missing. Packs beyond the limits, which may be lower than they were, go when the next is put.
    pub fn open(folder: PathBuf, limits: ShelfLimits) -> io::Result<Shelf> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for file in files(&folder).filter(|path| path.extension().is_none_or(|end| end != PACK_EXTENSION)) {
            // A process that was killed had begun it.
            let _ = fs::remove_file(file);
        }
        Ok(Shelf { folder, limits, turn: Mutex::new(()), written: AtomicU64::new(0) })
    }

    /// The pack of this name, if there is a whole one that is not too old.
    pub fn take(&self, name: &PackName) -> Option<Pack> {
        let path = self.path(name);
        let file = File::open(&path).ok()?;
        let pack = read(&file).ok().and_then(|bytes| Pack::read(bytes.into(), name));
        let pack = pack.filter(|pack| !is_old(pack, now_s()));
        match &pack {
            Some(_) => {
                let _ = file.set_modified(SystemTime::now());
            }
            None => self.drop_pack(name),
        }
        pack
    }

    /// Puts the pack that follows from `old` by what a compile learned.
    pub fn keep(&self, name: &PackName, old: Option<&Pack>, learned: Learned) {
        let Some(bytes) = learned.next_pack(name, old, now_s()) else { return };
        if bytes.len() as u64 > self.limits.tenant_bytes_max.min(self.limits.bytes_max) {
            return;
        }
        if let Err(error) = self.put(name, &bytes) {
            tracing::warn!(%error, folder = %self.folder.display(), "compiled functions could not be kept");
        }
    }

    /// Drops the pack of this name.
    pub fn drop_pack(&self, name: &PackName) {
        let _ = fs::remove_file(self.path(name));
    }

    fn put(&self, name: &PackName, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let tenant = path.parent().unwrap_or(&self.folder);
        let number = self.written.fetch_add(1, Relaxed);
        let temporary = tenant.join(format!("{number}.new"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(tenant)?;
        let written = write_new(&temporary, bytes);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let put = written.and_then(|()| fs::rename(&temporary, &path));
        if put.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        self.make_room(tenant);
        put
    }

    /// Removes packs until what stands is within the limits.
    fn make_room(&self, tenant: &Path) {
        trim(standing(files_of(tenant)), self.limits.tenant_bytes_max, PACKS_MAX / TENANT_PART);
        trim(standing(files(&self.folder)), self.limits.bytes_max, PACKS_MAX);
    }

    fn path(&self, name: &PackName) -> PathBuf {
        let pack = Path::new(&name.name.to_string()).with_extension(PACK_EXTENSION);
        self.folder.join(name.tenant.to_string()).join(pack)
    }
}

/// Removes those that were not asked for longest.
fn trim(mut standing: Vec<Standing>, bytes_max: u64, packs_max: usize) {
    standing.sort_by_key(|pack| std::cmp::Reverse(pack.asked));
    let mut bytes = 0;
    for (at, pack) in standing.iter().enumerate() {
        bytes += pack.bytes;
        if bytes > bytes_max || at >= packs_max {
            let _ = fs::remove_file(&pack.path);
        }
    }
}

fn standing(files: impl Iterator<Item = PathBuf>) -> Vec<Standing> {
    let look = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok()?;
        Some(Standing { path, bytes: metadata.len(), asked: metadata.modified().ok()? })
    };
    files.filter(|path| path.extension().is_some_and(|end| end == PACK_EXTENSION)).filter_map(look).collect()
}

/// The files of all tenants.
fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    files_of(folder).flat_map(|tenant| files_of(&tenant))
}

fn files_of(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let bytes = file.metadata()?.len();
    if bytes > 2 * PACK_BYTES_MAX as u64 {
        return Err(io::Error::other("larger than any pack"));
    }
    let mut pack = Vec::with_capacity(bytes as usize);
    file.take(bytes).read_to_end(&mut pack)?;
    Ok(pack)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// A clock that was set back makes a pack old, too: nothing is known of its age.
fn is_old(pack: &Pack, now_s: u64) -> bool {
    now_s.checked_sub(pack.begun_s()).is_none_or(|age_s| age_s > PACK_AGE_S_MAX)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use artifact::{Digest, Fingerprint, Target};
    use bytes::Bytes;

    use super::*;

    fn name(tenant: &str, label: &str) -> PackName {
        PackName::new(tenant, label, Target::X86_64V3, Fingerprint(Digest::of(b"engine")))
    }

    fn learned(bytes: usize) -> Learned {
        Learned { used: vec![], fresh: vec![([7; 32], Bytes::from(vec![1; bytes]))] }
    }

    fn shelf(bytes_max: u64, tenant_bytes_max: u64) -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().join("functions"), ShelfLimits { bytes_max, tenant_bytes_max });
        (folder, shelf.unwrap())
    }

    /// Packs are as old as their files.
    fn age(shelf: &Shelf, name: &PackName, s: u64) {
        let file = File::open(shelf.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(s)).unwrap();
    }

    #[test]
    fn a_pack_is_found_under_its_own_name_alone_and_after_a_restart() {
        let (folder, shelf) = shelf(10_000, 10_000);
        shelf.keep(&name("a", "shop"), None, learned(100));
        fs::write(shelf.path(&name("a", "shop")).with_extension("new"), b"half").unwrap();
        let limits = shelf.limits;
        let shelf = Shelf::open(folder.path().join("functions"), limits).unwrap();
        assert_eq!(shelf.take(&name("a", "shop")).unwrap().len(), 1);
        assert!(shelf.take(&name("a", "blog")).is_none());
        assert!(shelf.take(&name("b", "shop")).is_none());
        assert_eq!(files(&shelf.folder).count(), 1, "what was half-written is gone");
        let other = name("b", "shop");
        fs::create_dir(shelf.path(&other).parent().unwrap()).unwrap();
        fs::copy(shelf.path(&name("a", "shop")), shelf.path(&other)).unwrap();
        assert!(shelf.take(&other).is_none(), "nor where its file was moved to");
        assert!(!shelf.path(&other).exists());
    }

    #[test]
    fn a_tenants_packs_and_all_packs_are_bounded_and_the_least_asked_for_goes() {
        let (_folder, shelf) = shelf(4_000, 2_500);
        for (label, ago_s) in [("one", 30), ("two", 20)] {
            shelf.keep(&name("a", label), None, learned(1_000));
            age(&shelf, &name("a", label), ago_s);
        }
        assert!(shelf.take(&name("a", "one")).is_some(), "asked for now");
        shelf.keep(&name("a", "three"), None, learned(1_000));
        let is_there = |tenant, label| shelf.path(&name(tenant, label)).exists();
        assert!(is_there("a", "one") && !is_there("a", "two") && is_there("a", "three"));
        age(&shelf, &name("a", "one"), 10);
        shelf.keep(&name("b", "one"), None, learned(1_000));
        shelf.keep(&name("b", "two"), None, learned(1_000));
        assert!(!is_there("a", "one") && is_there("a", "three") && is_there("b", "one"));
        shelf.keep(&name("c", "large"), None, learned(2_500));
        assert!(!is_there("c", "large") && is_there("a", "three"), "larger than a tenant's part");
    }

    #[test]
    fn a_pack_that_is_old_or_damaged_is_begun_anew() {
        let (_folder, shelf) = shelf(10_000, 10_000);
        let at = |begun_s| Pack::encode(&name("a", "shop"), begun_s, &[]);
        for (begun_s, is_taken) in
            [(now_s(), true), (now_s() - PACK_AGE_S_MAX - 1, false), (now_s() + 60, false)]
        {
            shelf.put(&name("a", "shop"), &at(begun_s)).unwrap();
            assert_eq!(shelf.take(&name("a", "shop")).is_some(), is_taken, "{begun_s}");
        }
        shelf.put(&name("a", "shop"), b"no pack").unwrap();
        assert!(shelf.take(&name("a", "shop")).is_none());
    }
}
