//! Code that executions hold while they wait, bounded by tenant: what is held cannot be evicted, so a tenant whose guests all
//! wait could keep the code of everybody else out of memory.
//!
//! An execution that ends at its first poll, as most do, is not counted. A tenant may hold half of what others leave, in bytes
//! and in programs, and one program whatever its size; so there is always something left for the next.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use artifact::TenantName;
use parking_lot::Mutex;

use super::{loaded::Loaded, resident::Bounds};
use crate::guest::Run;

/// The part of what others leave that one tenant may hold.
const TENANT_PART: u64 = 2;
/// While all together hold no more than this part of the bounds, a program of no more than this part takes nobody over his.
const CALM_PART: u64 = 4;

/// The execution would wait with code that is too much for its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("waiting executions of this tenant hold as much of code_bytes_max as they may")]
pub struct TooMuchHeld;

/// See the module.
pub(super) struct Pins {
    bounds: Bounds,
    /// What all hold, for a look without the lock.
    bytes: AtomicU64,
    programs: AtomicU64,
    of_tenants: Mutex<HashMap<TenantName, Tenant>>,
}

#[derive(Default)]
struct Tenant {
    bytes: u64,
    programs: u64,
    /// Programs and files by what names them: how many executions wait with each.
    parts: HashMap<usize, usize>,
}

/// What an execution holds: a program, and the file behind it, which others may hold too.
#[derive(Debug, Clone, Copy)]
struct Parts {
    program: Part,
    file: Part,
}

/// Its name, which nothing else has while it is in memory, and its bytes.
#[derive(Debug, Clone, Copy)]
struct Part {
    name: usize,
    bytes: u64,
}

/// A run, and the program it runs; a part of [`Pins`] while it waits. Dropped in this order: instance, pin, program.
pub struct Holding {
    run: Run,
    pin: Option<Pin>,
    pins: Arc<Pins>,
    loaded: Arc<Loaded>,
}

impl Holding {
    /// One that `waits` from the start is pinned now; another is asked whether it could be, since it has done nothing yet.
    pub(super) fn new(
        pins: &Arc<Pins>,
        loaded: Arc<Loaded>,
        run: Run,
        waits: bool,
    ) -> Result<Holding, TooMuchHeld> {
        let pin = match waits {
            true => Some(pins.pin(&loaded)?),
            false => pins.check(&loaded).map(|()| None)?,
        };
        Ok(Holding { run, pin, pins: pins.clone(), loaded })
    }
}

impl Future for Holding {
    type Output = wasmtime::Result<()>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<wasmtime::Result<()>> {
        let polled = self.run.as_mut().poll(cx);
        if polled.is_pending() && self.pin.is_none() {
            match self.pins.pin(&self.loaded) {
                Ok(pin) => self.pin = Some(pin),
                Err(refused) => return Poll::Ready(Err(refused.into())),
            }
        }
        polled
    }
}

/// One waiting execution. Keeps its program, so that its name is nobody else's.
pub(super) struct Pin {
    pins: Arc<Pins>,
    loaded: Arc<Loaded>,
}

impl Pins {
    pub fn new(bounds: Bounds) -> Pins {
        let (bytes, programs) = (AtomicU64::new(0), AtomicU64::new(0));
        Pins { bounds, bytes, programs, of_tenants: Mutex::default() }
    }

    /// An execution waits with this program.
    pub fn pin(self: &Arc<Self>, loaded: &Arc<Loaded>) -> Result<Pin, TooMuchHeld> {
        self.hold(loaded.tenant(), Parts::of(loaded))?;
        Ok(Pin { pins: self.clone(), loaded: loaded.clone() })
    }

    /// Could an execution wait with this program now? Better asked before it has done anything.
    pub fn check(&self, loaded: &Arc<Loaded>) -> Result<(), TooMuchHeld> {
        let parts = Parts::of(loaded);
        let calm = |held: &AtomicU64, more: u64, max: u64| held.load(Relaxed).max(more) <= max / CALM_PART;
        let Bounds { bytes_max, programs_max, .. } = self.bounds;
        let bytes = parts.program.bytes + parts.file.bytes;
        if calm(&self.bytes, bytes, bytes_max) && calm(&self.programs, 1, programs_max) {
            return Ok(());
        }
        let of_tenants = self.of_tenants.lock();
        of_tenants.get(loaded.tenant()).map_or(Ok(()), |own| self.may_hold(own, parts).map(drop))
    }

    /// What the tenant would hold more: bytes, and programs.
    fn may_hold(&self, own: &Tenant, Parts { program, file }: Parts) -> Result<(u64, u64), TooMuchHeld> {
        let new = |part: Part| !own.parts.contains_key(&part.name);
        let bytes = [program, file].into_iter().filter(|part| new(*part)).map(|part| part.bytes).sum::<u64>();
        let programs = u64::from(new(program));
        let left = |max: u64, all: &AtomicU64, own: u64| {
            max.saturating_sub(all.load(Relaxed).saturating_sub(own)) / TENANT_PART
        };
        let Bounds { bytes_max, programs_max, .. } = self.bounds;
        let is_over = own.bytes.saturating_add(bytes) > left(bytes_max, &self.bytes, own.bytes)
            || own.programs + programs > left(programs_max, &self.programs, own.programs);
        match own.programs > 0 && programs > 0 && is_over {
            true => Err(TooMuchHeld),
            false => Ok((bytes, programs)),
        }
    }

