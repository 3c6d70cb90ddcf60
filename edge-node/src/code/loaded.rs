//! A program in memory, counted until it is unmapped.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use artifact::TenantName;

use super::{
    file::CodeFile,
    loading::Unloading,
    resident::{Counted, Held, structures_bytes},
};
use crate::guest::Program;

/// A program on one engine, and the memory it takes. Executions hold it while they run.
pub struct Loaded {
    /// Whose it is.
    tenant: TenantName,
    /// Taken when this is dropped, and only then.
    mapped: Option<Mapped>,
    has_run: AtomicBool,
    /// Shares of the pool that one execution takes: [`crate::guest::weight`].
    pub weight: usize,
    unloading: Unloading,
}

/// What is unmapped, then counted no more.
pub(super) struct Mapped {
    program: Program,
    /// Once it is.
    counted: OnceLock<Counted>,
    file: Arc<CodeFile>,
}

impl Loaded {
    pub(super) fn new(
        tenant: TenantName,
        program: Program,
        weight: usize,
        file: Arc<CodeFile>,
        unloading: Unloading,
    ) -> Loaded {
        let mapped = Mapped { program, counted: OnceLock::new(), file };
        Loaded { tenant, mapped: Some(mapped), has_run: AtomicBool::new(false), weight, unloading }
    }

    pub(super) fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.mapped().program
    }

    /// Is this its first execution? Asked once by each.
    pub fn is_first(&self) -> bool {
        !self.has_run.load(Relaxed) && !self.has_run.swap(true, Relaxed)
    }

    /// Bytes it takes beside its file.
    pub(super) fn structures_bytes(&self) -> u64 {
        structures_bytes(self.file().native_bytes())
    }

    pub(super) fn file(&self) -> &Arc<CodeFile> {
        &self.mapped().file
    }

    fn mapped(&self) -> &Mapped {
        self.mapped.as_ref().expect("there until this is dropped")
    }

    /// Counts it, and its file if nobody has. Once.
    pub(super) fn count(&self, held: &Arc<Held>) {
        let Mapped { counted, file, .. } = self.mapped();
        counted.get_or_init(|| Counted::program(held, self.structures_bytes()));
        file.joined(held);
    }

    /// It is on its way out: no more will be evicted for the room it still takes.
    pub(super) fn leaves(&self) {
        let Mapped { counted, file, .. } = self.mapped();
        if counted.get().is_some_and(Counted::leaves) {
            file.left();
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.leaves();
        let mapped = self.mapped.take();
        mapped.into_iter().for_each(|mapped| self.unloading.unload(mapped));
    }
}
