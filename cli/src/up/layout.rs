//! The fleet's directory: which file is where, and the lock that makes one `up` its only user.
//!
//! ```text
//! DIR/skerry.json                what a client needs, see `ready.rs`
//! DIR/up.lock                    held while `up` runs
//! DIR/{compiler,control,node}.toml   written at every start
//! DIR/{compiler,control,node}/   each server's own data
//! DIR/run/*.json                 the servers' ready files
//! DIR/logs/*.log                 this run's logs; *.log.old the run before
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    credentials::FLEET_FILE,
    error::{Error, Result},
};

/// Held while `up` runs.
const LOCK_FILE: &str = "up.lock";

/// Paths of a fleet, absolute, because the servers get them in their configuration.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    /// As the user wrote it.
    shown: PathBuf,
}

/// Gone when dropped, or when the process ends in whatever way.
pub struct Lock {
    _file: File,
}

impl Layout {
    /// Makes the directories, readable by their owner only.
    pub fn make(directory: &Path) -> Result<Layout> {
        let doing = || format!("making the fleet's directory {}", directory.display());
        private_directory(directory).map_err(Error::io(doing()))?;
        let root = directory.canonicalize().map_err(Error::io(doing()))?;
        let layout = Layout { root, shown: directory.to_owned() };
        for part in ["compiler", "control", "node", "run", "logs"] {
            private_directory(&layout.root.join(part)).map_err(Error::io(doing()))?;
        }
        Ok(layout)
    }

    /// Takes the directory for this process alone.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.root.join(LOCK_FILE);
        let doing = || format!("locking {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io(doing()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(Error::Fleet(format!(
                    "a fleet is running in {} (process {}); stop it first, or choose another directory with --data",
                    self.shown.display(),
                    pid.trim()
                )));
            }
            Err(error) => return Err(Error::io(doing())(error.into())),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(Error::io(doing()))?;
        Ok(Lock { _file: file })
    }

    /// The directory as the user named it.
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// A part's configuration file.
    pub fn config(&self, part: &str) -> PathBuf {
        self.root.join(format!("{part}.toml"))
    }

    /// A part's data directory.
    pub fn data(&self, part: &str) -> PathBuf {
        self.root.join(part)
    }

    /// A part's ready file.
    pub fn ready(&self, part: &str) -> PathBuf {
        self.root.join("run").join(format!("{part}.json"))
    }

    /// A server's log.
    pub fn log(&self, server: &str) -> PathBuf {
        self.root.join("logs").join(format!("{server}.log"))
    }

    /// What a client needs to know.
    pub fn fleet_file(&self) -> PathBuf {
        self.root.join(FLEET_FILE)
    }
}

/// The process that holds this directory, if one does.
pub fn holder(directory: &Path) -> Option<u32> {
    let mut file = File::open(directory.join(LOCK_FILE)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        _ => return None,
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    pid.trim().parse().ok()
}

/// Writes a file in one step, so that a reader sees the old or the new one; readable by its owner only.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".part");
    let partial = PathBuf::from(partial);
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(content)?;
        fs::rename(&partial, path)
    };
    write().map_err(Error::io(format!("writing {}", path.display())))
}

fn private_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // It may have been there before, with other rights.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_private_and_has_one_user() {
        let home = tempfile::tempdir().unwrap();
        let layout = Layout::make(&home.path().join("deep/fleet")).unwrap();
        let mode = fs::metadata(home.path().join("deep/fleet")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(holder(layout.shown()), None);
        let lock = layout.lock().unwrap();
        assert_eq!(holder(layout.shown()), Some(std::process::id()));
        // flock is per open file, so a second open in this process is refused as another process would be.
        let message = layout.lock().err().unwrap().to_string();
        assert!(message.contains(&std::process::id().to_string()) && message.contains("--data"), "{message}");
        drop(lock);
        layout.lock().unwrap();
    }
}
