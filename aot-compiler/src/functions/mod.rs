//! Compiled functions, kept so that the next compile of the same app need not make them again ([record](../../../docs/design/0023-functions.md)).
//!
//! | Module | One job | Where |
//! |---|---|---|
//! | `pack` | the file: functions by the code generator's key, each with its digest | both |
//! | `finder` | what the code generator asks before it compiles a function, and what it learned | job |
//! | `learned` | what a job answers of that, and the next pack made of it | both |
//! | `shelf` | packs on the disk, bounded for each tenant and in all | service |
//!
//! Whose pack a job gets is decided by the service alone: one of the same tenant, the same label of the caller's, the same target and
//! compiler. A job reads one pack and writes none.

mod finder;
mod learned;
mod pack;
mod shelf;

use std::{fs, os::unix::fs::MetadataExt as _, sync::OnceLock};

use artifact::{Digest, Fingerprint, Target};

pub use finder::Finder;
pub use learned::{LEARNED_BYTES_MAX, Learned};
pub use pack::{PACK_BYTES_MAX, Pack};
pub use shelf::{Shelf, ShelfLimits};

/// How many functions a compile found, and how many it compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Taken from the pack.
    pub found: u64,
    /// Compiled.
    pub compiled: u64,
}

/// What names a pack. Two that differ in anything share nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackName {
    /// Of whom all packs together have one bound.
    tenant: Digest,
    name: Digest,
}

impl PackName {
    /// The pack of a tenant's label for a target, by a compiler.
    pub fn new(tenant: &str, label: &str, target: Target, fingerprint: Fingerprint) -> PackName {
        // Lengths first, so that no two pairs of labels read the same.
        let (tenant_bytes, label_bytes) = (tenant.len(), label.len());
        let compiler = this_compiler();
        let text = format!("{tenant_bytes} {tenant} {label_bytes} {label} {target} {fingerprint} {compiler}");
        PackName { tenant: Digest::of(tenant.as_bytes()), name: Digest::of(text.as_bytes()) }
    }
}

/// Which compiler this is: its version, and which file, because one that was mended may have the same version.
fn this_compiler() -> &'static str {
    static COMPILER: OnceLock<String> = OnceLock::new();
    COMPILER.get_or_init(|| {
        let version = crate::compile::compiler_version();
        match fs::metadata("/proc/self/exe") {
            Ok(file) => format!("{version} {} {}.{}", file.size(), file.mtime(), file.mtime_nsec()),
            // One of its own for this process: nothing is found after a restart.
            Err(_) => format!("{version} process {}", std::process::id()),
        }
    })
}
