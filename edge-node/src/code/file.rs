//! A version's code in memory once, for all engines that map it; and who makes it.

use std::sync::{Arc, OnceLock, Weak};

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

    /// Programs that stay.
    pub fn staying(&self) -> usize {
        *self.staying.lock()
    }

    /// One more program stays.
    pub fn joined(&self, held: &Arc<Held>) {
        let counted = self.counted.get_or_init(|| Counted::file(held, self.bytes()));
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

/// What is to go on once a file was made, or could not be.
pub(super) type Resume = Box<dyn FnOnce() + Send>;

/// Where a version's file is, while a program has it. It is made by one thread; loads for other workers do not keep theirs
/// waiting for it, but are parked.
#[derive(Default)]
pub(super) struct FilePlace(Mutex<State>);

#[derive(Default)]
struct State {
    file: Weak<CodeFile>,
    is_being_made: bool,
    parked: Vec<Resume>,
}

/// What became of asking for a file.
pub(super) enum Claim<'a, L> {
    /// It is there.
    There(Arc<CodeFile>, L),
    /// Whoever gets this makes it.
    Make(Making<'a>, L),
    /// Another thread makes it: the load goes on when that is done.
    Parked,
}

/// The right to make a file. When it is dropped, those who were parked go on.
pub(super) struct Making<'a>(&'a FilePlace);

impl FilePlace {
    /// The file for a load; or that is parked, by what `park` makes of it.
    pub fn claim<L>(&self, load: L, park: impl FnOnce(L) -> Resume) -> Claim<'_, L> {
        let mut state = self.0.lock();
        if let Some(file) = state.file.upgrade() {
            return Claim::There(file, load);
        }
        if state.is_being_made {
            state.parked.push(park(load));
            return Claim::Parked;
        }
        state.is_being_made = true;
        Claim::Make(Making(self), load)
    }
}

impl Making<'_> {
    /// It is made.
    pub fn made(self, file: CodeFile) -> Arc<CodeFile> {
        let file = Arc::new(file);
        self.0.0.lock().file = Arc::downgrade(&file);
        file
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.is_being_made = false;
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        parked.into_iter().for_each(|resume| resume());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn who_comes_while_a_file_is_made_is_parked_and_goes_on_when_it_was_not() {
        let (place, resumed) = (FilePlace::default(), Arc::new(AtomicUsize::new(0)));
        let park = |(): ()| -> Resume {
            let resumed = resumed.clone();
            Box::new(move || {
                resumed.fetch_add(1, Relaxed);
            })
        };
        let Claim::Make(making, ()) = place.claim((), park) else { panic!("nobody makes it") };
        assert!(matches!(place.claim((), park), Claim::Parked));
        assert!(matches!(place.claim((), park), Claim::Parked));
        assert_eq!(resumed.load(Relaxed), 0);
        drop(making);
        assert_eq!(resumed.load(Relaxed), 2);
        assert!(matches!(place.claim((), park), Claim::Make(..)), "the next one tries");
    }
}
