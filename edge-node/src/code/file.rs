//! A version's code in memory once, for all engines that map it.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::resident::{Counted, Held, PAGE_BYTES};
use crate::load::VerifiedCode;

/// Verified code, and how many programs made of it stay in memory.
pub(super) struct CodeFile {
    pub code: VerifiedCode,
    /// Programs that are not on their way out.
    staying: Mutex<usize>,
    /// From the first one on.
    counted: OnceLock<Counted>,
}

impl CodeFile {
    pub fn new(code: VerifiedCode) -> CodeFile {
        CodeFile { code, staying: Mutex::new(0), counted: OnceLock::new() }
    }

    /// Bytes of native code.
    pub fn native_bytes(&self) -> u64 {
        self.code.statement().size
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> u64 {
        self.native_bytes().next_multiple_of(PAGE_BYTES)
    }

    /// One more program stays.
    pub fn joined(&self, held: &Arc<Held>) {
        let counted = self
            .counted
            .get_or_init(|| Counted::file(held, self.native_bytes().next_multiple_of(PAGE_BYTES)));
        let mut staying = self.staying.lock();
        *staying += 1;
        if *staying == 1 {
            counted.stays();
        }
    }

    /// One program less.
    pub fn left(&self) {
        let mut staying = self.staying.lock();
        *staying -= 1;
        if let (0, Some(counted)) = (*staying, self.counted.get()) {
            counted.leaves();
        }
    }
}
