//! Code that executions hold while they wait, bounded by tenant: what is held cannot be evicted, so a tenant whose guests all
//! wait could keep the code of everybody else out of memory.
//!
//! An execution that ends at its first poll, as most do, is not counted. A tenant may hold half of what others leave, and one
//! program whatever its size; so there is always something left for the next.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use artifact::TenantName;
use parking_lot::Mutex;

/// The part of what others leave that one tenant may hold.
const TENANT_PART: u64 = 2;

/// The execution would wait with code that is too much for its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("waiting executions of this tenant hold as much of code_bytes_max as they may")]
pub struct TooMuchHeld;

/// See the module.
pub(super) struct Pins {
    bytes_max: u64,
    held: Mutex<Tenants>,
}

#[derive(Default)]
struct Tenants {
    bytes: u64,
    of_tenants: HashMap<TenantName, Tenant>,
}

#[derive(Default)]
struct Tenant {
    bytes: u64,
    /// By what names a program: its bytes, and how many executions wait with it.
    programs: HashMap<usize, (u64, usize)>,
}

/// One waiting execution.
pub(super) struct Pin {
    pins: Arc<Pins>,
    tenant: TenantName,
    program: usize,
}

impl Pins {
    pub fn new(bytes_max: u64) -> Pins {
        Pins { bytes_max, held: Mutex::default() }
    }

    /// An execution of `tenant` waits with a program of this name and so many bytes.
    pub fn pin(
        self: &Arc<Self>,
        tenant: &TenantName,
        program: usize,
        bytes: u64,
    ) -> Result<Pin, TooMuchHeld> {
        let mut held = self.held.lock();
        let all = held.bytes;
        let own = held.of_tenants.entry(tenant.clone()).or_default();
        match own.programs.entry(program) {
            Entry::Occupied(mut held) => held.get_mut().1 += 1,
            Entry::Vacant(free) => {
                let left = self.bytes_max.saturating_sub(all - own.bytes);
                if own.bytes > 0 && own.bytes.saturating_add(bytes) > left / TENANT_PART {
                    return Err(TooMuchHeld);
                }
                free.insert((bytes, 1));
                own.bytes += bytes;
                held.bytes += bytes;
            }
        }
        Ok(Pin { pins: self.clone(), tenant: tenant.clone(), program })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held.lock();
        let Tenants { bytes: all, of_tenants } = &mut *held;
        let Entry::Occupied(mut own) = of_tenants.entry(self.tenant.clone()) else { return };
        if let Entry::Occupied(mut program) = own.get_mut().programs.entry(self.program) {
            let (bytes, waiting) = program.get_mut();
            *waiting -= 1;
            if *waiting == 0 {
                let bytes = *bytes;
                program.remove();
                own.get_mut().bytes -= bytes;
                *all -= bytes;
            }
        }
        if own.get().programs.is_empty() {
            own.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantName {
        name.parse().unwrap()
    }

    #[test]
    fn a_tenant_holds_half_of_what_others_leave_and_any_program_alone() {
        let pins = Arc::new(Pins::new(100));
        let pin = |name: &str, program, bytes| pins.pin(&tenant(name), program, bytes);
        let greedy: Vec<_> = (0..10).map_while(|program| pin("greedy", program, 10).ok()).collect();
        assert_eq!(greedy.len(), 5);
        let again = pin("greedy", 0, 10);
        assert!(again.is_ok(), "one more execution of a program that is held takes nothing");
        assert!(pin("greedy", 9, 10).is_err());
        let other: Vec<_> = (20..30).map_while(|program| pin("other", program, 10).ok()).collect();
        assert_eq!(other.len(), 2, "half of the 50 that are left, in whole programs");
        assert!(pin("large", 40, 1_000).is_ok(), "alone, whatever its size");
        drop((greedy, again));
        assert_eq!(
            (10..20).map_while(|program| pin("third", program, 10).ok()).count(),
            10,
            "dropped at once"
        );
        drop(other);
        let held = pins.held.lock();
        assert_eq!((held.bytes, held.of_tenants.len()), (0, 0), "nothing is left of those who are gone");
    }

    #[test]
    fn a_refused_tenant_leaves_no_trace() {
        let pins = Arc::new(Pins::new(10));
        let first = pins.pin(&tenant("a"), 1, 8).unwrap();
        assert_eq!(pins.pin(&tenant("a"), 2, 8).err(), Some(TooMuchHeld));
        drop(first);
        assert!(pins.held.lock().of_tenants.is_empty());
    }
}
