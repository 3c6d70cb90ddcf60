//! What a process takes of the machine's memory, memory files included: what its own memory cgroup is charged for. Where
//! no cgroup can be made, what `/proc` tells of the process and of the memory files it holds.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Where cgroups are.
const MOUNT: &str = "/sys/fs/cgroup";

/// A memory cgroup of this command's own, below the one that it runs in. Removed when dropped, when nobody is in it.
pub struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Cgroup,
    Proc,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Memory {
    /// The process's own pages.
    pub anonymous: u64,
    /// Memory files: native code.
    pub shmem: u64,
    /// The kernel's own for it: page tables, sockets, names of files. 0 where only `/proc` tells.
    pub kernel: u64,
    /// Copies of files in the page cache, which the kernel drops when memory is short. Not counted.
    pub file_cache: u64,
}

impl Memory {
    /// What counts.
    pub fn bytes(&self) -> u64 {
        self.anonymous + self.shmem + self.kernel
    }
}

impl Group {
    /// `None` where this process may make none.
    pub fn make() -> Option<Group> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let (parent, version) = places(&own).into_iter().find(|(folder, _)| folder.is_dir())?;
        let folder = parent.join(format!("skerry-density-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let group = Group { folder, version };
        // Of version 2, a group without the memory controller has no such file.
        group.memory().map(|_| group)
    }

    /// The file that takes the process ids of those who enter.
    pub fn entrance(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// What it is charged for.
    pub fn memory(&self) -> Option<Memory> {
        let stat = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        let of = |name: &str| {
            stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok())
        };
        let shmem = of("shmem")?;
        match self.version {
            Version::V1 => {
                let kernel = fs::read_to_string(self.folder.join("memory.kmem.usage_in_bytes")).ok()?;
                let (anonymous, kernel) = (of("rss")?, kernel.trim().parse().ok()?);
                Some(Memory { anonymous, shmem, kernel, file_cache: of("cache")?.saturating_sub(shmem) })
            }
            Version::V2 => {
                let (anonymous, kernel) = (of("anon")?, of("kernel").or_else(|| of("slab"))?);
                Some(Memory { anonymous, shmem, kernel, file_cache: of("file")?.saturating_sub(shmem) })
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Where a process of these cgroups (`/proc/self/cgroup`) may look for a memory cgroup.
fn places(own: &str) -> Vec<(PathBuf, Version)> {
    let place = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((Path::new(MOUNT).join("memory").join(path), Version::V1));
        }
        controllers.is_empty().then(|| (Path::new(MOUNT).join(path), Version::V2))
    };
    own.lines().filter_map(place).collect()
}

/// What `/proc` tells of a process.
pub fn of_process(pid: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let anonymous = status.lines().find_map(|line| {
        line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    })?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let memory_files = files.filter(|file| {
        fs::read_link(file.path()).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:"))
    });
    let shmem = memory_files.filter_map(|file| Some(fs::metadata(file.path()).ok()?.blocks() * 512)).sum();
    Some(Memory { anonymous: anonymous * 1024, shmem, kernel: 0, file_cache: 0 })
}

/// What a process has open and mapped.
#[derive(Debug, Clone, Copy)]
pub struct Objects {
    pub descriptors: u64,
    pub mappings: u64,
}

/// See [`Objects`].
pub fn objects_of_process(pid: u32) -> std::io::Result<Objects> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    let mappings = fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().count() as u64;
    Ok(Objects { descriptors, mappings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_controller_of_version_1_or_the_one_tree_of_version_2_is_found() {
        let found = places("9:name=systemd:/\n4:cpu,memory:/a/b\n0::/c\n");
        assert_eq!(
            found,
            [
                (PathBuf::from("/sys/fs/cgroup/memory/a/b"), Version::V1),
                (PathBuf::from("/sys/fs/cgroup/c"), Version::V2)
            ]
        );
        assert_eq!(places("no cgroups"), []);
    }

    #[test]
    fn memory_files_of_a_process_count_beside_its_own_pages() {
        use std::io::Write as _;
        let own = std::process::id();
        let before = of_process(own).unwrap();
        let name = c"skerry-test";
        let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = fs::File::from(file);
        file.write_all(&vec![1; 8 << 20]).unwrap();
        let after = of_process(own).unwrap();
        assert!(before.anonymous > 0 && after.shmem >= before.shmem + (8 << 20), "{before:?} {after:?}");
    }
}