    fn hold(&self, tenant: &TenantName, parts: Parts) -> Result<(), TooMuchHeld> {
        let mut of_tenants = self.of_tenants.lock();
        let own = of_tenants.entry(tenant.clone()).or_default();
        // A tenant that is refused holds something, so its entry stays anyway.
        let (bytes, programs) = self.may_hold(own, parts)?;
        own.bytes += bytes;
        own.programs += programs;
        self.bytes.fetch_add(bytes, Relaxed);
        self.programs.fetch_add(programs, Relaxed);
        for part in [parts.program, parts.file] {
            *own.parts.entry(part.name).or_default() += 1;
        }
        Ok(())
    }

    fn let_go(&self, tenant: &TenantName, parts: Parts) {
        let mut of_tenants = self.of_tenants.lock();
        let Some(own) = of_tenants.get_mut(tenant) else { return };
        for (part, programs) in [(parts.program, 1), (parts.file, 0)] {
            let Some(waiting) = own.parts.get_mut(&part.name) else { continue };
            *waiting -= 1;
            if *waiting == 0 {
                own.parts.remove(&part.name);
                own.bytes -= part.bytes;
                own.programs -= programs;
                self.bytes.fetch_sub(part.bytes, Relaxed);
                self.programs.fetch_sub(programs, Relaxed);
            }
        }
        if own.parts.is_empty() {
            of_tenants.remove(tenant);
        }
    }
}

impl Parts {
    fn of(loaded: &Arc<Loaded>) -> Parts {
        let name = Arc::as_ptr(loaded.file()).addr();
        let file = Part { name, bytes: loaded.file().bytes() };
        Parts { program: Part { name: Arc::as_ptr(loaded).addr(), bytes: loaded.structures_bytes() }, file }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pins.let_go(self.loaded.tenant(), Parts::of(&self.loaded));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    /// A program of 2 bytes over a file of 8.
    fn parts(program: usize) -> Parts {
        Parts { program: Part { name: program, bytes: 2 }, file: Part { name: 1_000 + program, bytes: 8 } }
    }

    fn pins(bytes_max: u64, programs_max: u64) -> Pins {
        Pins::new(Bounds { bytes_max, programs_max, ..Bounds::NONE })
    }

    fn fill(pins: &Pins, name: &str, from: usize) -> usize {
        (from..from + 50).take_while(|program| pins.hold(&tenant(name), parts(*program)).is_ok()).count()
    }

    #[test]
    fn a_tenant_holds_half_of_what_others_leave() {
        let pins = pins(100, 1_000);
        assert_eq!(fill(&pins, "greedy", 0), 5);
        assert!(pins.hold(&tenant("greedy"), parts(0)).is_ok(), "one more execution of what it holds");
        assert_eq!(fill(&pins, "other", 100), 2, "half of the 50 that are left, in whole programs");
        (0..5).for_each(|program| pins.let_go(&tenant("greedy"), parts(program)));
        pins.let_go(&tenant("greedy"), parts(0));
        assert_eq!((pins.bytes.load(Relaxed), pins.of_tenants.lock().len()), (20, 1));
        assert_eq!(fill(&pins, "third", 200), 4, "half of 80");
    }

    #[test]
    fn programs_are_bounded_like_bytes_and_one_alone_may_be_larger() {
        assert_eq!(fill(&pins(u64::MAX, 20), "many", 0), 10);
        let small = pins(5, 1);
        assert!(small.hold(&tenant("large"), parts(1)).is_ok());
        assert!(small.hold(&tenant("large"), parts(2)).is_err());
        assert!(small.hold(&tenant("another"), parts(3)).is_ok(), "whatever others have");
    }

    #[test]
    fn a_second_program_of_one_file_adds_only_itself() {
        let pins = pins(100, 1_000);
        let (one, other) = (parts(1), Parts { program: Part { name: 2, bytes: 2 }, ..parts(1) });
        pins.hold(&tenant("a"), one).unwrap();
        pins.hold(&tenant("a"), other).unwrap();
        assert_eq!(pins.bytes.load(Relaxed), 12);
        pins.let_go(&tenant("a"), one);
        assert_eq!(pins.bytes.load(Relaxed), 10, "the file is held by the other");
        pins.let_go(&tenant("a"), other);
        assert_eq!((pins.bytes.load(Relaxed), pins.programs.load(Relaxed)), (0, 0));
        assert!(pins.of_tenants.lock().is_empty());
    }
}
