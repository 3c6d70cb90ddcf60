//! The write-ahead log of the file is held small.
//!
//! SQLite starts the log from its beginning again only when no connection reads from it. Reads that overlap without an
//! end, which a busy fleet has, would let it grow until the disk is full. So when it is large, readers are waited for:
//! those that begin meanwhile find everything in the file itself and are not in the way, so the wait is that for the
//! reads that are under way.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::Connection;

/// Bytes of a log that are not given back when it starts anew: they would be asked for again at once. What SQLite
/// leaves in the log before it moves it is 4 MiB, and one write may add 8 MiB.
pub(super) const KEPT_BYTES: u64 = 16 << 20;
/// Bytes of a log above which readers are waited for: far from what a log without overlapping reads has.
pub(super) const BYTES_MAX: u64 = 32 << 20;
/// How long to wait for readers. A read is one entry or one page; a longer one is waited for again by the next write.
const WAIT: Duration = Duration::from_secs(1);

/// Where SQLite keeps the log of the file at `path`.
pub(super) fn path_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Empties the log if it is large. Only for the connection that writes: others wait meanwhile. A log that could not be
/// emptied in time is no error, it is tried again.
pub(super) fn hold_small(writer: &Connection, wal: &Path, busy: Duration) -> rusqlite::Result<()> {
    // One that is not there, or not to be looked at, is the next write's to fail on.
    if std::fs::metadata(wal).map_or(0, |found| found.len()) <= BYTES_MAX {
        return Ok(());
    }
    writer.busy_timeout(WAIT)?;
    let emptied =
        writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok((row.get(0)?, row.get(1)?)));
    writer.busy_timeout(busy)?;
    let (is_busy, pages): (bool, i64) = emptied?;
    if is_busy {
        tracing::warn!(pages, "the write-ahead log of the key-value store is large and a read keeps it so");
    }
    Ok(())
}
